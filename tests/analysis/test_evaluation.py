"""Numbers against sums by hand."""

import math

import pytest
import torch

from zforcing_pyro.analysis.evaluation import evaluate
from zforcing_pyro.analysis.pareto import pareto_k
from zforcing_pyro.data import Sequences
from zforcing_pyro.emissions import Bernoulli, Categorical
from zforcing_pyro.estimators import ESTIMATORS, TraceELBO, TraceFIVO, TraceIWAE, TraceRenyi
from zforcing_pyro.models import ZForcing
from zforcing_pyro.models.lgssm import LGSSM

LENGTHS = [6, 3, 5, 1, 6]


@pytest.fixture
def data():
    return Sequences([(torch.rand(n, 2) < 0.4).double() for n in LENGTHS])


@pytest.fixture
def net():
    return ZForcing(Bernoulli, x_dim=2, z_dim=3, h_dim=6, hidden_dim=5, embed_dim=4, aux_weight=0.5)


def without_noise(net):
    """Makes the posterior the prior: every KL is 0 and every weight the emission's."""
    for p in net.posterior.parameters():
        p.data.zero_()
    for p in net.prior.parameters():
        p.data.zero_()
    net.cell.weight_z.data.zero_()
    return net


def test_averages_are_over_sequences_and_over_steps(net, data):
    net = without_noise(net)
    result = evaluate(net, data, TraceELBO())
    bounds = [net.terms(x[None], torch.tensor([len(x)])).log_emission.sum().item() for x, _ in data]
    mean = sum(bounds) / 5
    assert result.nats_per_sequence == pytest.approx(mean)
    assert result.nats_per_step == pytest.approx(sum(bounds) / sum(LENGTHS))
    spread = sum((b - mean) ** 2 for b in bounds) / 4
    assert result.standard_error == pytest.approx(math.sqrt(spread / 5))
    assert (result.num_sequences, result.num_steps) == (5, 21)
    assert result.kl_per_sequence == pytest.approx(0) and result.active_units == 0


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_padding_enters_no_average(net, data, batch_size):
    net = without_noise(net)
    whole = evaluate(net, data, TraceELBO(), batch_size=5)
    result = evaluate(net, data, TraceELBO(), batch_size=batch_size)
    assert result.nats_per_sequence == pytest.approx(whole.nats_per_sequence)


def test_kl_per_step_is_a_mean_over_the_sequences_that_reach_it(net, data):
    net = without_noise(net)
    net.posterior.mlp.layers[-1].bias.data[:3] = 1.0  # mean 1 against 0: KL 1/2 in each dimension
    result = evaluate(net, data, TraceELBO(3))
    assert result.kl_per_step == pytest.approx([1.5] * 6)
    assert result.kl_per_latent == pytest.approx([0.5] * 3)
    assert result.kl_per_sequence == pytest.approx(1.5 * 21 / 5)


def test_a_latent_is_active_if_its_posterior_mean_varies_with_the_data(net, data):
    net = without_noise(net)
    net.posterior.mlp.layers[0].weight.data.normal_()
    net.posterior.mlp.layers[-1].weight.data[1].fill_(3.0)
    net.posterior.mlp.layers[-1].bias.data[0] = 2.0  # far from 0, and always the same
    result = evaluate(net, data, TraceELBO(2))
    assert (result.active_units, result.num_latents) == (1, 3)


def test_chunks_of_particles_make_one_bound(net, data):
    """A bound from chunks is that of all particles: its draws are others, its limit is not."""
    whole = evaluate(net, data, TraceIWAE(2_000), max_rows=100_000)
    chunked = evaluate(net, data, TraceIWAE(2_000), max_rows=35)
    assert chunked.nats_per_sequence == pytest.approx(whole.nats_per_sequence, abs=0.02)
    one = evaluate(without_noise(net), data, TraceIWAE(7), max_rows=1)
    assert one.nats_per_sequence == pytest.approx(
        evaluate(net, data, TraceIWAE(1)).nats_per_sequence
    )


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("max_rows", [7, 1_024])
def test_costs_are_in_no_bound_of_any_estimator(net, data, name, max_rows):
    found = []
    for weight in (0.0, 99.0):
        net.costs.aux_weight = net.costs.reverse_weight = weight
        found.append(evaluate(net, data, ESTIMATORS[name](4), max_rows=max_rows))
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_no_more_rows_are_in_memory_than_was_told(data, name):
    rows = []

    class Counting(ZForcing):
        def particles(self, x, num_particles, state=None):
            rows.append(len(x) * num_particles)
            return super().particles(x, num_particles, state)

    net = Counting(Bernoulli, x_dim=2, z_dim=3, h_dim=6, hidden_dim=5, embed_dim=4)
    evaluate(net, data, ESTIMATORS[name](7), max_rows=15)
    assert 10 <= max(rows) <= 15 and sum(rows) >= 7 * len(LENGTHS)
    rows.clear()
    evaluate(net, data, ESTIMATORS[name](30), max_rows=15)
    assert max(rows) == (30 if name == "fivo" else 15)  # one sequence, with all its particles


def test_all_draws_of_a_filter_are_at_once(net, data):
    """Its bound from small batches is that from one, up to noise; IWAE's is below."""
    fivo = [evaluate(net, data, TraceFIVO(500), max_rows=rows) for rows in (600, 10_000)]
    assert fivo[0].nats_per_sequence == pytest.approx(fivo[1].nats_per_sequence, abs=0.05)
    iwae = evaluate(net, data, TraceIWAE(2_000))
    assert fivo[0].nats_per_sequence == pytest.approx(iwae.nats_per_sequence, abs=0.1)


def test_units(net, data):
    result = evaluate(net, data, TraceELBO())
    assert result.bits_per_dim == pytest.approx(-result.nats_per_step / 2 / math.log(2))
    assert result.perplexity is None
    symbols = ZForcing(Categorical, x_dim=7, z_dim=3, h_dim=6, hidden_dim=5, embed_dim=4)
    for p in symbols.emission.parameters():
        p.data.zero_()
    texts = Sequences([torch.randint(7, (n,)) for n in LENGTHS])
    result = evaluate(without_noise(symbols), texts, TraceELBO())
    assert result.perplexity == pytest.approx(7)
    assert result.bits_per_dim == pytest.approx(math.log2(7))


def test_weights_are_diagnosed(net, data):
    """At an exact posterior, here the prior's of a mute model, no weight is worth less."""
    few = evaluate(net, data, TraceIWAE(24))
    assert 1 <= few.ess_mean <= 24 and few.high_pareto_k is None
    one = evaluate(net, data, TraceELBO())
    assert one.ess_mean is one.ess_median is one.high_pareto_k is None
    even = evaluate(without_noise(net), data, TraceELBO(30))
    assert even.ess_mean == pytest.approx(30) and even.ess_median == pytest.approx(30)
    assert even.high_pareto_k == 0


def test_a_guide_that_leaves_out_tails_is_found():
    found = []
    for spread in (1.5, 0.15):
        net = LGSSM(2, 1, spread=spread)
        sequences = Sequences([torch.randn(3, 2) for _ in range(6)])
        found.append(evaluate(net, sequences, TraceIWAE(2_000)))
    assert found[0].high_pareto_k == 0 and found[0].ess_mean > 600
    assert found[1].high_pareto_k > 0.5 and found[1].ess_median < 200


@pytest.mark.parametrize("k", [0.1, 0.4, 0.7, 1.0])
def test_pareto_k_is_that_of_pareto_weights(k):
    weight = torch.rand(4_000, 30) ** -k
    found = pareto_k(weight.log() + torch.randn(30))
    assert found.mean().item() == pytest.approx(k, abs=0.08)
    assert pareto_k(torch.rand(4_000, 30).log()).mean() < -0.3  # bounded: of the other tail


def test_pareto_k_of_even_weights_and_of_too_few():
    assert (pareto_k(torch.ones(30, 2)) == -math.inf).all()
    with pytest.raises(ValueError, match="must be of 25 particles or more, got 24"):
        pareto_k(torch.ones(24, 2))


def test_annealing_and_costs_stay_out(net, data):
    expected = evaluate(net, data, TraceELBO()).nats_per_sequence
    net.costs.aux_weight = net.costs.reverse_weight = 99.0
    weighted = TraceELBO(kl_weight=0.1, free_bits=3.0)
    assert evaluate(net, data, weighted).nats_per_sequence == expected


def test_draws_are_a_function_of_the_seed_and_leave_the_global_one_alone(net, data):
    def run(seed):
        return evaluate(net, data, TraceELBO(), seed=seed).nats_per_sequence

    state = torch.get_rng_state()
    assert run(1) == run(1) != run(2)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("training", [False, True])
def test_the_mode_of_the_net_comes_back_also_after_an_error(net, data, training):
    net.train(training)
    evaluate(net, data, TraceELBO())
    assert net.training == training
    with pytest.raises(ValueError, match="x_dim"):
        evaluate(net, Sequences([torch.zeros(3, 99)]), TraceELBO())
    assert net.training == training


def test_protocol_says_what_a_number_means(net, data):
    result = evaluate(net, data, TraceIWAE(5), bound="iwae", split="test", note="data v1")
    for part in ("iwae", "K=5", "data v1", "excluded"):
        assert part in result.protocol
    assert (result.bound, result.particles, result.split) == ("iwae", 5, "test")


@pytest.mark.parametrize(
    ("estimator", "said"),
    [
        (TraceRenyi(3, alpha=0.25), "renyi with K=3, alpha 0.25; nats"),
        (TraceFIVO(3, 0.7, "multinomial"), "fivo with K=3, threshold 0.7, multinomial resampling;"),
        (TraceELBO(3), "elbo with K=3, analytic KL; nats"),
        (TraceELBO(3, analytic_kl=False, kl_weight=0.5), "elbo with K=3, sampled KL; nats"),
        (TraceIWAE(3), "iwae with K=3; nats"),
    ],
)
def test_protocol_says_the_options_of_a_bound(net, data, estimator, said):
    assert evaluate(net, data, estimator, bound=said.split()[0]).protocol.startswith(said)


def test_a_single_sequence_has_no_standard_error(net, data):
    assert evaluate(net, data.subset([0]), TraceELBO()).standard_error is None


def test_a_first_frame_is_given_and_not_scored(net):
    x = (torch.rand(4, 2) < 0.5).double()
    given = Sequences([x[1:]], starts=[x[0]])
    net = without_noise(net)
    result = evaluate(net, given, TraceELBO())
    whole = net.terms(x[None], torch.tensor([4])).log_emission
    state = net.initial_state(1, x[:1])
    scored = net.terms(x[None, 1:], torch.tensor([3]), state=state).log_emission.sum().item()
    assert result.num_steps == 3 and result.nats_per_sequence == pytest.approx(scored)
    assert whole[..., 1:].sum().item() != pytest.approx(scored, abs=1e-9)  # h_0 has not read it
