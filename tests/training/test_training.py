"""Training on real digits: schedules, what is kept, resume."""

import csv
from types import SimpleNamespace

import pytest
import torch

from zforcing_pyro.analysis.evaluation import evaluate
from zforcing_pyro.data import Batch, BatchSampler, Sequences, corpus
from zforcing_pyro.emissions import Bernoulli, Categorical
from zforcing_pyro.estimators import ESTIMATORS, TraceELBO, TraceIWAE, TraceRWS
from zforcing_pyro.models import MODELS, ZForcing
from zforcing_pyro.training import TrainingOptions
from zforcing_pyro.training.batches import Part, Streams, Updates
from zforcing_pyro.training.fit import fit
from zforcing_pyro.training.module import Training


@pytest.fixture(autouse=True)
def float32(float64_and_seed):
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def splits():
    digits = corpus("digits")
    return [
        Sequences([digits.split(name)[i].x[:20] for i in range(40)]) for name in ("train", "valid")
    ]


def small_net(**options):
    torch.manual_seed(0)
    sizes = {"z_dim": 3, "h_dim": 8, "hidden_dim": 8, "embed_dim": 0}
    return ZForcing(Bernoulli, x_dim=1, **sizes | options)


def run(splits, folder, num=8, estimator=None, resume=False, net=None, **options):
    net = net or small_net()
    options = {"batch_size": 10, "validate_every": 2, "accelerator": "cpu"} | options
    options = TrainingOptions(**options)
    estimator = estimator or TraceELBO()
    return net, fit(net, estimator, *splits, folder, options, num, seed=1, resume=resume)


def rows(folder):
    with open(folder / "metrics.csv") as f:
        return list(csv.DictReader(f))


def test_training_improves_the_bound_and_moves_every_parameter(splits, tmp_path):
    before = [p.clone() for p in small_net().parameters()]
    net, bound = run(splits, tmp_path, num=30, lr=1e-2)
    first = next(float(r["valid_bound"]) for r in rows(tmp_path) if r["valid_bound"])
    assert bound > first + 0.05
    assert all((a != b).any() for a, b in zip(before, net.parameters()))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimators_train(splits, tmp_path, name):
    net, before = small_net(), small_net()
    assert run(splits, tmp_path, 3, ESTIMATORS[name](3), net=net)[1] < 0
    assert all((a != b).any() for a, b in zip(before.parameters(), net.parameters()))
    assert all(p.isfinite().all() for p in net.parameters())


def test_dreams_train(splits, tmp_path):
    estimator = TraceRWS(3, sleep_phi=0.5)
    net, before = small_net(), small_net()
    assert run(splits, tmp_path, 3, estimator, net=net, frame_dropout=0.3)[1] < 0
    assert all((a != b).any() for a, b in zip(before.parameters(), net.parameters()))


@pytest.mark.parametrize(
    "extra", [{"ema_decay": 0.9, "frame_dropout": 0.2}, {"precision": "64-true"}, {"keep": "last"}]
)
def test_a_resumed_run_ends_where_an_undisturbed_one_does(splits, tmp_path, extra):
    options = {"patience": 0, "lr_floor": 1e-5} | extra
    whole, bound = run(splits, tmp_path / "whole", 16, **options)
    run(splits, tmp_path / "parts", 6, **options)
    run(splits, tmp_path / "parts", 10, resume=True, **options)
    parts, resumed = run(splits, tmp_path / "parts", 16, resume=True, **options)
    assert bound == resumed
    for a, b in zip(whole.parameters(), parts.parameters()):
        assert torch.equal(a, b)
    steps = [r["step"] for r in rows(tmp_path / "parts") if r["valid_bound"]]
    assert steps == [r["step"] for r in rows(tmp_path / "whole") if r["valid_bound"]]


@pytest.fixture
def opposed(splits):
    """Training on ones makes a model worse on zeros: validation goes down with every update."""
    return [Sequences([torch.full((20, 1), value)] * 10) for value in (1.0, 0.0)]


def test_best_or_last_is_kept(opposed, tmp_path):
    options = {"lr": 0.03, "lr_schedule": "constant"}
    best, bound = run(opposed, tmp_path / "best", 8, **options)
    last, _ = run(opposed, tmp_path / "last", 8, keep="last", **options)
    curve = [float(r["valid_bound"]) for r in rows(tmp_path / "best") if r["valid_bound"]]
    assert curve == sorted(curve, reverse=True) and bound == pytest.approx(curve[0], abs=1e-6)
    for net, kept in ((best, curve[0]), (last, curve[-1])):
        again = evaluate(net, opposed[1], TraceELBO(50)).nats_per_step
        assert again == pytest.approx(kept, abs=0.1)


def test_the_learning_rate_is_halved_down_to_its_floor(opposed, tmp_path):
    run(opposed, tmp_path, 10, lr=0.03, lr_floor=0.01, patience=0)
    rates = [float(r["lr"]) for r in rows(tmp_path) if r["valid_bound"]]
    assert rates == pytest.approx([0.03, 0.03, 0.015, 0.01, 0.01], rel=1e-6)


def test_halving_goes_on_where_it_was(opposed, tmp_path):
    """The third validation after the best halves, whichever of them is another process's."""
    options = {"lr": 0.03, "lr_floor": 0.001, "patience": 2}
    run(opposed, tmp_path / "whole", 20, **options)
    for num in (6, 14, 20):
        run(opposed, tmp_path / "parts", num, resume=True, **options)
    found, expected = (
        [(r["step"], r["lr"]) for r in rows(tmp_path / name) if r["valid_bound"]]
        for name in ("parts", "whole")
    )
    assert found == expected and len({lr for _, lr in expected}) == 3


def test_validation_may_look_at_a_part(splits, tmp_path):
    net, bound = run(splits, tmp_path, 2, lr=1e-12, validate_on=7)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))[:7]
    part = evaluate(net, splits[1].subset(order), TraceELBO(100)).nats_per_step
    assert bound == pytest.approx(part, abs=0.02)


def test_early_stop(opposed, tmp_path):
    run(opposed, tmp_path, 40, lr=0.03, early_stop=2)
    assert len([r for r in rows(tmp_path) if r["valid_bound"]]) == 3


def test_the_last_update_is_validated_and_kept(splits, tmp_path):
    _, bound = run(splits, tmp_path, 7, validate_every=5, keep="last")
    steps = [int(r["step"]) for r in rows(tmp_path) if r["valid_bound"]]
    assert steps == [5, 7]
    assert run(splits, tmp_path, 7, validate_every=5, keep="last", resume=True)[1] == bound


def test_an_early_stopped_run_stays_stopped(opposed, tmp_path):
    run(opposed, tmp_path, 40, lr=0.03, early_stop=2)
    before = rows(tmp_path)
    run(opposed, tmp_path, 40, lr=0.03, early_stop=2, resume=True)
    assert rows(tmp_path) == before


def test_the_callers_settings_come_back(splits, tmp_path):
    torch.set_num_threads(2)
    torch.manual_seed(5)
    net = small_net(aux_weight=0.5)
    run(
        splits,
        tmp_path,
        2,
        net=net,
        matmul_precision="high",
        num_threads=1,
        aux_start=0.0,
        aux_updates=9,
    )
    assert torch.get_num_threads() == 2 and torch.get_float32_matmul_precision() == "highest"
    assert torch.initial_seed() == 0  # small_net's
    assert net.weights.aux == 0.5


def test_frames_that_are_not_read_are_not_dropped(splits, tmp_path):
    net = MODELS["dkf"](Bernoulli, 1, z_dim=2, h_dim=4, hidden_dim=4)
    with pytest.raises(ValueError, match="'frame_dropout' must be 0 for DKF"):
        run(splits, tmp_path, 2, net=net, frame_dropout=0.2)


def test_validation_is_at_full_weight_and_without_costs(splits, tmp_path):
    """With the updates switched off, the validation bound does not know of weights."""
    bounds = [
        run(splits, tmp_path / name, 2, net=small_net(aux_weight=aux), lr=1e-12, **options)[1]
        for name, aux, options in [
            ("plain", 0.5, {}),
            (
                "annealed",
                0.5,
                {"kl_start": 0.0, "kl_updates": 9, "aux_start": 0.0, "aux_updates": 9},
            ),
        ]
    ]
    assert bounds[0] == pytest.approx(bounds[1], abs=1e-6)


def training_at(update, options, estimator=None, **weights):
    training = training_of(options, estimator, small_net(**weights))
    optimizer = type("O", (), {"param_groups": [{}]})
    training._trainer = type("T", (), {"optimizers": [optimizer]})()
    training.schedule(update)
    return training


def training_of(options, estimator=None, net=None):
    return Training(net or small_net(), estimator or TraceELBO(), options, 0, 100, 10)


def test_weights_follow_their_schedules():
    rises = {"kl_start": 0.2, "kl_updates": 8, "aux_start": 0.0, "aux_updates": 5}
    falls = {"reverse_start": 0.4, "reverse_updates": 3}  # W9: it was ignored above the weight
    weights = {"aux_weight": 0.05, "reverse_weight": 0.1}
    estimator = TraceELBO()
    expected = [(0, 0.2, 0.0, 0.4), (3, 0.5, 0.03, 0.1), (100, 1.0, 0.05, 0.1)]
    for update, kl, aux, reverse in expected:
        training = training_at(update, TrainingOptions(**rises, **falls), estimator, **weights)
        assert training.estimator.kl_weight == pytest.approx(kl)
        assert training.net.weights.aux == pytest.approx(aux)
        assert training.net.weights.reverse == pytest.approx(reverse)
    assert estimator.kl_weight == 1.0  # the caller's own is left alone


def test_without_a_schedule_weights_are_those_that_were_given():
    training = training_at(7, TrainingOptions(), TraceELBO(kl_weight=0.5), aux_weight=0.05)
    assert (training.estimator.kl_weight, training.net.weights.aux) == (0.5, 0.05)
    options = TrainingOptions(kl_start=0.2, kl_updates=2)
    training = training_at(3, options, TraceELBO(kl_weight=0.4))
    assert training.estimator.kl_weight == 0.4
    assert training_at(7, TrainingOptions(), TraceIWAE(2)).estimator.num_particles == 2


def test_free_bits_train_and_are_in_no_validation(splits, tmp_path):
    training = training_at(0, TrainingOptions(free_bits=0.5, free_bits_per="latent"))
    assert (training.estimator.free_bits, training.estimator.free_bits_per) == (0.5, "latent")
    free = {"free_bits": 50.0, "kl_updates": 4, "kl_start": 0.1, "kl_shape": "cyclical"}
    bounds = [run(splits, tmp_path / n, 2, lr=1e-12, **o)[1] for n, o in (("a", {}), ("b", free))]
    assert bounds[0] == pytest.approx(bounds[1], abs=1e-6)


ANNEALED = [{"kl_start": 0.2, "kl_updates": 9}, {"kl_end": 0.5}]
WEIGHTED = [n for n in ESTIMATORS if n not in ("elbo", "stl")]


@pytest.mark.parametrize("options", ANNEALED)
@pytest.mark.parametrize("name", WEIGHTED)
def test_annealing_within_an_importance_weight_is_refused(name, options, splits, tmp_path):
    with pytest.raises(ValueError, match=r"annealing weighs the KL of an ELBO.*is no bound"):
        run(splits, tmp_path / "run", 2, ESTIMATORS[name](2), **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", [*WEIGHTED, "stl", "sampled"])
def test_free_bits_without_a_kl_in_closed_form_are_refused(name):
    estimator = TraceELBO(analytic_kl=False) if name == "sampled" else ESTIMATORS[name](2)
    with pytest.raises(ValueError, match=r"'free_bits' must be 0 with .*, got 0.1: .* closed form"):
        training_of(TrainingOptions(free_bits=0.1), estimator)


def test_frame_dropout_drops_inputs_and_no_observations():
    training = training_of(TrainingOptions())
    x, lengths = torch.ones(3, 50, 1), torch.full((3,), 50)
    part = Part(Batch(x, lengths, None), 3, True, None)
    inputs = training.given(part, frame_dropout=0.4).inputs
    assert 0.2 < (inputs == 0).float().mean() < 0.6
    assert training.given(part).inputs is None
    net = ZForcing(Categorical, 5, z_dim=2, h_dim=4, hidden_dim=4, embed_dim=3)
    symbols = net.drop_frames(torch.ones(1, 2, dtype=torch.long), torch.tensor([[True, False]]))
    assert symbols.tolist() == [[5, 1]]


def test_schedules_are_followed(splits, tmp_path):
    run(splits, tmp_path, 8, lr=0.01, lr_schedule="linear", lr_floor=0.0, lr_warmup=2)
    rates = [float(r["lr"]) for r in rows(tmp_path) if r["valid_bound"]]
    assert rates == pytest.approx([0.01, 0.01 * 5 / 6, 0.01 * 3 / 6, 0.01 / 6])


def test_early_stop_waits_for_the_kl_to_have_its_weight(opposed, tmp_path):
    """Weight 1 is reached at update 10, so the validations at 10, 12 and 14 are counted."""
    run(opposed, tmp_path, 40, lr=0.03, early_stop=2, kl_start=0.0, kl_updates=10)
    assert [r["step"] for r in rows(tmp_path) if r["valid_bound"]][-1] == "14"


def parts_of(splits, rank=0, world=1, accumulate=1):
    batches = BatchSampler(splits[0].lengths, 15, True, True, seed=3)
    return Updates(splits[0], batches, 8, accumulate, rank, world)


def test_an_update_is_a_function_of_its_number(splits):
    found, again = parts_of(splits), parts_of(splits)
    whole = [found[i] for i in range(8)]
    for i in (5, 0, 7, 2):
        assert torch.equal(again[i].batch.x, whole[i].batch.x)
    epoch = torch.cat([part.batch.x for part in whole[:3]])
    assert len(epoch) == 40 and [part.num for part in whole[:3]].count(10) == 1
    assert sorted(epoch.sum((1, 2)).tolist()) == sorted(x.sum().item() for x, _ in splits[0])
    assert not torch.equal(whole[0].batch.x, whole[3].batch.x)


@pytest.mark.parametrize("world, accumulate", [(2, 1), (1, 3), (3, 2), (8, 2)])
def test_parts_are_dealt_what_the_whole_has(splits, world, accumulate):
    whole, ranks = parts_of(splits), [parts_of(splits, r, world, accumulate) for r in range(world)]
    for update in range(4):
        found = [
            ranks[rank][update * accumulate + turn]
            for turn in range(accumulate)
            for rank in range(world)
        ]
        rows = [x for part in found if part.counts for x in part.batch.x]
        assert {part.num for part in found} == {len(rows)} == {whole[update].num}
        ours, theirs = torch.stack(rows).sum((1, 2)), whole[update].batch.x.sum((1, 2))
        assert sorted(ours.tolist()) == sorted(theirs.tolist())
    assert any(not part.counts for part in found) == (world == 8)


@pytest.mark.parametrize("shuffle", [False, True])
def test_rows_of_streams_go_on_where_they_ended(shuffle):
    lengths, window = torch.tensor([7, 2, 5, 9, 1, 4]), 3
    data = Sequences([torch.arange(n)[:, None] + 100.0 * i for i, n in enumerate(lengths)])
    windows, streams = data.windows(window), Streams(lengths, window, 3, shuffle, seed=1)
    seen = []
    for epoch in range(2):
        streams.set_epoch(epoch)
        batches = streams.batches()
        assert len(batches) == len(streams) == 4  # 12 windows
        before = [None] * 3
        for k, batch in enumerate(batches):
            for row, (i, fresh) in enumerate(zip(batch, streams.fresh(k, batch))):
                first = windows[i].x[0].item()
                assert fresh == (k == 0 or first % 100 == 0)
                assert fresh or first == before[row] + 1
                before[row] = windows[i].x[-1].item()
        seen.append(batches)
        assert sorted(i for batch in batches for i in batch) == list(range(12))
    assert (seen[0] == seen[1]) is not shuffle


def test_a_state_that_is_carried_makes_windows_the_whole_sequence(tmp_path):
    """For a posterior that filters, bounds of windows add up; without it they do not."""
    x = (torch.rand(4, 24, 1) < 0.5).float()
    data = Sequences(list(x))
    net = MODELS["vrnn"](Bernoulli, 1, z_dim=2, h_dim=4, hidden_dim=4, embed_dim=0).double()
    options = TrainingOptions(window=6, carry_state=True, batch_size=4, shuffle=False)
    training = training_of(options, net=net)
    training._trainer = type("T", (), {"world_size": 1})()
    updates = Updates(data.windows(6), Streams(data.lengths, 6, 4, False), 4)
    torch.manual_seed(3)
    whole = -net.terms(x.double(), data.lengths).log_weight.sum()
    for carried in (True, False):
        torch.manual_seed(3)
        total = 0.0
        for i in range(4):
            part = updates[i]
            training.carried = training.carried if carried else None
            start = part.batch.start
            batch = Batch(
                part.batch.x.double(), part.batch.lengths, None if start is None else start.double()
            )
            terms = training.given(Part(batch, 4, True, part.fresh)).terms()
            training.carried = {k: v.detach() for k, v in terms.state.items()}
            total -= terms.log_weight.sum()
        assert (total.item() == pytest.approx(whole.item(), abs=1e-9)) is carried


def test_noise_is_another_one_for_each_large_seed():
    draws = []
    for seed in (0, 2**40 + 1, 2**40 + 2):
        Training.seed_noise(SimpleNamespace(seed=seed), counter=3, part=1)
        draws.append(torch.rand(()).item())
    assert len(set(draws)) == 3
