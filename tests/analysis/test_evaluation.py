"""Evaluation: numbers against sums by hand."""

import json
import math

import pytest
import torch
from torch.overrides import TorchFunctionMode

from zforcing_pyro.analysis.evaluation import Totals, evaluate
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
from zforcing_pyro.estimators.terms import Terms
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
    bounds = [net.terms(x[None], torch.tensor([len(x)])).log_emission.sum().item() for x, _ in data]
    mean = sum(bounds) / 5
    assert result.nats_per_sequence == pytest.approx(mean)
    assert result.nats_per_step == pytest.approx(sum(bounds) / sum(LENGTHS))
    assert result.per_sequence == pytest.approx(bounds) and "per_sequence" not in result.as_dict()
    spread = sum((b - mean) ** 2 for b in bounds) / 4
    assert result.standard_error == pytest.approx(math.sqrt(spread / 5))
    assert evaluate(net, data.subset([0]), TraceELBO()).standard_error is None
    assert (result.num_sequences, result.num_steps) == (5, 21)
    for batch_size in (1, 2):  # other padding
        batched = evaluate(net, data, TraceELBO(), batch_size=batch_size)
        assert batched.nats_per_sequence == pytest.approx(result.nats_per_sequence)


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
    terms = net.terms(data[0].x[None], torch.tensor([6]))
    assert terms.posterior_mean.var((0, 1, 2)).min() > 0.01 and terms.kl.abs().max() < 1e-12
    result = evaluate(net, data, TraceELBO(2))
    assert (result.latents_in_use, result.num_latents) == (0, 3)
    without_noise(net)
    posterior[0].weight.data.normal_()
    posterior[-1].weight.data[1].fill_(3.0)
    assert evaluate(net, data, TraceELBO(2)).latents_in_use == 1


def test_latents_in_use_need_both_a_kl_and_a_shift_that_varies(net):
    """W5: a small KL, a constant shift, and a latent that carries a nat."""
    prior = torch.randn(1, 50, 4, 3)
    shift = torch.stack([torch.randn(1, 50, 4), torch.ones(1, 50, 4), torch.randn(1, 50, 4)], -1)
    kl = torch.tensor([0.009, 1.0, 1.0]).expand(1, 50, 4, 3)
    zero, mask = torch.zeros(1, 50, 4), torch.ones(50, 4, dtype=torch.bool)
    log_densities = dict.fromkeys(
        ("log_prior", "log_posterior", "log_emission", "auxiliary", "reverse"), zero
    )
    terms = Terms(**log_densities, kl_per_latent=kl, latents=prior)
    totals = Totals()
    totals.add_latents(terms._replace(posterior_mean=prior + shift, prior_mean=prior), mask)
    totals.add_bounds(torch.zeros(50), torch.zeros(50, 4, 2), torch.full((50,), 4))
    result = totals.evaluation(net, bound="", particles=1, split="", protocol="")
    assert (result.latents_in_use, result.num_latents) == (1, 3)


def test_chunks_of_particles_make_one_bound(net, data):
    """The draws of chunks differ; the limit of many particles does not."""
    at_once = evaluate(net, data, TraceIWAE(2_000), max_rows=100_000)
    chunked = evaluate(net, data, TraceIWAE(2_000), max_rows=35)
    assert chunked.nats_per_sequence == pytest.approx(at_once.nats_per_sequence, abs=0.02)
    one = evaluate(without_noise(net), data, TraceIWAE(7), max_rows=1)
    assert one.nats_per_sequence == pytest.approx(
        evaluate(net, data, TraceIWAE(1)).nats_per_sequence
    )


@pytest.mark.parametrize("name", ESTIMATORS)
def test_costs_and_annealing_enter_no_bound(net, data, name):
    results = []
    for weight in (0.0, 99.0):
        net.weights.aux = net.weights.reverse = weight
        results += [evaluate(net, data, ESTIMATORS[name](4), max_rows=rows) for rows in (7, 1_024)]
    assert results[:2] == results[2:]
    if name == "elbo":
        weighted = TraceELBO(4, kl_weight=0.1, free_bits=3.0)
        assert evaluate(net, data, weighted).nats_per_sequence == results[1].nats_per_sequence


@pytest.mark.parametrize("name", ["elbo", "iwae", "fivo"])
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


def test_filter_draws_all_particles_at_once(net, data):
    """FIVO from small batches is FIVO from one batch, up to noise, and near IWAE."""
    fivo = [evaluate(net, data, TraceFIVO(500), max_rows=rows) for rows in (600, 10_000)]
    assert fivo[0].nats_per_sequence == pytest.approx(fivo[1].nats_per_sequence, abs=0.05)
    iwae = evaluate(net, data, TraceIWAE(2_000))
    assert fivo[0].nats_per_sequence == pytest.approx(iwae.nats_per_sequence, abs=0.1)


class FlooredKL(SequenceELBO):
    """A bound with a floor on each step's KL: not linear in time."""

    def bound(self, terms):
        kl = torch.where(terms.mask, terms.kl.clamp(min=0.5), 0.0)
        return (terms.log_emission - kl).sum(-1).mean(0)


def test_bound_that_is_not_linear_in_time_reads_every_step(net, data):
    """W3: the number is the one of ``objective``, also from chunks of particles."""
    net, rows = without_noise(net), []
    for x, _ in data:
        terms = net.terms(x[None], torch.tensor([len(x)]))
        rows.append(FlooredKL().bound(terms).item())
    expected = sum(rows) / len(rows)
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


@pytest.mark.parametrize("estimator", [TraceELBO(), TraceIWAE(30)])
def test_evaluation_needs_no_float64_on_the_device(net, data, estimator):
    """C6: tensors become float64 after they have reached the CPU."""
    with NoFloat64():
        result = evaluate(net, data, estimator)
    assert result == evaluate(net, data, estimator)


def test_importance_weights_are_diagnosed(net, data):
    few = evaluate(net, data, TraceIWAE(24))
    assert 1 <= few.ess_mean <= 24 and few.high_pareto_k is None
    one = evaluate(net, data, TraceELBO())
    assert one.ess_mean is one.ess_median is one.high_pareto_k is None
    even = evaluate(without_noise(net), data, TraceELBO(30))
    assert even.ess_mean == pytest.approx(30) and even.ess_median == pytest.approx(30)
    assert even.high_pareto_k == 0


def test_guide_that_leaves_out_tails_has_a_high_pareto_k():
    wide, narrow = (
        evaluate(
            LGSSM(2, 1, spread=spread),
            Sequences([torch.randn(3, 2) for _ in range(6)]),
            TraceIWAE(2_000),
        )
        for spread in (1.5, 0.15)
    )
    assert wide.high_pareto_k == 0 and wide.ess_mean > 600
    assert narrow.high_pareto_k > 0.5 and narrow.ess_median < 200


@pytest.mark.parametrize("k", [0.1, 0.4, 0.7, 1.0])
def test_pareto_k_recovers_the_shape_of_pareto_weights(k):
    weight = torch.rand(4_000, 30) ** -k
    estimate = pareto_k(weight.log() + torch.randn(30))
    assert estimate.mean().item() == pytest.approx(k, abs=0.08)
    assert pareto_k(torch.rand(4_000, 30).log()).mean() < -0.3  # bounded weights


def test_pareto_k_of_even_weights_and_of_too_few():
    assert (pareto_k(torch.ones(30, 2)) == -math.inf).all()
    with pytest.raises(ValueError, match="must have 25 particles or more, got 24"):
        pareto_k(torch.ones(24, 2))


@pytest.mark.parametrize("training", [False, True])
def test_evaluation_leaves_noise_and_mode_as_they_were(net, data, training):
    net.train(training)
    state = torch.get_rng_state()
    first, again, other = (evaluate(net, data, TraceELBO(), seed=seed) for seed in (1, 1, 2))
    assert first == again and first != other
    with pytest.raises(ValueError, match="x_dim"):
        evaluate(net, Sequences([torch.zeros(3, 99)]), TraceELBO())
    assert net.training == training
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("estimator", "line"),
    [
        (TraceRenyi(3, alpha=0.25), "renyi with K=3, alpha 0.25; nats"),
        (TraceFIVO(3, 0.7, "multinomial"), "fivo with K=3, threshold 0.7, multinomial resampling;"),
        (TraceELBO(3, analytic_kl=False, kl_weight=0.5), "elbo with K=3, sampled KL; nats"),
    ],
)
def test_protocol_names_bound_options_and_data(net, data, estimator, line):
    result = evaluate(
        net, data, estimator, bound=line.split()[0], split="test", note="data version 1"
    )
    assert result.protocol.startswith(line)
    assert "; data version 1" in result.protocol and "costs excluded" in result.protocol
    assert (result.bound, result.particles, result.split) == (line.split()[0], 3, "test")


def test_first_frame_is_conditioned_on_and_not_scored(net):
    x = (torch.rand(4, 2) < 0.5).double()
    net = without_noise(net)
    result = evaluate(net, Sequences([x[1:]], starts=[x[0]]), TraceELBO())
    state = net.initial_state(1, x[:1])
    scored = net.terms(x[None, 1:], torch.tensor([3]), state=state).log_emission.sum().item()
    assert result.num_steps == 3 and result.nats_per_sequence == pytest.approx(scored)
    unconditioned = net.terms(x[None], torch.tensor([4])).log_emission[..., 1:].sum().item()
    assert unconditioned != pytest.approx(scored, abs=1e-9)  # h_0 has not read the frame
