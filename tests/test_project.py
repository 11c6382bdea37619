"""The project as a newcomer meets it: README, scripts, a wheel."""

import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import matplotlib
import pytest
import torch

from zforcing_pyro.app.cli import main

ROOT = Path(__file__).parents[1]


def process(*command, cwd=ROOT, timeout=300):
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=timeout)
    assert done.returncode == 0, done.stderr
    return done.stdout


README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(title):
    return README.split(f"## {title}")[1].split("\n## ")[0]


@pytest.mark.slow
def test_readme_python_runs():
    matplotlib.use("Agg")
    torch.set_default_dtype(torch.float32)
    names = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for code in re.findall(r"^```python\n(.*?)^```", section("In Python"), re.S | re.M):
            exec(code, names)
    assert names["losses"][-1] < names["losses"][0] - 5
    assert names["digits"].shape == (9, 64, 1) and names["bounds"].shape == (64,)
    assert names["state"]["h"].shape == (1, 64, 32) and not names["state"]["h"].requires_grad
    assert names["result"].standard_error > 0


def test_readme_sweep_is_planned(tmp_path, capsys):
    (text,) = re.findall(r"^```yaml\n(.*?)^```", README, re.S | re.M)
    (tmp_path / "sweep.yaml").write_text(text)
    shutil.copy(ROOT / "experiments" / "jsb.yaml", tmp_path)
    with warnings.catch_warnings():  # options of zforcing that vrnn does not have are left out
        warnings.simplefilter("ignore")
        assert main(["sweep", str(tmp_path / "sweep.yaml"), "--dry_run"]) == 0
    out = capsys.readouterr().out
    assert out.count("--model.name vrnn") + out.count("--model.name=vrnn") >= 6, out[:2000]


def test_readme_commands_have_their_options(capsys):
    lines = re.findall(r"^    (?:srun |torchrun .* -m )?zforcing(?:_pyro)? (.*)$", README, re.M)
    assert len(lines) >= 12
    for line in lines:
        command, *words = re.sub(r"[\[\]|#].*?(?=--|$)", " ", line).split()
        options = [w.split("=")[0] for w in words if w.startswith("--")]
        if command not in helps:
            for part in ("list", "show", "prepare") if command == "data" else ("",):
                assert main([command, *part.split(), "--help"]) == 0
            helps[command] = capsys.readouterr().out
        text = helps[command]
        missing = [o for o in options if o not in text and f"--training.{o[2:]}" not in text]
        assert missing == [], (line, missing)


helps: dict[str, str] = {}


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
