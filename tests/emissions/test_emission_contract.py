"""Contract of emissions, driven by the registry alone: a new family needs no edit here."""

import inspect

import pytest
import torch
from torch.testing import assert_close

from zforcing_pyro.emissions import EMISSIONS

families = pytest.mark.parametrize("name", EMISSIONS)


def make(name, x_dim=3, **options):
    """An emission whose parameters are all of a size to matter, and features for it."""
    emission = EMISSIONS[name](4, x_dim, **options)
    with torch.no_grad():
        for parameter in emission.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return emission, torch.randn(5, 6, 4)


@families
def test_draws_have_the_shape_the_dtype_and_the_support_that_are_declared(name):
    emission, features = make(name)
    like = torch.zeros(1, dtype=torch.float32, device="meta")
    template, draw = emission.template(5, 6, like), emission(features).sample()
    assert template.shape == draw.shape and template.device.type == "meta"
    assert template.dtype == (torch.long if emission.symbols else torch.float32)
    assert (draw.dtype == torch.long) == emission.symbols
    assert emission.support.check(draw).all()
    assert emission(features).log_prob(draw).isfinite().all()
    expanded = emission(features).expand((2, 5, 6))
    assert expanded.sample().shape == (2, *draw.shape)
    assert_close(expanded.log_prob(draw)[1], emission(features).log_prob(draw))


@families
def test_a_distribution_is_made_from_one_tensor(name):
    emission, features = make(name)
    x, output = emission(features).sample(), emission.raw(features)
    if name == "columns":  # each family has a network of its own
        assert output is None
        return
    assert output.shape[:2] == (5, 6) and output.requires_grad
    log_prob = emission(features).log_prob(x)
    emission.mlp = torch.nn.Identity()
    assert_close(emission(output).log_prob(x), log_prob)


@families
def test_values_off_the_support_are_refused(name):
    emission, features = make(name)
    for value in (-1.0, 0.3, 2.5, 1e9):
        x = torch.full_like(emission(features).sample(), value)
        if emission.support.check(x).all():
            assert emission(features).log_prob(x).isfinite().all()
            continue
        with pytest.raises(ValueError, match="within the support"):
            emission(features).log_prob(x)


@families
def test_negative_options_are_refused(name):
    for option in {"min_scale", "clamp"} & inspect.signature(EMISSIONS[name]).parameters.keys():
        with pytest.raises(ValueError, match=f"'{option}' must not be negative, got -1"):
            make(name, **{option: -1.0})


@families
def test_densities_integrate_to_one_over_their_draws(name):
    """The mean of p(x | near) / p(x) over draws from p is 1; 4 standard errors, each below 0.02."""
    emission, features = make(name)
    features = 0.5 * features[:, :1]
    distribution, near = emission(features), emission(features + 0.05 * torch.randn_like(features))
    x = distribution.sample((8_000,))
    ratio = (near.log_prob(x) - distribution.log_prob(x)).exp()
    error = ratio.std(0) / len(ratio) ** 0.5
    assert (error > 0).all() and (error < 0.02).all()
    assert ((ratio.mean(0) - 1).abs() < 4 * error).all()


@families
def test_densities_are_of_full_precision_under_autocast(name):
    emission, features = make(name)
    emission, features = emission.float(), features.float()
    x = emission(features).sample()
    with torch.autocast("cpu", torch.bfloat16):
        log_prob = emission(features).log_prob(x)
    assert log_prob.dtype == torch.float32
    assert_close(log_prob, emission(features).log_prob(x), rtol=0.05, atol=0.05)
    log_prob.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in emission.parameters())


@pytest.mark.parametrize(
    "name", [n for n in EMISSIONS if "missing" in inspect.signature(EMISSIONS[n]).parameters]
)
def test_missing_values_are_integrated_out(name):
    """Each number's log-probability is the difference that its absence makes."""
    emission, features = make(name, missing=True)
    x = emission(features).sample()
    assert emission.missing and x.isfinite().all()
    complete, total = make(name)[0], 0.0
    complete.load_state_dict(emission.state_dict())
    for d in range(3):
        partial = torch.full_like(x, torch.nan)
        partial[..., d] = x[..., d]
        total = total + emission(features).log_prob(partial)
    assert_close(total, complete(features).log_prob(x))
    log_prob = emission(features).log_prob(torch.full_like(x, torch.nan))
    assert (log_prob == 0).all()
    (log_prob.sum() + total.sum()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in emission.parameters())
