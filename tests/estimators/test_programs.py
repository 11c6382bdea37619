"""Pairs of programs: their plates, their scales, and what is refused."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from program_cases import X, guide, model, trace_terms
from pyro import poutine
from pyro.infer import RenyiELBO, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from torch.distributions import Normal
from torch.testing import assert_close

from zforcing_pyro.estimators import ESTIMATORS, TraceELBO, TraceIWAE
from zforcing_pyro.estimators.programs import ProgramPair


def subsampled(seen, wrap=lambda program: program):
    """Programs over 4 of 12 observations that note down the 4 that they see."""

    @wrap
    def model(x):
        with pyro.plate("sequences", len(x), subsample_size=4, dim=-1) as index:
            seen.append(index)
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 2.0), obs=x[index])

    @wrap
    def guide(x):
        with pyro.plate("sequences", len(x), subsample_size=4, dim=-1) as index:
            seen.append(index)
            pyro.sample("z", dist.Normal(x[index] / 2, 0.5))

    return model, guide


def test_a_pair_keeps_its_subsample():
    pair = ProgramPair(*subsampled(seen := []), torch.randn(12))
    terms = pair.terms(5)
    again = pair.terms(latents=terms.latents)
    assert_close(again.log_weight, terms.log_weight)
    assert len({tuple(index.tolist()) for index in seen}) == 1 and len(seen) == 4


def test_model_and_guide_share_a_subsample_and_its_scale_is_kept_apart():
    seen = []
    x = torch.randn(12)
    terms = trace_terms(*subsampled(seen), x, num_particles=5)
    assert seen[0].tolist() == seen[1].tolist() and len(set(seen[0].tolist())) == 4
    assert terms.scale == 3
    z = terms.latents["z"]
    assert_close(terms.log_prior, Normal(0.0, 1.0).log_prob(z)[..., None])
    assert_close(terms.log_posterior, Normal(x[seen[0]] / 2, 0.5).log_prob(z)[..., None])
    assert set(terms.latents) == {"z"}


@pytest.mark.parametrize("scale", [0.25, torch.tensor([1.0, 2.0, 3.0, 4.0])])
def test_a_scale_of_both_programs_multiplies_that_of_the_plate(scale):
    programs = subsampled([], lambda program: poutine.scale(program, scale=scale))
    terms = trace_terms(*programs, torch.randn(12))
    assert_close(torch.as_tensor(terms.scale), torch.as_tensor(3 * scale))
    assert_close(terms.log_prior, Normal(0.0, 1.0).log_prob(terms.latents["z"])[..., None])


def refused(x=X, model=model, guide=guide, **options):
    with pytest.raises((ValueError, NotImplementedError)) as error:
        trace_terms(model, guide, x, **options)
    return f"{type(error.value).__name__}: {error.value}"


@pytest.mark.parametrize("scale", [0.5, torch.tensor([1.0, 1.0, 2.0])])
def test_sites_scaled_differently_are_refused(scale):
    error = refused(guide=poutine.scale(guide, scale=scale))
    assert error.startswith("ValueError: Site 'z' must be scaled like the others by 1")
    assert "makes it no bound" in error


def test_a_latent_outside_the_batch_plate_is_refused():
    def model(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("sequences", len(x), dim=-1):
            pyro.sample("x", dist.Normal(z, 2.0), obs=x)

    error = refused(model=model, guide=lambda x: pyro.sample("z", dist.Normal(0.0, 1.0)))
    assert error.startswith("ValueError: Site 'z' must stand in one batch plate at dim -1, got")
    assert "plates at no dim" in error and "joint bound" in error


@pytest.mark.parametrize("batch", [-1, -2])
def test_plates_nested_in_the_batch_plate_are_summed_out(batch):
    inner, sizes = -3 - batch, {batch: 3, -3 - batch: 4}
    y = torch.randn(*(sizes[d] for d in (-2, -1)))
    mean = y.mean(inner, keepdim=True)
    mask = torch.rand(*y.shape) < 0.7

    def model():
        with pyro.plate("sequences", 3, dim=batch):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            with pyro.plate("inner", 4, dim=inner), poutine.mask(mask=mask):
                u = pyro.sample("u", dist.Normal(torch.stack([z, z], -1), 1.0).to_event(1))
                pyro.sample("y", dist.Normal(u.sum(-1), 2.0), obs=y)

    def guide():
        with pyro.plate("sequences", 3, dim=batch):
            z = pyro.sample("z", dist.Normal(mean, 0.5))
            with pyro.plate("inner", 4, dim=inner), poutine.mask(mask=mask):
                pyro.sample(
                    "u", dist.Normal(torch.stack([y + 0 * z, z + 0 * y], -1), 0.5).to_event(1)
                )

    pair = ProgramPair(model, guide, max_plate_nesting=2)
    terms = pair.terms(5)
    z, u = terms.latents["z"], terms.latents["u"]
    assert u.shape == (5, *y.shape, 2) and terms.log_prior.shape == (5, 3, 2)

    def summed(log_prob):
        return (log_prob * mask).sum(inner)

    assert_close(terms.log_prior[..., 0], Normal(0.0, 1.0).log_prob(z).squeeze(inner))
    assert_close(terms.log_prior[..., 1], summed(Normal(z[..., None], 1.0).log_prob(u).sum(-1)))
    assert_close(terms.log_emission[..., 0], summed(Normal(u.sum(-1), 2.0).log_prob(y)))
    assert terms.posterior_mean["u"].shape == u.shape
    kl = math.log(2) + (0.25 + (torch.stack([y + 0 * z, z + 0 * y], -1) - z[..., None]) ** 2) / 2
    assert_close(terms.kl[..., 1], summed((kl - 0.5).sum(-1)))
    assert pair.sequence_dim == 3 + batch and (terms.mask[..., 0]).all()
    assert_close(terms.mask[0, :, 1], mask.any(inner))
    again = pair.terms(latents=terms.latents)
    assert_close(again.log_weight, terms.log_weight)


def test_a_plate_that_all_sites_share_beside_that_of_the_batch_is_refused():
    def program(x):
        with pyro.plate("sequences", len(x), dim=-1), pyro.plate("inner", 2, dim=-2):
            pyro.sample("z", dist.Normal(0.0, 1.0))

    error = refused(model=program, guide=program, max_plate_nesting=2)
    assert "must have one plate in common, that of the batch, got [-2, -1]" in error


def test_batch_plates_of_different_sizes_are_refused():
    def model(x):
        with pyro.plate("sequences", len(x), dim=-1):
            pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("others", 1, dim=-1):
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x[:1])

    error = refused(model=model)
    assert "Site 'x' must stand in the batch plate 'sequences' of size 3, got 'others'" in error


def test_programs_without_a_site_are_refused():
    error = refused(model=lambda x: None, guide=lambda x: None)
    assert error == "ValueError: The programs must have a sample site, got none"


def test_programs_without_latents_are_scored():
    def model(x):
        with pyro.plate("sequences", len(x), dim=-1):
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    terms = trace_terms(model, lambda x: None, X, num_particles=5)
    assert_close(terms.log_weight, Normal(0.0, 1.0).log_prob(X).expand(5, 3))
    assert terms.latents == {}


def test_latents_of_model_and_guide_must_be_the_same():
    def two(x):
        with pyro.plate("sequences", len(x), dim=-1):
            pyro.sample("z", dist.Normal(x / 2, 0.5))
            pyro.sample("u", dist.Normal(0.0, 1.0))

    def observed(x):
        with pyro.plate("sequences", len(x), dim=-1):
            pyro.sample("z", dist.Normal(0.0, 1.0), obs=x)

    no_latent = "ValueError: Site '{}' of the guide is no latent of the model"
    assert refused(guide=two) == no_latent.format("u")
    assert refused(model=observed) == no_latent.format("z")
    assert refused(guide=observed) == no_latent.format("z")
    missing = "ValueError: The guide draws no value for latents of the model: ['u']"
    assert refused(model=two) == missing
    unknown = "ValueError: 'latents' must be among ['z'], got also ['zz']"
    assert refused(latents={"zz": X[None]}) == unknown


def test_a_sequential_plate_is_refused():
    def program(x):
        for i in pyro.plate("each", len(x)):
            pyro.sample(f"z_{i}", dist.Normal(0.0, 1.0))

    assert refused(model=program, guide=program) == (
        "ValueError: Site 'z_0' must stand in no sequential plate, got 'each': write "
        "\"with pyro.plate('each', ...)\"; TraceELBO and TraceSTL take such programs"
    )


@pytest.mark.parametrize("event", [(), (2,)])
def test_a_site_larger_than_its_plate_is_refused(event):
    """The dim of size 4 is in no plate, so it would be summed unseen."""

    def program(x):
        with pyro.plate("sequences", len(x), dim=-2):
            loc = torch.zeros(len(x), 4, *event)
            pyro.sample("z", dist.Normal(loc, 1.0).to_event(len(event)))

    error = refused(model=program, guide=program, max_plate_nesting=2, num_particles=5)
    assert error.startswith(
        "ValueError: Site 'z' must have the shape of its plates (5, 3, 1), got (5, 3, 4): declare"
    )


def test_an_error_of_a_program_is_said_as_it_was():
    def broken(x):
        guide(x)
        raise ValueError("'x' must be positive, got -1")

    assert refused(guide=broken) == "ValueError: 'x' must be positive, got -1"


def warped(x):
    """One latent that is positive, and one that is not."""
    with pyro.plate("sequences", len(x), dim=-1):
        s = pyro.sample("s", dist.LogNormal(0.0, 1.0))
        z = pyro.sample("z", dist.Normal(0.0, s))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def automatic():
    pyro.clear_param_store()
    guide = AutoNormal(warped)
    guide(X)
    return guide


@pytest.mark.parametrize(
    ("ours", "pyros"),
    [
        (
            TraceELBO(5, analytic_kl=False),
            Trace_ELBO(5, max_plate_nesting=2, vectorize_particles=True),
        ),
        (TraceIWAE(5), RenyiELBO(0.0, 5, max_plate_nesting=2, vectorize_particles=True)),
    ],
)
def test_with_a_guide_of_pyro_the_bound_is_that_of_pyro(ours, pyros):
    x, found = X[:1], []  # one sequence: Pyro's IWAE is one bound over all of them
    pyro.clear_param_store()
    guide = AutoNormal(warped)
    guide(x)
    for estimator in (ours, pyros):
        torch.manual_seed(1)
        guide.zero_grad()
        loss = estimator.loss_and_grads(warped, guide, x)
        found.append([torch.as_tensor(loss), *(p.grad.clone() for p in guide.parameters())])
    assert_close(found[0], found[1])
    assert len(found[0]) == 5 and all((g != 0).all() for g in found[0])


def test_auxiliary_sites_count_with_their_latents():
    pair, u = ProgramPair(warped, automatic(), X), torch.randn(5, 3)
    terms = pair.terms(5)
    assert list(terms.latents) == ["s_unconstrained", "s", "z_unconstrained", "z"]
    assert terms.log_prior.shape == terms.log_posterior.shape == (5, 3, 2)
    assert terms.kl_drawn and terms.posterior_mean is None
    assert_close(terms.kl, terms.log_posterior - terms.log_prior)
    u, s = terms.latents["s_unconstrained"], terms.latents["s"]
    loc, scale = pair.guide.locs.s, pair.guide.scales.s
    assert_close(s, u.exp())
    assert_close(terms.log_posterior[..., 0], dist.LogNormal(loc, scale).log_prob(s))
    assert_close(pair.terms(latents=terms.latents).log_weight, terms.log_weight)
    with pytest.raises(ValueError, match="without the guide's auxiliary site 's_unconstrained'"):
        pair.terms(latents={"s": s})


@pytest.mark.parametrize("name", ["stl", "dreg", "rws", "renyi"])
def test_other_estimators_take_guides_of_pyro(name):
    guide = automatic()
    assert math.isfinite(ESTIMATORS[name](4).loss_and_grads(warped, guide, X))
    assert all(p.grad.isfinite().all() for p in guide.parameters())
