"""Estimators against answers known in closed form."""

import math
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, RenyiELBO, Trace_ELBO, TraceMeanField_ELBO
from torch.testing import assert_close
from toy import random_terms

from zforcing_pyro.estimators import ESTIMATORS, SequenceELBO, TraceELBO, TraceIWAE
from zforcing_pyro.estimators.programs import ProgramPair
from zforcing_pyro.estimators.terms import Given

X = torch.tensor([-1.0, 0.0, 2.5], dtype=torch.float64)


def model(x):
    with pyro.plate("sequences", len(x), dim=-1):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def exact_posterior(x):
    with pyro.plate("sequences", len(x), dim=-1):
        pyro.sample("z", dist.Normal(x / 2, 0.5**0.5))


def wrong_posterior(x):
    with pyro.plate("sequences", len(x), dim=-1):
        pyro.sample("z", dist.Normal(0.3 * x, 1.0))


def log_evidence(x):
    return -(x**2) / 4 - math.log(4 * math.pi) / 2


SAMPLED = partial(TraceELBO, analytic_kl=False)


@pytest.mark.parametrize("num_particles", [1, 7])
@pytest.mark.parametrize("estimator", [SAMPLED, TraceIWAE])
def test_bound_of_each_sequence_is_tight_at_the_exact_posterior(estimator, num_particles):
    bound = estimator(num_particles).objective(ProgramPair(model, exact_posterior, X))
    assert_close(bound.value, log_evidence(X))
    loss = estimator(num_particles).loss(model, exact_posterior, X)
    assert loss == pytest.approx(-log_evidence(X).sum().item())


def test_elbo_with_analytic_kl_is_tight_on_average():
    x = X.repeat(50_000)
    bound = TraceELBO().objective(ProgramPair(model, exact_posterior, x)).bound
    assert_close(bound.view(-1, 3).mean(0), log_evidence(X), rtol=0, atol=0.02)


@pytest.mark.parametrize("analytic_kl", [True, False])
def test_elbo_misses_the_evidence_by_the_kl_of_the_posteriors(analytic_kl):
    x = X.repeat(50_000)
    estimator = TraceELBO(analytic_kl=analytic_kl)
    bound = estimator.objective(ProgramPair(model, wrong_posterior, x)).bound
    kl = math.log(0.5**0.5) + 1 + (0.2 * X) ** 2 - 0.5
    assert_close(bound.view(-1, 3).mean(0), log_evidence(X) - kl, rtol=0, atol=0.03)


def test_iwae_rises_with_the_number_of_particles_to_the_evidence():
    x, gaps = X[2:].repeat(20_000), []
    for num_particles in (1, 2, 8, 32):
        given = ProgramPair(model, wrong_posterior, x)
        with torch.no_grad():
            bound = TraceIWAE(num_particles).objective(given).bound
        gaps.append((log_evidence(X[2]) - bound.mean()).item())
    assert gaps[0] > gaps[1] + 0.05 and gaps[1] > gaps[2] + 0.05 and gaps[2] > gaps[3] > 0
    assert gaps[3] < 0.02


class Drawn(Given):
    """Terms that were drawn already."""

    def __init__(self, terms):
        self.drawn = terms

    def terms(self, num_particles=1, latents=None):
        nothing = 0 if latents is None else 0 * latents.sum(-1)
        return self.drawn._replace(log_prior=self.drawn.log_prior + nothing)

    def filtered(self, num_particles, resample):
        for t in range(4):
            resample(self.drawn.log_emission[..., t], torch.tensor([t < 3] * 3))
        return self.drawn

    def dream(self):
        raise NotImplementedError


def test_bounds_are_their_formulas():
    terms = random_terms()
    log_p, log_q = terms.log_emission + terms.log_prior, terms.log_posterior
    weight = (log_p - log_q).sum(-1).exp()
    assert_close(TraceIWAE(7).bound(terms), weight.mean(0).log())
    assert_close(SAMPLED(7).bound(terms), weight.log().mean(0))
    kl = terms.kl_per_latent.sum(dim=(2, 3))
    assert_close(TraceELBO(7).bound(terms), (terms.log_emission.sum(-1) - kl).mean(0))


def test_kl_weight_weighs_the_latents_only_and_no_validation():
    terms = random_terms()
    emission = terms.log_emission.sum(-1).mean(0)
    for analytic_kl in (True, False):
        bound = TraceELBO(7, analytic_kl).bound(terms)
        weighted = TraceELBO(7, analytic_kl, kl_weight=0.25)
        assert_close(weighted.bound(terms), emission + 0.25 * (bound - emission))
        assert_close(weighted.unweighted().bound(terms), bound)
        assert weighted.unweighted().num_particles == 7 and weighted.kl_weight == 0.25
    assert TraceIWAE(7).unweighted().num_particles == 7


@pytest.mark.parametrize("name", ESTIMATORS)
def test_costs_stay_outside_the_bound(name):
    terms, zero = random_terms(), torch.zeros(7, 3, 4)
    costs = (terms.auxiliary + terms.reverse).sum(-1).mean(0)
    value, bound, kept = ESTIMATORS[name](7).objective(Drawn(terms))
    free = ESTIMATORS[name](7).objective(Drawn(terms._replace(auxiliary=zero, reverse=zero)))
    assert_close(bound, free.bound)
    assert_close(value - bound, costs)
    assert_close(free.value, free.bound)
    assert kept.latents is terms.latents


def test_costs_of_programs_stay_outside_the_bound():
    def guide(x):
        wrong_posterior(x)
        with pyro.plate("costs", len(x), dim=-1):
            pyro.factor("aux", -2 * x, has_rsample=True)
            pyro.factor("reverse", -3 * x, has_rsample=True)

    torch.manual_seed(1)
    loss = TraceIWAE(7).loss(model, guide, X)
    torch.manual_seed(1)
    assert loss == pytest.approx(TraceIWAE(7).loss(model, wrong_posterior, X) - 5 * X.sum().item())


X12 = torch.linspace(-2, 2, 12, dtype=torch.float64)


def subsampled(posterior):
    def model(x):
        with pyro.plate("sequences", len(x), subsample_size=4, dim=-1) as index:
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[index])

    def guide(x):
        with pyro.plate("sequences", len(x), subsample_size=4, dim=-1) as index:
            seen.append(index)
            pyro.sample("z", dist.Normal(posterior[0] * x[index], posterior[1]))

    seen = []
    return model, guide, seen


@pytest.mark.parametrize("num_particles", [1, 7])
@pytest.mark.parametrize("estimator", [SAMPLED, TraceIWAE])
def test_under_subsampling_bounds_are_per_sequence_then_scaled(estimator, num_particles):
    model, guide, seen = subsampled((0.5, 0.5**0.5))
    loss = estimator(num_particles).loss(model, guide, X12)
    assert loss == pytest.approx(-3 * log_evidence(X12[seen[0]]).sum().item())


def test_under_subsampling_the_scale_is_no_power_of_a_weight():
    model, guide, seen = subsampled((0.3, 1.0))
    torch.manual_seed(1)
    loss = TraceIWAE(7).loss(model, guide, X12)
    x = X12[seen[0]]
    torch.manual_seed(1)
    torch.randperm(12)
    z = 0.3 * x + torch.randn(7, 4)
    log_p = (-(z**2) - (x - z) ** 2) / 2 - math.log(2 * math.pi)
    log_q = -((z - 0.3 * x) ** 2) / 2 - math.log(2 * math.pi) / 2
    assert loss == pytest.approx(-3 * (log_p - log_q).exp().mean(0).log().sum().item())


@pytest.mark.parametrize(
    ("ours", "pyros"), [(SAMPLED(), Trace_ELBO()), (TraceELBO(), TraceMeanField_ELBO())]
)
def test_under_subsampling_the_elbo_is_that_of_pyro(ours, pyros):
    model, guide, _ = subsampled((0.3, 1.0))
    losses = []
    for elbo in (ours, pyros):
        torch.manual_seed(1)
        losses.append(elbo.loss(model, guide, X12))
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


def test_without_subsampling_iwae_is_that_of_pyro():
    pyros = RenyiELBO(alpha=0, num_particles=7, vectorize_particles=True, max_plate_nesting=1)
    losses = []
    for elbo in (TraceIWAE(7), pyros):
        torch.manual_seed(1)
        losses.append(elbo.loss(model, wrong_posterior, X))
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


@pytest.fixture
def amortized():
    """A model and a guide with Pyro parameters, in a clean store."""
    pyro.clear_param_store()

    def model(x):
        loc = pyro.param("loc", torch.tensor(3.0))
        with pyro.plate("sequences", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(loc, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        slope, log_scale = (
            pyro.param("slope", torch.tensor(0.0)),
            pyro.param("s", torch.tensor(0.0)),
        )
        shift = pyro.param("shift", torch.tensor(0.0))
        with pyro.plate("sequences", len(x), dim=-1):
            pyro.sample("z", dist.Normal(slope * x + shift, log_scale.exp()))

    yield model, guide
    pyro.clear_param_store()


@pytest.mark.parametrize("estimator", [TraceELBO(5), SAMPLED(5), TraceIWAE(5)])
def test_svi_trains_a_plain_pyro_model(amortized, estimator):
    x = 1 + 2**0.5 * torch.randn(200)
    svi = SVI(*amortized, pyro.optim.Adam({"lr": 0.05}), loss=estimator)
    for _ in range(250):
        svi.step(x)
    found = {name: value.item() for name, value in pyro.get_param_store().items()}
    assert found["loc"] == pytest.approx(x.mean().item(), abs=0.1)
    assert found["slope"] == pytest.approx(0.5, abs=0.1)
    assert found["shift"] == pytest.approx(found["loc"] / 2, abs=0.15)
    assert math.exp(found["s"]) == pytest.approx(0.5**0.5, abs=0.1)
    evidence = (-((x - found["loc"]) ** 2) / 4 - math.log(4 * math.pi) / 2).sum().item()
    assert svi.evaluate_loss(x) == pytest.approx(-evidence, rel=0.02)


@pytest.mark.parametrize("estimator", [TraceELBO(3), TraceIWAE(3)])
def test_gradients_are_those_of_the_differentiable_loss(amortized, estimator):
    estimator.loss(*amortized, X)
    parameters = [value.unconstrained() for value in pyro.get_param_store().values()]
    torch.manual_seed(1)
    expected = estimator.differentiable_loss(*amortized, X)
    gradients = torch.autograd.grad(expected, parameters)
    torch.manual_seed(1)
    assert estimator.loss_and_grads(*amortized, X) == pytest.approx(expected.item(), rel=1e-12)
    assert_close([p.grad for p in parameters], list(gradients))
    torch.manual_seed(1)
    assert estimator.loss(*amortized, X) == pytest.approx(expected.item(), rel=1e-12)


def test_without_parameters_there_is_a_loss_and_no_gradient():
    assert math.isfinite(TraceIWAE(3).loss_and_grads(model, wrong_posterior, X))


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("num_particles", [0, -1])
def test_number_of_particles_must_be_positive(name, num_particles):
    with pytest.raises(
        ValueError, match=f"^'num_particles' must be positive, got {num_particles}$"
    ):
        ESTIMATORS[name](num_particles)


def test_a_loss_that_is_not_a_number_is_warned_of():
    class Broken(SequenceELBO):
        def bound(self, terms):
            return terms.log_weight.mean(0) * math.nan

    with pytest.warns(UserWarning, match="loss"):
        Broken().loss(model, wrong_posterior, X)


@pytest.mark.parametrize("name", ["iwae", "dreg", "renyi", "rws"])
def test_terms_of_another_number_of_particles_are_refused(name):
    terms, error = random_terms(7), "'terms' must have num_particles 50 as the estimator, got 7"
    for given in (terms, terms.summed()):
        with pytest.raises(ValueError, match=f"^{error}$"):
            ESTIMATORS[name](50).bound(given)
        assert ESTIMATORS[name](7).bound(given).shape == (3,)
