"""What a person types: the interface, its output and its complaints."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from zforcing_pyro.app.cli import main
from zforcing_pyro.app.experiment import load
from zforcing_pyro.data import corpus
from zforcing_pyro.estimators import ESTIMATORS

SMALL = ["--model.z_dim=2", "--model.h_dim=8", "--model.hidden_dim=8", "--model.embed_dim=0"]
KEYS = {
    "bound",
    "particles",
    "split",
    "nats_per_sequence",
    "nats_per_step",
    "standard_error",
    "kl_per_sequence",
    "num_sequences",
    "num_steps",
    "protocol",
}


@pytest.fixture(autouse=True)
def float32(float64_and_seed, monkeypatch):
    torch.set_default_dtype(torch.float32)
    monkeypatch.delenv("ZFORCING_DATA", raising=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    torch.set_default_dtype(torch.float32)
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", *SMALL, "--max_updates=3", "--seed=5", f"--out={out}"]) == 0
    return out


def test_a_run_holds_what_repeats_it(run):
    for file in ("config.yaml", "environment.json", "metrics.csv", "checkpoints/best.ckpt"):
        assert (run / file).is_file(), file
    environment = json.loads((run / "environment.json").read_text())
    assert environment["seed"] == 5 and environment["packages"]["torch"] == torch.__version__
    assert environment["command"][:2] == ["zforcing", "train"]
    assert not load(run).training


def test_evaluate_prints_one_json_object_and_nothing_else(run, capsys):
    args = [str(run), "--split", "test", "--bound", "iwae", "--particles", "3", "--json"]
    assert main(["evaluate", *args]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result.keys() >= KEYS
    assert (result["bound"], result["particles"], result["split"]) == ("iwae", 3, "test")
    assert result["num_sequences"] == 250 and result["num_steps"] == 16_000
    assert main(["evaluate", *args]) == 0
    assert json.loads(capsys.readouterr().out) == result


def test_evaluate_for_people_says_unit_and_protocol(run, capsys):
    assert main(["evaluate", str(run), "--split", "valid"]) == 0
    out = capsys.readouterr().out
    for part in ("nats per sequence", "nats per pixel", "protocol: elbo with K=1", "valid"):
        assert part in out


@pytest.mark.parametrize("bound", ESTIMATORS)
def test_every_bound_trains_and_evaluates(bound, run, tmp_path, capsys):
    options = ["--max_updates=1", f"--out={tmp_path / 'run'}", f"--bound={bound}"]
    assert main(["train", *SMALL, *options, "--bound.num_particles=2"]) == 0
    assert main(["evaluate", str(run), "--split=valid", "--bound", bound, "--particles=25"]) == 0
    out = capsys.readouterr().out
    for part in (f"protocol: {bound} with K=25", "bits per dimension", "of 25 (median", "k-hat"):
        assert part in out


def test_sample_writes_sequences_and_a_picture(run, tmp_path, capsys):
    assert main(["sample", str(run), "--num", "4", "--out", str(tmp_path)]) == 0
    with np.load(tmp_path / "samples.npz", allow_pickle=False) as file:
        assert file["x"].shape == (4, 64, 1) and set(np.unique(file["x"])) <= {0, 1}
    assert (tmp_path / "samples.png").stat().st_size > 1_000


def test_more_can_be_drawn_than_there_are_to_compare_with(run, tmp_path):
    assert main(["sample", str(run), "--num", "300", "--out", str(tmp_path)]) == 0
    with np.load(tmp_path / "samples.npz", allow_pickle=False) as file:
        assert file["x"].shape == (300, 64, 1)


def test_a_prefix_is_continued(run, tmp_path):
    args = ["sample", str(run), "--num", "3", "--prefix", "40", "--out", str(tmp_path)]
    assert main(args) == 0
    test = corpus("digits").split("test")
    with np.load(tmp_path / "samples.npz", allow_pickle=False) as file:
        for x in torch.from_numpy(file["x"]):
            assert any(torch.equal(x[:40], real[:40]) for real, _ in test)


def test_resume_changes_nothing_that_was_begun(run, capsys):
    config = (run / "config.yaml").read_bytes()
    for option, value in [
        ("model.z_dim", "3"),
        ("model", "vrnn"),
        ("seed", "6"),
        ("training.lr", "1"),
    ]:
        assert main(["train", "--resume", "--out", str(run), f"--{option}", value]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "is resumed as it was begun" in error
    assert (run / "config.yaml").read_bytes() == config and load(run).cell.h_dim == 8


def test_resume_goes_on_and_a_second_run_does_not_overwrite_the_first(run, capsys):
    assert main(["train", *SMALL, "--out", str(run)]) == 2
    assert "'--out' must be a new folder" in capsys.readouterr().err
    assert main(["train", "--out", str(run), "--resume", "--max_updates=5"]) == 0
    steps = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    assert int(steps[-1][steps[0].index("step")]) == 5
    assert load(run).cell.h_dim == 8


def test_data(capsys):
    assert main(["data", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["digits"]["found"] is True and listed["jsb"]["found"] is False
    assert main(["data", "show", "digits", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["test"]["sequences"] == 250 and shown["floor"]["nats_per_sequence"] > 0
    assert main(["data"]) == 0
    assert "binarized_mnist" in capsys.readouterr().out


@pytest.mark.parametrize("command", [[], ["--help"], ["train", "--help"], ["--version"]])
def test_help(command, capsys):
    assert main(command) == (0 if command else 2)
    assert "zforcing" in capsys.readouterr().out


@pytest.mark.parametrize(
    "args, message",
    [
        (["fly"], "command must be one of"),
        (["train", "--model", "nope"], "'model' must be one of"),
        (["train", "--model.z_dim", "0", "--out", "OUT"], "'z_dim' must be positive, got 0"),
        (["train", "--bound.num_particles", "0", "--out", "OUT"], "'num_particles' must be"),
        (["train", "--bound=iwae", "--training.kl_end=0.2", "--out", "OUT"], "annealing weighs"),
        (["train", "--bound=fivo", "--training.kl_end=.9", "--out", "OUT"], "annealing weighs"),
        (["train", "--bound=dreg", "--training.free_bits=1", "--out", "OUT"], "in closed form"),
        (["train", "--bound=renyi", "--bound.alpha=-1", "--out", "OUT"], "'alpha' must be 0 or"),
        (["train", "--bound=fivo", "--bound.resampling=x", "--out", "OUT"], "'--bound.resampling'"),
        (["train", "--training.kl_start", "0", "--out", "OUT"], "'kl_updates' must be positive"),
        (["train", "--max_updates", "0", "--out", "OUT"], "'max_updates' must be positive, got 0"),
        (["train", "--max_updates=-1", "--out", "OUT"], "'max_updates' must be positive, got -1"),
        (["train", "--seed=-1", "--out", "OUT"], "'seed' must not be negative, got -1"),
        (["train", "--training.precision", "foo", "--out", "OUT"], "--training.precision' must"),
        (["train", "--training.accelerator", "foo", "--out", "OUT"], "--training.accelerator' m"),
        (["train", "--emission", "categorical", "--out", "OUT"], "Categorical .*'bernoulli' suits"),
        (["sample", "RUN", "--num", "900", "--prefix", "3"], "'--num' must be at most 250"),
        (["sample", "RUN", "--steps", "10"], "'--steps' must be 64, those of an image, got 10"),
        (["sample", "RUN", "--prefix", "65"], "'--prefix' must be at most 64"),
        (["train", "--data", "jsb", "--out", "OUT"], "jsb_pianoroll_icml2012.npz.*--data_dir"),
        (["evaluate"], "run"),
        (["evaluate", "OUT"], "'run' must be a folder that 'zforcing train' wrote"),
        (["evaluate", "RUN", "--bound", "nope"], "--bound: invalid choice: 'nope'"),
        (["evaluate", "RUN", "--split", "nope"], "--split: invalid choice: 'nope'"),
        (["evaluate", "RUN", "--particles", "0"], "'num_particles' must be positive, got 0"),
        (["evaluate", "RUN", "--particles", "x"], "--particles: invalid int value: 'x'"),
        (["sample", "RUN", "--num", "0"], "'--num' must be positive, got 0"),
        (["data", "show"], "'show' must be followed by a name"),
        (["data", "show", "nope"], "'data' must be one of"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(args, message, run, tmp_path, capsys):
    out = tmp_path / "out"
    args = [{"RUN": str(run), "OUT": str(out)}.get(a, a) for a in args]
    assert main(args) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert captured.err.startswith("zforcing: error: ")
    import re

    assert re.search(message, captured.err)
    assert not out.exists()


def test_a_run_without_a_checkpoint_says_so(run, tmp_path, capsys):
    (tmp_path / "config.yaml").write_text((run / "config.yaml").read_text())
    assert main(["evaluate", str(tmp_path)]) == 2
    assert "must have been validated once" in capsys.readouterr().err


def test_a_truncated_checkpoint_is_one_line(run, tmp_path, capsys):
    (tmp_path / "config.yaml").write_text((run / "config.yaml").read_text())
    (tmp_path / "checkpoints").mkdir()
    whole = (run / "checkpoints/best.ckpt").read_bytes()
    (tmp_path / "checkpoints/best.ckpt").write_bytes(whole[: len(whole) // 2])
    assert main(["evaluate", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "must be a checkpoint" in err and err.count("\n") == 1


def test_module_and_status_of_the_process():
    command = [sys.executable, "-m", "zforcing_pyro", "fly"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
