"""Gradients of estimators: against quadrature, against each other, and their noise."""

import math
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from family_cases import COSTS
from torch.testing import assert_close
from toy import NAMES, exact_bound, gradients, parameters, programs

from zforcing_pyro.emissions import Bernoulli
from zforcing_pyro.estimators import (
    TraceDReG,
    TraceELBO,
    TraceFIVO,
    TraceIWAE,
    TraceRenyi,
    TraceRWS,
    TraceSTL,
)
from zforcing_pyro.estimators.programs import ProgramPair
from zforcing_pyro.models import SRNN, VRNN, ZForcing
from zforcing_pyro.models.lgssm import LGSSM

SAMPLED = partial(TraceELBO, analytic_kl=False)
X = 1.5
NUM = 100_000


def draws_of(estimator, num=NUM, **values):
    """Gradients of many draws at one x, ``(3, num)``."""
    p = parameters(num, **values)
    return gradients(estimator, ProgramPair(*programs(p), torch.full((num,), X)), p)


def exact(num_particles, **values):
    p = {name: value.squeeze() for name, value in parameters(**values).items()}
    grads = torch.autograd.grad(exact_bound(p, X, num_particles), [p[n] for n in NAMES])
    return torch.stack(grads)


@pytest.mark.parametrize(
    ("estimator", "num_particles"),
    [
        (TraceELBO, 1),
        (SAMPLED, 1),
        (TraceSTL, 1),
        (TraceSTL, 2),
        (TraceDReG, 1),
        (TraceDReG, 2),
        (TraceIWAE, 2),
        (TraceFIVO, 2),
        (partial(TraceRenyi, alpha=0.0), 2),
    ],
)
def test_gradients_are_those_of_the_bound_on_average(estimator, num_particles):
    """Means are within 5 standard errors, each below 0.01. Model and guide share ``loc``."""
    slopes = draws_of(estimator(num_particles))
    is_elbo = num_particles == 1 or estimator is TraceSTL
    expected = exact(1 if is_elbo else num_particles)
    error = slopes.std(-1) / NUM**0.5
    assert (error < 0.01).all()
    assert ((slopes.mean(-1) - expected).abs() < 5 * error + 1e-12).all()


def test_the_quadrature_is_right():
    p = {"loc": 0.4, "shift": 0.3, "log_scale": -0.1}
    by_hand = [X - 0.7, X - 0.7 - 0.3, 1 - 2 * math.exp(-0.2)]
    assert_close(exact(1, **p), torch.tensor(by_hand))


def signal_to_noise(estimator, num=20_000):
    """Gradients are those of the guide's own parameters; no mean of them is 0."""
    slopes = draws_of(estimator, num)[1:]
    return slopes.mean(-1).abs() / slopes.std(-1)


def test_the_signal_of_dreg_rises_with_particles_and_that_of_iwae_falls():
    few, many = 4, 64
    iwae = [signal_to_noise(TraceIWAE(k), 60_000 if k == many else 20_000) for k in (few, many)]
    dreg = [signal_to_noise(TraceDReG(k)) for k in (few, many)]
    assert (iwae[1] < 0.6 * iwae[0]).all()
    assert (dreg[1] > 1.8 * dreg[0]).all()
    for k in (2, 16):
        variances = [draws_of(e(k), 20_000)[1:].var(-1) for e in (TraceDReG, TraceIWAE)]
        assert (variances[0] < 0.7 * variances[1]).all()


def shared_net(net_type=ZForcing):
    costs = {} if net_type is VRNN else COSTS
    net = net_type(Bernoulli, 2, z_dim=2, h_dim=3, hidden_dim=3, embed_dim=2, **costs)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    return net


def net_gradients(net, estimator, num_groups=40, size=500):
    """Mean gradients of groups of draws of one batch, ``(groups, parameters)``."""
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]).expand(size, -1, -1)
    given, slopes = net.given(x, torch.tensor([3, 2]).repeat(size // 2)), []
    for _ in range(num_groups):
        value = estimator.objective(given).value.mean()
        grads = torch.autograd.grad(value, list(net.parameters()), materialize_grads=True)
        slopes.append(torch.cat([g.flatten() for g in grads]))
    return torch.stack(slopes)


DREG = TraceIWAE(3), TraceDReG(3)
STL = TraceELBO(2, kl_weight=0.5), TraceSTL(2, kl_weight=0.5)


@pytest.mark.parametrize(
    ("net_type", "estimators"),
    [(ZForcing, DREG), (SRNN, DREG), (VRNN, DREG), (ZForcing, STL), (VRNN, STL)],
)
def test_gradients_of_shared_parameters_are_those_of_the_bound_on_average(net_type, estimators):
    """Prior, posterior and recurrence read one state. 5 standard errors for each parameter."""
    net = shared_net(net_type)
    plain, other = (net_gradients(net, estimator) for estimator in estimators)
    error = ((plain.var(0) + other.var(0)) / len(plain)).sqrt()
    assert ((plain.mean(0) - other.mean(0)).abs() < 5 * error + 1e-12).all()
    assert error.norm() < 0.05 * plain.mean(0).norm()


@pytest.mark.parametrize("estimator", [TraceSTL(3), TraceDReG(3)])
def test_the_guides_gradient_vanishes_at_the_exact_posterior(estimator):
    net = LGSSM(3, 2)
    x, lengths = torch.randn(4, 5, 3), torch.tensor([5, 1, 4, 5])
    guides = [net.shift, net.log_spread]

    def of_guide(estimator):
        value = estimator.objective(net.given(x, lengths)).value.sum()
        return torch.cat(torch.autograd.grad(value, guides))

    assert of_guide(estimator).abs().max() < 1e-9
    assert of_guide(SAMPLED(3)).abs().max() > 0.1


def test_wake_phi_is_the_weighted_score_of_the_guide():
    p = parameters(5)
    given = ProgramPair(*programs(p), torch.full((5,), X))
    estimator = TraceRWS(7)
    torch.manual_seed(1)
    slopes = gradients(estimator, given, p)
    torch.manual_seed(1)
    with torch.no_grad():
        terms = given.terms(7)
        z, weight, scale = terms.latents["z"], terms.log_weight.softmax(0), p["log_scale"].exp()
        away = (z - p["loc"] - p["shift"]) / scale
        shift, log_scale = (weight * away / scale).sum(0), (weight * (away**2 - 1)).sum(0)
        prior = (weight * (z - p["loc"])).sum(0)
    assert_close(slopes, torch.stack([prior + shift, shift, log_scale]))


def test_wake_theta_is_that_of_iwae():
    net = LGSSM(3, 2, shift=0.2, spread=1.1)
    x, lengths = torch.randn(4, 5, 3), torch.tensor([5, 1, 4, 5])
    emission, slopes = list(net.emission.parameters()), []
    for estimator in (TraceIWAE(6), TraceRWS(6)):
        torch.manual_seed(1)
        with torch.no_grad():
            z = net.terms(x, lengths, 6).latents  # of both, since the guide reads the emission
        torch.manual_seed(1)
        objective = estimator.objective(net.given(x, lengths))
        terms = net.terms(x, lengths, latents=z)
        assert_close(objective.bound, estimator.bound(terms))
        joint = (terms.log_emission + terms.log_prior).sum(-1)
        weight = terms.log_weight.detach().softmax(0)
        slopes.append(torch.autograd.grad((weight * joint).sum(), emission))
    assert_close(slopes[0], slopes[1])


@pytest.mark.parametrize("sleep_phi", [0.5, 1.0])
def test_sleep_phi_is_the_score_of_the_guide_at_dreams(sleep_phi):
    """q(z | x) = N(a x, 1): on dreams of N(0, 1) and N(z, 1) its slope is 1 - 2 a."""
    num, a = 40_000, torch.full((40_000,), 0.2).requires_grad_()

    def model(observations):
        with pyro.plate("sequences", num, dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=observations["x"])

    def guide(observations):
        with pyro.plate("sequences", num, dim=-1):
            pyro.sample("z", dist.Normal(a * observations["x"], 1.0))

    given = ProgramPair(model, guide, observations={"x": torch.full((num,), X)})
    objective = TraceRWS(40, sleep_phi).objective(given)
    (slopes,) = torch.autograd.grad(objective.value.sum(), a)
    wake = (X / 2 - 0.2 * X) * X  # at the data, of the posterior N(x / 2, 1/2)
    expected = (1 - sleep_phi) * wake + sleep_phi * (1 - 0.4)
    assert_close(slopes.mean().item(), expected, rtol=0.05, atol=0)
    assert_close(objective.bound, objective.value.detach())


def test_dreams_of_a_net_train_its_guide_only():
    net = shared_net()
    x, lengths = (torch.rand(4, 3, 2) < 0.5).double(), torch.tensor([3, 1, 2, 3])
    dreamt, latents = net.given(x, lengths).dream()
    assert dreamt.x.shape == x.shape and latents.shape == (1, 4, 3, 2)
    terms = dreamt.terms(1, latents)
    assert (terms.log_posterior[0, 1, 1:] == 0).all() and (terms.log_posterior[0, 0] != 0).all()
    net.weights.aux = net.weights.reverse = 0.0
    value = TraceRWS(3, sleep_phi=1.0).objective(net.given(x, lengths)).value.sum()
    of_net = dict(net.named_parameters())
    grads = dict(zip(of_net, torch.autograd.grad(value, of_net.values(), allow_unused=True)))
    assert all(grads[n].abs().max() > 0 for n in of_net if n.startswith(("posterior", "prior")))
