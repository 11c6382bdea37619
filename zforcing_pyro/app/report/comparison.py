"""Several runs side by side: paired differences, a ranking, means over seeds."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike

from .numbers import Number, digits, numbers, with_error
from .subject import Subject

Table = tuple[Sequence[str], Sequence[Sequence[str]], str]
"""Head, rows and caption; the first text of a row is its head."""


class Difference(NamedTuple):
    """Mean of paired differences in nats per sequence, its standard error and 95% interval."""

    mean: float
    error: float
    low: float
    high: float

    def __str__(self) -> str:
        interval = f"95% in [{digits(self.low)}, {digits(self.high)}]"
        return f"{digits(self.mean)} ± {digits(self.error)}, {interval}"

    @property
    def is_clear(self) -> bool:
        """True if the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


def difference(a: ArrayLike, b: ArrayLike) -> Difference:
    """Returns the difference a - b of bounds on the same sequences, ``([seeds,] sequences)``.

    Seeds and sequences are both draws of many: the squared error of the mean is the variance of
    the seeds' means over their number plus that of the sequences' means over their number, a
    little too large. Student's interval has Satterthwaite's degrees of freedom (1946). One seed
    tells nothing of others.

    Example:
        >>> str(difference([3.0, 5.0, 4.0], [1.0, 2.0, 3.0]))
        '2.000 ± 0.577, 95% in [-0.484, 4.484]'
    """
    from scipy.stats import t

    paired = np.atleast_2d(np.subtract(a, b))
    mean, means = float(paired.mean()), [m for m in (paired.mean(0), paired.mean(1)) if len(m) > 1]
    if paired.shape[1] < 2:
        return Difference(mean, math.nan, -math.inf, math.inf)
    squares = np.array([m.var(ddof=1) / len(m) for m in means])
    error, width = float(squares.sum()) ** 0.5, 0.0
    if error:
        freedom = squares.sum() ** 2 / sum(s**2 / (len(m) - 1) for s, m in zip(squares, means))
        width = float(t.ppf(0.975, freedom)) * error
    return Difference(mean, error, mean - width, mean + width)


def check_same_sequences(runs: Sequence[Subject]) -> None:
    """Raises ValueError if two runs were measured on different sequences, such as windows."""
    first = runs[0].findings.data
    for run in runs[1:]:
        data = run.findings.data
        if len(data) != len(first) or not all(
            torch.equal(a.nan_to_num(), b.nan_to_num()) for (a, _), (b, _) in zip(first, data)
        ):
            raise ValueError(
                f"'runs' must be measured on the same sequences, got '{runs[0].name}' and "
                f"'{run.name}' with other windows or another scale of the data"
            )


def bounds(run: Subject) -> tuple[list[float], list[float]]:
    """Returns the ELBO and the tightest bound of each sequence; both exact without latents."""
    values = list(run.findings.bounds.values())
    return values[0], values[-1]


def ranking(runs: Sequence[Subject]) -> str:
    """Returns the runs ordered by their tightest bound, and whether the sequences are enough."""
    order = sorted(runs, key=lambda run: -np.nan_to_num(np.mean(bounds(run)[1]), nan=-np.inf))
    text, is_clear = order[0].name, True
    for better, worse in pairwise(order):
        pair = difference(bounds(better)[1], bounds(worse)[1])
        text += f" {'>' if pair.is_clear else '≈'} {worse.name}"
        is_clear &= pair.is_clear
    text = f"Ranked by the tightest bound: {text}."
    reason = "The 95% interval of the paired difference at ≈ contains 0"
    few = f"{runs[0].findings.subset}, are not enough to rank these runs"
    return text if is_clear else f"{text} {reason}: {few}."


def tables(runs: Sequence[Subject]) -> list[Table]:
    """Returns the numbers side by side, differences from the first run, and means over seeds."""
    first, subset = runs[0], runs[0].findings.subset
    columns = [run.about() | {number.label: number.text for number in scalars(run)} for run in runs]
    pairs = [[difference(*pair) for pair in zip(bounds(run), bounds(first))] for run in runs[1:]]
    result: list[Table] = [
        (
            ("", *(run.name for run in runs)),
            side_by_side(columns),
            f"On {subset}; ± is the standard error over sequences.",
        ),
        (
            ("", "elbo", f"tightest bound ({list(first.findings.bounds)[-1]})"),
            [(run.name, *map(str, pair)) for run, pair in zip(runs[1:], pairs)],
            f"Run minus {first.name} in nats per sequence, paired by sequence, on {subset}: mean "
            "± standard error and 95% interval.",
        ),
    ]
    groups, head, columns = defaultdict(list), [""], []
    for run in runs:
        options = {k: v for k, v in run.experiment.config().items() if k not in ("seed", "out")}
        groups[json.dumps(options, sort_keys=True, default=str)].append(run)
    for group in groups.values():
        values = defaultdict(list)
        for number in (number for run in group for number in scalars(run)):
            values[number.label].append(float(number.value))
        columns.append({k: with_error(v, of_mean=False) for k, v in values.items()})
        head.append(f"{group[0].name} ({len(group)} seed{'s' * (len(group) > 1)})")
    if len(groups) < len(runs):
        caption = "Runs that differ only in the seed: mean ± deviation over seeds."
        result.append((head, side_by_side(columns), caption))
    return result


def side_by_side(columns: Sequence[dict[str, str]]) -> list[list[str]]:
    """Returns a row for each label, at its first place in any column."""
    places: dict[str, int] = {}
    for column in columns:
        for i, label in enumerate(column):
            places[label] = min(i, places.get(label, i))
    order = sorted(places, key=places.__getitem__)
    return [[label, *(column.get(label, "-") for column in columns)] for label in order]


def scalars(run: Subject) -> list[Number]:
    """Returns the numbers of a run that are one number each; no predictive checks."""
    groups = numbers(run.findings)
    del groups["predictive_checks"]
    return [n for group in groups.values() for n in group if isinstance(n.value, int | float)]
