"""Statistics with known values, and predictive checks of right and wrong models."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from zforcing_pyro.analysis import batches
from zforcing_pyro.analysis.posterior import checks, predictive_checks, statistics
from zforcing_pyro.app.report.numbers import verdict
from zforcing_pyro.data import Sequences
from zforcing_pyro.data.formats.text import Vocabulary
from zforcing_pyro.emissions import Categorical
from zforcing_pyro.models import RNN
from zforcing_pyro.models.lgssm import LGSSM

CURVE = SimpleNamespace(view="curve", emission="gaussian", step="hour")
SYMBOLS = SimpleNamespace(view="curve", emission="categorical", x_dim=3)
TEXT = SimpleNamespace(view="text", emission="categorical", step="word")
TEXT.vocabulary = Vocabulary(["<eos>", "a", "b"])
MUSIC = SimpleNamespace(view="pianoroll", emission="bernoulli", step="quarter note")
IMAGE = SimpleNamespace(view="image", emission="bernoulli", image_shape=(4, 4))
IMAGE.image = lambda x: x.reshape(4, 4)
SPEECH = SimpleNamespace(view="audio", emission="gaussian", sample_rate=8_000)
SPEECH.samples = lambda x: (x.reshape(-1).numpy() * 1_000).astype(np.int16)


def test_statistics_of_rolls_text_and_symbols():
    x = torch.zeros(6, 88)
    x[0:4, [40, 44, 47]] = 1  # a chord of four steps, then one note of one, then silence
    x[4, 50] = 1
    result = statistics(MUSIC, [x, x[:4]])
    assert result["notes sounding"].values.tolist() == [13 / 6, 3]
    assert result["chord length"].values.tolist() == [2, 4]
    assert result["chord length"].unit == "steps (quarter note)"
    sentences = [torch.tensor(s) for s in ([1, 2, 1, 1, 0], [0, 1, 1], [2, 2])]
    result = statistics(TEXT, sentences)
    assert result["sentence length"].values.tolist() == [4, 0, 2]
    assert np.array_equal(result["different words"].values, [0.5, np.nan, 0.5], equal_nan=True)
    result = statistics(SYMBOLS, [torch.tensor([0, 2, 2, 2]), torch.tensor([1])])
    assert result["symbol frequency"].values.tolist() == [[0.25, 0, 0.75], [0, 1, 0]]


def test_statistics_of_images():
    image, empty, window = torch.zeros(4, 4), torch.zeros(16, 1), torch.zeros(3, 1)
    image[:, :3] = 1
    result = statistics(
        IMAGE, [image[:, [0, 3, 3, 3]].reshape(-1, 1), image.T.reshape(-1, 1), empty]
    )
    assert result["ink"].values.tolist() == [0.25, 0.75, 0]
    assert np.array_equal(result["stroke width"].values, [1, 3, np.nan], equal_nan=True)
    assert statistics(IMAGE, [window]) == {}


@pytest.mark.parametrize("view", ["audio", "curve"])
def test_statistics_of_a_sine(view):
    """500 Hz at 8,000 samples a second: 16 samples a period."""
    wave = torch.sin(2 * torch.pi * torch.arange(1_600.0) / 16).reshape(-1, 20)
    x = wave if view == "audio" else wave.reshape(-1, 1)
    result = statistics(SPEECH if view == "audio" else CURVE, [x])
    correlation, spectrum = result["autocorrelation"], result["spectrum"]
    unit = 1 / 8 if view == "audio" else 1
    assert correlation.axis[[0, 16]] == pytest.approx([0, 16 * unit])
    assert correlation.values[0, [0, 8, 16]] == pytest.approx([1, -1, 1], abs=0.02)
    peak = spectrum.axis[spectrum.values[0].argmax()]
    assert peak == pytest.approx(500 if view == "audio" else 1 / 16)
    assert "ms" in correlation.axis_label or "hour" in correlation.axis_label
    # The power of a sine of amplitude a is a^2 / 2: the area below its spectrum.
    power = (10 ** (spectrum.values[0] / 10)).sum() * (spectrum.axis[1] - spectrum.axis[0])
    amplitude = 1_000 / 32_768 if view == "audio" else 1
    assert power == pytest.approx(amplitude**2 / 2, rel=0.02)


def test_statistics_of_short_constant_and_missing_curves():
    x = torch.sin(torch.arange(40.0))[:, None]
    partly = x.clone()
    partly[3:6] = torch.nan
    result = statistics(CURVE, [x, x[:3], torch.ones(5, 1), partly, torch.full((4, 2), torch.nan)])
    correlation = result["autocorrelation"].values
    assert correlation.shape == (5, 40) and result["spectrum"].values.shape == (5, 21)
    assert np.isnan(correlation[1, 3:]).all() and not np.isnan(correlation[1, :3]).any()
    assert np.isnan(correlation[[2, 4]]).all() and np.isfinite(result["spectrum"].values).all()
    assert correlation[3, :20] == pytest.approx(correlation[0, :20], abs=0.15)


def test_check_passes_the_model_that_made_the_data_and_no_other():
    torch.manual_seed(3)
    net = LGSSM(1, 1, shift=0.0)
    net.transition.data.fill_(0.95)
    data = Sequences(list(net.generate(25, 20)))
    right = predictive_checks(net, CURVE, data, num_replicates=19)
    assert [check.name for check in right] == ["autocorrelation", "spectrum"]
    for check in right:
        size = len(check.axis)
        assert check.observed.shape == check.p_value.shape == (size,)
        assert check.observed_values.shape == check.replicated_values.shape == (25, size)
        assert check.replicated.shape == (19, size) and np.mean(check.p_value <= 0.1) < 0.35
    net.transition.data.fill_(-0.95)
    wrong, _ = predictive_checks(net, CURVE, data, 19)
    assert wrong.p_value[1] == pytest.approx(2 / 20)
    assert (wrong.observed[1] > wrong.replicated[:, 1]).all()


def test_p_value_is_a_share_of_replicates_and_said_in_words():
    values, word = np.array([0.0, 1, 2, 3]), "within the range of 7 replicates, p = 1"
    replicates = [checks.Statistic(values + shift, "m") for shift in (-1, 0, 0, 1, 2, 3, 4)]
    result = checks.check(checks.Statistic(np.array([1.0, 2, np.nan]), "m"), replicates, "it")
    assert result.observed == 1.5 and result.outside == 0 and verdict(result).endswith(word)
    assert result.replicated.tolist() == [0.5, 1.5, 1.5, 2.5, 3.5, 4.5, 5.5]
    assert result.p_value == pytest.approx(2 * (3 + 1) / 8) and result.axis is None
    far = checks.check(checks.Statistic(values + 99, "m"), replicates, "it")
    assert far.p_value == pytest.approx(2 / 8) and far.outside == 1
    assert verdict(far) == "data outside of 7 replicates"


def test_point_without_values_has_no_p_value():
    """By point: between replicates, beyond them, unknown in the data, unknown in all replicates."""
    data = checks.Statistic(np.array([[0.0, 9.0, np.nan, 0.0]]), "m", np.arange(4))
    rows = [-1.0, 1.0, 2.0, np.nan], [1.0, np.nan, 3.0, np.nan], [np.nan, 3.0, 4.0, np.nan]
    replicates = [checks.Statistic(np.array([row]), "m", np.arange(4)) for row in rows]
    result = checks.check(data, replicates, "it")
    np.testing.assert_allclose(result.p_value, [1, 2 / 3, np.nan, np.nan])
    assert result.smallest_p_value == pytest.approx(2 / 3) and result.outside == 0.5
    assert "at 50% of points, 50% if" in verdict(result)
    result.p_value[:] = np.nan
    assert np.isnan(result.smallest_p_value) and "undefined in all" in verdict(result)


def test_replicates_have_lengths_and_gaps_of_the_data_and_latents_of_the_guide(monkeypatch):
    net = LGSSM(1, 1)
    x = [torch.full((n, 1), 3.0 * n) for n in (5, 2, 7)]
    x[2][3] = torch.nan
    monkeypatch.setattr(net.emission, "missing", True)
    replicate = checks.replicate(net, CURVE, Sequences(x, missing=True), "prior")
    assert [len(y) for y in replicate] == [5, 2, 7]
    assert [y.isnan().nonzero()[:, 0].tolist() for y in replicate] == [[], [], [3]]
    net.emission.log_scale.data.fill_(-6)  # sharp: given their own latents, they are like the data
    net.emission.weight.data.fill_(1.0)
    again = checks.replicate(net, CURVE, Sequences(x[:2]), "posterior")
    assert all(torch.allclose(a, b, atol=0.1) for a, b in zip(x, again))


def test_text_ends_where_the_model_ends_it(monkeypatch):
    """A model of which each word is the last one with probability 1/4."""
    monkeypatch.setattr(batches, "MAX_ROWS", 50)
    net = RNN(Categorical, 3, h_dim=2, embed_dim=2)
    net.emission.mlp.layers[-1].weight.data.zero_()
    net.emission.mlp.layers[-1].bias.data = torch.tensor([0.25, 0.5, 0.25]).log()
    texts = [torch.tensor([1] * 3 + [0])] * 99 + [torch.tensor([1] * 40 + [0])]
    length, _ = predictive_checks(net, TEXT, Sequences(texts), 10)
    assert length.name == "sentence length" and length.observed == pytest.approx(337 / 100)
    assert length.replicated.mean() == pytest.approx(3, abs=0.45)
    assert length.replicated_values.max() > 6
