"""Columns of series as a net reads them, and back: families, scales, covariates, calendar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .frames import Layout, Series
from .grid import BUSINESS, BUSINESS_MONTHS, MONTHS, ORDER

COUNTS = "poisson", "negative_binomial"
CYCLES = {"year": 365.2425, "week": 7.0, "day": 1.0}
"""Lengths of the cycles of a calendar, in days."""
HARMONICS, HEAVY, NS_A_DAY = 2, 5.0, 86_400e9
"""Harmonics of a cycle; the excess kurtosis that is heavy; nanoseconds a day."""
MOST_STEPS = 100_000
"""Largest level in units of a change: float32 has it to 0.01 of such a unit."""


@dataclass
class Coding:
    """Families, scales and covariates, by which a net reads series.

    Args:
        families: Family of each target, see :class:`~zforcing_pyro.emissions.Columns`.
        shift, scale: What is taken from each target, and what the rest is divided by.
        relative: True for targets of which the net reads the change since the step before.
        covariates: Mean and scale of each covariate of numbers, or the list of its values.
        cycles: Cycles of the calendar that the net reads.
    """

    families: list[str] = field(default_factory=list)
    shift: list[float] = field(default_factory=list)
    scale: list[float] = field(default_factory=list)
    relative: list[bool] = field(default_factory=list)
    covariates: dict[str, list] = field(default_factory=dict)
    cycles: list[str] = field(default_factory=list)

    @classmethod
    def learnt(
        cls,
        series: Sequence[Series],
        layout: Layout,
        kind: str | dict[str, str],
        difference: bool | str,
        calendar: bool,
    ) -> tuple[Coding, list[str]]:
        """Returns the coding for training series, and a sentence for each choice by look."""
        coding, notes = cls(), []
        if isinstance(kind, dict) and (unknown := sorted({*kind} - {*layout.targets})):
            raise ValueError(f"'kind' must name columns of {list(layout.targets)}, got {unknown}")
        for name in layout.targets:
            parts = [s.values[name] for s in series]
            told = kind if isinstance(kind, str) else kind.get(name, "auto")
            family, why = family_of(parts, told)
            values = np.concatenate(parts)
            values = values[~np.isnan(values)]
            shift, scale, trends = 0.0, 1.0, False
            if family in COUNTS:
                scale = max(1.0, float(values.mean()))
            elif family in ("gaussian", "student_t"):
                trends = has_trend(parts) if difference == "auto" else bool(difference)
                changes = np.concatenate([np.diff(p) for p in parts])
                spread = np.nanstd(changes) if trends else values.std()
                shift = float(values.mean())
                scale = float(spread) if spread > 1e-12 * np.abs(values).max() else 1.0
                why += "; its level moves, so changes are modelled" * trends
            coding.families.append(family)
            coding.shift.append(shift)
            coding.scale.append(scale)
            coding.relative.append(trends)
            notes.append(f"'{name}': {family}, {why}")
        for name in (*layout.future, *layout.static):
            values = np.concatenate([s.values[name] for s in series])
            if values.dtype.kind == "f":
                spread = float(np.nanstd(values))
                coding.covariates[name] = [float(np.nanmean(values)), spread or 1.0]
            else:
                coding.covariates[name] = sorted({str(v) for v in values if v is not None})
        if calendar and series[0].times.dtype.kind == "M" and layout.grid.unit != ORDER:
            span = max((s.times[-1] - s.times[0]) / np.timedelta64(1, "D") for s in series)
            unit, size = layout.grid.unit, layout.grid.size
            months = {MONTHS: 30.0 * size, BUSINESS_MONTHS: 30.0 * size}
            step = ({BUSINESS: 1.0} | months).get(unit, size / NS_A_DAY)
            coding.cycles = [n for n, d in CYCLES.items() if step < d / 1.9 and span > 1.5 * d]
            if coding.cycles:
                notes.append(f"calendar: cycles of the {' and '.join(coding.cycles)} are read")
        return coding, notes

    def coded(self, series: Series, targets: Sequence[str]) -> np.ndarray:
        """Returns the targets as a net's unit has them, NaN where missing, ``(time, targets)``."""
        for name, family in zip(targets, self.families):
            values = series.values[name]
            if values.dtype.kind not in "biuf":
                wrong = next(v for v in values if v is not None and not isinstance(v, (int, float)))
                raise ValueError(f"'{name}' must be of numbers, got {wrong!r}")
            wrong = np.zeros(len(values), dtype=bool)
            if family in COUNTS:
                wrong = (values < 0) | (values != values.round())
            elif family in ("bernoulli", "beta"):
                wrong = (values < 0) | (values > 1)
            if (wrong := wrong & ~np.isnan(values)).any():
                rule = f"must suit '{family}', its family in training"
                raise ValueError(f"'{name}' {rule}, got {values[wrong][0]:g}")
        values = np.stack([series.values[name] for name in targets], 1)
        coded = (values - self.shift) / self.scale
        for i, name in enumerate(targets):
            if self.relative[i] and np.nanmax(np.abs(coded[:, i]), initial=0.0) > MOST_STEPS:
                raise ValueError(
                    f"'{name}' must be within {MOST_STEPS:,} times the size of its changes from "
                    f"{self.shift[i]:g}, its mean in training, or float32 loses them: subtract a "
                    "level from each series"
                )
        return coded

    def decoded(self, x: np.ndarray) -> np.ndarray:
        """Returns coded targets, ``(..., targets)``, in their own units."""
        x = x * self.scale + self.shift
        counts = [family in COUNTS for family in self.families]
        return np.where(counts, x.round(), x)

    @property
    def log_units(self) -> np.ndarray:
        """Nats by which a surprise in the data's own units is above one in the net's, by target."""
        counts = [family in COUNTS for family in self.families]
        return np.where(counts, 0.0, np.log(self.scale))

    def given(self, series: Series) -> np.ndarray:
        """Returns the covariates of all steps, ``(time, covariates)``.

        A missing number is read as the mean. Raises ValueError for a value of a covariate of names
        that training had not.
        """
        columns: list[np.ndarray] = [np.zeros((len(series.times), 0))]
        for name, code in self.covariates.items():
            values = series.values[name]
            if len(code) == 2 and not isinstance(code[0], str):
                columns.append(np.nan_to_num((values.astype(float) - code[0]) / code[1])[:, None])
                continue
            words = [None if v is None else str(v) for v in values]
            if unknown := sorted({w for w in words if w is not None} - {*code}):
                raise ValueError(
                    f"'{name}' must be one of {code[:9]} as in training, got {unknown}"
                )
            columns.append(np.array([[word == c for c in code] for word in words], dtype=float))
        for cycle in self.cycles:
            days = (series.times - np.datetime64("2000-01-03")) / np.timedelta64(1, "D")
            for k in range(1, HARMONICS + 1):
                phase = 2 * np.pi * k * days / CYCLES[cycle]
                columns.append(np.stack([np.sin(phase), np.cos(phase)], 1))
        return np.concatenate(columns, 1)

    def read(self, coded: np.ndarray) -> np.ndarray:
        """Returns what the net is trained on, ``(time, targets)``: changes where ``relative``."""
        changes = np.diff(coded, axis=0, prepend=np.full_like(coded[:1], np.nan))
        return np.where(self.relative, changes, coded)

    def carried(self, read: np.ndarray) -> np.ndarray:
        """Returns values with the last one carried forward where missing; changes as 0."""
        steps = np.arange(len(read))[:, None]
        last = np.maximum.accumulate(np.where(np.isnan(read), -1, steps))
        carried = np.where(last >= 0, np.take_along_axis(read, last.clip(0), 0), 0.0)
        return np.where(self.relative, np.nan_to_num(read), carried)


def beside(x: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Returns targets beside the covariates of the step after, ``(time, x_dim)``."""
    return np.concatenate([x, np.concatenate([given[1:], given[-1:]])[: len(x)]], 1)


def start_frame(num_targets: int, given: np.ndarray) -> np.ndarray:
    """Returns the frame before a series: nothing beside the first covariates, ``(x_dim,)``."""
    return np.concatenate([np.zeros(num_targets), given[0]])


def family_of(parts: Sequence[np.ndarray], kind: str) -> tuple[str, str]:
    """Returns the family of a column, and why.

    Raises ValueError for a column without values, infinite values, or values that do not suit
    ``kind``.
    """
    kinds = ["auto", "counts", "gaussian", "student_t", "bernoulli", "beta", *COUNTS]
    x = np.concatenate(parts)
    x = x[~np.isnan(x)]
    if kind not in kinds:
        raise ValueError(f"'kind' must be one of {kinds}, got '{kind}'")
    if not len(x) or np.isinf(x).any():
        got = "infinity" if len(x) else "none before validation"
        raise ValueError(f"'targets' must have finite values, got {got}")
    low, high, whole = x.min(), x.max(), bool((x == x.round()).all())
    is_count, dispersion = whole and low >= 0, x.var() / max(x.mean(), 1e-9)
    fits: dict[str, bool] = {
        "bernoulli": is_count and high <= 1, "beta": low >= 0 and high <= 1,
        "counts": is_count, **dict.fromkeys(COUNTS, is_count),
    }  # fmt: skip
    if not fits.get(kind, True):
        raise ValueError(f"'kind' must suit the values, got '{kind}' for {low:g} to {high:g}")
    if kind not in ("auto", "counts"):
        return kind, "as 'kind' says"
    if kind == "auto" and fits["bernoulli"]:
        return "bernoulli", "since all values are 0 or 1"
    if is_count:
        family = COUNTS[int(dispersion > 1.2)]
        return family, f"since all are whole numbers, with variance {dispersion:.2g} x mean"
    if low > 0 and high < 1:
        return "beta", "since all values are between 0 and 1"
    changes = np.concatenate([np.diff(part) for part in parts])
    changes = changes[~np.isnan(changes)]
    moments = ((changes - changes.mean()) ** 2).mean() if len(changes) else 0.0
    if len(changes) >= 100 and moments > 0:
        excess = ((changes - changes.mean()) ** 4).mean() / moments**2 - 3
        if excess > HEAVY:
            return "student_t", f"since changes have heavy tails (excess kurtosis {excess:.1f})"
    return "gaussian", "real numbers"


def has_trend(parts: Sequence[np.ndarray]) -> bool:
    """Returns whether most of the last fifth of the series lies beyond what came before it."""
    beyond = []
    for x in parts:
        x = x[~np.isnan(x)]
        before, last = np.split(x, [len(x) * 4 // 5])
        if len(before) > 10:
            low, high = np.quantile(before, [0.01, 0.99])
            beyond.append(((last < low) | (last > high)).mean())
    return bool(beyond) and float(np.median(beyond)) > 0.5
