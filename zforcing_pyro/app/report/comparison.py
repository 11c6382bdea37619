"""Several runs side by side: means over seeds, paired differences, a ranking, published rows."""

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.stats import t

from ..published import PUBLISHED
from .findings import Subject
from .numbers import Number, digits, numbers, with_error

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
            torch.equal(a.nan_to_num(), b.nan_to_num()) for (a, *_), (b, *_) in zip(first, data)
        ):
            raise ValueError(
                f"'runs' must be measured on the same sequences, got '{runs[0].name}' and "
                f"'{run.name}' with other windows or another scale of the data"
            )


class Arm(NamedTuple):
    """Runs that differ only in their seed."""

    name: str
    runs: list[Subject]

    def bounds(self, index: int, seeds: Sequence[int]) -> list[list[float]]:
        """Returns the ELBO (0) or the tightest bound (-1) of each sequence, of the runs of seeds.

        Both are exact without latents.
        """
        by_seed = {run.experiment.seed: run for run in self.runs}
        return [list(by_seed[seed].findings.bounds.values())[index] for seed in seeds]

    def minus(self, other: "Arm", index: int = -1) -> Difference:
        """Returns the difference of bounds, paired by sequence and by the seeds of both.

        Arms that have no seed in common are compared by their first runs.
        """
        seeds = [[run.experiment.seed for run in arm.runs] for arm in (self, other)]
        common = sorted(set(seeds[0]) & set(seeds[1]))
        pairs = (common, common) if common else (seeds[0][:1], seeds[1][:1])
        return difference(*(arm.bounds(index, s) for arm, s in zip((self, other), pairs)))

    @property
    def mean(self) -> float:
        """Mean of the tightest bound over runs and sequences; NaN counts as minus infinity."""
        values = self.bounds(-1, [run.experiment.seed for run in self.runs])
        return float(np.nan_to_num(np.mean(values), nan=-np.inf))


def arms(runs: Sequence[Subject]) -> list[Arm]:
    """Returns the runs grouped by all options but the seed, each group named by its first run.

    Numbers of seeds stand behind the names if a group has several. Of runs that do not even differ
    in the seed the first one counts.
    """
    groups = defaultdict(list)
    for run in runs:
        options = {k: v for k, v in run.experiment.config().items() if k not in ("seed", "out")}
        group = groups[json.dumps(options, sort_keys=True, default=str)]
        if run.experiment.seed not in [other.experiment.seed for other in group]:
            group.append(run)
    counts = len(groups) < len(runs)
    return [
        Arm(group[0].name + f" ({len(group)} seed{'s' * (len(group) > 1)})" * counts, group)
        for group in groups.values()
    ]


def ranking(arms: Sequence[Arm]) -> str:
    """Returns the arms ordered by their tightest bound, and whether the sequences are enough."""
    order = sorted(arms, key=lambda arm: -arm.mean)
    text, is_clear = order[0].name, True
    for better, worse in pairwise(order):
        pair = better.minus(worse)
        text += f" {'>' if pair.is_clear else '≈'} {worse.name}"
        is_clear &= pair.is_clear
    text = f"Ranked by the tightest bound: {text}."
    reason = "The 95% interval of the paired difference at ≈ contains 0"
    few = f"{arms[0].runs[0].findings.subset}, are not enough to rank these runs"
    return text if is_clear else f"{text} {reason}: {few}."


def tables(runs: Sequence[Subject]) -> list[Table]:
    """Returns the numbers side by side, means over seeds, all differences, published numbers."""
    groups, subset = arms(runs), runs[0].findings.subset
    columns = [run.about() | {number.label: number.text for number in scalars(run)} for run in runs]
    caption = f"On {subset}; ± is the standard error over sequences."
    result: list[Table] = [(("", *(run.name for run in runs)), side_by_side(columns), caption)]
    if len(groups) < len(runs):
        columns = []
        for arm in groups:
            values = defaultdict(list)
            for number in (number for run in arm.runs for number in scalars(run)):
                values[number.label].append(float(number.value))
            columns.append({k: with_error(v, of_mean=False) for k, v in values.items()})
        caption = "Runs that differ only in the seed: mean ± deviation over seeds."
        result.append((("", *(arm.name for arm in groups)), side_by_side(columns), caption))
    return [*result, *differences(groups), *published(runs[0])]


def configurations(groups: Sequence[Arm]) -> Table:
    """Returns a row for each arm: parameters, and bounds, KL and latents in use over its seeds."""
    columns = []
    for arm in groups:
        values = defaultdict(list)
        for run in arm.runs:
            elbo = run.findings.elbo
            row = {n.label: float(n.value) for n in scalars(run) if n.key != "trivial"}
            if run.findings.weights is not None:
                row |= {"KL, nats per sequence": elbo.kl_per_sequence}
            if elbo.latents_in_use is not None:
                row |= {"latents in use": float(elbo.latents_in_use)}
            for label, value in row.items():
                values[label].append(value)
        cells = {label: with_error(v, of_mean=False) for label, v in values.items()}
        columns.append({"parameters": arm.runs[0].about()["parameters"]} | cells)
    heads, *rows = zip(*side_by_side(columns))
    caption = f"On {groups[0].runs[0].findings.subset}; mean ± deviation over seeds."
    return ("", *heads), [(arm.name, *row) for arm, row in zip(groups, rows)], caption


def differences(groups: Sequence[Arm]) -> list[Table]:
    """Returns all differences of arms: of the ELBO, and of the tightest bound."""
    first, result = groups[0].runs[0].findings, []
    names, several = list(first.bounds), any(len(arm.runs) > 1 for arm in groups)
    for index, name in ((0, names[0]), (-1, f"tightest bound ({names[-1]})")):
        rows = [
            [f"minus {other.name}", *(str(arm.minus(other, index)) for arm in groups[i + 1 :])]
            for i, other in enumerate(groups[:-1])
        ]
        rows = [[row[0], *["-"] * (len(groups) - len(row)), *row[1:]] for row in rows]
        caption = f"Differences of the {name} in nats per sequence, paired by sequence"
        caption += f"{' and seed' * several}, on {first.subset}: mean ± standard error "
        caption += "and 95% interval."
        if len(groups) > 1:
            result.append((("", *(arm.name for arm in groups[1:])), rows, caption))
    return result


def published(run: Subject) -> list[Table]:
    """Returns published numbers on the data of a run, if there are any."""
    if numbers := PUBLISHED.get(run.experiment.data["name"]):
        return [(("published", numbers.unit), numbers.rows, numbers.caption)]
    return []


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
