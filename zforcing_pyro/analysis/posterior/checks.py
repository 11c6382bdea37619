"""Predictive checks: statistics of data beside those of what a model generates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ...data import Corpus, SequenceSet
from ...models import StochasticRNN, evaluating
from ...models.checks import check_choice, check_positive
from .batches import batches, most_rows
from .codes import check_latents
from .decoding import generated
from .statistics import Statistic, statistics

Source = Literal["prior", "posterior"]


@dataclass(frozen=True)
class PredictiveCheck:
    """A statistic of data, and of replicates of the data that a model drew."""

    name: str
    """Such as "autocorrelation" or "notes sounding"."""
    unit: str
    """Of its values, for an axis."""
    axis: np.ndarray | None
    """Where a curve's values stand, such as lags in ms, ``(points,)``; None of a number."""
    axis_label: str
    """With its unit; empty of a number."""
    observed: np.ndarray
    """Of the data: ``(points,)``, the mean over sequences, or a number's, ``()``."""
    replicated: np.ndarray
    """Of each replicate of the data, ``(replicates, points)`` or ``(replicates,)``."""
    observed_values: np.ndarray
    """Of a number: its value for each sequence, ``(sequence,)``; of a curve that of each sequence,
    ``(sequence, points)``."""
    replicated_values: np.ndarray
    """Likewise of the first replicate."""
    p_value: np.ndarray
    """Two-sided, of the observed among the replicates, ``(points,)`` or ``()``: at least
    2 / (replicates + 1), as where all replicates are above the observed, or all below. NaN where
    the data, or all replicates, have no value."""

    @property
    def smallest_p_value(self) -> float:
        """Of all points, without a correction for their number; NaN if there is none."""
        return float(np.fmin.reduce(self.p_value, axis=None))

    @property
    def outside(self) -> float:
        """Share of points where the data are beyond all replicates; NaN if there is none.

        Of a model that made the data it is 2 / (replicates + 1) on average.
        """
        there = ~np.isnan(self.p_value)
        least = 2 / ((~np.isnan(self.replicated)).sum(0) + 1)
        return float((self.p_value <= least)[there].mean()) if there.any() else math.nan


def predictive_checks(
    net: StochasticRNN,
    corpus: Corpus,
    data: SequenceSet,
    num_replicates: int = 20,
    source: Source = "prior",
    max_rows: int = 1_024,
    seed: int = 0,
) -> list[PredictiveCheck]:
    """Statistics of data beside those of replicates: as many sequences, of the same lengths.

    A text ends where the model says so, at most with the longest of the data. Values that are
    missing in the data are missing in replicates.

    Args:
        net: A model with latents, or without for ``source="prior"``.
        corpus: Where the data come from.
        data: Sequences of it.
        num_replicates: Of the data as a whole.
        source: What replicates are drawn from: the model's own generation, or the model given a
            draw of the latents from q(z | x), fed with its own output.
        max_rows: Sequences in memory at once.
        seed: Of the draws.

    Returns:
        A check of each of :func:`statistics`; none that is undefined in all sequences.

    Raises:
        ValueError: If the source is unknown, or is "posterior" of a model without latents.
    """
    check_choice(Source, source=source)
    check_positive(num_replicates=num_replicates, max_rows=max_rows)
    if source == "posterior":
        check_latents(net)
    observed = [x for x, _ in data]
    found = statistics(corpus, observed)
    with evaluating(net, seed):
        replicates = [
            statistics(corpus, replicate(net, corpus, data, source, max_rows))
            for _ in range(num_replicates)
        ]
    checks = [check(s, [r[name] for r in replicates], name) for name, s in found.items()]
    return [c for c in checks if not np.isnan(c.observed).all()]


def replicate(
    net: StochasticRNN, corpus: Corpus, data: SequenceSet, source: Source, max_rows: int
) -> list[Tensor]:
    """As many sequences as the data, of the same lengths unless they are text."""
    longest, found = int(data.lengths.max()), []
    for _, x, lengths, state in batches(net, data, most_rows(net, longest, max_rows)):
        z = net.terms(x, lengths, state=state).latents[0] if source == "posterior" else None
        is_text = corpus.view == "text"
        num_steps = torch.full_like(lengths, longest) if is_text else lengths
        y, _ = generated(net, num_steps, state, z=z, ends=None if z is None else lengths)
        for sequence, own, length in zip(y, x, lengths.tolist()):
            sequence = sequence if is_text else sequence[:length]
            if own.is_floating_point():
                sequence = sequence.masked_fill(own[:length].isnan(), torch.nan)
            found.append(sequence.cpu())
    return found


def check(observed: Statistic, replicates: list[Statistic], name: str) -> PredictiveCheck:
    """One statistic of the data beside that of each replicate."""
    means = np.stack([mean(r.values) for r in replicates])
    center = mean(observed.values)
    above, below = (means >= center).sum(0), (means <= center).sum(0)
    num = (~np.isnan(means)).sum(0)
    p_value = np.minimum(1.0, 2 * (np.minimum(above, below) + 1) / (num + 1))
    p_value = np.where(np.isnan(center) | (num == 0), np.nan, p_value)
    return PredictiveCheck(
        name=name,
        unit=observed.unit,
        axis=observed.axis,
        axis_label=observed.axis_label,
        observed=center,
        replicated=means,
        observed_values=observed.values,
        replicated_values=replicates[0].values,
        p_value=p_value,
    )


def mean(values: np.ndarray) -> np.ndarray:
    """Over the sequences for which there is a value; NaN where there is none."""
    is_there = ~np.isnan(values)
    total, count = np.where(is_there, values, 0.0).sum(0), is_there.sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
