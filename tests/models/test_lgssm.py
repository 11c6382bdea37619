"""The linear-Gaussian model against the joint Gaussian of all its variables; bounds against it."""

from functools import partial

import pyro.distributions as dist
import pytest
import torch
from program_cases import program_loss
from torch.testing import assert_close

from zforcing_pyro.estimators import TraceELBO, TraceIWAE
from zforcing_pyro.models.lgssm import LGSSM
from zforcing_pyro.models.steps import scored, steps

exactly = partial(assert_close, rtol=1e-9, atol=1e-9)
LENGTHS = torch.tensor([5, 1, 4])
SEES = ["future", "present", "nothing"]


def make(guide_sees="future", **options):
    net = LGSSM(3, 2, guide_sees, **options)
    with torch.no_grad():
        net.log_scale += 0.3 * torch.randn(2)
        net.emission.log_scale += 0.3 * torch.randn(3)
    return net


def batch(num_steps=5):
    return 1.5 * torch.randn(3, num_steps, 3)


def system(net):
    """A, Q, C and R."""
    C, (q, r) = net.emission.weight, ((2 * m.log_scale).exp().diag() for m in (net, net.emission))
    return [v.detach() for v in (net.transition, q, C, r)]


def joint(net, num_steps):
    """Covariances of z, and of z with x, and of x, each a matrix over all steps."""
    A, Q, C, R = system(net)
    size, eye = len(A), torch.eye(num_steps)
    powers = [torch.linalg.matrix_power(A, n) for n in range(num_steps)]
    effect = torch.zeros(num_steps * size, num_steps * size)  # of the noise of s on z_t
    for t in range(num_steps):
        for s in range(t + 1):
            effect[t * size : (t + 1) * size, s * size : (s + 1) * size] = powers[t - s]
    z = effect @ torch.kron(eye, Q) @ effect.T
    emission = torch.kron(eye, C)
    return z, z @ emission.T, emission @ z @ emission.T + torch.kron(eye, R)


def test_likelihood_is_that_of_the_joint_gaussian():
    net, x = make(), batch()
    for i, n in enumerate(LENGTHS):
        _, _, cov = joint(net, n)
        expected = dist.MultivariateNormal(torch.zeros(3 * n), cov).log_prob(x[i, :n].flatten())
        exactly(net.log_likelihood(x, LENGTHS)[i], expected)


def test_smoother_is_the_joint_gaussian_conditioned():
    net, x = make(), batch()
    means, covariances = net.smoother(x, LENGTHS)
    for i, n in enumerate(LENGTHS):
        cov_z, cov_zx, cov_x = joint(net, n)
        gain = torch.linalg.solve(cov_x, cov_zx.T).T
        exactly(means[i, :n].flatten(), gain @ x[i, :n].flatten())
        covariance = cov_z - gain @ cov_zx.T
        for t in range(n):
            block = slice(2 * t, 2 * t + 2)
            exactly(covariances[i, t], covariance[block, block])


def test_likelihood_goes_on_from_a_latent():
    net, x, z = make(), batch(), torch.randn(3, 2)
    A, Q, C, R = system(net)
    found = net.log_likelihood(x[:, :1], torch.ones(3).long(), {"z": z})
    exactly(found, dist.MultivariateNormal(z @ A.T @ C.T, C @ Q @ C.T + R).log_prob(x[:, 0]))


@pytest.mark.parametrize("num_particles", [1, 4])
def test_each_weight_is_the_likelihood_at_the_exact_posterior(num_particles):
    net, x = make(), batch()
    terms, exact = net.terms(x, LENGTHS, num_particles), net.log_likelihood(x, LENGTHS)
    exactly(terms.log_weight, exact.expand(num_particles, -1))
    sampled = TraceELBO(num_particles, analytic_kl=False)
    for estimator in (sampled, TraceIWAE(num_particles)):
        exactly(estimator.bound(terms), exact)
        loss = program_loss(estimator, net.model, net.guide, x, LENGTHS)
        assert loss.item() == pytest.approx(-exact.sum().item(), abs=1e-9)


def test_the_gap_of_a_moved_guide_is_its_divergence_from_the_posterior():
    shift, spread = 0.4, 1.5
    net, x, one = make(shift=shift, spread=spread), batch(1), torch.ones(3).long()
    _, covariance = net.smoother(x, one)
    moved = torch.full((2,), shift)
    mahalanobis = moved @ torch.linalg.solve(covariance[0, 0], moved)
    trace, log_det = 2 * spread**2, 2 * 2 * torch.tensor(spread).log()
    expected = (trace + mahalanobis - 2 - log_det) / 2  # KL(q || p(z | x))
    with torch.no_grad():
        gap = net.log_likelihood(x, one) - net.terms(x, one, 100_000).log_weight.mean(0)
    assert_close(gap, expected.expand(3), rtol=0.02, atol=0)


def test_the_locally_optimal_proposal_has_weights_that_do_not_depend_on_its_draw():
    net, x = make("present"), batch()
    A, Q, C, R = system(net)
    context, _ = net.full_context(net.batch(x, LENGTHS))
    state, context_t = {"z": torch.randn(6, 3, 2)}, next(steps(context))
    weights = []
    for _ in range(2):
        path = net.path(context_t, state, None)
        weights.append(scored(path, context_t, closed_form=False).log_weight)
    exactly(*weights)
    predictive = dist.MultivariateNormal(state["z"] @ A.T @ C.T, C @ Q @ C.T + R)
    exactly(weights[0], predictive.log_prob(x[:, 0]))


@pytest.mark.parametrize("guide_sees", SEES)
def test_steps_are_those_of_the_programs(guide_sees):
    net, x = make(guide_sees, shift=0.1, spread=1.1), batch()
    torch.manual_seed(1)
    by_programs = net.terms(x, LENGTHS, 3)
    torch.manual_seed(1)
    by_steps = net.given(x, LENGTHS).filtered(3, lambda *_: None)
    for name in ("log_prior", "log_posterior", "log_emission", "latents"):
        exactly(getattr(by_steps, name), getattr(by_programs, name))
    exactly(by_steps.state["z"], by_programs.state["z"])
    assert net.generate(4, 6, x[:1, :2].expand(4, -1, -1)).shape == (4, 6, 3)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"x_dim": 0}, "'x_dim' must be in 1..1,048,576, got 0"),
        ({"z_dim": 0}, "'z_dim' must be in 1..1,048,576, got 0"),
        ({"spread": 0.0}, "'spread' must be positive, got 0.0"),
        ({"guide_sees": "all"}, "'guide_sees' must be one of .*, got 'all'"),
    ],
)
def test_bad_options_are_named(options, error):
    with pytest.raises(ValueError, match=f"^{error}$"):
        LGSSM(**{"x_dim": 3} | options)
