"""Emissions of one component against explicit densities, and against scipy."""

import math

import pytest
import torch
from scipy import stats
from torch.nn.functional import softplus
from torch.testing import assert_close

from zforcing_pyro import emissions

FEATURES = torch.randn(5, 6, 4, generator=torch.Generator().manual_seed(0)).double()


def log_normal(x, loc, scale):
    return (-((x - loc) ** 2) / (2 * scale**2) - scale.log() - math.log(2 * math.pi) / 2).sum(-1)


@pytest.mark.parametrize(("tanh_mean", "scale"), [(False, "log_scale"), (True, "log_variance")])
@pytest.mark.parametrize(("clamp", "min_scale"), [(0, 0), (0.1, 0.3)])
def test_gaussian(tanh_mean, scale, clamp, min_scale):
    emission = emissions.DiagNormal(4, 3, (7,), min_scale, clamp, scale, tanh_mean)
    x = torch.randn(5, 6, 3)
    loc, log_scale = emission.mlp(FEATURES)[..., :3], emission.mlp(FEATURES)[..., 3:]
    if clamp:
        assert loc.abs().max() > clamp and log_scale.abs().max() > clamp
        loc, log_scale = loc.clamp(-clamp, clamp), log_scale.clamp(-clamp, clamp)
    loc = loc.tanh() if tanh_mean else loc
    sigma = (log_scale / 2 if scale == "log_variance" else log_scale).exp() + min_scale
    distribution = emission(FEATURES)
    assert_close(distribution.log_prob(x), log_normal(x, loc, sigma))
    assert_close(distribution.mean, loc)
    assert_close(distribution.stddev, sigma)
    assert distribution.has_rsample and distribution.event_shape == (3,)


def test_bernoulli():
    emission, x = emissions.Bernoulli(4, 3, (7,)), torch.randint(2, (5, 6, 3)).double()
    p = 1 / (1 + (-emission.mlp(FEATURES)).exp())
    distribution = emission(FEATURES)
    assert_close(distribution.log_prob(x), (x * p.log() + (1 - x) * (1 - p).log()).sum(-1))
    assert_close(distribution.mean, p)


def test_bernoulli_is_stable_at_large_logits():
    emission = emissions.Bernoulli(1, 1)
    torch.nn.init.constant_(emission.mlp.layers[0].weight, 1000.0)
    torch.nn.init.zeros_(emission.mlp.layers[0].bias)
    log_prob = emission(torch.ones(1)).log_prob(torch.tensor([[0.0], [1.0]]))
    assert_close(log_prob, torch.tensor([-1000.0, 0.0]))


def test_categorical():
    emission, x = emissions.Categorical(4, 3, (7,)), torch.randint(3, (5, 6))
    logits = emission.mlp(FEATURES)
    expected = logits.gather(-1, x[..., None])[..., 0] - logits.exp().sum(-1).log()
    assert_close(emission(FEATURES).log_prob(x), expected)


@pytest.mark.parametrize("link", ["softplus", "exp"])
def test_counts_are_those_of_scipy(link):
    x = torch.randint(30, (5, 6, 3)).double()
    function = softplus if link == "softplus" else torch.exp
    kinds = emissions.Poisson, emissions.NegativeBinomial
    poisson, negative = (kind(4, 3, (7,), link) for kind in kinds)
    rate = function(poisson.mlp(FEATURES)).detach()
    expected = torch.tensor(stats.poisson.logpmf(x, rate)).sum(-1)
    assert_close(poisson(FEATURES).log_prob(x), expected)
    mean, total_count = function(negative.mlp(FEATURES)).detach().chunk(2, -1)
    expected = stats.nbinom.logpmf(x, total_count, total_count / (total_count + mean))
    assert_close(negative(FEATURES).log_prob(x), torch.tensor(expected).sum(-1))
    assert_close(negative(FEATURES).mean, mean)
    assert_close(negative(FEATURES).variance, mean + mean.square() / total_count)


@pytest.mark.parametrize("kind", [emissions.Poisson, emissions.NegativeBinomial])
@pytest.mark.parametrize("link", ["softplus", "exp"])
def test_counts_are_finite_at_any_features(kind, link):
    emission = kind(1, 1, link=link).float()
    features = torch.tensor([-1e4, -100.0, 0.0, 100.0, 1e4], dtype=torch.float32)
    log_prob = emission(features[:, None, None]).log_prob(torch.tensor([[0.0], [1.0], [300.0]]))
    log_prob.sum().backward()
    assert log_prob.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in emission.parameters())
    with pytest.raises(ValueError, match=r"^'link' must be one of \['softplus', 'exp'\], got 'x'$"):
        kind(1, 1, link="x")


@pytest.mark.parametrize("z_dim", [0, 3])
def test_standard_normal_reads_nothing(z_dim):
    prior, z = emissions.StandardNormal(z_dim), torch.randn(5, 6, z_dim)
    expected = log_normal(z, torch.zeros(5, 6, z_dim), torch.ones(5, 6, z_dim))
    assert_close(prior(FEATURES).log_prob(z), expected)
    assert prior(FEATURES).batch_shape == (5, 6) and not list(prior.parameters())
