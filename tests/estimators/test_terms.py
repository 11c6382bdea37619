"""Terms of small programs, against numbers written by hand."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from program_cases import X, guide, model, trace_terms
from pyro import poutine
from torch.distributions import Normal
from torch.testing import assert_close

from zforcing_pyro.estimators.terms import Terms


def test_terms_are_the_log_densities_of_the_sites():
    terms = trace_terms(model, guide, X, num_particles=5)
    z = terms.latents["z"]
    assert z.shape == (5, 3)
    assert_close(terms.log_prior, Normal(0.0, 1.0).log_prob(z)[..., None])
    assert_close(terms.log_posterior, Normal(X / 2, 0.5).log_prob(z)[..., None])
    assert_close(terms.log_emission, Normal(z, 2.0).log_prob(X)[..., None])
    kl = math.log(2) + (0.25 + X**2 / 4) / 2 - 0.5
    assert_close(terms.kl, kl[:, None].expand(5, 3, 1))
    assert_close(terms.kl_or_estimate, terms.kl)
    log_weight = terms.log_emission + terms.log_prior - terms.log_posterior
    assert_close(terms.log_weight, log_weight[..., 0])
    assert_close(terms.auxiliary, torch.zeros(5, 3, 1))
    assert_close(terms.reverse, torch.zeros(5, 3, 1))
    assert_close(terms.posterior_mean["z"], (X / 2).expand(5, 3))
    assert terms.scale == 1 and terms.state == "state"


def test_draws_are_those_of_the_guide_alone():
    torch.manual_seed(1)
    z = trace_terms(model, guide, X, num_particles=5).latents["z"]
    torch.manual_seed(1)
    assert_close(z, X / 2 + 0.5 * torch.randn(5, 3))


def test_given_latents_are_scored_and_the_others_drawn():
    def model(x):
        with pyro.plate("sequences", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            u = pyro.sample("u", dist.Normal(z, 1.0))
            pyro.sample("x", dist.Normal(u, 1.0), obs=x)

    def guide(x):
        with pyro.plate("sequences", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x, 1.0))
            pyro.sample("u", dist.Normal(z, 1.0))

    given = {"z": torch.randn(2, 3)}
    terms = trace_terms(model, guide, X, num_particles=2, latents=given)
    z, u = terms.latents["z"], terms.latents["u"]
    assert_close(z, given["z"], rtol=0, atol=0)
    assert (u != z).all()
    log_prior = [Normal(0.0, 1.0).log_prob(z), Normal(z, 1.0).log_prob(u)]
    assert_close(terms.log_prior, torch.stack(log_prior, -1))
    assert_close(terms.posterior_mean["u"], z)


def vectors(*sizes, prior=dist.Normal):
    """Programs with one latent vector of each size."""

    def model(x):
        with pyro.plate("sequences", len(x)):
            for n, size in enumerate(sizes):
                scale = torch.ones(size)
                fn = prior(*[3.0] * (prior is dist.StudentT), 0 * scale, scale)
                pyro.sample(f"z_{n}", fn.to_event(1))
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    def guide(x):
        with pyro.plate("sequences", len(x)):
            for n, size in enumerate(sizes):
                loc = x[:, None] + torch.arange(size)
                pyro.sample(f"z_{n}", dist.Normal(loc, 1.0).to_event(1))

    return model, guide


def test_kl_is_kept_by_dimension():
    terms = trace_terms(*vectors(4, 4), X, num_particles=5)
    kl = (X[:, None] + torch.arange(4)).square() / 2
    assert_close(terms.kl_per_latent, kl[:, None].expand(5, 3, 2, 4))
    assert_close(terms.kl, kl.sum(-1)[:, None].expand(5, 3, 2))
    assert terms.log_prior.shape == terms.log_posterior.shape == (5, 3, 2)


def test_kl_of_latents_of_different_sizes_is_kept_by_site():
    terms = trace_terms(*vectors(4, 2), X, num_particles=5)
    kl = [(X[:, None] + torch.arange(size)).square().sum(-1) / 2 for size in (4, 2)]
    assert_close(terms.kl, torch.stack(kl, -1).expand(5, 3, 2))


def test_kl_without_a_closed_form_is_drawn():
    terms = trace_terms(*vectors(4, prior=dist.StudentT), X, num_particles=5)
    assert terms.kl_drawn
    assert_close(terms.kl, terms.log_posterior - terms.log_prior)


def test_a_mean_without_a_closed_form_is_none():
    def guide(x):
        with pyro.plate("sequences", len(x)):
            warp = dist.transforms.TanhTransform()
            pyro.sample("z", dist.TransformedDistribution(dist.Normal(x, 1.0), [warp]))

    assert trace_terms(model, guide, X).posterior_mean is None


@pytest.mark.parametrize("mask", [torch.tensor([True, False, True]), False])
def test_masked_sites_are_zero(mask):
    def masked(program):
        return lambda x: poutine.mask(program, mask=mask)(x)

    terms = trace_terms(masked(model), masked(guide), X, num_particles=5)
    expected = trace_terms(model, guide, X, latents=terms.latents, num_particles=5)
    for name in ("log_prior", "log_posterior", "log_emission", "kl"):
        term = torch.where(torch.as_tensor(mask)[..., None], getattr(expected, name), 0)
        assert_close(getattr(terms, name), term)
    by_dimension = trace_terms(*(masked(p) for p in vectors(4)), X).kl_per_latent
    unmasked = trace_terms(*vectors(4), X).kl_per_latent
    assert_close(by_dimension, unmasked * torch.as_tensor(mask)[..., None, None])


def test_masked_terms_forget_what_stood_at_the_padding():
    nan, mask = torch.full((5, 3, 2), math.nan), torch.tensor([[True, False]] * 3)
    nan[..., 0] = 1.0
    kl = nan[..., None].expand(5, 3, 2, 4)
    terms = Terms(nan, 2 * nan, 4 * nan, kl, 8 * nan, 16 * nan, latents=None).masked(mask)
    sums = [getattr(terms, name).sum(-1).unique().item() for name in Terms._fields[:3]]
    assert sums == [1, 2, 4]
    assert terms.kl.sum(-1).unique().item() == 4
    assert [terms.auxiliary.sum(-1).unique().item(), terms.reverse[0, 0, 0].item()] == [8, 16]
    assert (terms.reverse[..., 1] == 0).all()


def test_a_factor_of_the_model_is_density_and_one_of_the_guide_a_cost():
    def factored_model(x):
        model(x)
        with pyro.plate("more", len(x), dim=-1):
            pyro.factor("bonus", x)

    def factored_guide(x):
        guide(x)
        with pyro.plate("more", len(x), dim=-1):
            for weight, name in ((2, "aux_0"), (3, "aux_1"), (5, "reverse_0")):
                pyro.factor(name, -weight * x, has_rsample=True)

    terms = trace_terms(factored_model, factored_guide, X, num_particles=5)
    assert terms.log_emission.shape == (5, 3, 2)
    assert_close(terms.log_emission[..., 1], X.expand(5, 3))
    assert_close(terms.auxiliary, torch.stack([2 * X, 3 * X], -1).expand(5, 3, 2))
    assert_close(terms.reverse, 5 * X[:, None].expand(5, 3, 1))
    assert terms.log_posterior.shape == (5, 3, 1)
