"""Sequences as rows of one array, which may be memory-mapped, and what their values can be."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..corpus import SPLITS
from ..sequences import SequenceSet

KINDS = {
    "bernoulli": (2, "0, 1 or NaN"),
    "categorical": (2**16, "one column of symbols in 0..65535"),
    "counts": (2**24, "whole numbers in 0..2**24 or NaN"),
}
"""Bound and description of the whole numbers of a kind."""


class Part(NamedTuple):
    """Sequences of one split, each a stretch of rows."""

    rows: np.ndarray  # (rows, x_dim)
    begins: np.ndarray  # first row of each sequence, (num,)
    lengths: np.ndarray  # rows of each sequence, (num,)
    names: list[str]  # of each sequence, for errors

    def subset(self, index: np.ndarray) -> Part:
        """Returns the sequences at ``index``."""
        names = [self.names[i] for i in index]
        return Part(self.rows, self.begins[index], self.lengths[index], names)

    def chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yields about a million values as rows, with the sequence and the step of each row."""
        ends = self.lengths.cumsum()
        size = max(1, 2**20 // self.rows.shape[1])
        for begin in range(0, ends[-1], size):
            flat = np.arange(begin, min(begin + size, ends[-1]))
            owner = ends.searchsorted(flat, side="right")
            step = flat - (ends - self.lengths)[owner]
            yield self.rows[self.begins[owner] + step], owner, step


class Rows(SequenceSet):
    """Sequences of a :class:`Part`, converted by a function each time that they are read."""

    def __init__(self, part: Part, convert: Callable[[np.ndarray], Tensor]):
        self.lengths, self._begins = map(torch.from_numpy, (part.lengths, part.begins))
        self._started = torch.zeros(len(self.lengths), dtype=torch.bool)
        self.labels, self._rows, self._convert = None, part.rows, convert

    def _read(self, i: int, begin: int, end: int) -> Tensor:
        return self._convert(self._rows[begin:end])


class Read(NamedTuple):
    """Sequences of all splits, and the names that errors need."""

    parts: dict[str, Part]
    columns: list[str]
    where: str  # the file or the frame


class Survey(NamedTuple):
    """Facts of all values."""

    digest: str
    missing: bool
    whole: bool
    low: np.ndarray  # least of each column, (x_dim,)
    high: np.ndarray  # most of each column, (x_dim,)


def surveyed(read: Read) -> Survey:
    """Returns facts of all values, gathered in one pass.

    Raises:
        ValueError: If a value is infinite, or a sequence has no value.
    """
    digest, missing, whole = hashlib.blake2b(digest_size=4), False, True
    low = high = np.full(len(read.columns), np.nan)
    for split in SPLITS:
        part, observed = read.parts[split], np.zeros(len(read.parts[split].lengths))
        digest.update(split.encode() + part.lengths.tobytes())
        for x, owner, step in part.chunks():
            digest.update(np.ascontiguousarray(x).tobytes())
            holes = np.isnan(x)
            if not (fine := holes | np.isfinite(x)).all():
                row = fine.all(1).argmin()
                raise ValueError(
                    f"sequence {part.names[owner[row]]} of {read.where} must be finite or NaN, got "
                    f"infinity at step {step[row]}"
                )
            missing, first = missing or bool(holes.any()), owner[0]
            whole = whole and bool((holes | (x == np.floor(x))).all())
            low, high = np.fmin(low, np.fmin.reduce(x)), np.fmax(high, np.fmax.reduce(x))
            observed[first : owner[-1] + 1] += np.bincount(owner - first, ~holes.all(1))
        if not observed.all():
            raise ValueError(
                f"sequence {part.names[observed.argmin()]} of {read.where} must have observed "
                "values, got NaN everywhere"
            )
    return Survey(digest.hexdigest(), missing, whole, low, high)


def kind_of(read: Read, survey: Survey) -> str:
    """Returns the kind that suits the values; warns where symbols and counts both do."""
    low, high = np.fmin.reduce(survey.low), np.fmax.reduce(survey.high)
    integer = all(part.rows.dtype.kind in "iu" for part in read.parts.values())
    if survey.whole and low >= 0 and high <= 1:
        return "bernoulli"
    if not integer or len(read.columns) > 1 or low < 0 or high >= KINDS["categorical"][0]:
        return "gaussian"
    kinds = {"categorical": f"{high + 1:.0f} symbols", "counts": "counts"}
    kind, other = sorted(kinds, reverse=bool(high >= 32))
    if high > 9:  # larger ones are often counts
        warnings.warn(
            f"integers from {low:.0f} to {high:.0f} in the one column of {read.where} are taken as "
            f"{kinds[kind]}: 'kind' {kind} says so, {other} makes them {kinds[other]}",
            stacklevel=2,
        )
    return kind


def check_kind(read: Read, survey: Survey, kind: str) -> None:
    """Raises ValueError unless the values are of their kind."""
    low, high = np.fmin.reduce(survey.low), np.fmax.reduce(survey.high)
    most, needed = KINDS.get(kind, (np.inf, ""))
    fits = survey.whole and low >= 0 and high < most
    if kind == "categorical":
        fits &= len(read.columns) == 1 and not survey.missing
    if kind in KINDS and not fits:
        got = f"{len(read.columns)} columns from {low} to {high}"
        got += ", with fractions" * (not survey.whole) + ", with NaN" * survey.missing
        raise ValueError(f"{read.where} must hold {needed} to be '{kind}', got {got}")


def moments(read: Read) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and deviation of the columns in train, ``(x_dim,)`` each, in float64.

    The deviation of a column that is constant up to rounding is 0.

    Raises:
        ValueError: If a column has no value.
    """
    part = read.parts["train"]
    num = total = shift = squares = np.zeros(len(read.columns))
    for x, _, _ in part.chunks():
        num, total = num + (~np.isnan(x)).sum(0), total + np.nansum(x, 0, dtype=float)
    if not num.all():
        name = read.columns[int(num.argmin())]
        raise ValueError(f"column '{name}' of {read.where} must not be NaN all of train")
    mean = total / num
    for x, _, _ in part.chunks():
        shift, squares = shift + np.nansum(x - mean, 0), squares + np.nansum((x - mean) ** 2, 0)
    std = np.sqrt(np.maximum(squares / num - (shift / num) ** 2, 0))
    eps = np.finfo(part.rows.dtype if part.rows.dtype.kind == "f" else float).eps
    return mean + shift / num, np.where(std > 4 * eps * np.abs(mean), std, 0.0)


def scales(read: Read, survey: Survey, standardize: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean and the deviation that scale real values, ``(x_dim,)`` each.

    Warns of constant columns, and of columns that float32 does not resolve as they are.

    Raises:
        ValueError: If a value is so large that its square is infinite, before or after.
    """
    check_largest(read, np.maximum(-survey.low, survey.high), 1e150)
    mean, std = moments(read)
    for i, name in enumerate(read.columns):
        fault = ""
        if std[i] == 0:
            fault = f"is {mean[i]:.6g} all of train: its density has no bound, so leave it out"
        elif abs(mean[i]) > 1e5 * std[i] and not standardize:
            fault = f"is {mean[i]:.6g} +- {std[i]:.1g}: float32 rounds it, 'standardize' does not"
        if fault:
            warnings.warn(f"column '{name}' of {read.where} {fault}", stacklevel=2)
    std[std == 0] = 1.0
    m, s = (mean, std) if standardize else (0.0, 1.0)
    check_largest(read, np.maximum(m - survey.low, survey.high - m) / s, 1e18)
    return mean, std


def check_largest(read: Read, largest: np.ndarray, limit: float) -> None:
    """Raises ValueError if the largest value of a column is above the limit."""
    for i in np.flatnonzero(largest > limit):
        raise ValueError(
            f"column '{read.columns[i]}' of {read.where} must be at most {limit:.0e} in size"
            f"{' as a model sees it' if limit < 1e150 else ''}, got {largest[i]:.3g}"
        )
