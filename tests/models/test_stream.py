"""Streams against the filter of a batch, the IWAE, and the exact linear-Gaussian model."""

from functools import partial

import pytest
import torch
from family_cases import make
from torch.testing import assert_close

from zforcing_pyro.emissions import DiagNormal
from zforcing_pyro.estimators import TraceIWAE
from zforcing_pyro.estimators.particle_filter import ParticleFilter
from zforcing_pyro.models import VRNN
from zforcing_pyro.models.lgssm import LGSSM

exactly = partial(assert_close, rtol=1e-10, atol=1e-10)
FILTERS = ["rnn", "storn", "vrnn", "srnn filtering", "dkf left"]
SMOOTHERS = ["srnn", "dkf", "dkf both", "zforcing layer norm"]
FRAMES = torch.linspace(0, 40, 42, dtype=torch.float64).reshape(2, 7, 3) % 3


def run(stream, x):
    steps = [stream.push(x_t) for x_t in x.unbind(1)]
    return [step for step in steps if step is not None] + stream.finish()


class Recording(ParticleFilter):
    """The filter of a batch, with what it has after each step."""

    def __call__(self, log_weight, goes_on):
        before = 0.0 if self.log_weight is None else self.log_weight
        self.weights.append((before + log_weight).softmax(0))
        ancestors = super().__call__(log_weight, torch.ones_like(goes_on))
        self.evidence.append(self.log_evidence())
        return ancestors


def filtered(net, x, num_particles):
    particles = Recording()
    particles.weights, particles.evidence = [], [torch.zeros(len(x))]
    with torch.no_grad():
        terms = net.given(x).filtered(num_particles, particles)
    means = [(w[..., None] * z).sum(0) for w, z in zip(particles.weights, terms.latents.unbind(2))]
    return means, -torch.stack(particles.evidence).diff(dim=0), particles.weights


@pytest.mark.parametrize("case", [*FILTERS, *SMOOTHERS])
def test_stream_equals_the_filter_of_a_batch(case):
    """A guide that looks ahead has read the rest of its sequence, as in a batch."""
    net = make(case)
    torch.manual_seed(1)
    means, surprise, weights = filtered(net, FRAMES, 8)
    assert case == "rnn" or (weights[-2] != weights[-1]).all()
    torch.manual_seed(1)
    steps = run(net.stream(8, 2, ahead=6 if case in SMOOTHERS else 0), FRAMES)
    exactly(torch.stack([s.surprise for s in steps]), surprise)
    exactly([s.weight for s in steps], weights)
    exactly([s.mean for s in steps], means)


@pytest.mark.parametrize("case", ["vrnn", "zforcing layer norm"])
def test_lagged_stream_without_resampling_is_the_weighted_guide(case):
    net = make(case)
    torch.manual_seed(2)
    with torch.no_grad():  # step by step, as the noise of a stream
        terms = net.given(FRAMES).filtered(8, ParticleFilter(0.0))
    torch.manual_seed(2)
    ahead = 6 if case in SMOOTHERS else 0
    steps = run(net.stream(8, 2, lag=6, ahead=ahead, threshold=0.0), FRAMES)
    weight = terms.log_weight.softmax(0)
    exactly(
        [s.mean for s in steps], [(weight[..., None] * z).sum(0) for z in terms.latents.unbind(2)]
    )
    exactly(-sum(s.surprise for s in steps), TraceIWAE(8).bound(terms))


def test_steps_are_told_with_their_lag_and_memory_is_constant():
    net, sizes = make("zforcing layer norm"), set()
    stream = net.stream(4, lag=2, ahead=3)
    for t in range(12):
        step = stream.push(FRAMES[0, t % 7])
        assert (step is None) == (t < 5)
        state = sum(v.numel() for v in stream.state.values())
        sizes.add((state, len(stream.held), len(stream.waiting)))
    assert max(sizes) == (44, 2, 3) and len(stream.finish()) == 5


def exact_forecast(net, x, num_steps):
    """Mean and variance of each later observation, from the smoother of the last step."""
    mean, cov = (v[:, -1] for v in net.smoother(x))
    A, Q = net.transition, (2 * net.log_scale).exp().diag()
    C, R = net.emission.weight, (2 * net.emission.log_scale).exp()
    means, variances = [], []
    for _ in range(num_steps):
        mean, cov = mean @ A.T, A @ cov @ A.T + Q
        means.append(mean @ C.T)
        variances.append((C @ cov @ C.T).diagonal(dim1=-2, dim2=-1) + R)
    return torch.stack(means, 1), torch.stack(variances, 1)


@torch.no_grad()
def test_forecast_is_the_exact_predictive_of_a_linear_gaussian_model():
    net = LGSSM(1, 2, "present")
    x = torch.randn(1, 9, 1).cumsum(1)
    stream, num = net.stream(40_000), 5
    surprises = torch.stack([stream.push(x_t).surprise for x_t in x[0]]).sum()
    assert_close(-surprises, net.log_likelihood(x)[0], rtol=0, atol=0.05)
    draws = [stream.push() for _ in range(num)]
    assert all((s.surprise == 0).all() for s in draws)
    mean, variance = (v[0, :, 0] for v in exact_forecast(net, x, num))
    weight = draws[-1].weight
    drawn = torch.stack([s.x[..., 0] for s in draws])
    drawn_mean = (weight * drawn).sum(1)[:, 0]
    drawn_variance = (weight * (drawn - drawn_mean[:, None, None]).square()).sum(1)[:, 0]
    assert_close(drawn_mean, mean, rtol=0, atol=0.03)
    assert_close(drawn_variance, variance, rtol=0.05, atol=0)


@torch.no_grad()
def test_imputation_is_the_exact_conditional_of_both_sides():
    """A gap of three steps in a random walk seen through noise, against the joint Gaussian."""
    net = LGSSM(1, 1, "present")
    net.transition.fill_(1.0)
    net.emission.weight.fill_(1.2)
    x = torch.tensor([[0.0, 0.5, 1.0, torch.nan, torch.nan, torch.nan, 2.0, 2.5, 2.2]])[..., None]
    q, r = (2 * net.log_scale).exp(), (2 * net.emission.log_scale).exp()
    c, t = net.emission.weight.squeeze(), torch.arange(1.0, 10.0)
    cov = c**2 * q * torch.minimum(t[:, None], t) + r * torch.eye(9)
    seen = ~x[0, :, 0].isnan()
    gain = cov[~seen][:, seen] @ torch.linalg.inv(cov[seen][:, seen])
    expected = gain @ x[0, seen, 0]
    variance = (cov[~seen][:, ~seen] - gain @ cov[seen][:, ~seen]).diagonal()
    steps = run(net.stream(40_000, lag=8), x)
    mean = torch.stack([(s.weight * s.x[..., 0]).sum(0) for s in steps])[~seen, 0]
    square = torch.stack([(s.weight * s.x[..., 0].square()).sum(0) for s in steps])[~seen, 0]
    assert_close(mean, expected, rtol=0, atol=0.04)
    assert_close(square - mean.square(), variance, rtol=0.08, atol=0)


@torch.no_grad()
def test_features_that_are_missing_are_drawn_and_cost_nothing():
    net = VRNN(partial(DiagNormal, missing=True), 2, z_dim=2, h_dim=4, hidden_dim=3, embed_dim=0)
    stream = net.stream(16, 2)
    step = stream.push(torch.tensor([[0.5, torch.nan], [1.0, 2.0]]))
    assert step.by_feature[0, 1] == 0 and (step.by_feature[[0, 1, 1], [0, 0, 1]] != 0).all()
    assert_close(step.by_feature[0, 0], step.surprise[0])
    assert step.x.isfinite().all() and step.x[:, 0, 1].std() > 0
    assert (step.x[:, 1] == torch.tensor([1.0, 2.0])).all()
    assert stream.push().surprise.abs().max() == 0


@torch.no_grad()
def test_symbols_and_impossible_values_leave_weights_that_are_numbers():
    stream = make("vrnn", "categorical").stream(4)
    assert stream.push(torch.tensor(2)).surprise > 0 and stream.push().x.max() < 3
    stream = make("vrnn").float().stream(4)
    assert stream.push(torch.full((3,), 1e25)).weight.sum() == pytest.approx(1)
    assert stream.push(torch.zeros(3)).surprise.isfinite().all()


def test_options_out_of_range_are_refused():
    net = make("vrnn")
    with pytest.raises(ValueError, match="'num_particles' must be positive, got 0"):
        net.stream(0)
    with pytest.raises(ValueError, match="'lag' must not be negative, got -1"):
        net.stream(lag=-1)
    net.guide = net.model
    with pytest.raises(ValueError, match="'net' must have a fast path of steps, got VRNN"):
        net.stream()
