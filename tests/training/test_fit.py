"""Training on real digits: schedules, what is kept, resume, curves, callbacks."""

import csv
import functools
import math

import pytest
import torch
import training_cases

from zforcing_pyro.analysis.evaluation import evaluate
from zforcing_pyro.data import Sequences, corpus
from zforcing_pyro.emissions import Bernoulli
from zforcing_pyro.estimators import ESTIMATORS, TraceELBO, TraceIWAE
from zforcing_pyro.models import MODELS, VRNN
from zforcing_pyro.training import TrainingOptions
from zforcing_pyro.training.fit import fit

small_net = functools.partial(training_cases.small_net, z_dim=3, h_dim=8, hidden_dim=8)
pytestmark = pytest.mark.usefixtures("float32")


@pytest.fixture(scope="module")
def splits():
    digits = corpus("digits")
    return [
        Sequences([digits.split(name)[i].x[:20] for i in range(40)]) for name in ("train", "valid")
    ]


@pytest.fixture
def opposed():
    """Training on ones makes a model worse on zeros: validation goes down with every update."""
    return [Sequences([torch.full((20, 1), value)] * 10) for value in (1.0, 0.0)]


def run(splits, folder, num=8, estimator=None, resume=False, net=None, callbacks=(), **options):
    net = net or small_net()
    options = {"batch_size": 10, "validate_every": 2, "accelerator": "cpu"} | options
    extra = {"seed": 1, "resume": resume, "callbacks": callbacks}
    fitted = fit(net, *splits, estimator, folder, TrainingOptions(**options), num, **extra)
    return net, fitted.bound


def rows(folder):
    with open(folder / "metrics.csv") as file:
        return list(csv.DictReader(file))


def validations(folder, *names):
    return [[row[name] for name in names] for row in rows(folder) if row["valid_bound"]]


def test_training_improves_the_bound_and_moves_every_parameter(splits, tmp_path):
    before = [p.clone() for p in small_net().parameters()]
    net, bound = run(splits, tmp_path, num=30, lr=1e-2)
    assert bound > float(validations(tmp_path, "valid_bound")[0][0]) + 0.05
    assert all((a != b).any() for a, b in zip(before, net.parameters()))


@pytest.mark.parametrize(
    "extra",
    [
        {"ema_decay": 0.9, "frame_dropout": 0.2, "keep": "last"},
        {"precision": "64-true", "window": 6, "carry_state": True},
        {"precision": "bf16-mixed", "accumulate": 2},
    ],
    ids=lambda extra: "-".join(map(str, extra)),
)
def test_a_resumed_run_ends_where_an_undisturbed_one_does(splits, tmp_path, extra):
    options = {"patience": 0, "lr_floor": 1e-5} | extra
    single, bound = run(splits, tmp_path / "single", 16, **options)
    for num in (6, 10, 16):
        parts, resumed = run(splits, tmp_path / "parts", num, resume=True, **options)
    assert bound == resumed
    assert all(torch.equal(a, b) for a, b in zip(single.parameters(), parts.parameters()))
    ours, theirs = (validations(tmp_path / n, "step", "valid_bound") for n in ("parts", "single"))
    assert ours == theirs


def test_tensors_arrays_and_lists_train_and_are_evaluated_as_sets_are(splits):
    bounds = set()
    for convert in (list, torch.stack, lambda xs: torch.stack(xs).numpy(), Sequences):
        data = [convert([sequence.x for sequence in split]) for split in splits]
        net, bound = run(data, None, 2)
        bounds.add((bound, evaluate(net, data[1], TraceIWAE(2)).nats_per_sequence))
    assert len(bounds) == 1
    with pytest.raises(ValueError, match="'sequences' must hold at least one sequence"):
        run([[], []], None)


def test_best_or_last_weights_are_kept(opposed, tmp_path):
    options = {"lr": 0.03, "lr_schedule": "constant"}
    best, bound = run(opposed, tmp_path / "best", 8, **options)
    last, _ = run(opposed, tmp_path / "last", 8, keep="last", **options)
    curve = [float(bound) for (bound,) in validations(tmp_path / "best", "valid_bound")]
    assert curve == sorted(curve, reverse=True) and bound == pytest.approx(curve[0], abs=1e-6)
    for net, kept in ((best, curve[0]), (last, curve[-1])):
        again = evaluate(net, opposed[1], TraceELBO(50)).nats_per_step
        assert again == pytest.approx(kept, abs=0.1)


def test_learning_rates_are_halved_to_the_floor_across_resumes(opposed, tmp_path):
    run(opposed, tmp_path / "floor", 10, lr=0.03, lr_floor=0.01, patience=0)
    rates = [float(lr) for (lr,) in validations(tmp_path / "floor", "lr")]
    assert rates == pytest.approx([0.03, 0.03, 0.015, 0.01, 0.01], rel=1e-6)
    options = {"lr": 0.03, "lr_floor": 0.001, "patience": 2}
    run(opposed, tmp_path / "single", 20, **options)
    for num in (6, 14, 20):
        run(opposed, tmp_path / "parts", num, resume=True, **options)
    ours, theirs = (validations(tmp_path / name, "step", "lr") for name in ("parts", "single"))
    assert ours == theirs and len({lr for _, lr in theirs}) == 3


def test_validation_uses_a_fixed_choice(splits):
    net, bound = run(splits, None, 2, lr=1e-12, validate_on=7)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))[:7]
    part = evaluate(net, splits[1].subset(order), TraceELBO(100)).nats_per_step
    assert bound == pytest.approx(part, abs=0.02)


def test_early_stop_counts_from_the_end_of_annealing_and_stays(opposed, tmp_path):
    options = {"lr": 0.03, "early_stop": 2}
    run(opposed, tmp_path / "plain", 40, **options)
    before = rows(tmp_path / "plain")
    assert len(validations(tmp_path / "plain")) == 3
    run(opposed, tmp_path / "plain", 40, resume=True, **options)
    assert rows(tmp_path / "plain") == before
    # The end is reached at update 10, so the validations at 10, 12 and 14 are counted.
    run(opposed, tmp_path / "annealed", 40, kl_start=0.0, kl_updates=10, **options)
    assert validations(tmp_path / "annealed", "step")[-1] == ["14"]


def test_the_last_update_is_validated_and_kept(splits, tmp_path):
    options = {"validate_every": 5, "keep": "last"}
    _, bound = run(splits, tmp_path, 7, **options)
    assert validations(tmp_path, "step") == [["5"], ["7"]]
    assert run(splits, tmp_path, 7, resume=True, **options)[1] == bound


def test_settings_of_the_caller_come_back(splits):
    torch.set_num_threads(2)
    torch.manual_seed(5)
    net, estimator = small_net(aux_weight=0.5), TraceELBO(kl_weight=0.7)
    net.eval()
    options = {"matmul_precision": "high", "num_threads": 1, "aux_start": 0.0, "aux_updates": 9}
    run(splits, None, 2, estimator, net=net, kl_end=0.1, free_bits=0.1, **options)
    assert torch.get_num_threads() == 2 and torch.get_float32_matmul_precision() == "highest"
    assert torch.initial_seed() == 0  # small_net's
    assert net.weights.aux == 0.5 and not net.training
    assert (estimator.kl_weight, estimator.free_bits) == (0.7, 0.0)


class Weights:
    """Callback that notes each update's weights."""

    def __init__(self):
        self.seen = []

    def on_update(self, loop):
        weights = loop.net.weights
        self.seen.append((loop.estimator.kl_weight, weights.aux, weights.reverse))


def test_weights_follow_their_schedules_and_curves_do_not(splits, tmp_path):
    """W9: a reverse cost's start above its weight was ignored. Costs of curves are unweighted."""
    seen, options = Weights(), {"kl_start": 0.0, "kl_updates": 20, "lr": 1e-12}
    options |= {"aux_start": 0.0, "aux_updates": 5, "reverse_start": 0.4, "reverse_updates": 3}
    net = small_net(aux_weight=0.05, reverse_weight=0.1)
    bound = run(splits, tmp_path / "a", 10, callbacks=[seen], net=net, **options)[1]
    for update, weights in ((0, (0, 0, 0.4)), (2, (0.1, 0.02, 0.2)), (9, (0.45, 0.05, 0.1))):
        assert seen.seen[update] == pytest.approx(weights)
    plain, free = Weights(), {"free_bits": 50.0, "free_bits_per": "latent", "lr": 1e-12}
    net = small_net(aux_weight=0.5, reverse_weight=0.0)
    plain_bound = run(splits, tmp_path / "b", 10, callbacks=[plain], net=net, **free)[1]
    assert set(plain.seen) == {(1.0, 0.5, 0.0)}
    # Validation is at full weight, without costs and free bits.
    assert bound == pytest.approx(plain_bound, abs=1e-6)
    ours, theirs = rows(tmp_path / "a")[4], rows(tmp_path / "b")[4]
    assert (ours["aux_weight"], theirs["aux_weight"]) == ("0.05", "0.5")
    for name in ("aux", "reverse", "kl"):
        assert float(ours[name]) == pytest.approx(float(theirs[name]), abs=1e-4)


WEIGHTED = [name for name in ESTIMATORS if name not in ("elbo", "stl")]


@pytest.mark.parametrize("name", WEIGHTED)
def test_annealing_and_free_bits_need_a_kl_of_their_own(name, splits, tmp_path):
    for options in ({"kl_start": 0.2, "kl_updates": 9}, {"kl_end": 0.5}):
        with pytest.raises(ValueError, match=r"annealing weighs the KL of an ELBO.*is no bound"):
            run(splits, tmp_path / "run", 2, ESTIMATORS[name](2), **options)
    for estimator in (ESTIMATORS[name](2), TraceELBO(analytic_kl=False)):
        with pytest.raises(ValueError, match=r"'free_bits' must be 0 with .*, got 0.1: .* closed"):
            run(splits, tmp_path / "run", 2, estimator, free_bits=0.1)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("net", "options", "message"),
    [
        (MODELS["dkf"], {"frame_dropout": 0.2}, "'frame_dropout' must be 0 for DKF"),
        (VRNN, {"aux_end": 0.2}, "'aux_start' and 'aux_end' must be unset or 0 for a VRNN"),
        (VRNN, {"num_threads": 10**6}, "'num_threads' must be at most .*, got 1000000"),
        (VRNN, {"devices": 1000}, "'devices' must be at most .*, got 1000"),
        (VRNN, {"nodes": 10**9}, "'nodes' must be 1 where neither .*, got 1000000000"),
        (VRNN, {"devices": 2, "batch_size": 1}, "'batch_size' must be at least 2, .*, got 1"),
        (VRNN, {"accelerator": "mps"}, "'accelerator' must be one of this machine"),
        (VRNN, {"devices": 2}, "'folder' must be given where several processes share it"),
    ],
)
def test_options_that_net_or_machine_lack_are_refused(splits, net, options, message):
    """C2: before any process starts."""
    net = net(Bernoulli, 1, z_dim=2, h_dim=4, hidden_dim=4)
    with pytest.raises(ValueError, match=message):
        run(splits, None, 2, net=net, **options)


def test_torchrun_must_be_complete(splits, monkeypatch):
    """C1: TORCHELASTIC_RUN_ID alone."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    with pytest.raises(ValueError, match="'TORCHELASTIC_RUN_ID' must come with torchrun's"):
        run(splits, None, 2)


def test_callbacks_and_loggers_follow_a_run(splits, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from lightning.fabric.loggers import CSVLogger

    calls = []

    class Recorder:
        pass

    for name in ("on_update", "on_validation", "on_checkpoint", "on_end"):
        call = functools.partial(lambda name, loop, *a: calls.append((name, loop.update, *a)), name)
        setattr(Recorder, name, staticmethod(call))

    options = TrainingOptions(batch_size=10, accelerator="cpu", loggers=["tensorboard"])
    logger, extra = CSVLogger(tmp_path / "mine"), {"callbacks": [Recorder()]}
    fitted = fit(
        small_net(), *splits, None, tmp_path / "run", options, 4, **extra, loggers=[logger]
    )
    calls = [(name, update, *(file.name for file in files)) for name, update, *files in calls]
    assert calls == [
        *(("on_update", k) for k in (1, 2, 3, 4)),
        ("on_checkpoint", 4, "last.ckpt"),
        ("on_validation", 4),
        ("on_checkpoint", 4, "best.ckpt"),
        ("on_checkpoint", 4, "last.ckpt"),
        ("on_end", 4),
    ]
    events = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    values = {e.step: e.value for e in events.Scalars("valid_bound")}
    assert values == {4: pytest.approx(fitted.bound)} and "aux" in events.Tags()["scalars"]
    assert list((tmp_path / "mine").rglob("metrics.csv"))
    assert fitted.curves[-1]["valid_bound"] == pytest.approx(fitted.bound)
    assert fitted.plot("valid_bound").lines[0].get_xydata().tolist() == [
        [4.0, fitted.curves[-1]["valid_bound"]]
    ]
    with pytest.raises(ValueError, match="'loggers' must be installed, got 'mlflow'"):
        run(splits, None, 2, loggers=["mlflow"])


def test_target_rate_lowers_the_weight_of_a_kl_below_it(splits, tmp_path):
    options = {"kl_target": 1e9, "kl_start": 0.5, "kl_end": 0.5, "kl_updates": 1}
    run(splits, tmp_path / "run", 40, validate_every=20, **options)
    weights = [float(row["kl_weight"]) for row in rows(tmp_path / "run") if row["kl"]]
    expected = [0.5 * math.exp(-0.1 * k) for k in range(4)]  # a row every 10 updates
    assert weights == pytest.approx(expected)
    with pytest.raises(ValueError, match="'kl_target' 0, with TraceIWAE"):
        run(splits, tmp_path / "iwae", estimator=TraceIWAE(2), kl_target=1.0)


def test_inner_updates_train_the_guide_alone(splits, tmp_path):
    net, _ = run(splits, tmp_path / "run", 6, inner_updates=2, inner_until=4)
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    moments = last["players"]["net"]["optimiser"]["state"]
    steps = {name: int(moments[i]["step"]) for i, (name, _) in enumerate(net.named_parameters())}
    guide = {"posterior", "backward_rnn", "costs"}
    assert {k: 6 + 2 * 4 * (k.partition(".")[0] in guide) for k in steps} == steps
    with pytest.raises(ValueError, match="'inner_updates' and 'inner_until' must come together"):
        TrainingOptions(inner_updates=2)
