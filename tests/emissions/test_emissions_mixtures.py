"""Mixtures and NADE against numerical integration, exact sums and explicit formulas."""

import math
from functools import partial
from itertools import product

import pytest
import torch
from torch.testing import assert_close

from zforcing_pyro.emissions import NADE, GaussianMixture, LogisticMixture
from zforcing_pyro.emissions.mixtures import DiscretizedLogistic
from zforcing_pyro.estimators import TraceELBO
from zforcing_pyro.models import RNN

exactly = partial(assert_close, rtol=1e-10, atol=1e-10)


def spread_out(emission, size=1.0):
    with torch.no_grad():
        for parameter in emission.parameters():
            parameter.add_(size * torch.randn_like(parameter))
    return emission


def gmm(x_dim=2, num_components=3, **options):
    return spread_out(GaussianMixture(4, x_dim, num_components=num_components, **options), 0.5)


# Gaussians


@pytest.mark.parametrize(("clamp", "min_scale"), [(0.0, 0.0), (0.5, 0.1)])
def test_one_component_belongs_to_all_numbers_of_a_vector(clamp, min_scale):
    emission = gmm(hidden_dims=(5,), clamp=clamp, min_scale=min_scale)
    features, x = torch.randn(6, 5, 4), torch.randn(6, 5, 2)
    output = emission.mlp(features)
    weight, rest = output[..., :3].softmax(-1), output[..., 3:]
    rest = rest.clamp(-clamp, clamp) if clamp else rest
    expected = 0.0
    for k in range(3):
        mean, log_scale = rest[..., 2 * k : 2 * k + 2], rest[..., 6 + 2 * k : 8 + 2 * k]
        scale = log_scale.exp() + min_scale
        density = (-(((x - mean) / scale) ** 2) / 2).exp() / (scale * math.sqrt(2 * math.pi))
        expected = expected + weight[..., k] * density.prod(-1)
    exactly(emission(features).log_prob(x), expected.log())


def test_gaussians_are_stable_far_from_all_components():
    emission = gmm(x_dim=200, num_components=20).float()
    features = torch.randn(3, 4, dtype=torch.float32)
    x = torch.full((3, 200), 1e4, dtype=torch.float32)
    log_prob = emission(features).log_prob(x)
    log_prob.sum().backward()
    assert log_prob.isfinite().all() and (log_prob < -1e6).all()
    assert all(parameter.grad.isfinite().all() for parameter in emission.parameters())
    double = emission.double()(features.double()).log_prob(x.double())
    assert_close(log_prob.double(), double, rtol=1e-4, atol=0)


# Discretised logistics


def grid(bits, dtype=torch.float64):
    return torch.arange(-(2 ** (bits - 1)), 2 ** (bits - 1), dtype=dtype) / 2 ** (bits - 1)


SHAPES = {  # location and log-scale: wide, narrow, narrower than a bin, outside, far outside
    "wide": (0.1, -1.0),
    "flat": (0.3, 6.0),
    "narrow": (-0.2, -5.0),
    "narrower than a bin": (0.5003, -30.0),
    "at the lower edge": (-1.0, -4.0),
    "at the upper edge": (1.0, -4.0),
    "outside": (1.4, -2.0),
    "far outside": (-70.0, -3.0),
}


@pytest.mark.parametrize("bits", [1, 8, 16])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_bins_sum_to_one(bits, dtype, tolerance):
    loc, log_scale = torch.tensor([*SHAPES.values()], dtype=dtype).T
    log_prob = DiscretizedLogistic(loc, log_scale, bits).log_prob(grid(bits, dtype)[:, None])
    assert log_prob.dtype == dtype and log_prob.isfinite().all() and (log_prob <= 0).all()
    # A sum in float32 would lose digits.
    assert (log_prob.double().logsumexp(0).abs() < tolerance).all()


@pytest.mark.parametrize("bits", [8, 16])
def test_bins_are_differences_of_the_distribution_function(bits):
    x, loc, scale = grid(bits), 0.1, 0.05
    edges = torch.cat([x - 2.0**-bits, x[-1:] + 2.0**-bits])
    cdf = 1 / (1 + (-(edges - loc) / scale).exp())
    cdf[0], cdf[-1] = 0, 1
    log_prob = DiscretizedLogistic(torch.tensor(loc), torch.tensor(scale).log(), bits).log_prob(x)
    assert_close(log_prob.exp(), cdf.diff(), rtol=1e-7, atol=1e-14)


@pytest.mark.parametrize("bits", [8, 16])
def test_single_precision_has_the_digits_of_double(bits):
    for shape in SHAPES.values():
        x, values = grid(bits), []
        for dtype in (torch.float32, torch.float64):
            loc, log_scale = torch.tensor(shape, dtype=torch.float32).to(dtype)
            values.append(DiscretizedLogistic(loc, log_scale, bits).log_prob(x.to(dtype)).double())
        # A location has 2**-24 of itself as its rounding error, which a narrow scale magnifies.
        scale = max(math.exp(shape[1]), 2.0 ** (1 - bits) * math.exp(-5))
        rounding = 2.0**-24 * max(1.0, abs(shape[0])) / scale
        assert_close(*values, rtol=1e-5, atol=1e-5 + 4 * rounding)


@pytest.mark.parametrize("bits", [1, 8, 16])
def test_gradients_are_finite_at_any_location_and_scale(bits):
    shapes = [*SHAPES.values(), (0.0, 20.0), (0.0, 80.0), (0.0, 1e4)]
    parameters = [torch.tensor(v, dtype=torch.float32).requires_grad_() for v in zip(*shapes)]
    x = grid(bits, torch.float32)[:: max(1, 2**bits // 256), None]
    log_prob = DiscretizedLogistic(*parameters, bits).log_prob(x)
    log_prob.sum().backward()
    assert log_prob.isfinite().all() and all(p.grad.isfinite().all() for p in parameters)


def test_draws_of_logistics_have_the_probabilities_of_the_bins():
    num, x = 200_000, grid(4)
    for loc, log_scale in ((0.2, -1.5), (0.9, -1.0), (-3.0, 0.0)):
        distribution = DiscretizedLogistic(torch.tensor(loc), torch.tensor(log_scale), 4)
        counts = (distribution.sample((num,)) * 8 + 8).long().bincount(minlength=16)
        p = distribution.log_prob(x).exp()
        assert ((counts / num - p).abs() <= 5 * (p * (1 - p) / num).sqrt() + 1e-9).all()


def test_each_sample_of_a_frame_has_its_own_mixture():
    emission = spread_out(LogisticMixture(4, 2, (5,), num_components=3, bits=8))
    features = torch.randn(5, 4)
    distribution = emission(features)
    x = distribution.sample()
    assert x.shape == (5, 2) and ((x * 128) % 1 == 0).all() and x.min() >= -1 and x.max() < 1
    logits, loc, log_scale = emission.mlp(features).view(5, 3, 2, 3).unbind(1)
    component = DiscretizedLogistic(loc, log_scale, 8)
    mass = (logits.softmax(-1) * component.log_prob(x[..., None]).exp()).sum(-1)
    exactly(distribution.log_prob(x), mass.log().sum(-1))
    values = torch.cartesian_prod(grid(8), grid(8))[:, None]
    exactly(distribution.log_prob(values).logsumexp(0), torch.zeros(5))


# NADE


def nade(x_dim=6, **options):
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
    distribution = nade(x_dim, hidden_dims=hidden_dims)(torch.randn(4, 1, 3))
    log_probs = distribution.log_prob(all_vectors(x_dim))
    assert log_probs.shape == (4, 2**x_dim)
    exactly(log_probs.exp().sum(-1), torch.ones(4))


def test_nade_log_prob_equals_a_loop_over_entries():
    emission, features = nade(), torch.randn(4, 3)
    x = torch.randint(2, (4, 6)).double()
    output = emission.mlp(features)
    b, a, expected = output[:, :6], output[:, 6:], 0.0
    for i in range(6):
        p = 1 / (1 + (-(b[:, i] + (emission.weight_out[i] / (1 + (-a).exp())).sum(-1))).exp())
        expected = expected + (x[:, i] * p + (1 - x[:, i]) * (1 - p)).log()
        a = a + x[:, i, None] * emission.weight_in[i]
    exactly(emission(features).log_prob(x), expected)


def test_nade_is_stable_at_large_weights():
    emission = nade().float()
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


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (
            partial(GaussianMixture, num_components=0),
            "'num_components' must be in 1..1,048,576, got 0",
        ),
        (
            partial(LogisticMixture, num_components=-1),
            "'num_components' must be in 1..1,048,576, got -1",
        ),
        (partial(LogisticMixture, bits=0), "'bits' must be in 1..16, got 0"),
        (partial(LogisticMixture, bits=24), "'bits' must be in 1..16, got 24"),
        (partial(NADE, nade_dim=0), "'nade_dim' must be in 1.*got 0"),
    ],
)
def test_bad_options_are_named(make, error):
    with pytest.raises(ValueError, match=error):
        make(4, 3)
