"""Filters series of any length together: forecasts, imputations and surprises of each step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..data.own.coding import Coding, beside, start_frame
from ..data.own.frames import Series
from ..models import StochasticRNN, evaluating
from ..models.stream import StreamStep

MAX_ROWS, TINY = 8_192, 1e-6
"""Most particles times sequences that are filtered together; least deviation of a surprise."""
SPELLS, BAND = (1, 12), (0.16, 0.5, 0.84)
"""Lengths of the spells whose mean surprise is scored: a single step, and a frozen sensor's."""


@dataclass(frozen=True)
class Filtered:
    """Surprises and draws of a filter, ``(sequences, time, ...)`` each."""

    surprise: np.ndarray  # -log p(x_t | x before t), nats
    by_feature: np.ndarray  # the same of each number, (..., x_dim)
    draws: np.ndarray
    """Draws of equal weight of the steps that are kept, ``(draws, sequences, kept, x_dim)``; what
    is observed is as it was."""


def filtered(
    net: StochasticRNN,
    x: Tensor,
    start: Tensor | None = None,
    num_particles: int = 200,
    lag: int = 0,
    relative: Tensor | None = None,
    keep_from: int = 0,
    seed: int = 0,
) -> Filtered:
    """Reads sequences step by step, and draws what is missing given all up to ``lag`` steps later.

    Args:
        net: A model whose emission has independent numbers.
        x: Observations, NaN where missing, such as past a sequence's end: ``(batch, time, x_dim)``.
        start, lag, relative: As for :meth:`.StochasticRNN.stream`.
        num_particles: Number of particles and draws.
        keep_from: First step whose draws are kept.
    """
    size, parts = max(1, MAX_ROWS // num_particles), []
    device = next(net.parameters()).device
    with evaluating(net, seed):
        for first in range(0, len(x), size):
            rows = slice(first, first + size)
            batch = x[rows].to(device)
            begin = None if start is None else start[rows].to(device)
            stream = net.stream(num_particles, len(batch), lag, start=begin, relative=relative)
            steps = [stream.push(x_t) for x_t in batch.unbind(1)]
            told = [step for step in steps if step is not None] + stream.finish()
            parts.append(
                (
                    torch.stack([step.surprise for step in told], 1),
                    torch.stack([step.by_feature for step in told], 1),
                    torch.stack([equal_draws(step) for step in told[keep_from:]], 2),
                )
            )
    surprise, by_feature, draws = zip(*parts)
    joined = torch.cat(surprise), torch.cat(by_feature), torch.cat(draws, 1)
    return Filtered(*(value.cpu().double().numpy() for value in joined))


def equal_draws(step: StreamStep) -> Tensor:
    """Returns draws of equal weight, ``(particles, sequences, x_dim)``.

    Equal weights give equal choices, so that draws of steps without observations are paths.
    """
    num = len(step.weight)
    if (step.weight == step.weight[:1]).all():
        return step.x
    places = ((torch.arange(num) + 0.5) / num).to(step.weight)
    edges = step.weight.cumsum(0).T.contiguous()
    index = torch.searchsorted(edges, places.expand(len(edges), num).contiguous())
    return step.x.gather(0, index.T.clamp(max=num - 1)[..., None].expand_as(step.x))


def windowed(surprise: np.ndarray, size: int) -> np.ndarray:
    """Returns the mean of the last ``size`` surprises at each step; NaN counts as none.

    Example:
        >>> windowed(np.array([1.0, 3.0, np.nan, 5.0]), 2).tolist()
        [1.0, 2.0, 3.0, 5.0]
    """
    seen = ~np.isnan(surprise)
    sums, counts = (
        np.concatenate([np.zeros(size), np.cumsum(values)])
        for values in (np.where(seen, surprise, 0.0), seen)
    )
    total, num = sums[size:] - sums[:-size], counts[size:] - counts[:-size]
    return np.where(num > 0, total / np.maximum(num, 1), np.nan)


class Told(NamedTuple):
    """Surprises and draws of one series in its own units; NaN where nothing is observed."""

    surprise: np.ndarray  # -log p(x_t | x before t), nats, (time,)
    by_feature: np.ndarray  # the same of each target, (time, targets)
    draws: np.ndarray  # what is observed, and draws of what is missing, (draws, time, targets)


def told(
    net: StochasticRNN, coding: Coding, targets: Sequence[str], series: Sequence[Series],
    num_draws: int, lag: int, seed: int,
) -> list[Told]:  # fmt: skip
    """Returns what the filter of a net tells of coded series, each step by ``lag`` steps after."""
    xs = [coding.coded(s, targets) for s in series]
    given = [coding.given(s) for s in series]
    result, parts = walked(net, coding, xs, given, [0] * len(xs), num_draws, lag, 0, seed), []
    for i, x in enumerate(xs):
        seen = ~np.isnan(x)
        begun = np.cumsum(seen, 0) > 1 - ~np.array(coding.relative)
        seen &= begun  # a first change is none
        by_feature = np.where(seen, result.by_feature[i, : len(x), : x.shape[1]], np.nan)
        units = np.where(seen, coding.log_units, 0.0)
        surprise = np.where(seen.any(1), result.surprise[i, : len(x)] + units.sum(1), np.nan)
        draws = coding.decoded(result.draws[:, i, : len(x), : x.shape[1]])
        parts.append(Told(surprise, by_feature + units, draws))
    return parts


def future_draws(
    net: StochasticRNN, coding: Coding, targets: Sequence[str], series: Sequence[Series],
    later: Sequence[Series], num_draws: int, seed: int, context: int,
) -> list[np.ndarray]:  # fmt: skip
    """Returns draws of later steps of each series, ``(draws, steps, targets)``, in own units.

    Args:
        later: Times and covariates of the later steps.
        context: Number of last steps that are read.
    """
    horizon, xs, given, firsts = len(later[0].times), [], [], []
    for s, after in zip(series, later):
        x = coding.coded(s, targets)
        xs.append(np.concatenate([x, np.full((horizon, len(targets)), np.nan)]))
        given.append(np.concatenate([coding.given(s), coding.given(after)]))
        firsts.append(max(0, len(x) - context))
    ends = [len(x) - horizon - first for x, first in zip(xs, firsts)]
    result = walked(net, coding, xs, given, firsts, num_draws, 0, min(ends), seed)
    draws = coding.decoded(result.draws[..., : len(targets)])
    return [draws[:, i, n - min(ends) : n - min(ends) + horizon] for i, n in enumerate(ends)]


def walked(
    net: StochasticRNN, coding: Coding, xs: list[np.ndarray], given: list[np.ndarray],
    firsts: list[int], num_draws: int, lag: int, keep_from: int, seed: int,
) -> Filtered:  # fmt: skip
    """Filters coded series with their covariates from each one's first step on."""
    num, rows, starts = xs[0].shape[1], [], []
    for x, u, first in zip(xs, given, firsts):
        before = beside(coding.carried(coding.read(x)), u)
        rows.append(beside(x, u)[first:])
        starts.append(before[first - 1] if first else start_frame(num, u))
    longest = max(map(len, rows))
    padded = np.stack([np.pad(x, ((0, longest - len(x)), (0, 0)), "edge") for x in rows])
    for i, x in enumerate(rows):
        padded[i, len(x) :, :num] = np.nan
    relative = torch.tensor([*coding.relative, *[False] * (padded.shape[2] - num)])
    return filtered(
        net,
        torch.from_numpy(padded).float(),
        torch.from_numpy(np.stack(starts)).float(),
        num_draws,
        lag,
        relative if any(coding.relative) else None,
        keep_from,
        seed,
    )


def unusual(surprise: np.ndarray, calm: dict[str, list[float]]) -> np.ndarray:
    """Returns how far surprises are off those of validation, in deviations to that side.

    Args:
        surprise: Nats, NaN where nothing is observed.
        calm: 16, 50 and 84 % quantiles of the means of spells, by their length. A single step is
            unusual only by too much surprise.
    """
    scores = []
    for size, (low, middle, high) in calm.items():
        off = windowed(surprise, int(size)) - middle
        score = np.where(off > 0, off / max(high - middle, TINY), -off / max(middle - low, TINY))
        early = np.arange(len(off)) < int(size) - 1  # the start of a series is no spell yet
        scores.append(np.where((off < 0) & (size == "1") | early, 0.0, score))
    return np.where(np.isnan(surprise), np.nan, np.max(scores, 0))


def thresholds(
    parts: Sequence[Told], held: Sequence[slice], targets: Sequence[str], rare: float
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Returns quantiles of spells' surprises on validation, and of each column of scores.

    Args:
        parts: Of each series.
        held: Steps of each series that are validation.
        rare: The quantile that is a threshold.
    """

    def quantiles(values: list[np.ndarray], shares: Any) -> Any:
        return np.nanquantile(np.concatenate(values), shares).tolist()

    calm = {
        str(size): quantiles([windowed(p.surprise, size)[h] for p, h in zip(parts, held)], BAND)
        for size in SPELLS
    }
    limits = {
        "surprise": quantiles([p.surprise[h] for p, h in zip(parts, held)], rare),
        "unusual": quantiles([unusual(p.surprise, calm)[h] for p, h in zip(parts, held)], rare),
    }
    for d, name in enumerate(targets):
        each = [p.by_feature[h, d] for p, h in zip(parts, held)]
        limits[f"{name}_surprise"] = quantiles(each, rare)
    return calm, limits
