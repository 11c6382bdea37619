"""Predictive checks: statistics of data beside statistics of what a model generates."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ...data import Corpus, SequenceSet
from ...models import StochasticRNN
from ...models.checks import check_choice, check_positive
from .batches import batches, check_latents, drawing, row_limit, with_nan
from .decoding import generated
from .statistics import Statistic, statistics

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
    data are missing in replicates.

    Args:
        net: A model with latents, or without for ``source="prior"``.
        source: The model's own generation; or the model given a draw of the latents from q(z | x),
            fed with its own output.

    Returns:
        A check for each of :func:`statistics` that is defined in any sequence.

    Raises:
        ValueError: If the source is unknown, or is "posterior" for a model without latents.
    """
    check_choice(DrawnFrom, source=source)
    check_positive(num_replicates=num_replicates)
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
