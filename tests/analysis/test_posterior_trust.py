"""Importance weights and calibration where the posterior is known: linear-Gaussian models."""

import math

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from family_cases import make
from posterior_cases import data_of, put_garbage_into_padding

from zforcing_pyro.analysis import batches, posterior
from zforcing_pyro.analysis.posterior import calibration, importance, resampled, to_inference_data
from zforcing_pyro.data import Sequences
from zforcing_pyro.emissions import Bernoulli
from zforcing_pyro.estimators.particle_filter import log_mean_exp
from zforcing_pyro.estimators.programs import ProgramPair
from zforcing_pyro.models import RNN
from zforcing_pyro.models.lgssm import LGSSM


def smoother(net, data):
    """Exact mean and variance of each latent, ``(sequence, time, latent)``; NaN at padding."""
    moments = np.full((2, len(data), int(data.lengths.max()), net.state_dims["z"]), np.nan)
    for i, (x, *_) in enumerate(data):
        mean, covariance = net.smoother(x[None], torch.tensor([len(x)]))
        variance = covariance.diagonal(dim1=-2, dim2=-1).expand(mean.shape)
        moments[:, i, : len(x)] = torch.stack([mean[0], variance[0]]).detach().numpy()
    return moments


def with_guide(**options):
    """The model of seed 0 with another guide."""
    torch.manual_seed(0)
    return LGSSM(3, 2, **options)


def test_weights_belong_to_each_sequence(monkeypatch):
    net, data = with_guide(spread=1.1), data_of("gaussian")
    exact = [net.log_likelihood(x[None], torch.tensor([len(x)])).item() for x, *_ in data]
    result = importance(net, data, num_particles=4_000)
    assert result.log_weight.shape == (4_000, 5) and result.log_weight.dtype == torch.float64
    assert result.log_likelihood == pytest.approx(exact, abs=0.05)
    put_garbage_into_padding(monkeypatch)
    assert torch.equal(importance(net, data, num_particles=4_000).log_weight, result.log_weight)
    monkeypatch.setattr(batches, "MAX_ROWS", 200)
    chunked = importance(net, data, num_particles=4_000)
    assert chunked.log_likelihood == pytest.approx(exact, abs=0.05)
    assert importance(net, data, num_particles=24).pareto_k is None


def test_resampling_corrects_a_guide_that_is_too_wide():
    net, data = with_guide(spread=1.4, shift=0.3), data_of("gaussian", [3, 1, 2])
    mean, variance = smoother(net, data)
    drawn = to_inference_data(net, data, num_draws=20_000, num_predictive=0)
    z = resampled(drawn, num_draws=4_000).z
    assert z.dims == drawn.posterior.z.dims and z.sizes["draw"] == 4_000
    values, before = z.values[0], drawn.posterior.z.values[0]
    assert (np.isnan(values[0]) == np.isnan(mean)).all()
    # Duplicates: 4,000 of 20,000 weighted draws are worth some 2,000.
    error = (values.mean(0) - mean) / np.sqrt(variance / 2_000)
    assert np.nanmax(np.abs(error)) < 4.5
    assert np.nanmax(np.abs(values.var(0) / variance - 1)) < 0.2
    assert np.nanmin(before.var(0) / variance) > 1.5
    one = drawn.sel(sequence=[1])
    is_seventh = one.log_likelihood.draw == 7
    one.log_likelihood["log_weight"] = one.log_likelihood.log_weight.where(is_seventh, -1e9)
    expected = np.repeat(before[[7], 1:2], 3, axis=0)
    assert np.array_equal(resampled(one, 3).z.values[0], expected, equal_nan=True)
    for i, n in enumerate([3, 1, 2]):  # the steps of a draw stay together
        rows = {row.tobytes() for row in before[:, i, :n]}
        assert {row.tobytes() for row in values[:, i, :n]} < rows


def test_bound_curve_is_flat_at_an_exact_posterior_and_rises_elsewhere():
    data = data_of("gaussian")
    curve = posterior.bound_curve(importance(with_guide(), data, num_particles=100).log_weight)
    assert curve.num_particles.tolist() == [1, 2, 5, 10, 20, 50, 100]
    assert curve.bound == pytest.approx(np.full(7, curve.bound[0]), abs=1e-8)
    loose = importance(with_guide(spread=1.4), data, num_particles=4_000)
    curve, log_likelihood = posterior.bound_curve(loose.log_weight), loose.log_likelihood.mean()
    assert (np.diff(curve.bound[:8]) > 0).all() and (curve.standard_error[:8] < 0.05).all()
    assert curve.bound[0] == pytest.approx(loose.log_weight.mean().item())
    groups = loose.log_weight.unflatten(0, (200, 20))
    expected = np.mean([log_mean_exp(g).mean().item() for g in groups])
    assert curve.bound[4] == pytest.approx(expected)
    assert curve.bound[5] < log_likelihood < curve.bound[5] + 0.2
    assert curve.bound[-1] == pytest.approx(log_likelihood) and np.isnan(curve.standard_error[-1])


GUIDES = {
    "exact": {},
    "too narrow": {"spread": 0.6},
    "too wide": {"spread": 1.7},
    "off to one side": {"shift": 0.4},
    "blind": {"guide_sees": "nothing"},
}


@pytest.mark.parametrize("guide", GUIDES)
def test_ranks_are_uniform_at_the_exact_posterior_and_not_elsewhere(guide):
    """A chi-square test at level 0.01 of all quantities together, on 640 simulations."""
    net, data = with_guide(**GUIDES[guide]), data_of("gaussian")
    result = calibration(net, data, num_simulations=640, level=0.01)
    assert result.quantities == ["mean of z_0", "mean of z_1", "log p(x, z)"]
    assert result.calibrated == (guide == "exact") == (result.p_values.min() > 0.01 / 3)
    assert result.ranks.shape == (3, 640) and 0 <= result.ranks.min() <= result.ranks.max() <= 63
    assert (result.histograms.sum(1) == 640).all()
    bins = result.histograms[0].reshape(4, 4).sum(1)  # by quarter of the ranks
    edges, middle, slope = bins[[0, 3]].sum(), bins[1:3].sum(), bins[0] / bins[3]
    assert guide != "too narrow" or edges > 1.3 * middle
    assert guide != "too wide" or middle > 1.3 * edges
    assert guide != "off to one side" or slope > 2  # the model's rank low among draws too high


def test_ranked_quantities_are_means_over_real_steps_and_the_joint_density(monkeypatch):
    monkeypatch.setattr(posterior.trust, "MAX_LATENTS", 1)
    given = make("zforcing").given(torch.randn(2, 4, 3), torch.tensor([4, 2]))
    terms = given.terms(3)
    names, values = posterior.trust.quantities(given, terms)
    assert names == ["mean of z_0", "log p(x, z)"] and values.shape == (2, 3, 2)
    for i, n in enumerate([4, 2]):
        assert torch.allclose(values[0, :, i], terms.latents[:, i, :n, 0].mean(-1))
        log_joint = (terms.log_prior + terms.log_emission)[:, i, :n].sum(-1)
        assert torch.allclose(values[1, :, i], log_joint)


def test_simulations_have_the_lengths_and_starts_of_the_data(monkeypatch):
    net, seen = make("zforcing"), []
    x = torch.randn(3, 5, 3)
    data = Sequences([row[: 2 + i] for i, row in enumerate(x)], starts=list(x[:, 4]))
    given = net.given

    def spy(x, lengths, state, *rest):
        seen.append((lengths.tolist(), state["x_prev"]))
        return given(x, lengths, state, *rest)

    monkeypatch.setattr(net, "given", spy)
    calibration(net, data, num_simulations=4, num_draws=3, num_bins=2)
    assert seen[0][0] == [2, 3, 4, 2]
    assert torch.equal(seen[0][1], x[[0, 1, 2, 0], 4])


def programs(scale):
    """A conjugate model, whose posterior is N(x / 2, 1 / 2), and a guide of some scale."""

    def model(x, observations=None):
        with pyro.plate("people", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            x = x if observations is None else observations["x"]
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x, observations=None):
        x = x if observations is None else observations["x"]
        with pyro.plate("people", len(x)):
            pyro.sample("z", dist.Normal(x / 2, scale))

    return model, guide


def test_posterior_tools_take_programs():
    """``(model, guide, args)`` of a conjugate model: the likelihood is N(0, 2)."""
    x, state = torch.tensor([0.0, 1.0, -3.0]), torch.get_rng_state()
    log_likelihood = dist.Normal(0.0, math.sqrt(2)).log_prob(x).numpy()
    exact, wide, narrow = ((*programs(scale), (x,)) for scale in (0.5**0.5, 0.8, 0.2))
    assert importance(exact).log_likelihood == pytest.approx(log_likelihood)
    result = importance(wide, num_particles=4_000)
    assert result.log_likelihood == pytest.approx(log_likelihood, abs=0.05)
    assert result.pareto_k.max() < 0.5 and importance(narrow).pareto_k.min() > 0.7
    result = to_inference_data(wide, num_draws=2_000)
    assert result.posterior.z.dims == ("chain", "draw", "sequence")
    assert np.allclose(result.posterior.z.values[0].mean(0), x / 2, atol=0.1)
    less = -math.log(0.8 / 0.5**0.5 * math.sqrt(2 - 0.8**2 / 0.5))  # log(1 + chi^2(q || p))
    loo = az.loo(result, pointwise=True).loo_i.values
    assert loo == pytest.approx(log_likelihood - less, abs=0.03)
    for scale, calibrated in ((0.5**0.5, True), (0.4, False)):
        pair = ProgramPair(*programs(scale), x, observations={"x": x})
        result = calibration(pair, num_simulations=320)
        assert result.quantities == ["mean of z", "log p(x, z)"]
        assert result.calibrated == calibrated and result.ranks.shape == (2, 320)
    assert torch.equal(state, torch.get_rng_state())
    with pytest.raises(ValueError, match="'data' must be None for programs"):
        importance(exact, data_of("gaussian"))


def test_posterior_names_wrong_options():
    net, rnn, data = make("vrnn"), RNN(Bernoulli, 3, h_dim=4), data_of("gaussian")
    codes, draws = posterior.latent_codes(net, data, 2), to_inference_data(net, data, 2)
    one = data[0]
    multiple = r"'num_draws' \+ 1 must be a multiple of 'num_bins', 2 or more, got 63 \+ 1 and 15"
    for message, call in (
        ("'num_predictive' must be", lambda: to_inference_data(net, data, 3, num_predictive=4)),
        ("'net' must have latents, got RNN, which has", lambda: to_inference_data(rnn, data)),
        ("'data' must be sequences for VRNN, got None", lambda: importance(net)),
        (multiple, lambda: calibration(net, data, num_bins=15)),
        ("'num_draws' must be positive, got 0", lambda: resampled(draws, num_draws=0)),
        ("'codes' must be of", lambda: posterior.future_prediction(codes, data.subset([0]))),
        ("'horizons' must not be negative", lambda: posterior.future_prediction(codes, data, [-1])),
        ("must have 5 rows and 1 columns", lambda: posterior.linear_probes(codes, torch.zeros(4))),
        ("must have 2 sequences", lambda: posterior.mutual_information(net, data.subset([0]))),
        (r"'z' must have shape .*, got \(3, 2\)", lambda: posterior.decode(net, torch.zeros(3, 2))),
        ("'z' must be finite", lambda: posterior.decode(net, torch.full((1, 1, 2), torch.nan))),
        ("'num_points' must be 2 or more", lambda: posterior.interpolation(net, one, one, 1)),
        (r"'begin' must be in 0\.\.4 and before", lambda: posterior.swap(net, one, one, 5)),
        (r"'latent' must be in 0\.\.1 .* got 2 and", lambda: posterior.traversal(net, one, 2, [0])),
    ):
        with pytest.raises(ValueError, match=message):
            call()
