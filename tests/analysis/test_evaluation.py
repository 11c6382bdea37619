"""Evaluation: numbers against sums by hand."""

import json
import math

import pytest
import torch
from torch.overrides import TorchFunctionMode

from zforcing_pyro.analysis.evaluation import evaluate, is_in_use
from zforcing_pyro.analysis.pareto import pareto_k
from zforcing_pyro.data import Sequences
from zforcing_pyro.emissions import Bernoulli, Categorical, DiagNormal
from zforcing_pyro.estimators import (
    ESTIMATORS,
    SequenceELBO,
    TraceELBO,
    TraceFIVO,
    TraceIWAE,
    TraceRenyi,
)
from zforcing_pyro.models import ZForcing
from zforcing_pyro.models.lgssm import LGSSM

LENGTHS = [6, 3, 5, 1, 6]
SIZES = {"z_dim": 3, "h_dim": 6, "hidden_dim": 5, "embed_dim": 4}


@pytest.fixture
def data():
    return Sequences([(torch.rand(n, 2) < 0.4).double() for n in LENGTHS])


@pytest.fixture
def net():
    return ZForcing(Bernoulli, x_dim=2, **SIZES, aux_weight=0.5)


def without_noise(net):
    """Makes posterior and prior N(0, 1), and the recurrence deaf to latents."""
    for p in (*net.posterior.parameters(), *net.prior.parameters(), net.cell.weight_z):
        p.data.zero_()
    return net


def test_evaluation_averages_over_sequences_and_steps(net, data):
    net = without_noise(net)
    result = evaluate(net, data, TraceELBO())
    bounds = [net.terms(x[None]).log_emission.sum().item() for x, _ in data]
    mean = sum(bounds) / 5
    assert result.nats_per_sequence == pytest.approx(mean)
    assert result.nats_per_step == pytest.approx(sum(bounds) / sum(LENGTHS))
    assert result.per_sequence == pytest.approx(bounds) and "per_sequence" not in result.as_dict()
    spread = sum((b - mean) ** 2 for b in bounds) / 4
    assert result.standard_error == pytest.approx(math.sqrt(spread / 5))
    assert evaluate(net, data.subset([0]), TraceELBO()).standard_error is None
    assert (result.num_sequences, result.num_steps) == (5, 21)
    small = evaluate(net, data, TraceELBO(), batch_size=2)  # other padding
    assert small.per_sequence == pytest.approx(bounds)


def test_kl_per_step_is_a_mean_over_the_sequences_that_reach_it(net, data):
    net = without_noise(net)
    net.posterior.mlp.layers[-1].bias.data[:3] = 1.0  # mean 1 against 0: KL 1/2 in each dimension
    result = evaluate(net, data, TraceELBO(3))
    assert result.kl_per_step == pytest.approx([1.5] * 6)
    assert result.kl_per_latent == pytest.approx([0.5] * 3)
    assert result.kl_per_sequence == pytest.approx(1.5 * 21 / 5)
    assert result.latents_in_use == 0  # a KL that is the same for all data


def test_latents_of_a_collapsed_run_are_not_in_use(net, data):
    """W5: with q = p none is in use, though both means follow the data; and a working latent."""
    prior, posterior = net.prior.mlp.layers, net.posterior.mlp.layers
    prior[0].weight.data.normal_(0, 3)
    prior[-1].weight.data.normal_(0, 3)
    for source, target in zip(prior.parameters(), posterior.parameters()):
        target.data.zero_()
        target.data[..., : source.shape[-1]] = source.data  # q reads h_{t-1} as p does, and not b
    terms = net.terms(data[0].x[None])
    assert terms.posterior_mean.var((0, 1, 2)).min() > 0.01 and terms.kl.abs().max() < 1e-12
    result = evaluate(net, data, TraceELBO(2))
    assert (result.latents_in_use, result.num_latents) == (0, 3)
    without_noise(net)
    posterior[0].weight.data.normal_()
    posterior[-1].weight.data[1].fill_(3.0)
    assert evaluate(net, data, TraceELBO(2)).latents_in_use == 1
    kl, variance = torch.tensor([0.009, 1.0, 1.0]), torch.tensor([1.0, 0.009, 1.0])
    assert is_in_use(kl, variance).tolist() == [False, False, True]


def test_chunks_of_particles_make_one_bound(net, data):
    """The draws of chunks differ; the limit of many particles does not."""
    at_once = evaluate(net, data, TraceIWAE(2_000), max_rows=100_000)
    chunked = evaluate(net, data, TraceIWAE(2_000), max_rows=500)
    assert chunked.nats_per_sequence == pytest.approx(at_once.nats_per_sequence, abs=0.02)
    one = evaluate(without_noise(net), data, TraceIWAE(7), max_rows=1)
    assert one.nats_per_sequence == pytest.approx(
        evaluate(net, data, TraceIWAE(1)).nats_per_sequence
    )


def test_costs_and_annealing_enter_no_bound(net, data):
    for name, estimator in ESTIMATORS.items():
        results = []
        for net.weights.aux in (0.0, 99.0):
            results += [evaluate(net, data, estimator(4), max_rows=rows) for rows in (7, 1_024)]
        assert results[:2] == results[2:], name
    plain, weighted = TraceELBO(4), TraceELBO(4, kl_weight=0.1, free_bits=3.0)
    bounds = [evaluate(net, data, elbo).nats_per_sequence for elbo in (plain, weighted)]
    assert bounds[0] == bounds[1]


@pytest.mark.parametrize("name", ["iwae", "fivo"])
def test_rows_in_memory_are_at_most_max_rows(data, name):
    rows = []

    class Counting(ZForcing):
        def particles(self, batch, num_particles):
            rows.append(len(batch.x) * num_particles)
            return super().particles(batch, num_particles)

    net = Counting(Bernoulli, x_dim=2, **SIZES)
    evaluate(net, data, ESTIMATORS[name](7), max_rows=15)
    assert 10 <= max(rows) <= 15 and sum(rows) >= 7 * len(LENGTHS)
    rows.clear()
    evaluate(net, data, ESTIMATORS[name](30), max_rows=15)
    assert max(rows) == (30 if name == "fivo" else 15)  # one sequence, with all its particles


def test_filter_in_small_batches_is_the_filter_of_one_batch(net, data):
    """FIVO from small batches is FIVO from one batch, up to noise, and near IWAE."""
    estimators = (TraceFIVO(500), 600), (TraceFIVO(500), 10_000), (TraceIWAE(2_000), 1_024)
    small, large, iwae = (
        evaluate(net, data, estimator, max_rows=rows).nats_per_sequence
        for estimator, rows in estimators
    )
    assert small == pytest.approx(large, abs=0.05) and small == pytest.approx(iwae, abs=0.1)


class FlooredKL(SequenceELBO):
    """A bound with a floor on each step's KL: not linear in time."""

    def bound(self, terms):
        kl = torch.where(terms.mask, terms.kl.clamp(min=0.5), 0.0)
        return (terms.log_emission - kl).sum(-1).mean(0)


def test_bound_that_is_not_linear_in_time_reads_every_step(net, data):
    """W3: the number is the one of ``objective``, also from chunks of particles."""
    net = without_noise(net)
    expected = sum(FlooredKL().bound(net.terms(x[None])).item() for x, _ in data) / len(data)
    assert evaluate(net, data, TraceELBO()).nats_per_sequence > expected + 1
    for max_rows in (5, 1_024):
        result = evaluate(net, data, FlooredKL(4), max_rows=max_rows)
        assert result.nats_per_sequence == pytest.approx(expected)


def test_bits_and_perplexity_are_of_discrete_data(net, data):
    """W21: densities have neither."""
    result = evaluate(net, data, TraceELBO())
    assert result.bits_per_dim == pytest.approx(-result.nats_per_step / 2 / math.log(2))
    assert result.perplexity is None
    symbols = ZForcing(Categorical, x_dim=7, **SIZES)
    for p in symbols.emission.parameters():
        p.data.zero_()
    texts = Sequences([torch.randint(7, (n,)) for n in LENGTHS])
    result = evaluate(without_noise(symbols), texts, TraceELBO())
    assert result.perplexity == pytest.approx(7)
    assert result.bits_per_dim == pytest.approx(math.log2(7))
    reals = Sequences([torch.randn(4, 2)])
    result = evaluate(ZForcing(DiagNormal, x_dim=2, **SIZES), reals, TraceELBO())
    assert result.bits_per_dim is None and result.perplexity is None


def test_perplexity_of_a_diverged_model_is_infinite():
    """C3: no OverflowError beyond 709.78 nats a symbol, and JSON that is valid."""
    net = ZForcing(Categorical, x_dim=5, **SIZES)
    net.emission.mlp.layers[-1].bias.data[0] = 1e4
    result = evaluate(net, Sequences([torch.full((6,), 3)]), TraceELBO())
    assert result.nats_per_step < -9e3 and result.perplexity == math.inf
    plain = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert plain["perplexity"] == "inf" and plain["nats_per_step"] == result.nats_per_step


class NoFloat64(TorchFunctionMode):
    """Emulates a device without float64: whatever did not pass ``.cpu()`` stands there."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.Tensor.double and not hasattr(args[0], "is_on_host"):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        result = function(*args, **(kwargs or {}))
        if function is torch.Tensor.cpu:
            result = result.clone() if result is args[0] else result
            result.is_on_host = True
        return result


def test_evaluation_needs_no_float64_on_the_device(net, data):
    """C6: tensors become float64 after they have reached the CPU."""
    estimator = TraceIWAE(30)
    with NoFloat64():
        result = evaluate(net, data, estimator)
    assert result == evaluate(net, data, estimator)


def test_importance_weights_are_diagnosed(net, data):
    few = evaluate(net, data, TraceIWAE(24))
    assert 1 <= few.ess_mean <= 24 and few.high_pareto_k is None
    one = evaluate(net, data, TraceELBO())
    assert one.ess_mean is one.ess_median is one.high_pareto_k is None
    even = evaluate(without_noise(net), data, TraceELBO(30))
    assert (even.ess_mean, even.ess_median, even.high_pareto_k) == (pytest.approx(30),) * 2 + (0,)
    sequences = Sequences([torch.randn(3, 2) for _ in range(6)])
    guides = (LGSSM(2, 1, spread=spread) for spread in (1.5, 0.15))
    wide, narrow = (evaluate(guide, sequences, TraceIWAE(2_000)) for guide in guides)
    assert wide.high_pareto_k == 0 and wide.ess_mean > 600
    assert narrow.high_pareto_k > 0.5 and narrow.ess_median < 200


@pytest.mark.parametrize("k", [0.1, 0.7, 1.0])
def test_pareto_k_recovers_the_shape_of_pareto_weights(k):
    weight = torch.rand(4_000, 30) ** -k
    estimate = pareto_k(weight.log() + torch.randn(30))
    assert estimate.mean().item() == pytest.approx(k, abs=0.08)


def test_pareto_k_of_bounded_even_and_few_weights():
    assert pareto_k(torch.rand(4_000, 30).log()).mean() < -0.3
    assert (pareto_k(torch.ones(30, 2)) == -math.inf).all()
    with pytest.raises(ValueError, match="must have 25 particles or more, got 24"):
        pareto_k(torch.ones(24, 2))


def test_evaluation_leaves_noise_and_mode_as_they_were(net, data):
    net.train()
    state = torch.get_rng_state()
    first, again, other = (evaluate(net, data, TraceELBO(), seed=seed) for seed in (1, 1, 2))
    assert first == again and first != other
    with pytest.raises(ValueError, match="x_dim"):
        evaluate(net, Sequences([torch.zeros(3, 99)]), TraceELBO())
    assert net.training and torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("estimator", "line"),
    [
        (TraceRenyi(3, alpha=0.25), "renyi with K=3, alpha 0.25; nats"),
        (TraceFIVO(3, 0.7, "multinomial"), "fivo with K=3, threshold 0.7, multinomial resampling;"),
        (TraceELBO(3, analytic_kl=False, kl_weight=0.5), "elbo with K=3, sampled KL; nats"),
    ],
)
def test_protocol_names_bound_options_and_data(net, data, estimator, line):
    result = evaluate(net, data, estimator, line.split()[0], split="test", note="data version 1")
    assert result.protocol.startswith(line)
    assert "; data version 1" in result.protocol and "costs excluded" in result.protocol
    assert (result.bound, result.particles, result.split) == (line.split()[0], 3, "test")


def test_first_frame_is_conditioned_on_and_not_scored(net):
    x = (torch.rand(4, 2) < 0.5).double()
    net = without_noise(net)
    result = evaluate(net, Sequences([x[1:]], starts=[x[0]]), TraceELBO())
    state = net.initial_state(1, x[:1])
    scored = net.terms(x[None, 1:], state=state).log_emission.sum().item()
    assert result.num_steps == 3 and result.nats_per_sequence == pytest.approx(scored)
    unconditioned = net.terms(x[None]).log_emission[..., 1:].sum().item()
    assert unconditioned != pytest.approx(scored, abs=1e-9)  # h_0 has not read the frame
