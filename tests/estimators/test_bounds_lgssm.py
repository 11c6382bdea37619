"""Every bound against the exact likelihood of a linear-Gaussian model."""

from functools import partial
from itertools import pairwise

import pytest
import torch
from torch.testing import assert_close

from zforcing_pyro.estimators import ESTIMATORS, TraceELBO, TraceFIVO, TraceIWAE, TraceRenyi
from zforcing_pyro.estimators.programs import ProgramPair
from zforcing_pyro.models.lgssm import LGSSM

LENGTHS = torch.tensor([5, 1, 4])
OPTIONS = {"elbo": {"analytic_kl": False}, "fivo": {"threshold": 0.0}}
"""With which a bound does not vary at the exact posterior. A filter that resamples does: the weight
of a step is another one for each particle, even if their product over all steps is not."""

bounds = pytest.mark.parametrize("name", ESTIMATORS)
counts = pytest.mark.parametrize("num_particles", [1, 6])


def make(guide_sees="future", shift=0.0, spread=1.0):
    net = LGSSM(3, 2, guide_sees, shift, spread)
    torch.nn.init.constant_(net.emission.log_scale, 0.2)
    return net, torch.randn(3, 5, 3)


@bounds
@counts
@pytest.mark.parametrize("by_programs", [False, True])
def test_bounds_are_the_likelihood_at_the_exact_posterior(name, num_particles, by_programs):
    net, x = make()
    estimator = ESTIMATORS[name](num_particles, **OPTIONS.get(name, {}))
    given = net.given(x, LENGTHS)
    if by_programs:
        given = ProgramPair(net.model, net.guide, x, LENGTHS)
    assert_close(estimator.objective(given).bound, net.log_likelihood(x, LENGTHS))
    loss = estimator.loss(net.model, net.guide, x, LENGTHS)
    assert loss == pytest.approx(-net.log_likelihood(x, LENGTHS).sum().item(), abs=1e-9)


def gaps(net, x, estimator, num=4_000):
    """log p(x) minus the bound, of many draws: mean and standard error, each ``(batch,)``."""
    with torch.no_grad():
        given = net.given(x.repeat(num, 1, 1), LENGTHS.repeat(num))
        bound = estimator.objective(given).bound.view(num, -1)
        gap = net.log_likelihood(x, LENGTHS) - bound
    return gap.mean(0), gap.std(0) / num**0.5


@bounds
@pytest.mark.parametrize("guide_sees", ["future", "present", "nothing"])
def test_bounds_are_below_the_likelihood(name, guide_sees):
    """By more than 4 standard errors each below 0.15, with a guide that is moved and widened."""
    net, x = make(guide_sees, shift=0.4, spread=1.3)
    gap, error = gaps(net, x, ESTIMATORS[name](3))
    assert (error < 0.15).all()
    assert (gap > 4 * error).all()


@pytest.mark.parametrize("guide_sees", ["present", "future"])
@pytest.mark.parametrize("estimator", [TraceIWAE, TraceFIVO, partial(TraceFIVO, threshold=1.0)])
def test_bounds_rise_to_the_likelihood_with_particles(estimator, guide_sees):
    net, x = make(guide_sees, shift=0.3, spread=1.2)
    found = [gaps(net, x, estimator(k), num) for k, num in ((1, 4_000), (4, 4_000), (64, 1_000))]
    for (loose, error), (tight, other) in pairwise(found):
        assert (loose - tight > 4 * (error + other)).all()
    assert (found[-1][0] < 0.3 * found[0][0]).all()


def test_the_gap_of_iwae_shrinks_as_one_over_the_particles():
    net, x = make(shift=0.2, spread=1.1)
    found = [gaps(net, x, TraceIWAE(k), 1_500)[0] * k for k in (8, 32)]
    assert_close(found[0], found[1], rtol=0.35, atol=0)


def test_renyi_goes_from_iwae_to_the_elbo_and_falls_with_alpha():
    net, x = make(shift=0.4, spread=1.3)
    terms = net.terms(x, LENGTHS, 7)
    found = [TraceRenyi(7, a).bound(terms) for a in (0.0, 0.5, 1 - 1e-7, 1.0, 1 + 1e-7, 2.0, 10.0)]
    assert_close(found[0], TraceIWAE(7).bound(terms))
    assert_close(found[3], TraceELBO(7, analytic_kl=False).bound(terms))
    assert_close(found[2], found[3], rtol=0, atol=1e-4)
    assert_close(found[4], found[3], rtol=0, atol=1e-4)
    assert all((a > b).all() for a, b in pairwise(found))
    weight = terms.log_weight.exp()
    assert_close(found[1], 2 * weight.sqrt().mean(0).log())


@pytest.mark.parametrize("alpha", [-0.1, float("inf"), float("nan")])
def test_a_renyi_that_is_no_bound_is_refused(alpha):
    with pytest.raises(ValueError, match=r"'alpha' must be 0 or more.*no lower bound.*got"):
        TraceRenyi(2, alpha)


@pytest.mark.parametrize("sleep_phi", [-0.1, 1.1])
def test_a_share_of_dreams_is_one(sleep_phi):
    with pytest.raises(ValueError, match=f"'sleep_phi' must be in 0..1, got {sleep_phi}"):
        ESTIMATORS["rws"](2, sleep_phi)


@bounds
def test_costs_are_in_no_bound_and_once_in_every_objective(name):
    """Of the same noise: the bound is what it is without costs, the rest is their mean."""
    from family_cases import batch
    from family_cases import make as family

    estimator, x, found = ESTIMATORS[name](3), batch("bernoulli"), []
    net = family("zforcing layer norm", "bernoulli")
    for weight in (0.0, 0.7, 1.4):
        net.weights.aux, net.weights.reverse = weight, weight
        torch.manual_seed(1)
        found.append(estimator.objective(net.given(x, LENGTHS)))
    assert_close(found[1].bound, found[0].bound)
    assert_close(found[0].value, found[0].bound)
    extra = [(objective.value - objective.bound) for objective in found]
    assert (extra[1] != 0).all()
    assert_close(extra[2], 2 * extra[1])
    terms = found[1].terms
    assert_close(extra[1], terms.costs.sum(-1).mean(0))


@bounds
def test_elbo_module_trains_all_parameters_once(name):
    net, x = make(shift=0.4)
    module = ESTIMATORS[name](2)(*net.programs())
    assert list(module.parameters()) == list(net.parameters())
    module(x, LENGTHS).backward()
    assert all(p.grad is not None for p in net.parameters())
