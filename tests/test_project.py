"""The project as a newcomer meets it: README, scripts, a wheel."""

import configparser
import re
import shutil
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import matplotlib
import pytest
import torch
from family_cases import README, blocks

import zforcing_pyro as zf
from zforcing_pyro.app.cli import main

ROOT = Path(__file__).parents[1]


def process(*command, cwd=ROOT, timeout=300):
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=timeout)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_loads_nothing_heavy_and_lists_the_public_names():
    """A new process, since this one has everything loaded."""
    code = "import sys, zforcing_pyro as zf; print(*dir(zf)); print('torch' in sys.modules)"
    public, heavy = process(sys.executable, "-c", code).splitlines()
    assert heavy == "False" and public.split() == sorted(zf.__all__)
    assert {"ZForcing", "fit", "load", "evaluate", "data", "estimators", "plots"} <= set(dir(zf))
    assert all(getattr(zf, name) is not None for name in dir(zf))


def test_both_names_of_the_command_lead_to_it():
    """``pipx run zforcing_pyro`` looks for an entry of the package's name."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    entries = dict(setup["options.entry_points"])
    homes = [text.strip() for text in entries.values()]
    assert homes[0].startswith("zforcing = ") and homes[1].startswith("zforcing_pyro = ")
    assert list(entries) == ["console_scripts", "pipx.run"]
    assert {home.partition(" = ")[2] for home in homes} == {f"{main.__module__}:{main.__name__}"}


@pytest.mark.slow
def test_readme_python_runs():
    matplotlib.use("Agg")
    torch.set_default_dtype(torch.float32)
    names = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for code in blocks("In Python"):
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


def test_smoke(tmp_path, monkeypatch):
    """I1-I4: what the package needs is installed, also by ``make lowest``."""
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)
    small = [
        "--model.z_dim=2",
        "--model.h_dim=4",
        "--model.hidden_dim=4",
        "--training.validate_on=8",
    ]
    few = ["run", "--num=3", "--particles=25"]
    assert main(["train", *small, "--max_updates=2", "--out=run"]) == 0
    assert main(["evaluate", "run", "--bound=iwae", "--particles=25"]) == 0
    assert main(["report", *few]) == 0 and main(["sample", "run", "--num=2"]) == 0
    net, data = zf.load("run"), zf.data.corpus("digits").split("test").subset([0, 1])
    assert zf.posterior.to_inference_data(net, data, num_draws=3, file="draws.nc")


@pytest.mark.slow
def test_a_new_model_trains_from_the_command_line(tmp_path):
    package = tmp_path / "zforcing_pyro"
    shutil.copytree(ROOT / "zforcing_pyro", package)
    file, line = blocks("A model of your own")
    (package / "models" / "local_level.py").write_text(file)
    registry = package / "models" / "__init__.py"
    text = registry.read_text().replace(
        "MODELS |= {", 'MODELS |= {\n    "local_level": LocalLevel,'
    )
    registry.write_text(line + text)
    command = [sys.executable, "-m", "zforcing_pyro", "train", "--model", "local_level"]
    options = ["--model.z_dim", "2", "--max_updates", "2", "--out", "run"]
    process(*command, *options, cwd=tmp_path)
    assert (tmp_path / "run" / "checkpoints" / "best.ckpt").is_file()


@pytest.mark.slow
def test_a_wheel_works_from_any_folder_and_an_sdist_has_all_tests(tmp_path):
    """I5."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    # A copy, so that the build leaves nothing behind in the tree.
    source = tmp_path / "source"
    process("git", "clone", "--quiet", str(ROOT), str(source), cwd=tmp_path)
    build = "import setuptools.build_meta as b; b.build_sdist('..')"
    process(sys.executable, "-c", build, cwd=source)
    (sdist,) = tmp_path.glob("*.tar.gz")
    shutil.unpack_archive(sdist, tmp_path / "sdist", filter="data")
    (folder,) = (tmp_path / "sdist").iterdir()
    tracked = process("git", "ls-files", cwd=source).splitlines()
    assert not [f for f in tracked if not f.startswith(".") and not (folder / f).exists()]
    process(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(folder))
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for end in ("zforcing_pyro/py.typed", "experiments/digits.yaml", "notebooks/posterior.ipynb"):
        assert any(name.endswith(end) for name in names), end
    process(*pip, "install", "--no-deps", "--target", str(tmp_path / "site"), str(wheel))
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r});"
        "import zforcing_pyro.app.cli as c;"
        f"assert c.__file__.startswith({str(tmp_path)!r}), c.__file__;"
        "sys.exit(c.main(['data', 'show', 'digits', '--json']))"
    )
    assert '"sequences": 250' in process(sys.executable, "-c", code, cwd=tmp_path)
