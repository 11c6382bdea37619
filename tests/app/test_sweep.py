"""Sweeps: what a file describes, and that each run is made once, whatever comes between."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from zforcing_pyro.app import study as studies
from zforcing_pyro.app.cli import main
from zforcing_pyro.app.study import NUMBERS, open_study, table, work_off
from zforcing_pyro.app.sweep import Sweep, Trial

COMMON = {"max_updates": 3, "model": {"h_dim": 8}}
RATES = {"training.lr": {"log_uniform": [1e-4, 1e-2]}}


def written(tmp_path, **entries):
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump({"out": str(tmp_path / "runs"), **entries}, sort_keys=False))
    return str(file)


def trials(tmp_path, **entries):
    sweep = Sweep(written(tmp_path, **entries))
    return [sweep.trial(point, drawn) for _, point, drawn in sweep.plan]


def test_a_grid_has_every_combination_once(tmp_path):
    """W9: equal entries are one run."""
    grid = {"model": ["vrnn", "srnn"], "training": {"lr": [1e-3, 1e-4]}, "seed": [0, 1, 2, 0]}
    runs = trials(tmp_path, common=COMMON, grid=grid)
    assert len(runs) == 12 == len({trial.folder for trial in runs})
    first = runs[0]
    assert first.settings == {"model": "vrnn", "training.lr": 1e-3, "seed": 0}
    assert first.folder.parent == tmp_path / "runs"
    assert first.folder.name.startswith("vrnn-0.001-0-") and first.evaluation == ("--split=valid",)
    for argument in ("--model.name=vrnn", "--model.h_dim=8", "--max_updates=3", "--seed=0"):
        assert argument in first.arguments


def test_a_run_is_named_by_content(tmp_path):
    """W9: editing the base file makes new runs, and a new study."""
    base = tmp_path / "base.yaml"
    names, studies = set(), set()
    for text in ("model: {name: vrnn, z_dim: 5}", "model: {name: vrnn, z_dim: 6}",
                 "model: {z_dim: 6, name: vrnn}"):  # fmt: skip
        base.write_text(text)
        (trial,) = trials(tmp_path, config="base.yaml", grid={"seed": [7]})
        names.add(trial.folder.name)
        studies.add(Sweep(str(tmp_path / "sweep.yaml")).study)
    assert len(names) == len(studies) == 2


def test_options_of_the_base_that_a_class_lacks_are_left_out(tmp_path):
    """R2: a grid over models and bounds beside a configuration of Z-Forcing with annealing."""
    (tmp_path / "base.yaml").write_text(
        "model: {name: zforcing, aux_input: h_z, z_dim: 5}\n"
        "training: {kl_start: 0.1, kl_updates: 9, lr: 0.1}"
    )
    grid = {"model": ["vrnn", "zforcing"], "bound": ["iwae", "stl"]}
    with pytest.warns(UserWarning) as warnings:
        runs = trials(tmp_path, config="base.yaml", grid=grid)
    texts = {str(warning.message).partition(":")[0] for warning in warnings}
    assert texts == {
        "'vrnn' has no --model.aux_input",
        "'iwae' has no --training.kl_start, --training.kl_updates",
    }
    vrnn = ("--model.name=vrnn", "--model.z_dim=5", "--training.lr=0.1", "--bound.name=iwae")
    assert runs[0].arguments == vrnn
    assert {"--model.aux_input=h_z", "--training.kl_start=0.1"} <= set(runs[3].arguments)


def test_random_draws_are_kept_when_more_are_asked_for(tmp_path):
    random = RATES | {
        "training.frame_dropout": {"uniform": [0.0, 0.5]},
        "model": {"z_dim": {"choice": [2, 4, 8]}},
    }
    few, more = (
        trials(tmp_path, grid={"seed": [0, 1]}, random={"num": n, "seed": 3, **random})
        for n in (4, 12)
    )
    assert [t.folder for t in few] == [t.folder for t in more[:8]] and len(more) == 24
    rates = sorted(t.settings["training.lr"] for t in more[::2])
    assert 1e-4 <= rates[0] < 1e-3 < rates[-1] <= 1e-2
    assert {t.settings["model.z_dim"] for t in more} == {2, 4, 8}
    assert few[0].settings == few[1].settings | {"seed": 0}


@pytest.mark.parametrize(
    "entries, message",
    [
        ({"grids": {}}, r"sweep.yaml' must have keys of .*, got 'grids'; did you mean 'grid'\?"),
        ({"grid": {"seed": 3}}, "'seed' of the grid of .* must be a list, got 3"),
        (
            {"grid": {"model.z_dim": [2]}, "random": {"model.z_dim": {"choice": [1]}}},
            "'model.z_dim' of .* must stand in 'grid' or in 'random' alone",
        ),
        ({"grid": {"out": ["a", "b"]}}, "'out' of .* must stand outside of 'grid'"),
        ({"grid": {"model.z_dm": [3]}}, r"did you mean '--model.z_dim'\?"),
        ({"random": {"training.lr": 3}}, r"'training.lr' of .* must be \{uniform.* got 3"),
        ({"random": {"training.lr": {"log_uniform": [0, 1]}}}, "positive numbers"),
        ({"num": 0}, "'num' of .* whole number of 1 or more, got 0"),
        ({"evaluate": {"split": "vald"}}, "'evaluate' of .*split: invalid choice: 'vald'"),
        ({"evaluate": {"bound": "iwa"}}, "'evaluate' of .*'iwa'"),
        ({"evaluate": {"bound": "renyi", "bound.alfa": 1}}, "bound.alfa"),
        ({"grid": {"data": ["jsb", "jsb_srnn"]}}, "same data, .* 'jsb'.* and .*'jsb_srnn'"),
    ],
)
def test_a_mistake_is_named_before_anything_runs(tmp_path, entries, message):
    with pytest.raises(ValueError, match=message):
        Sweep(written(tmp_path, **entries))


def test_a_dry_run_prints_commands(tmp_path, capsys):
    """Numbers such as 1e-4 are numbers, which YAML 1.1 reads as text."""
    file = tmp_path / "sweep.yaml"
    file.write_text("common: {max_updates: 3}\ngrid: {seed: [0, 1]}\nsampler: tpe\n"
                    "random: {num: 11, training.lr: {log_uniform: [1e-4, 1e-2]}}\n")  # fmt: skip
    assert main(["sweep", str(file), "--dry_run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("zforcing train --max_updates=3") for line in lines[:20])
    assert all("--training.lr=0.00" in line for line in lines[:20])
    assert lines[20:] == [f"# tpe chooses training.lr for {{'seed': {seed}}}" for seed in (0, 1)]
    assert not (tmp_path / "runs").exists()


TRAIN = """
import os, pathlib, sys, time
folder = pathlib.Path({folder!r}); folder.mkdir(exist_ok=True)
with open(folder / "starts.txt", "a") as file: file.write("x")
{code}
"""
RESULT = """
import json
result = {{"nats_per_sequence": float({number}), "protocol": "p"}}
print(json.dumps(dict.fromkeys({names}) | result))
"""


@pytest.fixture
def quick(monkeypatch):
    """Replaces training by code, and evaluation by minus the seed, or by the learning rate."""
    codes: dict[int, str] = {}

    def commands(self):
        seed = self.settings["seed"]
        code = TRAIN.format(folder=str(self.folder), code=codes.get(seed, ""))
        yield [sys.executable, "-S", "-c", code]
        number = -seed - abs(self.settings.get("training.lr", 0) - 1e-3)
        yield [sys.executable, "-S", "-c", RESULT.format(names=list(NUMBERS), number=number)]

    monkeypatch.setattr(Trial, "commands", commands)
    return codes


def starts(tmp_path):
    return {f.parent.name.split("-")[0]: len(f.read_text()) for f in tmp_path.rglob("starts.txt")}


def test_a_sweep_goes_on_and_tabulates(tmp_path, quick, capsys):
    quick[1] = "sys.exit('no luck')"
    file = written(tmp_path, common=COMMON, grid={"seed": [2, 1, 0]})
    assert main(["sweep", file, "--jobs", "2"]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("nats a sequence") == 2 and captured.err.count(": no luck") == 1
    assert "protocol: p" in captured.out
    quick.clear()
    assert main(["sweep", file]) == 0
    assert capsys.readouterr().err.count("nats a sequence") == 1  # of the run that failed
    with open(tmp_path / "runs" / "results.csv") as f:
        rows = list(csv.DictReader(f))
    assert [row["seed"] for row in rows] == ["0", "1", "2"]  # the best first
    assert [float(row["nats_per_sequence"]) for row in rows] == [-0.001, -1.001, -2.001]
    assert starts(tmp_path) == {"0": 1, "1": 2, "2": 1}
    for entries in ({"evaluate": {"particles": 9}}, {"storage": f"sqlite:///{tmp_path}/db"}):
        file = written(tmp_path, common=COMMON, grid={"seed": [2]}, **entries)
        assert main(["sweep", file]) == 0
        assert "1 of 1 runs" in capsys.readouterr().err


def test_tpe_learns_from_results(tmp_path, quick):
    random = {"num": 14, **RATES}
    sweep = Sweep(written(tmp_path, grid={"seed": [0]}, random=random, sampler="tpe"))
    study = open_study(sweep)
    assert work_off(sweep, study, 2) == []
    rates = [trial.params["training.lr"] for trial in study.trials]
    assert len(rates) == 14 == len(table(sweep, study)) and min(rates) >= 1e-4
    assert rates[:10] == [sweep.draw(i)["training.lr"] for i in range(10)]


def test_bad_runs_are_pruned(tmp_path, quick):
    """Five good runs come first; the sixth, far below their median, is stopped."""
    rows = 'open(folder / "metrics.csv", "w").write("step,valid_bound\\n5,{}\\n")'
    quick |= {seed: rows.format(-seed) for seed in range(5)}
    quick[5] = rows.format(-100) + "; import time; time.sleep(60)"
    sweep = Sweep(written(tmp_path, grid={"seed": list(range(6))}, pruner="median"))
    study = open_study(sweep)
    assert work_off(sweep, study, 1) == []
    assert [t.state.name for t in study.trials] == ["COMPLETE"] * 5 + ["PRUNED"]
    assert [row["seed"] for row in table(sweep, study)] == [0, 1, 2, 3, 4]
    open_study(sweep)
    assert len(study.trials) == 6


def test_two_processes_share_a_study(tmp_path, quick, monkeypatch):
    monkeypatch.setattr(studies, "GRACE", 0.5)
    sweep = Sweep(written(tmp_path, grid={"seed": [0, 1]}))
    first, second = open_study(sweep), open_study(sweep)
    job = studies.next_job(sweep, first)
    assert work_off(sweep, second, 1) == [] and starts(tmp_path) == {"1": 1}
    os.close(job.handle)  # as if the first process had been killed
    time.sleep(0.5)
    assert work_off(sweep, second, 1) == [] and starts(tmp_path) == {"0": 1, "1": 1}


def test_what_ends_a_sweep_ends_its_runs(tmp_path, quick, monkeypatch):
    quick |= dict.fromkeys((0, 1), "import time; time.sleep(60)")
    jobs, start = [], studies.Job.start
    monkeypatch.setattr(studies.Job, "start", lambda *a: (jobs.append(a[0]), start(*a)))
    monkeypatch.setattr(studies.time, "sleep", lambda seconds: 1 / (seconds > 1 or len(jobs) < 2))
    sweep = Sweep(written(tmp_path, grid={"seed": [0, 1]}))
    with pytest.raises(ZeroDivisionError):
        work_off(sweep, open_study(sweep), 2)
    assert [job.process.returncode for job in jobs] == [-15, -15]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_a_killed_sweep_leaves_no_training_and_goes_on(tmp_path, capsys):
    """D2: no training of a killed sweep goes on, and none is started twice in one folder."""
    sizes = {"z_dim": 2, "h_dim": 4, "hidden_dim": 4, "embed_dim": 0}
    common = {"max_updates": 100_000, "model": sizes, "training": {"validate_on": 16}}
    file = written(tmp_path, common=common, grid={"seed": [0]})
    command = [sys.executable, "-m", "zforcing_pyro", "sweep", file]
    sweep = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (trial,) = trials(tmp_path, common=common, grid={"seed": [0]})
    log = Path(f"{trial.folder.parent}/.{trial.folder.name}.log")
    metrics = trial.folder / "metrics.csv"
    until = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text().count("\n") > 2):
        assert time.monotonic() < until and sweep.poll() is None
        time.sleep(0.1)
    sweep.send_signal(signal.SIGKILL)
    sweep.wait()
    while "stopped by SIGTERM" not in log.read_text():
        assert time.monotonic() < until
        time.sleep(0.1)
    while (handle := studies.lock(trial.folder)) is None:  # until the training has ended
        assert time.monotonic() < until
        time.sleep(0.1)
    os.close(handle)


@pytest.mark.slow
def test_runs_are_trained_and_evaluated(tmp_path, capsys):
    sizes = {"z_dim": 2, "h_dim": 4, "hidden_dim": 4, "embed_dim": 0}
    common = {"max_updates": 2, "model": sizes, "training": {"validate_on": 16}}
    evaluate = {"bound": "renyi", "bound.alpha": 0.3, "particles": 2}
    file = written(tmp_path, common=common, grid={"model": ["vrnn"]}, evaluate=evaluate)
    assert main(["sweep", file]) == 0
    (result,) = (tmp_path / "runs").glob("*/evaluation.json")
    result = json.loads(result.read_text())["result"]
    assert result["num_sequences"] == 250 and "renyi with K=2, alpha 0.3" in result["protocol"]
