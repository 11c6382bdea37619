"""The project as a newcomer meets it: README, scripts, a wheel."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


def process(*command, cwd=ROOT, timeout=300):
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=timeout)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_of_the_readme_runs():
    torch.set_default_dtype(torch.float32)
    section = (ROOT / "README.md").read_text().split("## In Python")[1].split("\n## ")[0]
    names = {}
    for code in re.findall(r"^```python\n(.*?)^```", section, re.S | re.M):
        exec(code, names)
    assert names["losses"][-1] < names["losses"][0] - 5
    assert names["digits"].shape == (9, 64, 1) and names["bounds"].shape == (64,)
    assert names["state"]["h"].shape == (1, 64, 32) and not names["state"]["h"].requires_grad


def test_links_of_the_readme_lead_somewhere():
    for file in ("README.md", "experiments/README.md"):
        folder = (ROOT / file).parent
        for link in re.findall(r"\]\((?!https?:|#)(.+?)\)", (ROOT / file).read_text()):
            assert (folder / link).exists(), f"{file} names {link}"


@pytest.mark.parametrize("estimator", ["elbo", "dreg", "pyro_trace", "pyro_mean_field"])
def test_the_script_on_plain_svi_trains(estimator):
    script = str(ROOT / "experiments" / "svi_zforcing.py")
    assert len(Path(script).read_text().splitlines()) < 80
    args = ["--estimator", estimator, "--particles", "2", "--updates", "4"]
    out = process(sys.executable, script, *args)
    assert re.search(r"validation ELBO \(K=1\) -\d+\.\d+ nats per sequence", out)


def test_every_configuration_of_the_experiments_can_be_read():
    from zforcing_pyro.app.experiment import describe

    files = sorted((ROOT / "experiments").glob("*.yaml"))
    assert files
    for file in files:
        describe(["--config", str(file)])


@pytest.mark.slow
def test_a_wheel_works_from_any_folder(tmp_path):
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    # A copy, so that the build leaves nothing behind in the tree.
    source = tmp_path / "source"
    process("git", "clone", "--quiet", str(ROOT), str(source), cwd=tmp_path)
    process(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(source))
    (wheel,) = tmp_path.glob("*.whl")
    process(*pip, "install", "--no-deps", "--target", str(tmp_path / "site"), str(wheel))
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r});"
        "import zforcing_pyro.app.cli as c;"
        f"assert c.__file__.startswith({str(tmp_path)!r}), c.__file__;"
        "sys.exit(c.main(['data', 'show', 'digits', '--json']))"
    )
    assert '"sequences": 250' in process(sys.executable, "-c", code, cwd=tmp_path)
