"""Importance weights and calibration where the posterior is known: a linear-Gaussian model."""

import math

import numpy as np
import pytest
import torch
from family_cases import make
from posterior_cases import data_of, put_garbage_into_padding

from zforcing_pyro.analysis.posterior import (
    bound_curve,
    calibration,
    importance,
    resampled,
    to_inference_data,
)
from zforcing_pyro.analysis.posterior.calibration import quantities
from zforcing_pyro.data import Sequences
from zforcing_pyro.emissions import Bernoulli
from zforcing_pyro.estimators.particle_filter import log_mean_exp
from zforcing_pyro.layers.blocks import length_mask
from zforcing_pyro.models import RNN
from zforcing_pyro.models.lgssm import LGSSM

LENGTHS = [6, 3, 1, 6, 4]


def smoother(net, data):
    """Exact mean and variance of each latent, ``(sequence, time, latent)``; NaN at padding."""
    moments = np.full((2, len(data), int(data.lengths.max()), net.state_dims["z"]), np.nan)
    for i, (x, _) in enumerate(data):
        mean, covariance = net.smoother(x[None], torch.tensor([len(x)]))
        variance = covariance.diagonal(dim1=-2, dim2=-1).expand(mean.shape)
        moments[:, i, : len(x)] = torch.stack([mean[0], variance[0]]).detach().numpy()
    return moments


def with_bad_guide(**options):
    """The model of seed 0 with another guide."""
    torch.manual_seed(0)
    return LGSSM(3, 2, **options)


def test_draws_have_the_smoothers_means_and_variances():
    """None of 40 means and 40 variances is off by more than 4.5 standard errors."""
    net, data, num_draws = LGSSM(3, 2), data_of("gaussian", LENGTHS), 4_000
    mean, variance = smoother(net, data)
    z = to_inference_data(net, data, num_draws, num_predictive=0).posterior.z.values[0]
    error = (z.mean(0) - mean) / np.sqrt(variance / num_draws)
    assert np.nanmax(np.abs(error)) < 4.5
    error = (z.var(0) / variance - 1) / math.sqrt(2 / num_draws)
    assert np.nanmax(np.abs(error)) < 4.5
    assert (np.isnan(z[0]) == np.isnan(mean)).all()


@pytest.mark.parametrize(
    "bad", [{"spread": 0.3}, {"shift": 2.0}], ids=["too narrow", "off to one side"]
)
def test_draws_of_a_bad_guide_have_not(bad):
    net, data, num_draws = with_bad_guide(**bad), data_of("gaussian", LENGTHS), 4_000
    mean, variance = smoother(net, data)
    z = to_inference_data(net, data, num_draws, num_predictive=0).posterior.z.values[0]
    error = [
        (z.mean(0) - mean) / np.sqrt(variance / num_draws),
        (z.var(0) / variance - 1) / math.sqrt(2 / num_draws),
    ]
    assert np.nanmax(np.abs(error)) > 20


def test_k_hat_is_low_at_the_exact_posterior_and_high_at_a_bad_one():
    data = data_of("gaussian", LENGTHS)
    exact = importance(with_bad_guide(), data, num_particles=2_000)
    assert (exact.pareto_k < 0.5).all() and np.allclose(exact.ess, 2_000)
    wide = importance(with_bad_guide(spread=1.2), data, num_particles=2_000)
    assert (wide.pareto_k < 0.5).all() and (wide.ess > 500).all()
    # A single step has two dims, whose tail takes more draws to be seen.
    longer = data.subset([i for i, n in enumerate(LENGTHS) if n > 1])
    bad = importance(with_bad_guide(spread=0.25), longer, num_particles=2_000)
    assert (bad.pareto_k > 0.7).all() and (bad.ess < 200).all()


def test_weights_are_those_of_each_sequence(monkeypatch):
    net, data = with_bad_guide(spread=1.1), data_of("gaussian", LENGTHS)
    exact = [net.log_likelihood(x[None], torch.tensor([len(x)])).item() for x, _ in data]
    found = importance(net, data, num_particles=4_000)
    assert found.log_weight.shape == (4_000, 5) and found.log_weight.dtype == torch.float64
    assert found.log_likelihood == pytest.approx(exact, abs=0.05)
    assert found.lengths.tolist() == LENGTHS
    chunked = importance(net, data, num_particles=4_000, max_rows=200)
    assert chunked.log_likelihood == pytest.approx(exact, abs=0.05)
    put_garbage_into_padding(monkeypatch)
    assert torch.equal(importance(net, data, num_particles=4_000).log_weight, found.log_weight)
    assert importance(net, data, num_particles=24).pareto_k is None


def test_resampling_by_weights_mends_a_guide_that_is_too_wide():
    net = with_bad_guide(spread=1.4, shift=0.3)
    data = data_of("gaussian", [3, 1, 2])
    mean, variance = smoother(net, data)
    drawn = to_inference_data(net, data, num_draws=20_000, num_predictive=0)
    z = resampled(drawn, num_draws=4_000).z
    assert z.dims == drawn.posterior.z.dims
    assert z.coords["draw"].size == 4_000 and z.coords["sequence"].values.tolist() == [0, 1, 2]
    values = z.values[0]
    assert (np.isnan(values[0]) == np.isnan(mean)).all()
    # A draw may be there twice: 4,000 of 20,000 weighted ones are worth some 2,000.
    error = (values.mean(0) - mean) / np.sqrt(variance / 2_000)
    assert np.nanmax(np.abs(error)) < 4.5
    assert np.nanmax(np.abs(values.var(0) / variance - 1)) < 0.2
    before = drawn.posterior.z.values[0]
    assert np.nanmin(before.var(0) / variance) > 1.5
    one = drawn.sel(sequence=[1])
    is_chosen = one.sample_stats.draw == 7
    one.sample_stats["log_weight"] = one.sample_stats.log_weight.where(is_chosen, -1e9)
    expected = np.repeat(before[[7], 1:2], 3, axis=0)
    assert np.array_equal(resampled(one, 3).z.values[0], expected, equal_nan=True)


def test_resampled_keeps_the_steps_of_a_draw_together():
    """A draw is chosen as a whole, and by the weight of its own sequence."""
    net, data = with_bad_guide(spread=1.2), data_of("gaussian", [3, 2])
    drawn = to_inference_data(net, data, num_draws=50, num_predictive=0)
    before, after = drawn.posterior.z.values[0], resampled(drawn, seed=3).z.values[0]
    assert after.shape == before.shape
    for i, n in enumerate([3, 2]):
        rows = {row.tobytes() for row in before[:, i, :n]}
        assert {row.tobytes() for row in after[:, i, :n]} < rows


def test_the_curve_of_bounds_is_flat_at_an_exact_posterior_and_rises_elsewhere():
    data = data_of("gaussian", LENGTHS)
    exact = importance(with_bad_guide(), data, num_particles=100)
    curve = bound_curve(exact.log_weight)
    assert curve.num_particles.tolist() == [1, 2, 5, 10, 20, 50, 100]
    assert curve.gap == pytest.approx(np.zeros(7), abs=1e-8)
    loose = importance(with_bad_guide(spread=1.4), data, num_particles=4_000)
    curve = bound_curve(loose.log_weight, [1, 4, 16, 64])
    assert (np.diff(curve.bound) > 0).all() and (curve.standard_error < 0.05).all()
    assert curve.bound[0] == pytest.approx(loose.log_weight.mean().item())
    groups = loose.log_weight.unflatten(0, (250, 16))
    expected = np.mean([log_mean_exp(g).mean().item() for g in groups])
    assert curve.bound[2] == pytest.approx(expected)
    assert curve.bound[-1] < exact.log_likelihood.mean() < curve.bound[-1] + 0.2
    assert curve.gap.tolist() == (curve.bound[-1] - curve.bound).tolist()


@pytest.mark.parametrize("counts", [[0, 1], [11], []])
def test_counts_out_of_range_are_refused(counts):
    with pytest.raises(ValueError, match=r"'counts' must be in 1\.\.10, got"):
        bound_curve(torch.zeros(10, 2), counts)


SHAPES = {
    "exact": {},
    "too narrow": {"spread": 0.6},
    "too wide": {"spread": 1.7},
    "off to one side": {"shift": 0.4},
    "blind": {"guide_sees": "nothing"},
}


@pytest.mark.parametrize("guide", SHAPES)
def test_ranks_are_uniform_at_the_exact_posterior_and_not_elsewhere(guide):
    """A chi-square test at level 0.01 of all quantities together, on 640 simulations."""
    net, data = with_bad_guide(**SHAPES[guide]), data_of("gaussian", LENGTHS)
    found = calibration(net, data, num_simulations=640, level=0.01)
    assert found.quantities == ["mean of z_0", "mean of z_1", "log p(x, z)"]
    assert found.calibrated == (guide == "exact")
    assert found.calibrated == (found.p_values.min() > 0.01 / 3)
    assert found.ranks.shape == (3, 640) and 0 <= found.ranks.min() <= found.ranks.max() <= 63
    assert (found.histograms.sum(1) == 640).all() and found.expected == 40
    edges, middle = (found.histograms[0, i].mean() for i in ([0, 1, 14, 15], [6, 7, 8, 9]))
    if guide == "too narrow":
        assert edges > 1.5 * middle
    if guide == "too wide":
        assert middle > 1.5 * edges
    if guide == "off to one side":  # the model's draws rank low among draws that are too high
        assert found.histograms[0, :4].sum() > 2 * found.histograms[0, -4:].sum()


def test_a_perfect_guide_is_rejected_as_rarely_as_the_level_says():
    """At level 0.2, of 40 sets of ranks about 8 or fewer; 17 have probability 0.001."""
    net, data = with_bad_guide(), data_of("gaussian", [2])
    rejected = [
        not calibration(
            net, data, num_simulations=96, num_draws=15, num_bins=8, level=0.2, seed=seed
        ).calibrated
        for seed in range(40)
    ]
    assert 1 <= sum(rejected) < 17


def test_what_is_ranked():
    """Means over real steps of chosen latents, and the joint log-density."""
    net, lengths = make("zforcing"), torch.tensor([4, 2])
    terms = net.terms(torch.randn(2, 4, 3), lengths, num_particles=3)
    mask = length_mask(lengths, 4)
    found = quantities(terms, mask, torch.tensor([1]))
    for i, n in enumerate([4, 2]):
        assert torch.allclose(found[0, :, i], terms.latents[:, i, :n, 1].mean(-1))
        log_joint = (terms.log_prior + terms.log_emission)[:, i, :n].sum(-1)
        assert torch.allclose(found[1, :, i], log_joint)
    assert found.shape == (2, 3, 2)


def test_p_values_and_band_are_scipys():
    from scipy import stats

    net, data = make("zforcing", "bernoulli"), data_of("bernoulli")
    found = calibration(net, data, num_simulations=64, num_draws=7, num_bins=4, max_quantities=1)
    assert found.quantities == ["mean of z_0", "log p(x, z)"]
    counts = np.bincount(found.ranks[1] // 2, minlength=4)
    assert found.histograms[1].tolist() == counts.tolist()
    statistic = ((counts - 16) ** 2 / 16).sum()
    assert found.p_values[1] == pytest.approx(stats.chi2.sf(statistic, 3))
    inside = stats.binom.cdf(found.band[1], 64, 0.25) - stats.binom.cdf(found.band[0] - 1, 64, 0.25)
    assert 0.99 <= inside < 0.999


def test_simulations_have_the_lengths_and_starts_of_the_data(monkeypatch):
    net, seen = make("zforcing"), []
    x = torch.randn(3, 5, 3)
    data = Sequences([row[: 2 + i] for i, row in enumerate(x)], starts=list(x[:, 4]))
    given = net.given

    def spy(x, lengths, state):
        seen.append((lengths.tolist(), state["x_prev"]))
        return given(x, lengths, state)

    monkeypatch.setattr(net, "given", spy)
    calibration(net, data, num_simulations=4, num_draws=3, num_bins=2)
    assert seen[0][0] == [2, 3, 4, 2]
    assert torch.equal(seen[0][1], x[[0, 1, 2, 0], 4])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_bins": 15}, "'num_draws' \\+ 1 must be a multiple of 'num_bins', 2 or more, got 63"),
        ({"num_bins": 1}, "2 or more, got 63 \\+ 1 and 1"),
        ({"level": 1.0}, "'level' must be between 0 and 1, got 1.0"),
        ({"num_simulations": 0}, "'num_simulations' must be positive, got 0"),
    ],
)
def test_wrong_options_of_calibration_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        calibration(make("vrnn"), data_of("gaussian"), **options)


@pytest.mark.parametrize("look", [importance, calibration])
def test_a_model_without_latents_is_refused(look):
    with pytest.raises(ValueError, match="'net' must have latents, got RNN"):
        look(RNN(Bernoulli, 3, h_dim=4), data_of("bernoulli"))


def test_wrong_numbers_of_draws_are_named():
    drawn = to_inference_data(make("vrnn"), data_of("gaussian"), num_draws=2, num_predictive=0)
    with pytest.raises(ValueError, match="'num_draws' must be positive, got 0"):
        resampled(drawn, num_draws=0)
    with pytest.raises(ValueError, match="'num_particles' must be positive, got -1"):
        importance(make("vrnn"), data_of("gaussian"), num_particles=-1)
