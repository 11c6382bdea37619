"""Sequences as rows of one array, which may be memory-mapped, and checks of their values."""

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

MAX_SYMBOLS = 2**16
FEW_SYMBOLS = 32
KINDS = {
    "bernoulli": (2, "0, 1 or NaN"),
    "categorical": (MAX_SYMBOLS, f"symbols in 0..{MAX_SYMBOLS - 1}"),
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


class Read(NamedTuple):
    """Sequences of all splits, and the names that errors need."""

    parts: dict[str, Part]
    columns: list[str]
    where: str  # the file or the frame

    def chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, Part]]:
        """Yields the chunks of all splits, with their part."""
        return ((*chunk, self.parts[s]) for s in SPLITS for chunk in self.parts[s].chunks())


class Rows(SequenceSet):
    """Sequences of a :class:`Part`, converted by a function each time that they are read."""

    def __init__(self, part: Part, convert: Callable[[np.ndarray], Tensor]):
        self.lengths, self._begins = map(torch.from_numpy, (part.lengths, part.begins))
        self._started = torch.zeros(len(self.lengths), dtype=torch.bool)
        self.labels, self._rows, self._convert = None, part.rows, convert

    def _read(self, i: int, begin: int, end: int) -> Tensor:
        return self._convert(self._rows[begin:end])


class Survey(NamedTuple):
    """Facts of all values, gathered in one pass."""

    digest: str
    missing: bool
    bits: bool
    low: np.ndarray  # least of each column, (x_dim,)
    high: np.ndarray  # most of each column, (x_dim,)


def surveyed(read: Read) -> Survey:
    """Returns facts of all values.

    Raises:
        ValueError: If a value is infinite, or a sequence has no value.
    """
    digest, missing, bits = hashlib.blake2b(digest_size=4), False, True
    low = high = np.full(len(read.columns), np.nan)
    observed = {s: np.zeros(len(part.lengths)) for s, part in read.parts.items()}
    for split in SPLITS:
        digest.update(split.encode() + read.parts[split].lengths.tobytes())
        for x, owner, step in read.parts[split].chunks():
            digest.update(np.ascontiguousarray(x).tobytes())
            if (infinite := np.isinf(x).any(1)).any():
                row = infinite.argmax()
                raise ValueError(
                    f"sequence {read.parts[split].names[owner[row]]} of {read.where} must be "
                    f"finite or NaN, got infinity at step {step[row]}"
                )
            holes = np.isnan(x)
            missing |= bool(holes.any())
            bits &= bool(((x == 0) | (x == 1) | holes).all())
            low, high = np.fmin(low, np.fmin.reduce(x)), np.fmax(high, np.fmax.reduce(x))
            first = owner[0]
            observed[split][first : owner[-1] + 1] += np.bincount(owner - first, ~holes.all(1))
        if not observed[split].all():
            name = read.parts[split].names[observed[split].argmin()]
            raise ValueError(
                f"sequence {name} of {read.where} must have observed values, got NaN everywhere"
            )
    return Survey(digest.hexdigest(), missing, bits, low, high)


def kind_of(read: Read, survey: Survey) -> str:
    """Returns the kind that suits the values; warns where symbols and counts both do."""
    if survey.bits:
        return "bernoulli"
    integer = all(part.rows.dtype.kind in "iu" for part in read.parts.values())
    if not integer or len(read.columns) > 1:
        return "gaussian"
    low, high = int(survey.low[0]), int(survey.high[0])
    if low < 0 or high >= MAX_SYMBOLS:
        return "gaussian"
    kind, other = ("categorical", "counts")[:: 1 if high < FEW_SYMBOLS else -1]
    if high > 9:  # larger ones are often counts
        names = {"categorical": f"{high + 1} symbols", "counts": "counts"}
        warnings.warn(
            f"integers from {low} to {high} in the one column of {read.where} are taken as "
            f"{names[kind]}: 'kind' {kind} says so, {other} makes them {names[other]}",
            stacklevel=2,
        )
    return kind


def check_kind(read: Read, kind: str) -> None:
    """Raises ValueError unless the values are of their kind."""
    if kind == "gaussian":
        return
    if kind == "categorical" and len(read.columns) > 1:
        raise ValueError(f"{read.where} must have one column of symbols, got {read.columns}")
    most, needed = KINDS[kind]
    for x, owner, _, part in read.chunks():
        fits = (x >= 0) & (x < most) & (x == np.floor(x))
        fits |= np.isnan(x) & (kind != "categorical")
        if not fits.all():
            row, column = np.argwhere(~fits)[0]
            raise ValueError(
                f"sequence {part.names[owner[row]]} of {read.where} must hold {needed} to be "
                f"'{kind}', got {x[row, column]}"
            )


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
    """Returns mean and deviation that real values are standardised by, ``(x_dim,)`` each.

    Warns of constant columns, and of columns that float32 does not resolve as they are.

    Raises:
        ValueError: If a value is so large that its square is infinite, before or after.
    """
    largest = np.maximum(np.abs(survey.low), np.abs(survey.high))
    check_largest(read, largest, 1e150)
    mean, std = moments(read)
    for i in np.flatnonzero(std == 0):
        warnings.warn(
            f"column '{read.columns[i]}' of {read.where} is {mean[i]:.6g} all of train: a density "
            "of a constant has no bound, so leave the column out",
            stacklevel=2,
        )
    if standardize:
        std = np.where(std == 0, 1.0, std)
        check_largest(read, np.maximum(mean - survey.low, survey.high - mean) / std, 1e18)
        return mean, std
    check_largest(read, largest, 1e18)
    coarse = (std > 0) & (np.abs(mean) * 2.0**-23 > std / 100)
    if coarse.any():
        name = read.columns[coarse.argmax()]
        warnings.warn(
            f"column '{name}' of {read.where} has {mean[coarse][0]:.3g} for a mean and "
            f"{std[coarse][0]:.3g} for a deviation: float32 rounds its values, 'standardize' does "
            "not",
            stacklevel=2,
        )
    return mean, std


def check_largest(read: Read, largest: np.ndarray, limit: float) -> None:
    """Raises ValueError if the largest value of a column is above the limit."""
    if (largest > limit).any():
        i = largest.argmax()
        raise ValueError(
            f"column '{read.columns[i]}' of {read.where} must be at most {limit:.0e} in size"
            f"{' once standardised' if limit < 1e150 else ''}, got {largest[i]:.3g}"
        )
