"""Bounds: their formulas, their limits, and how they tighten."""

from functools import partial
from itertools import pairwise

import mpmath
import pyro
import pyro.distributions as dist
import pytest
import torch
from program_cases import LENGTHS, gaps, linear_gaussian, random_terms
from torch.testing import assert_close

from zforcing_pyro.estimators import (
    ESTIMATORS,
    TraceELBO,
    TraceFIVO,
    TraceIWAE,
    TraceRenyi,
    TraceSTL,
)
from zforcing_pyro.estimators.programs import ProgramPair

X = torch.tensor([-1.0, 0.0, 2.5], dtype=torch.float64)


def test_elbo_is_its_formula_with_either_kl_and_any_weight():
    terms = random_terms()
    emission, kl = terms.log_emission.sum(-1).mean(0), terms.kl_per_latent.sum((2, 3)).mean(0)
    drawn = (terms.log_posterior - terms.log_prior).sum(-1).mean(0)
    for weight in (1.0, 0.25):
        assert_close(TraceELBO(7, kl_weight=weight).bound(terms), emission - weight * kl)
        for estimator in (TraceELBO(7, False, weight), TraceSTL(7, weight)):
            assert_close(estimator.bound(terms), emission - weight * drawn)


def hierarchy(order):
    """A model z2 -> z1 -> x, and its exact posterior drawn from z1, or from z2."""

    def model(x):
        with pyro.plate("sequences", len(x)):
            z2 = pyro.sample("z2", dist.Normal(0.0, 1.0))
            z1 = pyro.sample("z1", dist.Normal(z2, 1.0))
            pyro.sample("x", dist.Normal(z1, 1.0), obs=x)

    def guide(x):
        with pyro.plate("sequences", len(x)):
            if order == "bottom-up":
                z1 = pyro.sample("z1", dist.Normal(2 * x / 3, (2 / 3) ** 0.5))
                pyro.sample("z2", dist.Normal(z1 / 2, 0.5**0.5))
            else:
                z2 = pyro.sample("z2", dist.Normal(x / 3, (2 / 3) ** 0.5))
                pyro.sample("z1", dist.Normal((x + z2) / 2, 0.5**0.5))

    return model, guide


@pytest.mark.parametrize("order", ["bottom-up", "top-down"])
def test_analytic_kl_is_right_in_any_order_of_draws(order):
    """W2: the closed form of z1's KL conditions its prior on z2, which the guide draws later."""
    given = ProgramPair(*hierarchy(order), X)
    with torch.no_grad():
        objective = TraceELBO(20_000).objective(given)
    evidence = dist.Normal(0.0, 3**0.5).log_prob(X)
    assert_close(objective.bound, evidence, rtol=0, atol=0.03)
    assert objective.terms.kl_drawn == (order == "bottom-up")
    bottom_up = TraceELBO(20_000, analytic_kl=False).objective(given).bound
    assert_close(bottom_up, evidence, rtol=0, atol=1e-9)


@pytest.mark.parametrize("per", ["step", "latent"])
def test_free_bits_are_a_floor_of_the_mean_over_the_batch(per):
    """Three sequences of 4, 2 and 1 steps: padding is in no mean, and has no floor."""
    mask = torch.arange(4) < torch.tensor([4, 2, 1])[:, None]
    terms = random_terms().masked(mask)
    kl = terms.kl_per_latent if per == "latent" else terms.kl[..., None]
    floor, expected = kl[:, :, :2].mean().item(), 0.0
    for t in range(4):
        mean = kl[:, mask[:, t], t].mean((0, 1))
        expected += torch.where(mean < floor, floor, mean).sum() * mask[:, t].sum()
    free = TraceELBO(7, free_bits=floor, free_bits_per=per)
    bound = terms.log_emission.sum(-1).mean(0) - free.bound(terms)
    assert_close(bound.sum(), expected)
    assert (expected - kl.sum((1, 2, 3)).mean()).abs() > 0.1
    half = TraceELBO(7, kl_weight=0.5, free_bits=floor, free_bits_per=per).bound(terms)
    assert_close(terms.log_emission.sum(-1).mean(0) - half, bound / 2)
    assert not free.linear_in_time and free.unweighted().linear_in_time  # W3
    assert_close(free.unweighted().bound(terms), TraceELBO(7).bound(terms))
    without = terms._replace(mask=None)
    full = terms._replace(mask=torch.ones(3, 4, dtype=torch.bool))
    assert_close(free.bound(without), free.bound(full))


def test_a_kl_below_its_free_bits_has_no_gradient():
    shift = torch.tensor([0.1, 1.0]).requires_grad_()

    def guide(x):
        with pyro.plate("sequences", len(x), dim=-1):
            pyro.sample("z", dist.Normal(shift.expand(len(x), 2), 1.0).to_event(1))

    def silent(x):
        with pyro.plate("sequences", len(x), dim=-1):
            pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    TraceELBO(free_bits=0.2, free_bits_per="latent").loss_and_grads(silent, guide, X)
    assert_close(shift.grad, torch.tensor([0.0, 3.0]))  # KLs are 0.005 and 0.5


def test_free_bits_of_a_drawn_kl_are_refused():
    with pytest.raises(ValueError, match=r"'free_bits' must be 0 where the KL of a latent has no"):
        TraceELBO(free_bits=0.1).loss(*hierarchy("bottom-up"), X)


# Several samples


def test_iwae_is_its_formula():
    terms = random_terms()
    assert_close(TraceIWAE(7).bound(terms), terms.log_weight.exp().mean(0).log())


@pytest.mark.parametrize("guide_sees", ["present", "future"])
@pytest.mark.parametrize("estimator", [TraceIWAE, TraceFIVO, partial(TraceFIVO, threshold=1.0)])
def test_bounds_rise_to_the_likelihood_with_particles(estimator, guide_sees):
    net, x = linear_gaussian(guide_sees, 0.3, 1.2)
    counts = ((1, 4_000), (4, 4_000), (64, 1_000))
    results = [gaps(net, x, LENGTHS, estimator(k), num) for k, num in counts]
    for (loose, error), (tight, other) in pairwise(results):
        assert (loose - tight > 4 * (error + other)).all()
    assert (results[-1][0] < 0.3 * results[0][0]).all()


def test_renyi_goes_from_iwae_to_the_elbo_and_falls_with_alpha():
    net, x = linear_gaussian(shift=0.4, spread=1.3)
    terms = net.terms(x, LENGTHS, 7)
    alphas = (0.0, 0.5, 1 - 1e-7, 1.0, 1 + 1e-7, 2.0, 10.0)
    bounds = [TraceRenyi(7, alpha).bound(terms) for alpha in alphas]
    assert_close(bounds[0], TraceIWAE(7).bound(terms))
    assert_close(bounds[3], TraceELBO(7, analytic_kl=False).bound(terms))
    assert_close(bounds[2], bounds[3], rtol=0, atol=1e-4)
    assert_close(bounds[4], bounds[3], rtol=0, atol=1e-4)
    assert all((a > b).all() for a, b in pairwise(bounds))
    assert_close(bounds[1], 2 * terms.log_weight.exp().sqrt().mean(0).log())


@pytest.mark.parametrize("away", [0.5, 1e-2, 1e-4, 1e-6, 1e-7, -1e-4, -1e-7])
def test_renyi_near_one_has_the_digits_of_float32(away):
    """W7: against 60 digits of the definition, value and gradient, for any spread of weights."""
    zero = torch.zeros(5, 1, 1, dtype=torch.float32)
    for spread in (1e-3, 1.0, 300.0):
        log_weight = -500 + spread * torch.linspace(-1.0, 0.7, 5, dtype=torch.float32)
        live = log_weight.clone().requires_grad_()
        terms = random_terms(5)._replace(
            log_prior=zero, log_posterior=zero, log_emission=live[:, None, None]
        )
        bound = TraceRenyi(5, 1 - away).bound(terms)
        with mpmath.workdps(60):
            power = mpmath.mpf(1) - mpmath.mpf(1 - away)
            weights = [mpmath.exp(power * mpmath.mpf(w.item())) for w in log_weight]
            exact = float(mpmath.log(sum(weights) / 5) / power)
            slopes = [float(w / sum(weights)) for w in weights]
        assert bound.item() == pytest.approx(exact, rel=3e-7)
        (slope,) = torch.autograd.grad(bound.sum(), live)
        assert slope.tolist() == pytest.approx(slopes, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("name", ["iwae", "dreg", "renyi", "rws"])
def test_terms_of_another_number_of_particles_are_refused(name):
    for terms in (random_terms(7), random_terms(7).summed()):
        error = "'terms' must have num_particles 50 as the estimator, got 7"
        with pytest.raises(ValueError, match=f"^{error}$"):
            ESTIMATORS[name](50).bound(terms)
