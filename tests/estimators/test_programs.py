"""Terms of pairs of programs, against numbers written by hand; and which programs are refused."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from program_cases import X, guide, model, trace_terms
from pyro import poutine
from pyro.infer.autoguide import AutoNormal
from torch.distributions import Normal
from torch.testing import assert_close

from zforcing_pyro.estimators.programs import ProgramPair
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


@pytest.mark.parametrize("sizes", [(4, 4), (4, 2)])
def test_kl_is_kept_by_dimension_or_by_site_where_sizes_differ(sizes):
    terms = trace_terms(*vectors(*sizes), X, num_particles=5)
    kl = [(X[:, None] + torch.arange(size)).square() / 2 for size in sizes]
    if sizes == (4, 4):
        assert_close(terms.kl_per_latent, torch.stack(kl, 1).expand(5, 3, 2, 4))
    assert_close(terms.kl, torch.stack([k.sum(-1) for k in kl], -1).expand(5, 3, 2))
    assert terms.log_prior.shape == terms.log_posterior.shape == (5, 3, 2)
    assert not terms.kl_drawn


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


def test_a_pair_keeps_its_subsample_and_its_scale_apart():
    """Programs over 4 of 12 observations that note down the 4 that they see."""
    seen = []

    def model(x):
        with pyro.plate("sequences", len(x), subsample_size=4, dim=-1) as index:
            seen.append(index)
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 2.0), obs=x[index])

    def guide(x):
        with pyro.plate("sequences", len(x), subsample_size=4, dim=-1) as index:
            seen.append(index)
            pyro.sample("z", dist.Normal(x[index] / 2, 0.5))

    pair = ProgramPair(model, guide, torch.randn(12))
    terms = pair.terms(5)
    again = pair.terms(latents=terms.latents)
    assert_close(again.log_weight, terms.log_weight)
    assert len({tuple(index.tolist()) for index in seen}) == 1 and len(seen) == 4
    assert terms.scale == 3 and set(terms.latents) == {"z"}


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


def warped(x):
    """One latent that is positive, and one that is not."""
    with pyro.plate("sequences", len(x), dim=-1):
        s = pyro.sample("s", dist.LogNormal(0.0, 1.0))
        z = pyro.sample("z", dist.Normal(0.0, s))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def test_auxiliary_sites_count_with_their_latents():
    guide = AutoNormal(warped)
    guide(X)
    pair, u = ProgramPair(warped, guide, X), torch.randn(5, 3)
    terms = pair.terms(5)
    assert list(terms.latents) == ["s_unconstrained", "s", "z_unconstrained", "z"]
    assert terms.log_prior.shape == terms.log_posterior.shape == (5, 3, 2)
    assert terms.kl_drawn and terms.posterior_mean is None
    assert_close(terms.kl, terms.log_posterior - terms.log_prior)
    u, s = terms.latents["s_unconstrained"], terms.latents["s"]
    loc, scale = pair.guide.locs.s, pair.guide.scales.s
    assert_close(s, u.exp())
    log_q = terms.log_posterior[..., 0] + Normal(0.0, 1.0).log_prob(s.log()) - s.log()
    assert_close(log_q - terms.log_prior[..., 0], dist.LogNormal(loc, scale).log_prob(s))
    assert_close(pair.terms(latents=terms.latents).log_weight, terms.log_weight)
    with pytest.raises(ValueError, match="without the guide's auxiliary site 's_unconstrained'"):
        pair.terms(latents={"s": s})


# Refusals


def program(*latents, observes=True, obs=False):
    """A program of some latents in the batch plate."""

    def run(x):
        with pyro.plate("sequences", len(x), dim=-1):
            for name in latents:
                z = pyro.sample(name, dist.Normal(0.0, 1.0), obs=x if obs else None)
            if observes:
                pyro.sample("x", dist.Normal(z, 2.0), obs=x)

    return run


def of_two_sizes(x):
    with pyro.plate("sequences", len(x), dim=-1):
        pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("others", 1, dim=-1):
        pyro.sample("x", dist.Normal(0.0, 1.0), obs=x[:1])


def without_plate(x):
    pyro.sample("z", dist.Normal(0.0, 1.0))


def sequential(x):
    for i in pyro.plate("each", len(x)):
        pyro.sample(f"z_{i}", dist.Normal(0.0, 1.0))


def in_two_plates(x):
    with pyro.plate("sequences", len(x), dim=-1), pyro.plate("inner", 2, dim=-2):
        pyro.sample("z", dist.Normal(0.0, 1.0))


def too_large(x):
    """The dim of size 4 is in no plate, so it would be summed unseen."""
    with pyro.plate("sequences", len(x), dim=-2):
        pyro.sample("z", dist.Normal(torch.zeros(len(x), 4, 2), 1.0).to_event(1))


def broken(x):
    guide(x)
    raise ValueError("'x' must be positive, got -1")


def subsamples(name):
    def run(x):
        with pyro.plate(name, 9, subsample_size=3):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            if name == "a":
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    return run


LATENT = "Site '{}' of the guide is no latent of the model"


@pytest.mark.parametrize(
    ("model", "guide", "error"),
    [
        (program("z"), without_plate, "Site 'z' must stand in one batch plate with all others: "
         "bounds are taken per sequence, and a site shared by sequences would make them one joint"),
        (sequential, sequential, "Site 'z_0' must stand in no sequential plate; TraceELBO and "
         "TraceSTL take such programs"),
        (in_two_plates, in_two_plates, "Sites must have one plate in common, that of the batch, "
         "got [-2, -1]"),
        (of_two_sizes, guide, "Site 'x' must stand in the batch plate 'sequences' of size 3, got "
         "'others' of size 1"),
        (subsamples("a"), subsamples("b"), "Site 'z' must stand in the batch plate 'a' of size 3, "
         "got 'b' of size 3"),
        (too_large, too_large, "Site 'z' must have the shape of its plates (5, 3, 1), got (5, 3, "
         "4): declare other dims as event dims (to_event)"),
        (model, poutine.scale(guide, scale=0.5), "Site 'z' must be scaled like the others by "
         "1.0, got 0.5: a scale"),
        (model, poutine.scale(guide, scale=1 + X.sign().clamp(0)), "Site 'z' must be scaled like"),
        (lambda x: None, lambda x: None, "The programs must have a sample site, got none"),
        (model, broken, "'x' must be positive, got -1"),
        (model, program("z", "u", observes=False), LATENT.format("u")),
        (program("z", obs=True), guide, LATENT.format("z")),
        (model, program("z", obs=True, observes=False), LATENT.format("z")),
        (program("z", "u"), guide, "The guide draws no value for latents of the model: ['u']"),
    ],
)  # fmt: skip
def test_programs_without_a_bound_of_each_sequence_are_refused(model, guide, error):
    with pytest.raises(ValueError) as caught:
        trace_terms(model, guide, X, num_particles=5)
    assert str(caught.value).startswith(error) and "\n" not in str(caught.value)


def test_values_of_unknown_latents_are_refused():
    with pytest.raises(ValueError, match=r"^'latents' must be among \['z'\], got also \['zz'\]$"):
        trace_terms(model, guide, X, latents={"zz": X[None]})
