"""Numbers against sums by hand."""

import math

import pytest
import torch

from zforcing_pyro.data import Sequences
from zforcing_pyro.emissions import Bernoulli
from zforcing_pyro.estimators import TraceELBO, TraceIWAE
from zforcing_pyro.evaluation import evaluate
from zforcing_pyro.models import ZForcing

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


def test_annealing_and_costs_stay_out(net, data):
    expected = evaluate(net, data, TraceELBO()).nats_per_sequence
    net.costs.aux_weight = net.costs.reverse_weight = 99.0
    assert evaluate(net, data, TraceELBO(kl_weight=0.1)).nats_per_sequence == expected


def test_draws_are_a_function_of_the_seed_and_leave_the_global_one_alone(net, data):
    def run(seed):
        return evaluate(net, data, TraceELBO(), seed=seed).nats_per_sequence

    state = torch.get_rng_state()
    assert run(1) == run(1) != run(2)
    assert torch.equal(state, torch.get_rng_state())


def test_protocol_says_what_a_number_means(net, data):
    result = evaluate(net, data, TraceIWAE(5), bound="iwae", split="test", note="data v1")
    for part in ("iwae", "K=5", "data v1", "excluded"):
        assert part in result.protocol
    assert (result.bound, result.particles, result.split) == ("iwae", 5, "test")


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
