"""Free bits: a floor of the mean KL of a batch, in training alone."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.testing import assert_close
from toy import random_terms

from zforcing_pyro.estimators import TraceELBO

X = torch.tensor([-1.0, 0.0, 2.5], dtype=torch.float64)


@pytest.mark.parametrize("per", ["step", "latent"])
def test_free_bits_are_a_floor_of_the_mean_over_the_batch(per):
    """Three sequences of 4, 2 and 1 steps: padding is in no mean, and has no floor."""
    mask = torch.arange(4) < torch.tensor([4, 2, 1])[:, None]
    terms = random_terms().masked(mask)
    kl = terms.kl_per_latent if per == "latent" else terms.kl[..., None]
    floor, expected = kl[:, :, :2].mean().item(), 0.0
    for t in range(4):
        steps = kl[:, mask[:, t], t]
        mean = steps.mean((0, 1))
        expected += torch.where(mean < floor, floor, mean).sum() * mask[:, t].sum()
    free = TraceELBO(7, free_bits=floor, free_bits_per=per)
    bound = terms.log_emission.sum(-1).mean(0) - free.bound(terms)
    assert_close(bound.sum(), expected)
    assert (expected - kl.sum((1, 2, 3)).mean()).abs() > 0.1
    assert_close(free.unweighted().bound(terms), TraceELBO(7).bound(terms))
    half = TraceELBO(7, kl_weight=0.5, free_bits=floor, free_bits_per=per).bound(terms)
    assert_close(terms.log_emission.sum(-1).mean(0) - half, bound / 2)


def test_a_kl_below_its_free_bits_has_no_gradient():
    shift = torch.tensor([0.1, 1.0]).requires_grad_()

    def guide(x):
        with pyro.plate("sequences", len(x), dim=-1):
            z = dist.Normal(shift.expand(len(x), 2), 1.0).to_event(1)
            pyro.sample("z", z)

    def silent(x):
        with pyro.plate("sequences", len(x), dim=-1):
            pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    TraceELBO(free_bits=0.2, free_bits_per="latent").loss_and_grads(silent, guide, X)
    assert_close(shift.grad, torch.tensor([0.0, 3.0]))  # KLs are 0.005 and 0.5


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"free_bits": -1.0}, "'free_bits' must be 0 or more and finite, got -1.0"),
        ({"free_bits": 0.1, "analytic_kl": False}, "'free_bits' must be 0 with a drawn KL.*"),
        ({"free_bits_per": "x"}, "'free_bits_per' must be 'step' or 'latent', got 'x'"),
    ],
)
def test_free_bits_that_make_no_sense_are_refused(options, error):
    with pytest.raises(ValueError, match=f"^{error}$"):
        TraceELBO(**options)


@pytest.mark.parametrize("per", ["step", "latent"])
def test_terms_without_a_mask_are_all_steps(per):
    terms = random_terms()
    whole = terms._replace(mask=torch.ones(3, 4, dtype=torch.bool))
    estimator = TraceELBO(7, free_bits=0.6, free_bits_per=per)
    assert terms.mask is None
    assert_close(estimator.bound(terms), estimator.bound(whole))
