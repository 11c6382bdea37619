"""Evaluation: numbers against sums by hand."""

import json
import math
from dataclasses import asdict

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.overrides import TorchFunctionMode

from zforcing_pyro.analysis.arviz_adapter import pareto_k
from zforcing_pyro.analysis.evaluation import evaluate, is_in_use
from zforcing_pyro.data import Sequences, collate
from zforcing_pyro.emissions import Bernoulli, Categorical, DiagNormal
from zforcing_pyro.estimators import ESTIMATORS, SequenceELBO, TraceELBO, TraceFIVO, TraceIWAE
from zforcing_pyro.estimators.programs import ProgramPair
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
    bounds = torch.tensor([net.terms(x[None]).log_emission.sum().item() for x, *_ in data])
    assert result.nats_per_sequence == pytest.approx(bounds.mean().item())
    assert result.nats_per_step == pytest.approx(bounds.sum().item() / sum(LENGTHS))
    assert result.per_sequence == pytest.approx(bounds.tolist())
    assert "per_sequence" not in result.as_dict()
    assert result.standard_error == pytest.approx(bounds.std().item() / math.sqrt(5))
    assert evaluate(net, data.subset([0]), TraceELBO()).standard_error is None
    assert (result.num_sequences, result.num_steps) == (5, 21)
    small = evaluate(net, data, TraceELBO(), batch_size=2)  # other padding
    assert small.per_sequence == pytest.approx(bounds.tolist())


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


def test_chunks_of_particles_and_small_batches_make_one_bound(net, data):
    """The draws differ; the limit of many particles does not. FIVO is near IWAE."""
    estimators = (TraceIWAE(2_000), 100_000), (TraceIWAE(2_000), 500), (TraceFIVO(500), 600)
    at_once, chunked, fivo = (
        evaluate(net, data, estimator, max_rows=rows).nats_per_sequence
        for estimator, rows in estimators
    )
    assert chunked == pytest.approx(at_once, abs=0.02) and chunked != at_once
    assert fivo == pytest.approx(at_once, abs=0.1)


def test_costs_and_annealing_enter_no_bound(net, data):
    for name, estimator in ESTIMATORS.items():
        results = []
        for net.weights.aux in (0.0, 99.0):
            results += [evaluate(net, data, estimator(4), max_rows=rows) for rows in (7, 1_024)]
        assert results[:2] == results[2:], name
    weighted = TraceELBO(4, kl_weight=0.1, free_bits=3.0)
    assert evaluate(net, data, weighted).per_sequence == (
        evaluate(net, data, TraceELBO(4)).per_sequence
    )


def test_rows_in_memory_are_at_most_max_rows(data):
    rows = []

    class Counting(ZForcing):
        def particles(self, batch, num_particles):
            rows.append(len(batch.x) * num_particles)
            return super().particles(batch, num_particles)

    net = Counting(Bernoulli, x_dim=2, **SIZES)
    for estimator, most in ((TraceIWAE(7), 15), (TraceIWAE(30), 15), (TraceFIVO(7), 14)):
        rows.clear()
        evaluate(net, data, estimator, max_rows=15)
        assert max(rows) == most and sum(rows) >= estimator.num_particles * len(LENGTHS)
    evaluate(net, data, TraceFIVO(30), max_rows=15)
    assert max(rows) == 30  # one sequence, with all its particles


class FlooredKL(SequenceELBO):
    """A bound with a floor on each step's KL: not linear in time."""

    def bound(self, terms):
        kl = torch.where(terms.mask, terms.kl.clamp(min=0.5), 0.0)
        return (terms.log_emission - kl).sum(-1).mean(0)


def test_bound_that_is_not_linear_in_time_reads_every_step(net, data):
    """W3: the number is the one of ``objective``, also from chunks of particles."""
    net = without_noise(net)
    expected = sum(FlooredKL().bound(net.terms(x[None])).item() for x, *_ in data) / len(data)
    assert evaluate(net, data, TraceELBO()).nats_per_sequence > expected + 1
    for max_rows in (5, 1_024):
        result = evaluate(net, data, FlooredKL(4), max_rows=max_rows)
        assert result.nats_per_sequence == pytest.approx(expected)


def test_bits_and_perplexity_are_of_discrete_data(net, data):
    """W21: densities have neither. C3: no OverflowError beyond 709.78 nats a symbol; valid JSON."""
    result = evaluate(net, data, TraceELBO())
    assert result.bits_per_dim == pytest.approx(-result.nats_per_step / 2 / math.log(2))
    assert result.perplexity is None
    symbols = ZForcing(Categorical, x_dim=7, **SIZES)
    for p in symbols.emission.parameters():
        p.data.zero_()
    texts = Sequences([torch.randint(6, (n,)) for n in LENGTHS])
    result = evaluate(without_noise(symbols), texts, TraceELBO())
    assert result.perplexity == pytest.approx(7)
    assert result.bits_per_dim == pytest.approx(math.log2(7))
    symbols.emission.mlp.layers[-1].bias.data[6] = 1e4
    result = evaluate(symbols, texts, TraceELBO())
    assert result.nats_per_step < -9e3 and result.perplexity == math.inf
    assert json.loads(json.dumps(result.as_dict(), allow_nan=False))["perplexity"] == "inf"
    net, reals = ZForcing(DiagNormal, x_dim=2, **SIZES), Sequences([torch.randn(4, 2)])
    result = evaluate(net, reals, TraceELBO())
    assert result.bits_per_dim is None and result.perplexity is None


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
    with NoFloat64():
        result = evaluate(net, data, TraceIWAE(30))
    assert result == evaluate(net, data, TraceIWAE(30))


def test_importance_weights_are_diagnosed(net, data):
    few = evaluate(net, data, TraceIWAE(24))
    assert 1 <= few.ess_mean <= 24 and few.high_pareto_k is None
    one = evaluate(net, data, TraceELBO())
    assert one.ess_mean is one.ess_median is one.high_pareto_k is None
    even = evaluate(without_noise(net), data, TraceELBO(30))
    assert even.ess_mean == even.ess_median == pytest.approx(30) and even.high_pareto_k == 0
    narrow = LGSSM(2, 1, spread=0.15)
    result = evaluate(narrow, Sequences(list(torch.randn(6, 3, 2))), TraceIWAE(2_000))
    assert result.high_pareto_k > 0.5 and result.ess_median < 200


def test_pareto_k_recovers_the_shape_of_pareto_weights():
    for k in (0.1, 0.7, 1.0):
        weight = torch.rand(4_000, 30) ** -k
        estimate = pareto_k(weight.log() + torch.randn(30))
        assert estimate.mean().item() == pytest.approx(k, abs=0.08)
    assert pareto_k(torch.rand(4_000, 30).log()).mean() < -0.3  # bounded weights
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


def test_protocol_names_bound_options_and_data(net, data):
    for estimator, line in (
        (ESTIMATORS["renyi"](3, alpha=0.25), "renyi with K=3, alpha 0.25; nats"),
        (TraceFIVO(3, 0.7, "multinomial"), "fivo with K=3, threshold 0.7, multinomial resampling;"),
        (TraceELBO(3, analytic_kl=False, kl_weight=0.5), "elbo with K=3, sampled KL; nats"),
    ):
        result = evaluate(net, data, estimator, line.split()[0], "test", note="data version 1")
        assert result.protocol.startswith(line) and "costs excluded" in result.protocol
        assert "; data version 1" in result.protocol
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


@pytest.mark.parametrize("estimator", [TraceELBO(2), TraceIWAE(30), TraceFIVO(3)])
def test_programs_with_their_arguments_are_evaluated_as_a_net_is(net, data, estimator):
    one_batch = data.subset([0, 4, 2, 1, 3])  # longest first, as in the batches of a net
    args = net.given_batch(collate([one_batch[i] for i in range(5)])).args
    expected = asdict(evaluate(net, one_batch, estimator, batch_size=5))
    result = asdict(evaluate((net.model, net.guide, args), None, estimator))
    for name in ("per_sequence", "nats_per_step", "kl_per_step", "ess_mean", "num_steps"):
        assert result[name] == expected[name]
    programs = lambda *args: net.model(*args), lambda *args: net.guide(*args)  # no fast path
    result = evaluate((*programs, args), None, estimator)
    torch.manual_seed(0)
    _, bound, terms = estimator.objective(ProgramPair(*programs, *args))
    if estimator.chunked:
        assert result.per_sequence == pytest.approx(bound.tolist())
        assert result.kl_per_sequence == pytest.approx(terms.kl.sum(-1).mean().item())
        assert result.kl_per_latent == pytest.approx(
            (terms.kl_per_latent.sum((1, 2)).mean(0) / 21).tolist()
        )
    assert (result.num_steps, len(result.per_sequence), result.bits_per_dim) == (21, 5, None)
    with pytest.raises(ValueError, match="'data' must be None for programs"):
        evaluate((*programs, args), data, estimator)


def test_a_latent_that_sequences_share_makes_one_bound():
    """log N(x; 0, I + 1 1') has no gap where the guide is the exact posterior."""
    x = torch.randn(4)

    def model(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("sequences", len(x)):
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        pyro.sample("z", dist.Normal(x.sum() / 5, 5**-0.5))

    result = evaluate((model, guide, (x,)), None, TraceELBO(analytic_kl=False))
    exact = dist.MultivariateNormal(torch.zeros(4), torch.eye(4) + 1).log_prob(x).item()
    assert result.per_sequence == pytest.approx([exact]) and result.standard_error is None
    with pytest.raises(ValueError, match="TraceELBO and TraceSTL take such programs"):
        evaluate((model, guide, (x,)), None, TraceIWAE(2))


@pytest.mark.parametrize(
    ("estimator", "options", "message"),
    [
        (TraceIWAE, {}, r"'estimator' must be one of .* such as TraceIWAE\(10\), got <class"),
        (TraceELBO(), {"seed": 2**32}, "'seed' must be in 0..4,294,967,295, got 4294967296"),
        (TraceELBO(), {"max_rows": 0}, "'max_rows' must be positive, got 0"),
    ],
)
def test_evaluate_refuses(net, data, estimator, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(net, data, estimator, **options)


def test_what_is_neither_net_nor_programs_is_refused(net, data):
    for source in (None, (net.model, net.guide), (net.model, net.guide, torch.ones(2, 3, 2))):
        with pytest.raises(ValueError, match=r"\(model, guide, args\) with a tuple of args, got"):
            evaluate(source, None, TraceELBO())
    with pytest.raises(ValueError, match=r"sequences must be a set, list, .*got None"):
        evaluate(net, None, TraceELBO())
