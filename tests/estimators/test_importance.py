"""Multi-sample bounds: their formulas, their limits, and how they tighten."""

from functools import partial
from itertools import pairwise

import mpmath
import pytest
import torch
from program_cases import LENGTHS, gaps, linear_gaussian
from torch.testing import assert_close
from toy import random_terms

from zforcing_pyro.estimators import ESTIMATORS, TraceELBO, TraceFIVO, TraceIWAE, TraceRenyi


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
