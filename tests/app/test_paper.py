"""The paper's tables: its sizes and protocol at full scale, and runs of a few updates."""

import csv

import pytest
import torch
from report_runs import speech, text

from zforcing_pyro.app import paper
from zforcing_pyro.app.cli import main
from zforcing_pyro.app.experiment import describe
from zforcing_pyro.app.paper import PaperRun, plan
from zforcing_pyro.app.published import IMDB, PUBLISHED

SIZES = {  # LSTMs, z, hidden, embed, lr, batch: the paper's, as the specification lists them
    "timit": (1024, 256, 512, 512, 1e-3, 32),
    "blizzard": (2048, 256, 1024, 1024, 3e-4, 128),
    "binarized_mnist": (1024, 256, 512, 0, 1e-3, 32),
    "imdb": (500, 64, 500, 300, 1e-3, 32),
}
TINY = {"model": {"z_dim": 2, "h_dim": 6, "hidden_dim": 4, "embed_dim": 4}}


@pytest.mark.parametrize("data", SIZES)
def test_full_scale_has_the_papers_sizes_and_protocol(data, tmp_path):
    experiment = describe(config=PaperRun(data, "full", 0.005, True, 0, tmp_path).config)
    model, training = experiment.model, experiment.training
    sizes = (model[f"{name}_dim"] for name in ("h", "z", "hidden", "embed"))
    assert (*sizes, training.lr, training.batch_size) == SIZES[data]
    assert (model["aux_weight"], model["reverse_weight"], model["aux_target"]) == (0.005,) * 2 + (
        "raw",
    )
    assert (training.kl_start, 0.8 / training.kl_updates) == (0.2, pytest.approx(5e-5))
    assert (training.lr_schedule, training.keep, training.clip) == ("halve", "best", 100)
    if data in ("timit", "blizzard"):
        assert training.window * experiment.data["frame"] == 16_000 // 2
        assert experiment.data["score_first"] is False and experiment.emission["min_scale"] == 0
        assert training.eval_window == (40 if data == "blizzard" else 0)
    plain = describe(config=PaperRun(data, "full", 0.0, False, 0, tmp_path).config)
    assert plain.model["aux_network"] is False and plain.training.kl_start is None


def test_plans_hold_what_the_paper_compares():
    assert {data for data, _ in plan("table1", "full")} == {"blizzard", "timit", "binarized_mnist"}
    assert [arm[1:] for arm in plan("table2", "full").values()] == [
        (0.0, False), (0.0025, False), (0.005, False)
    ]  # fmt: skip
    assert len(plan("figure2", "small")) == 4 and set(plan("table3", "full").values()) == {
        ("imdb", 0.005, False)
    }
    for table in ("table1", "table2"):  # every arm has its published row
        for data, name in plan(table, "full"):
            rows = IMDB if data == "imdb" else PUBLISHED[data].rows
            assert [row[0] for row in rows].count(f"Z-Forcing{', ' * (name[0] != '+')}{name}") + [
                row[0] for row in rows
            ].count(f"Z-Forcing {name}") == 1


@pytest.mark.slow
def test_tables_and_figures_go_on_where_they_stopped(tmp_path, monkeypatch, capsys):
    torch.set_default_dtype(torch.float32)
    speech(tmp_path)
    words = dict(arg.removeprefix("--data.").split("=") for arg in text(tmp_path)[1:])
    monkeypatch.setattr(paper, "SMALL", {"timit": {}, "imdb": {}})
    few = {"validate_every": 2}
    monkeypatch.setattr(paper, "FULL", {
        "timit": {**TINY, "data": {"name": "fsdd", "score_first": False}, "training": few},
        "imdb": {**TINY, "data": {"name": "text", **words}, "training": few},
    })  # fmt: skip
    common = ["--max_updates=4", f"--out={tmp_path / 'runs'}", f"--data_dir={tmp_path}"]
    assert main(["paper", "figure2", "--seeds", "0", *common]) == 0
    assert (tmp_path / "runs" / "small" / "figure2.png").stat().st_size > 5000
    curves = tmp_path / "runs" / "small" / "timit-0.03-kla-0" / "metrics.csv"
    trained = curves.stat().st_mtime_ns
    capsys.readouterr()
    for _ in range(2):
        assert main(["paper", "table1", "--data", "timit", "--seeds", "0", "1", *common]) == 0
        out = capsys.readouterr().out
        assert "| Z-Forcing + aux | >= 69530 | " in out and "| RNN-Gauss | -1900 | - |" in out
        assert out.count(" ± ") == 3 * 4 + 1 and "first frame given, not scored" in out
    assert curves.stat().st_mtime_ns == trained
    with curves.open() as file:
        assert max(int(row["step"]) for row in csv.DictReader(file)) == 4
    assert main(["paper", "table2", "--seeds", "0", *common]) == 0
    assert "| Z-Forcing, alpha = 0.0025 | 3.03 | 55.71 / 52.54 |" in capsys.readouterr().out
    monkeypatch.setattr("zforcing_pyro.app.commands.paper.LEAST_WORDS", 2)
    assert main(["paper", "table3", "--seeds", "0", *common]) == 0
    assert capsys.readouterr().out.count("of the way from test") == 4 * 5
    assert main(["paper", "table1", "--data", "jsb", *common]) == 2
