"""Statistics that suit the data: what a listener, reader or viewer notices, in numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
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
    - images: "ink", the share of pixels that are on, and "stroke width" in pixels.

    Args:
        sequences: Observations, ``(time, x_dim)`` or ``(time,)``, without padding.

    Returns:
        NaN where a sequence has no value, such as at a lag beyond its end.

    Example:
        >>> from zforcing_pyro.data import corpus
        >>> digits = corpus("digits")
        >>> found = statistics(digits, [digits.split("test")[0].x])
        >>> {name: s.values.round(2).tolist() for name, s in found.items()}
        {'ink': [0.36], 'stroke width': [2.13]}
    """
    sequences = [x.detach().cpu() for x in sequences]
    if corpus.view == "curve" and corpus.emission == "categorical":
        return {"symbol frequency": symbol_frequency(sequences, corpus.x_dim)}
    return STATISTICS[corpus.view](corpus, sequences)


def audio_statistics(corpus: Corpus, sequences: list[Tensor]) -> dict[str, Statistic]:
    """Returns autocorrelation and spectrum of the waves."""
    waves = [corpus.samples(x)[:, None] / FULL_SCALE for x in sequences]
    rate = corpus.sample_rate
    lags, correlation, frequency, power = signal_curves(waves, noise=1 / FULL_SCALE**2)
    power, frequency = power - 10 * math.log10(rate), frequency * rate
    return {
        "autocorrelation": Statistic(correlation, "correlation", 1e3 * lags / rate, "lag (ms)"),
        "spectrum": Statistic(power, "dB of full scale per Hz", frequency, "frequency (Hz)"),
    }


def curve_statistics(corpus: Corpus, sequences: list[Tensor]) -> dict[str, Statistic]:
    """Returns autocorrelation and spectrum of the columns together."""
    values = [x.double().numpy() for x in sequences]
    lags, correlation, frequency, power = signal_curves(values, noise=1e-6)
    per_step = f"frequency (cycles per {corpus.step})"
    return {
        "autocorrelation": Statistic(correlation, "correlation", lags, f"lag ({corpus.step}s)"),
        "spectrum": Statistic(power, "dB, as a model sees it", frequency, per_step),
    }


def signal_curves(signals: list[np.ndarray], noise: float) -> tuple[np.ndarray, ...]:
    """Returns lags, correlations, frequencies in cycles per sample, and power densities in dB.

    Columns of a signal ``(time, columns)`` are added; NaN becomes the signal's mean. ``noise`` is a
    power density added to spectra, so that silence has a level.
    """
    from scipy.signal import welch

    size = min(NUM_POINTS, max(map(len, signals)))
    lags, correlations, powers = np.arange(size), [], []
    for x in signals:
        num_seen = (~np.isnan(x)).sum(0)
        x = np.nan_to_num(x - np.nansum(x, 0) / np.maximum(num_seen, 1))
        correlations.append(autocorrelation(x, size))
        window = min(len(x), size)
        shape = "hann" if window > 2 else "boxcar"
        frequency, power = welch(x, 1.0, shape, window, nfft=size, detrend=False, axis=0)
        powers.append(10 * np.log10(power.sum(-1) + noise))
    return lags, np.stack(correlations), frequency, np.stack(powers)


def autocorrelation(x: np.ndarray, num_lags: int) -> np.ndarray:
    """Returns the biased estimate for a centred signal ``(time, columns)``; NaN beyond its end."""
    spectrum = np.fft.rfft(x, 2 * len(x), axis=0)
    products = np.fft.irfft(np.abs(spectrum) ** 2, axis=0)[: len(x)].sum(-1)
    correlation = np.full(num_lags, np.nan)
    if products[0] > 1e-12:
        correlation[: len(x)] = (products / products[0])[:num_lags]
    return correlation


def symbol_frequency(sequences: list[Tensor], num_symbols: int) -> Statistic:
    """Returns the share of steps of each symbol."""
    share = [x.bincount(minlength=num_symbols).numpy() / len(x) for x in sequences]
    return Statistic(np.stack(share), "share of steps", np.arange(num_symbols), "symbol")


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
    if not image.any():
        return float("nan")
    return float(np.minimum(runs(image), runs(image.T).T)[image].mean())


def runs(image: np.ndarray) -> np.ndarray:
    """Returns the length of each pixel's run of ink along its row; 0 off ink."""
    change = np.diff(np.pad(image.astype(np.int64), ((0, 0), (1, 1))), axis=1)
    (row, begin), (_, end) = np.nonzero(change == 1), np.nonzero(change == -1)
    lengths = np.zeros(image.shape, dtype=np.int64)
    for r, b, e in zip(row, begin, end):
        lengths[r, b:e] = e - b
    return lengths


STATISTICS: dict[str, Callable[[Corpus, list[Tensor]], dict[str, Statistic]]] = {
    "audio": audio_statistics,
    "curve": curve_statistics,
    "pianoroll": pianoroll_statistics,
    "text": text_statistics,
    "image": image_statistics,
}
