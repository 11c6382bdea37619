"""Emissions against explicit densities."""

import math

import pytest
import torch
from torch.testing import assert_close

from zforcing_pyro.emissions import EMISSIONS, Bernoulli, Categorical, DiagNormal, StandardNormal

FEATURES = torch.randn(5, 6, 4, generator=torch.Generator().manual_seed(0)).double()


def log_normal(x, loc, scale):
    return (-((x - loc) ** 2) / (2 * scale**2) - scale.log() - math.log(2 * math.pi) / 2).sum(-1)


@pytest.mark.parametrize("hidden_dims", [(), (7,)])
@pytest.mark.parametrize("tanh_mean", [False, True])
@pytest.mark.parametrize("scale", ["log_scale", "log_variance"])
@pytest.mark.parametrize(("clamp", "min_scale"), [(0, 0), (0.1, 0), (0, 0.3), (0.1, 0.3)])
def test_gaussian(hidden_dims, tanh_mean, scale, clamp, min_scale):
    emission = DiagNormal(4, 3, hidden_dims, min_scale, clamp, scale, tanh_mean)
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


@pytest.mark.parametrize("hidden_dims", [(), (7,)])
def test_bernoulli(hidden_dims):
    emission, x = Bernoulli(4, 3, hidden_dims), torch.randint(2, (5, 6, 3)).double()
    p = 1 / (1 + (-emission.mlp(FEATURES)).exp())
    distribution = emission(FEATURES)
    expected = (x * p.log() + (1 - x) * (1 - p).log()).sum(-1)
    assert_close(distribution.log_prob(x), expected)
    assert_close(distribution.mean, p)
    assert distribution.event_shape == (3,)


def test_bernoulli_is_stable_at_large_logits():
    emission = Bernoulli(1, 1)
    torch.nn.init.constant_(emission.mlp.layers[0].weight, 1000.0)
    torch.nn.init.zeros_(emission.mlp.layers[0].bias)
    log_prob = emission(torch.ones(1)).log_prob(torch.tensor([[0.0], [1.0]]))
    assert_close(log_prob, torch.tensor([-1000.0, 0.0]))


@pytest.mark.parametrize("hidden_dims", [(), (7,)])
def test_categorical(hidden_dims):
    emission, x = Categorical(4, 3, hidden_dims), torch.randint(3, (5, 6))
    logits = emission.mlp(FEATURES)
    expected = logits.gather(-1, x[..., None])[..., 0] - logits.exp().sum(-1).log()
    assert_close(emission(FEATURES).log_prob(x), expected)
    assert emission(FEATURES).event_shape == ()


@pytest.mark.parametrize("z_dim", [0, 3])
def test_standard_normal_reads_nothing(z_dim):
    prior, z = StandardNormal(z_dim), torch.randn(5, 6, z_dim)
    expected = log_normal(z, torch.zeros(5, 6, z_dim), torch.ones(5, 6, z_dim))
    assert_close(prior(FEATURES).log_prob(z), expected)
    assert prior(FEATURES).batch_shape == (5, 6) and not list(prior.parameters())


@pytest.mark.parametrize("name", EMISSIONS)
def test_template_is_a_batch_of_observations(name):
    emission, like = EMISSIONS[name](4, 3), torch.zeros(1, dtype=torch.float32, device="meta")
    template = emission.template(5, 6, like)
    draw = emission(FEATURES).sample()
    assert template.shape == draw.shape and template.device.type == "meta"
    assert template.dtype == (torch.long if emission.symbols else torch.float32)
    assert (draw.dtype == torch.long) == emission.symbols


@pytest.mark.parametrize("name", EMISSIONS)
def test_densities_are_of_full_precision_under_autocast(name):
    emission, features = EMISSIONS[name](4, 3).float(), FEATURES.float()
    x = emission(features).sample()
    with torch.autocast("cpu", torch.bfloat16):
        found = emission(features).log_prob(x)
    assert found.dtype == torch.float32
    assert_close(found, emission(features).log_prob(x), rtol=0.02, atol=0.02)
