"""Curves, progress, warnings of a collapse and of gradients that are not finite."""

import sys
from dataclasses import replace

import pytest
import torch
from training_cases import small_net

from zforcing_pyro.analysis.evaluation import evaluate
from zforcing_pyro.data import Sequences
from zforcing_pyro.emissions import Categorical
from zforcing_pyro.estimators import TraceELBO
from zforcing_pyro.models.steps import steps
from zforcing_pyro.training import TrainingOptions
from zforcing_pyro.training.curves import COLUMNS, collapsed_for
from zforcing_pyro.training.fit import fit
from zforcing_pyro.training.logs import MetricsFile, read_cells, read_rows
from zforcing_pyro.training.player import Player
from zforcing_pyro.training.stops import NonFinite

pytestmark = pytest.mark.usefixtures("float32")


@pytest.fixture
def data():
    lengths = torch.randint(3, 9, (20,)).tolist()
    return Sequences([(torch.rand(n, 1) < 0.5).float() for n in lengths])


def run(data, folder, num=4, net=None, **options):
    net = net or small_net()
    options = TrainingOptions(**{"batch_size": 5, "accelerator": "cpu"} | options)
    return net, fit(net, data, data, None, folder, options, num, seed=1, resume=True)


def test_curves_are_those_of_the_batches(data, tmp_path):
    """With updates switched off, and one batch an epoch, a row is a bound of the training set."""
    options = {"lr": 1e-12, "batch_size": 20, "validate_every": 20}
    net, fitted = run(data, tmp_path, 20, **options)
    first, last, validated = fitted.curves
    assert (tmp_path / "metrics.csv").read_text().splitlines()[0] == ",".join(COLUMNS)
    assert [row["step"] for row in fitted.curves] == [10, 20, 20]
    exact = evaluate(net, data, TraceELBO(500))
    for row in (first, last):
        assert row["bound"] == pytest.approx(exact.nats_per_step, abs=0.05)
        assert row["bound"] == pytest.approx(row["emission"] - row["kl"], abs=1e-5)
        assert row["padding"] == pytest.approx(1 - data.lengths.sum() / (20 * max(data.lengths)))
        assert row["grad_norm"] > 0 and row["sequences_per_second"] > 0
    kl = exact.kl_per_sequence * 20 / exact.num_steps
    assert validated["valid_kl"] == pytest.approx(kl, abs=0.05)
    share = validated["valid_kl"] / abs(validated["valid_bound"])
    assert validated["valid_kl_share"] == pytest.approx(share, rel=1e-5)
    thirds = [validated[f"valid_kl_{name}"] for name in ("first", "middle", "last")]
    assert len(set(thirds)) == 3 and min(thirds) > 0
    assert validated["valid_latents_in_use"] in range(3)


@pytest.mark.parametrize("options", [{}, {"aux_kind": "l2", "aux_input": "h_z"}])
def test_target_r2_is_that_of_the_auxiliary_mean(data, tmp_path, options):
    """The independent oracle reads b_t and the network's mean at each step of the net."""
    net = small_net(**options)
    training = TrainingOptions(batch_size=20, accelerator="cpu", lr=1e-12)
    fitted = fit(net, data, data, TraceELBO(200), tmp_path, training, 1)
    targets, means = [], []
    for x, *_ in data:
        batch = net.batch(x[None])
        state = net.particles(batch, 200)
        for context in steps(net.full_context(batch)[0]):
            h_past, path = state["h"].expand(200, 1, -1), net.path(context, state, None)
            z = path.z[:, :, 0]
            output = net.costs.auxiliary(torch.cat([h_past, z], -1) if net.costs.reads_h else z)
            means.append(output.tanh()[:, 0] if net.costs.kind == "l2" else output.mean[:, 0])
            targets.append(context["b"][:, 0])
            state = path.state
    b, mean = torch.cat(targets), torch.stack(means, 1)
    variance = (b - b.mean(0)).square().mean().item()
    r2 = 1 - (b - mean).square().mean().item() / variance
    assert fitted.curves[-1]["valid_target_variance"] == pytest.approx(variance, rel=1e-4)
    assert fitted.curves[-1]["valid_target_r2"] == pytest.approx(r2, abs=0.05 * abs(r2))


def test_progress_is_a_line_a_validation_or_one_line(data, tmp_path, capsys, monkeypatch):
    run(data, tmp_path / "a", 6, validate_every=3)
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("update 3 of 6, ") and " left: bound -" in first
    assert last.startswith("update 6 of 6: bound -")
    for name in ("kl", "aux", "reverse", "valid_bound", "in_use", "grad_norm", "seq/s", "padding"):
        assert f" {name} " in last
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    run(data, tmp_path / "b", 6, validate_every=3)
    written = capsys.readouterr().err
    assert written.count("\n") == 1 and {len(w) for w in written.strip("\n").split("\r")[1:]} == {
        79
    }


def test_rows_that_were_cut_off_or_follow_the_checkpoint_are_left_out(tmp_path):
    logger, file = MetricsFile(tmp_path), tmp_path / "metrics.csv"
    for step in (10, 20, 30):
        logger.log_metrics({"bound": -1.0 / step}, step)
    logger.log_metrics({"valid_bound": float("nan")}, 20)
    with open(file, "a") as opened:
        opened.write("40,-0.3")
    assert [row["step"] for row in read_cells(file)] == ["10", "20", "30", "20"]
    MetricsFile(tmp_path, resumed_at=20, validated_at=10).log_metrics({"bound": -9.0}, 30)
    assert [(row["step"], row["bound"]) for row in read_rows(file)] == [
        (10, -0.1),
        (20, -0.05),
        (30, -9),
    ]
    MetricsFile(tmp_path).log_metrics({"bound": -2.0}, 10)
    assert [row["bound"] for row in read_rows(file)] == [-2]


def test_a_collapse_is_warned_of_once(data):
    result = evaluate(small_net(), data, TraceELBO())
    dead, alive = (replace(result, latents_in_use=n, num_latents=2) for n in (0, 1))
    number, validations = 0, [(100, dead)] * 9 + [(500, dead)] * 4 + [(600, alive)]
    for update, one in [*validations, *[(700, dead)] * 4]:
        number = collapsed_for(one, update, number)
    with pytest.warns(UserWarning, match=r"none of 2 was in use.*kl_start 0.2.*aux_weight"):
        number = collapsed_for(dead, 800, number)
    assert collapsed_for(dead, 900, number) == 6


def break_updates(monkeypatch, broken):
    """Makes the loss of some updates NaN; their number is that of forward passes before."""
    forward, passes = Player.forward, iter(range(1_000))

    def broken_forward(self, given, *args):
        loss, *others = forward(self, given, *args)
        return loss * torch.nan if next(passes) in broken else loss, *others

    monkeypatch.setattr(Player, "forward", broken_forward)


def kept(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def test_updates_without_a_finite_gradient_change_nothing_and_are_counted(
    data, tmp_path, monkeypatch
):
    run(data, tmp_path / "one", 1)
    break_updates(monkeypatch, {1})
    run(data, tmp_path / "two", 2)
    one, two = (kept(tmp_path / name)["players"]["net"] for name in ("one", "two"))
    assert all(torch.equal(v, two["weights"][k]) for k, v in one["weights"].items())
    ours, theirs = (state["optimiser"]["state"] for state in (one, two))
    assert all(torch.equal(ours[i]["exp_avg"], theirs[i]["exp_avg"]) for i in ours)
    monkeypatch.undo()
    break_updates(monkeypatch, {2, 3, 5, 7, 8})
    net, fitted = run(data, tmp_path / "ten", 10, max_skipped=3, validate_every=10)
    assert all(p.isfinite().all() for p in net.parameters()) and fitted.bound < 0
    assert fitted.curves[-2]["skipped"] == 5


class Poison:
    """Callback that makes weights of the emission NaN."""

    def on_update(self, loop):
        if loop.update == 6:
            with torch.no_grad():
                loop.net.emission.mlp.layers[-1].weight[0] = torch.nan


def test_weights_that_are_nan_are_validated_and_saved(data, tmp_path):
    """C3."""
    options = TrainingOptions(batch_size=5, accelerator="cpu", max_skipped=100, validate_every=4)
    for num in (8, 12):
        options_of_run = {"callbacks": [Poison()], "resume": True}
        fitted = fit(small_net(), data, data, None, tmp_path, options, num, **options_of_run)
    bounds = [row["valid_bound"] for row in fitted.curves if "valid_bound" in row]
    assert [bound != bound for bound in bounds] == [False, True, True]
    assert fitted.bound == pytest.approx(bounds[0])


def test_too_many_in_a_row_end_the_run_with_a_diagnosis(data, tmp_path):
    options = {"batch_size": 5, "accelerator": "cpu", "max_skipped": 4}
    options = TrainingOptions(**options, checkpoint_every=5, validate_every=100)
    with pytest.raises(NonFinite) as error:
        fit(small_net(), data, data, None, tmp_path, options, 40, callbacks=[Poison()])
    message = str(error.value)
    for part in (
        "in 4 updates in a row, up to update 10",
        "log_emission from step 0 on, in 5 of 5 sequences",
        "weights that are not finite: emission.",
        "gradients that are not finite: ",
    ):
        assert part in message
    assert "log_prior" not in message and "\n" not in message
    assert kept(tmp_path)["zforcing_pyro"]["update"] == 5
    assert run(data, tmp_path, 10)[1].bound < 0


def test_a_run_that_diverged_is_validated_and_resumed(tmp_path):
    """C3: exp of a bound above 709 nats a symbol was an OverflowError."""
    data = Sequences([torch.randint(1, 5, (6,)) for _ in range(10)])
    net = small_net(emission=Categorical, x_dim=5, embed_dim=4)
    with torch.no_grad():
        net.emission.mlp.layers[-1].bias[0] = 1e8
    options = {"net": net, "lr": 1e-12, "validate_every": 1, "max_skipped": 100, "early_stop": 9}
    for num in (2, 4):
        fitted = run(data, tmp_path, num, **options)[1]
    assert fitted.bound < -1e6
    assert [row["step"] for row in fitted.curves if "valid_bound" in row] == [1, 2, 3, 4]
    assert evaluate(net, data, TraceELBO()).nats_per_step < -1e6
