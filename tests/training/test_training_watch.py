"""What is seen of a run: curves, a line a validation, a collapse, gradients that are no numbers."""

import csv
from dataclasses import replace

import pytest
import torch

from zforcing_pyro.analysis.evaluation import evaluate
from zforcing_pyro.data import Sequences
from zforcing_pyro.emissions import Bernoulli
from zforcing_pyro.estimators import TraceELBO
from zforcing_pyro.models import ZForcing
from zforcing_pyro.training import TrainingOptions
from zforcing_pyro.training.curves import COLUMNS, Watch
from zforcing_pyro.training.fit import fit
from zforcing_pyro.training.logs import MetricsFile, read_rows
from zforcing_pyro.training.module import Training
from zforcing_pyro.training.nonfinite import NonFinite


@pytest.fixture(autouse=True)
def float32(float64_and_seed):
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def data():
    lengths = torch.randint(3, 9, (20,)).tolist()
    return Sequences([(torch.rand(n, 1) < 0.5).float() for n in lengths])


def run(data, folder, num=4, **options):
    torch.manual_seed(0)
    net = ZForcing(Bernoulli, x_dim=1, z_dim=2, h_dim=4, hidden_dim=4, embed_dim=0)
    options = TrainingOptions(**{"batch_size": 5, "accelerator": "cpu"} | options)
    return net, fit(net, TraceELBO(), data, data, folder, options, num, seed=1, resume=True)


def rows(folder):
    with open(folder / "metrics.csv") as f:
        return list(csv.DictReader(f))


def test_curves_are_those_of_the_batches(data, tmp_path):
    """With updates switched off, and one batch an epoch, a row is a bound of the training set."""
    net, _ = run(data, tmp_path, 20, lr=1e-12, batch_size=20, validate_every=20)
    first, last, validated = rows(tmp_path)
    assert tuple(first) == COLUMNS
    assert [row["step"] for row in (first, last, validated)] == ["10", "20", "20"]
    exact = evaluate(net, data, TraceELBO(500))
    for row in (first, last):
        row = {name: float(value or "nan") for name, value in row.items()}
        assert row["bound"] == pytest.approx(exact.nats_per_step, abs=0.05)
        assert row["bound"] == pytest.approx(row["emission"] - row["kl"], abs=1e-5)
        assert row["padding"] == pytest.approx(1 - data.lengths.sum() / (20 * max(data.lengths)))
        assert row["grad_norm"] > 0 and row["sequences_per_second"] > 0 and row["aux"] < 0
    kl = exact.kl_per_sequence * 20 / exact.num_steps
    assert float(validated["valid_kl"]) == pytest.approx(kl, abs=0.05)
    share = float(validated["valid_kl"]) / abs(float(validated["valid_bound"]))
    assert float(validated["valid_kl_share"]) == pytest.approx(share, rel=1e-5)
    thirds = [float(validated[f"valid_kl_{name}"]) for name in ("first", "middle", "last")]
    assert len(set(thirds)) == 3 and min(thirds) > 0
    assert int(validated["valid_latents_in_use"]) in range(3)


def test_tensorboard_has_the_same_curves(data, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run(data, tmp_path, 6, validate_every=3)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    found = {e.step: e.value for e in events.Scalars("valid_bound")}
    expected = {int(r["step"]): float(r["valid_bound"]) for r in rows(tmp_path) if r["valid_bound"]}
    assert found == pytest.approx(expected)
    tags = set(events.Tags()["scalars"])
    assert {"bound", "kl", "valid_latents_in_use", "valid_kl_share"} <= tags


def test_a_line_is_a_validation(data, tmp_path, capsys):
    run(data, tmp_path, 6, validate_every=3)
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("update 3 of 6, ") and " left: bound -" in first
    assert last.startswith("update 6 of 6: bound -")
    for name in ("kl", "aux", "reverse", "valid_bound", "in_use", "grad_norm", "seq/s", "padding"):
        assert f" {name} " in last


def test_rows_that_were_cut_off_or_come_after_the_checkpoint_are_left_out(tmp_path):
    logger = MetricsFile(tmp_path)
    for step in (10, 20, 30):
        logger.log_metrics({"bound": -1.0 / step}, step)
    logger.log_metrics({"valid_bound": -1.0}, 20)
    with open(tmp_path / "metrics.csv", "a") as file:
        file.write("40,-0.3")
    assert [row["step"] for row in read_rows(tmp_path / "metrics.csv")] == ["10", "20", "30", "20"]
    MetricsFile(tmp_path, resumed_at=20, validated_at=10).log_metrics({"bound": -9.0}, 30)
    assert [(r["step"], r["bound"]) for r in rows(tmp_path)] == [
        ("10", "-0.1"),
        ("20", "-0.05"),
        ("30", "-9"),
    ]
    MetricsFile(tmp_path).log_metrics({"bound": -2.0}, 10)
    assert [row["bound"] for row in rows(tmp_path)] == ["-2"]


def test_a_collapse_is_told_with_what_may_help(data):
    net = ZForcing(Bernoulli, x_dim=1, z_dim=2, h_dim=4, hidden_dim=4, embed_dim=0)
    found = evaluate(net, data, TraceELBO())
    dead, alive = (replace(found, latents_in_use=n, num_latents=2) for n in (0, 1))
    watch = Watch()
    for update, one in [(100, dead)] * 9 + [(500, dead)] * 4 + [(600, alive)] + [(700, dead)] * 4:
        watch.warn_of_collapse(one, update)
    with pytest.warns(UserWarning, match=r"none of 2 was in use.*kl_start 0.2.*aux_weight"):
        watch.warn_of_collapse(dead, 800)
    watch.warn_of_collapse(dead, 900)  # once is enough


def break_updates(monkeypatch, broken):
    """Makes the loss of some updates no number."""
    step = Training.training_step

    def training_step(self, part, batch_idx):
        loss = step(self, part, batch_idx)
        return loss * torch.nan if self.global_step in broken else loss

    monkeypatch.setattr(Training, "training_step", training_step)


def test_updates_without_a_finite_gradient_are_skipped_and_counted(data, tmp_path, monkeypatch):
    break_updates(monkeypatch, {2, 3, 5, 7, 8})
    net, bound = run(data, tmp_path, 10, max_skipped=3, validate_every=10)
    assert all(p.isfinite().all() for p in net.parameters()) and bound < 0
    assert rows(tmp_path)[-2]["skipped"] == "5"


def test_a_skipped_update_leaves_weights_and_moments_as_they_were(data, tmp_path, monkeypatch):
    run(data, tmp_path / "one", 1)
    break_updates(monkeypatch, {1})
    run(data, tmp_path / "two", 2)
    one, two = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)
        for name in ("one", "two")
    )
    assert all(torch.equal(v, two["state_dict"][k]) for k, v in one["state_dict"].items())
    ours, theirs = (c["optimizer_states"][0]["state"] for c in (one, two))
    assert all(torch.equal(ours[i]["exp_avg"], theirs[i]["exp_avg"]) for i in ours)


def test_too_many_in_a_row_end_the_run_with_a_diagnosis(data, tmp_path, monkeypatch):
    """A weight of the emission that is no number: from the first step on, in all terms of x."""
    clip = Training.configure_gradient_clipping

    def poisoned(self, optimizer, **options):
        clip(self, optimizer, **options)
        if self.global_step == 5:
            with torch.no_grad():
                self.net.emission.mlp.layers[-1].weight[0] = torch.nan

    monkeypatch.setattr(Training, "configure_gradient_clipping", poisoned)
    with pytest.raises(NonFinite) as error:
        run(data, tmp_path, 40, max_skipped=4, checkpoint_every=5, validate_every=100)
    message = str(error.value)
    for part in (
        "in 4 updates in a row, up to update 10",
        "log_emission from step 0 on, in 5 of 5 sequences",
        "weights that are not finite: emission.",
        "gradients that are not finite: ",
    ):
        assert part in message
    assert "log_prior" not in message and "\n" not in message
    monkeypatch.setattr(Training, "configure_gradient_clipping", clip)
    kept = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert kept["global_step"] == 5
    assert all(value.isfinite().all() for value in kept["state_dict"].values())
    assert run(data, tmp_path, 10)[1] < 0


def test_the_overhead_of_the_loop_is_measured():
    from experiments.training_overhead import overhead

    row = overhead("SMALL", 8)
    assert row["updates"] == 2 and row["ours_ms"] > 0 < row["bare_ms"]
    assert row["overhead"] == pytest.approx(row["ours_ms"] / row["bare_ms"] - 1, abs=0.01)
