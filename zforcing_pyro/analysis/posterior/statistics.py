"""Statistics that suit the data: what a listener, reader or viewer notices, in numbers."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import signal
from scipy.ndimage import label
from torch import Tensor

from ...data import Corpus
from ...data.formats.waves import FULL_SCALE

NUM_POINTS = 256
"""Largest number of lags of an autocorrelation, and of samples in a spectrum's window."""


class Statistic(NamedTuple):
    """One statistic of each sequence."""

    values: np.ndarray  # (sequence,), or (sequence, points) for a curve; NaN: undefined
    unit: str
    axis: np.ndarray | None = None  # positions of a curve's points
    axis_label: str = ""


def statistics(corpus: Corpus, sequences: list[Tensor]) -> dict[str, Statistic]:
    """Returns the statistics of sequences that suit the corpus's ``view``, by name.

    - audio and curves: "autocorrelation" by lag, and "spectrum", the power density in dB, over all
      columns; for symbols, "symbol frequency";
    - piano-rolls: "notes sounding" per step, and "chord length", steps until any key changes;
    - text: "sentence length" in words or characters, and "different words" among them, a share;
    - points: "radius" and "squared radius", about the origin;
    - images: "ink", the share of pixels that are on, and "stroke width" in pixels.

    A sequence without a value, such as at a lag beyond its end, has NaN.

    Args:
        sequences: Observations, ``(time, x_dim)`` or ``(time,)``, without padding.

    Example:
        >>> from zforcing_pyro.data import corpus
        >>> digits = corpus("digits")
        >>> result = statistics(digits, [digits.split("test")[0].x])
        >>> {name: s.values.round(2).tolist() for name, s in result.items()}
        {'ink': [0.36], 'stroke width': [2.13]}
    """
    sequences = [x.detach().cpu() for x in sequences]
    if corpus.view == "curve" and corpus.emission == "categorical":
        share = np.stack([x.bincount(minlength=corpus.x_dim).numpy() / len(x) for x in sequences])
        symbols = np.arange(corpus.x_dim)
        return {"symbol frequency": Statistic(share, "share of steps", symbols, "symbol")}
    return STATISTICS[corpus.view](corpus, sequences)


def audio_statistics(corpus: Corpus, sequences: list[Tensor]) -> dict[str, Statistic]:
    """Returns autocorrelation and spectrum of the waves."""
    waves = [corpus.samples(x)[:, None] / FULL_SCALE for x in sequences]
    labels = "lag (ms)", "dB of full scale per Hz", "frequency (Hz)"
    return signal_statistics(waves, corpus.sample_rate, 1e3, 1 / FULL_SCALE**2, labels)


def curve_statistics(corpus: Corpus, sequences: list[Tensor]) -> dict[str, Statistic]:
    """Returns autocorrelation and spectrum of the columns together."""
    step = corpus.step
    labels = f"lag ({step}s)", "dB, as a model sees it", f"frequency (cycles per {step})"
    return signal_statistics([x.double().numpy() for x in sequences], 1, 1.0, 1e-6, labels)


def point_statistics(corpus: Corpus, sequences: list[Tensor]) -> dict[str, Statistic]:
    """Returns the distance of each point from the origin, and its square."""
    radius = np.array([float(x.norm()) for x in sequences])
    return {"radius": Statistic(radius, ""), "squared radius": Statistic(radius**2, "")}


def signal_statistics(
    signals: list[np.ndarray], rate: int, scale: float, noise: float, labels: tuple[str, str, str]
) -> dict[str, Statistic]:
    """Returns autocorrelation, NaN beyond a signal's end, and spectrum in dB.

    Columns of a signal ``(time, columns)`` are added; NaN becomes the signal's mean. ``noise`` is a
    power density added to spectra, so that silence has a level. Lags are in ``scale`` units of
    1 / ``rate``.
    """
    size = min(NUM_POINTS, max(map(len, signals)))
    correlations, powers = np.full((len(signals), size), np.nan), []
    for correlation, x in zip(correlations, signals):
        num_seen = (~np.isnan(x)).sum(0)
        x = np.nan_to_num(x - np.nansum(x, 0) / np.maximum(num_seen, 1))
        products = sum(signal.correlate(c, c, method="fft")[len(x) - 1 :] for c in x.T)
        if products[0] > 1e-12:
            correlation[: len(x)] = (products / products[0])[:size]
        window = min(len(x), size)
        shape = "hann" if window > 2 else "boxcar"
        options = {"nfft": size, "detrend": False, "axis": 0}
        frequency, power = signal.welch(x, 1.0, shape, window, **options)
        powers.append(10 * np.log10(power.sum(-1) + noise) - 10 * math.log10(rate))
    lags, spectra = scale * np.arange(size) / rate, np.stack(powers)
    return {
        "autocorrelation": Statistic(correlations, "correlation", lags, labels[0]),
        "spectrum": Statistic(spectra, labels[1], frequency * rate, labels[2]),
    }


def pianoroll_statistics(corpus: Corpus, sequences: list[Tensor]) -> dict[str, Statistic]:
    """Returns the number of notes per step, and the steps between changes."""
    keys = [(x > 0.5).numpy() for x in sequences]
    sounding = np.array([k.sum(1).mean() for k in keys])
    changes = np.array([(k[1:] != k[:-1]).any(1).sum() for k in keys])
    length = np.array([len(k) for k in keys]) / (1 + changes)
    return {
        "notes sounding": Statistic(sounding, "keys a step"),
        "chord length": Statistic(length, f"steps ({corpus.step})"),
    }


def text_statistics(corpus: Corpus, sequences: list[Tensor]) -> dict[str, Statistic]:
    """Returns the length of sentences, and the share of different words or characters."""
    sentences = [corpus.vocabulary.decode(x) for x in sequences]
    unit = f"{corpus.step}s"
    length = np.array([len(words) for words in sentences], dtype=float)
    different = [len(set(words)) / len(words) if words else np.nan for words in sentences]
    return {
        "sentence length": Statistic(length, unit),
        f"different {unit}": Statistic(np.array(different), f"share of {unit}"),
    }


def image_statistics(corpus: Corpus, sequences: list[Tensor]) -> dict[str, Statistic]:
    """Returns ink and stroke width of whole images; none for windows of images."""
    size = math.prod(corpus.image_shape)
    images = [corpus.image(x).numpy() > 0.5 for x in sequences if x.numel() == size]
    if not images:
        return {}
    return {
        "ink": Statistic(np.array([image.mean() for image in images]), "share of pixels"),
        "stroke width": Statistic(np.array([stroke_width(image) for image in images]), "pixels"),
    }


def stroke_width(image: np.ndarray) -> float:
    """Returns the mean over ink of the shorter run of ink through a pixel, across or down."""
    across, runs = np.array([[0, 0, 0], [1, 1, 1], [0, 0, 0]]), []
    for structure in (across, across.T):
        labels, _ = label(image, structure)
        runs.append(np.bincount(labels.ravel())[labels])  # length of each pixel's run
    return float(np.minimum(*runs)[image].mean()) if image.any() else math.nan


STATISTICS: dict[str, Callable[[Corpus, list[Tensor]], dict[str, Statistic]]] = {
    "audio": audio_statistics,
    "curve": curve_statistics,
    "points": point_statistics,
    "pianoroll": pianoroll_statistics,
    "text": text_statistics,
    "image": image_statistics,
}
