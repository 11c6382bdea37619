"""Predictive checks: statistics that suit the data, of data and of what a model generates."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from scipy import signal
from scipy.ndimage import label
from torch import Tensor

from ...data import Corpus, SequenceSet
from ...data.checks import check_choice, check_range
from ...data.formats.waves import FULL_SCALE
from ...models import StochasticRNN
from ..batches import batches, check_latents, drawing, row_limit, with_nan
from .decoding import generated

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


DrawnFrom = Literal["prior", "posterior"]


@dataclass(frozen=True)
class PredictiveCheck:
    """A statistic of data, and of replicates of the data that a model drew.

    A statistic is a number, or a curve of ``points`` numbers such as an autocorrelation; a number
    has no dim ``points``.
    """

    name: str  # such as "autocorrelation" or "notes sounding"
    unit: str
    axis: np.ndarray | None  # positions of a curve's points, such as lags in ms; None for a number
    axis_label: str
    observed: np.ndarray  # mean over the data's sequences, (points,)
    replicated: np.ndarray  # mean over each replicate's sequences, (replicates, points)
    observed_values: np.ndarray  # value of each sequence of the data, (sequence, points)
    replicated_values: np.ndarray  # value of each sequence of the first replicate
    p_value: np.ndarray
    """Two-sided p-value of the observed among the replicates, ``(points,)``. The least is
    2 / (replicates + 1). NaN where the data, or all replicates, have no value."""

    @property
    def smallest_p_value(self) -> float:
        """Smallest p-value of all points, not corrected for their number; NaN without any."""
        return float(np.fmin.reduce(self.p_value, axis=None))

    @property
    def outside(self) -> float:
        """Share of points where the data are beyond all replicates; NaN without any."""
        valid = ~np.isnan(self.p_value)
        least = 2 / ((~np.isnan(self.replicated)).sum(0) + 1)
        return float((self.p_value <= least)[valid].mean()) if valid.any() else math.nan


def predictive_checks(
    net: StochasticRNN,
    corpus: Corpus,
    data: SequenceSet,
    num_replicates: int = 20,
    source: DrawnFrom = "prior",
    seed: int = 0,
) -> list[PredictiveCheck]:
    """Compares statistics of data with those of replicates: as many sequences, of equal lengths.

    A text ends where the model ends it, at most with the longest of the data. Values missing in the
    data are missing in replicates. Raises ValueError if the source is unknown, or is "posterior"
    for a model without latents.

    Args:
        net: A model with latents, or without for ``source="prior"``.
        source: The model's own generation; or the model given a draw of the latents from q(z | x),
            fed with its own output.

    Returns:
        A check for each of :func:`statistics` that is defined in any sequence.
    """
    check_choice(DrawnFrom, source=source)
    check_range(1, num_replicates=num_replicates)
    if source == "posterior":
        check_latents(net)
    observed = statistics(corpus, [x for x, *_ in data])
    with drawing(net, seed):
        drawn = (replicate(net, corpus, data, source) for _ in range(num_replicates))
        replicates = [statistics(corpus, sequences) for sequences in drawn]
    checks = [check(s, [r[name] for r in replicates], name) for name, s in observed.items()]
    return [c for c in checks if not np.isnan(c.observed).all()]


def replicate(
    net: StochasticRNN, corpus: Corpus, data: SequenceSet, source: DrawnFrom
) -> list[Tensor]:
    """Returns as many sequences as the data, of the same lengths unless they are text."""
    longest, replicates, is_text = int(data.lengths.max()), [], corpus.view == "text"
    for given in batches(net, data, row_limit(net, data)):
        x, lengths, z = given.x, given.lengths, None
        if source == "posterior":
            z = with_nan(given.terms().latents[0], lengths, longest).to(x.device)
        num_steps = torch.full_like(lengths, longest) if is_text else lengths
        y, _ = generated(net, num_steps, given.state, z)
        for sequence, row, length in zip(y.cpu(), x.cpu(), lengths.tolist()):
            sequence = sequence if is_text else sequence[:length]
            if row.is_floating_point():
                sequence = sequence.masked_fill(row[:length].isnan(), torch.nan)
            replicates.append(sequence)
    return replicates


def check(observed: Statistic, replicates: list[Statistic], name: str) -> PredictiveCheck:
    """Returns the check of one statistic."""
    means = np.stack([sequence_mean(r.values) for r in replicates])
    center = sequence_mean(observed.values)
    above, below = (means >= center).sum(0), (means <= center).sum(0)
    num = (~np.isnan(means)).sum(0)
    p_value = np.minimum(1.0, 2 * (np.minimum(above, below) + 1) / (num + 1))
    p_value = np.where(np.isnan(center) | (num == 0), np.nan, p_value)
    values = observed.values, replicates[0].values
    return PredictiveCheck(name, *observed[1:], center, means, *values, p_value)


def sequence_mean(values: np.ndarray) -> np.ndarray:
    """Returns the mean over sequences that have a value; NaN where none has."""
    return np.ma.filled(np.ma.masked_invalid(values).mean(0), np.nan)
