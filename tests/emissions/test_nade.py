"""NADE against the sum over all binary vectors, and a loop over its entries."""

from functools import partial
from itertools import product

import pytest
import torch
from torch.testing import assert_close

from zforcing_pyro.emissions import NADE
from zforcing_pyro.estimators import TraceELBO
from zforcing_pyro.models import RNN

exactly = partial(assert_close, rtol=1e-10, atol=1e-10)


def make(x_dim=6, **options):
    emission = NADE(3, x_dim, **{"nade_dim": 5} | options)
    with torch.no_grad():
        for parameter in emission.parameters():
            parameter.add_(0.7 * torch.randn_like(parameter))
    return emission


def all_vectors(x_dim):
    return torch.tensor(list(product([0.0, 1.0], repeat=x_dim)))


@pytest.mark.parametrize("x_dim", [1, 2, 8])
@pytest.mark.parametrize("hidden_dims", [(), (4,)])
def test_probabilities_of_all_vectors_sum_to_one(x_dim, hidden_dims):
    distribution = make(x_dim, hidden_dims=hidden_dims)(torch.randn(4, 1, 3))
    log_probs = distribution.log_prob(all_vectors(x_dim))
    assert log_probs.shape == (4, 2**x_dim)
    exactly(log_probs.exp().sum(-1), torch.ones(4))


def test_nade_log_prob_equals_a_loop_over_entries():
    emission, features = make(), torch.randn(4, 3)
    x = torch.randint(2, (4, 6)).double()
    output = emission.mlp(features)
    b, a, expected = output[:, :6], output[:, 6:], 0.0
    for i in range(6):
        p = 1 / (1 + (-(b[:, i] + (emission.weight_out[i] / (1 + (-a).exp())).sum(-1))).exp())
        expected = expected + (x[:, i] * p + (1 - x[:, i]) * (1 - p)).log()
        a = a + x[:, i, None] * emission.weight_in[i]
    exactly(emission(features).log_prob(x), expected)


def test_nade_is_stable_at_large_weights():
    emission = make().float()
    with torch.no_grad():
        emission.weight_out *= 1e4
    x = torch.randint(2, (7, 6)).float()
    features = torch.randn(7, 3, dtype=torch.float32)
    log_prob = emission(features).log_prob(x)
    log_prob.sum().backward()
    assert log_prob.isfinite().all() and log_prob.dtype == torch.float32
    assert all(parameter.grad.isfinite().all() for parameter in emission.parameters())


def test_rnn_nade_learns_chords_that_independent_keys_cannot():
    """Two keys that sound together or not at all: ln 2 a step is exact, 2 ln 2 is independence."""
    x = torch.randint(2, (16, 8, 1)).double().expand(-1, -1, 2)
    net, lengths = RNN(partial(NADE, nade_dim=8), 2, h_dim=4, embed_dim=0), torch.full((16,), 8)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    for _ in range(150):
        loss = -TraceELBO().objective(net.given(x, lengths)).value.sum() / lengths.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.75
    drawn = net.generate(500, 2)
    assert (drawn[..., 0] == drawn[..., 1]).double().mean() > 0.97
