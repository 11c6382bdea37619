"""Sweeps: what a file describes, and that it is worked off once, whatever comes between."""

import csv
import json
import sys

import pytest
import yaml

from zforcing_pyro.app import sweep
from zforcing_pyro.app.cli import main
from zforcing_pyro.app.sweep import Trial, table, trials, work_off

COMMON = {"max_updates": 3, "model": {"h_dim": 8}}


def written(tmp_path, **entries):
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump({"out": str(tmp_path / "runs"), **entries}, sort_keys=False))
    return file


def test_a_grid_has_every_combination(tmp_path):
    grid = {"model": ["vrnn", "srnn"], "training": {"lr": [1e-3, 1e-4]}, "seed": [0, 1, 2]}
    found = trials(written(tmp_path, common=COMMON, grid=grid))
    assert len(found) == 12 == len({trial.folder for trial in found})
    first = found[0]
    assert first.settings == {"model": "vrnn", "training.lr": 1e-3, "seed": 0}
    assert first.folder.parent == tmp_path / "runs" and first.folder.name.startswith(
        "vrnn-0.001-0-"
    )
    for argument in ("--model.name=vrnn", "--model.h_dim=8", "--max_updates=3", "--seed=0"):
        assert argument in first.arguments
    assert first.evaluation == ("--split=valid",)


def test_a_file_and_what_it_has_in_common_come_first(tmp_path):
    (tmp_path / "base.yaml").write_text("model: {name: vrnn, z_dim: 5}\n")
    (trial,) = trials(written(tmp_path, config="base.yaml", grid={"model.z_dim": [7]}))
    assert trial.arguments == (f"--config={tmp_path / 'base.yaml'}", "--model.z_dim=7")


def test_random_draws_are_kept_when_more_are_asked_for(tmp_path):
    how = {
        "training.lr": {"log_uniform": [1e-4, 1e-2]},
        "training.frame_dropout": {"uniform": [0.0, 0.5]},
        "model.z_dim": {"choice": [2, 4, 8]},
    }
    few, more = (
        trials(written(tmp_path, grid={"seed": [0, 1]}, random={"num": n, "seed": 3, **how}))
        for n in (4, 12)
    )
    assert [t.folder for t in few] == [t.folder for t in more[:8]] and len(more) == 24
    rates = sorted(t.settings["training.lr"] for t in more[::2])
    assert 1e-4 <= rates[0] < 1e-3 < rates[-1] <= 1e-2
    assert {t.settings["model.z_dim"] for t in more} == {2, 4, 8}
    assert few[0].settings == few[1].settings | {"seed": 0}
    other = trials(written(tmp_path, grid={"seed": [0, 1]}, random={"num": 4, "seed": 4, **how}))
    assert other[0].settings != few[0].settings


@pytest.mark.parametrize(
    "entries, message",
    [
        ({"grids": {}}, r"sweep.yaml' must have keys of .*, got 'grids'"),
        ({"grid": [1]}, r"'grid' of .* must hold options by name, got \[1\]"),
        ({"grid": {"seed": 3}}, "'seed' of the grid of .* must be a list, got 3"),
        ({"grid": {"model.z_dm": [3]}}, r"did you mean '--model.z_dim'\?"),
        ({"random": {"training.lr": 3}}, r"'training.lr' of .* must be \{uniform"),
        ({"random": {"training.lr": {"log_uniform": [0, 1]}}}, "positive numbers"),
        ({"random": {"training.lr": {"normal": [0, 1]}}}, "got {'normal'"),
        ({"random": {"num": "x"}}, "'num' of random of .* whole number of 1 or more, got x"),
        ({"random": {"num": 0}}, "'num' of random of .* got 0"),
        ({"random": {"seed": -1}}, "'seed' of random of .* of 0 or more, got -1"),
        ({"evaluate": {"bund": "iwae"}}, "'evaluate' of .* must have keys of .*, got 'bund'"),
        ({"grid": {"data": ["jsb", "jsb_srnn"]}}, "same data, .* 'jsb'.* and .*'jsb_srnn'"),
        ({"grid": {"data.seed": [0, 1]}, "common": {"data": "mnist"}}, "same data, .*'seed': 1"),
    ],
)
def test_a_mistake_is_named_before_anything_runs(tmp_path, entries, message):
    with pytest.raises(ValueError, match=message):
        trials(written(tmp_path, **entries))


@pytest.mark.parametrize("text", ["3/3", "a/2", "1", "-1/2"])
def test_a_shard_is_one_of_so_many(tmp_path, text, capsys):
    assert main(["sweep", str(written(tmp_path)), f"--shard={text}"]) == 2
    assert "'--shard' must be I/N" in capsys.readouterr().err


def test_a_dry_run_prints_commands_of_its_shard(tmp_path, capsys):
    file = written(tmp_path, common=COMMON, grid={"seed": [0, 1, 2]})
    for shard, seeds in (("0/2", [0, 2]), ("1/2", [1])):
        assert main(["sweep", str(file), "--dry_run", "--shard", shard]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [int(line.split("--seed=")[1].split()[0]) for line in lines] == seeds
        assert all(line.startswith("zforcing train --max_updates=3") for line in lines)


RESULT = """
import json, sys
result = dict.fromkeys({names}, None) | {{"nats_per_sequence": float({number}), "protocol": "p"}}
print(json.dumps(result))
"""


@pytest.fixture
def quick(monkeypatch):
    """Runs whose training takes no time, and whose bound is minus their seed; seed 1 may fail."""
    fails = {1}

    def commands(self):
        seed = self.settings["seed"]
        code = f"import sys; sys.exit({int(seed in fails)})"
        yield [sys.executable, "-S", "-c", code]
        code = RESULT.format(names=list(sweep.NUMBERS), number=-seed)
        yield [sys.executable, "-S", "-c", code]

    monkeypatch.setattr(Trial, "commands", commands)
    return fails


def test_a_sweep_goes_on_and_tabulates(tmp_path, quick, capsys):
    file = written(tmp_path, common=COMMON, grid={"seed": [2, 1, 0]})
    assert main(["sweep", str(file), "--jobs", "2"]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("nats a sequence") == 2 and captured.err.count(": failed, see") == 1
    assert "protocol: p" in captured.out
    quick.clear()
    assert main(["sweep", str(file)]) == 0
    assert capsys.readouterr().err.count("nats a sequence") == 1  # that which failed
    with open(tmp_path / "runs" / "results.csv") as f:
        rows = list(csv.DictReader(f))
    assert [row["seed"] for row in rows] == ["0", "1", "2"]  # the best first
    assert [float(row["nats_per_sequence"]) for row in rows] == [0.0, -1.0, -2.0]
    assert not list(tmp_path.rglob("stdout.txt"))


def test_shards_make_the_whole(tmp_path, quick):
    quick.clear()
    file = written(tmp_path, common=COMMON, grid={"seed": [0, 1, 2, 3]})
    assert main(["sweep", str(file), "--shard", "1/2"]) == 0
    assert [row["seed"] for row in table(trials(file))] == [1, 3]
    assert main(["sweep", str(file), "--shard", "0/2"]) == 0
    assert [row["seed"] for row in table(trials(file))] == [0, 1, 2, 3]


def test_another_evaluation_is_made_anew(tmp_path, quick):
    quick.clear()
    first = trials(written(tmp_path, common=COMMON, grid={"seed": [0]}))
    assert not work_off(first, 1, print) and first[0].result
    again = trials(written(tmp_path, common=COMMON, grid={"seed": [0]}, evaluate={"particles": 9}))
    assert again[0].folder == first[0].folder and again[0].result is None
    (first[0].folder / "evaluation.json").write_text("{")
    with pytest.raises(ValueError, match="must hold an evaluation"):
        first[0].result  # noqa: B018


def test_what_ends_a_sweep_ends_its_runs(tmp_path, monkeypatch):
    endless = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
    monkeypatch.setattr(Trial, "commands", lambda self: iter([endless]))
    monkeypatch.setattr(
        sweep.time, "sleep", lambda seconds: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    started, processes = sweep.started, []

    def kept(*args):
        processes.append(started(*args))
        return processes[-1]

    monkeypatch.setattr(sweep, "started", kept)
    with pytest.raises(KeyboardInterrupt):
        work_off(trials(written(tmp_path, grid={"seed": [0, 1]})), 2, print)
    assert [process.returncode for process in processes] == [-15, -15]


@pytest.mark.slow
def test_runs_are_trained_and_evaluated(tmp_path, capsys):
    sizes = {"z_dim": 2, "h_dim": 4, "hidden_dim": 4, "embed_dim": 0}
    common = {"max_updates": 2, "model": sizes, "training": {"validate_on": 16}}
    file = written(tmp_path, common=common, grid={"model": ["vrnn"], "seed": [0]})
    assert main(["sweep", str(file)]) == 0
    (result,) = (tmp_path / "runs").glob("*/evaluation.json")
    assert json.loads(result.read_text())["result"]["num_sequences"] == 250
