"""Sequences as rows of one array, which may be memory-mapped, and the facts of their values."""

import hashlib
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..corpus import SPLITS, random_split
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
    names: np.ndarray  # name or number of each sequence, for errors, (num,)

    def split(self, splits: np.ndarray | None, seed: int) -> dict[str, "Part"]:
        """Returns the three splits, as told by ``splits``, ``(num,)``, or by chance."""
        num = len(self.lengths)
        if splits is None:
            index = random_split(num, seed, "the sequences")
        elif splits.shape != (num,) or {*map(str, splits)} != {*SPLITS}:
            raise ValueError(
                f"'split' must be {num} times one of {list(SPLITS)}, each at least once, got "
                f"{len(splits)} of {sorted({*map(str, splits)})[:5]}"
            )
        else:
            index = {split: np.flatnonzero(splits == split) for split in SPLITS}
        rest = self.begins, self.lengths, self.names
        return {split: Part(self.rows, *(v[index[split]] for v in rest)) for split in SPLITS}

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
    """Sequences of a :class:`Part`, symbols or float32, scaled each time that they are read."""

    def __init__(self, part: Part, symbols: bool, scale: tuple[list, list] | None):
        self.lengths, self._begins = map(torch.from_numpy, (part.lengths, part.begins))
        self._started = torch.zeros(len(self.lengths), dtype=torch.bool)
        self.labels, self._rows, self._symbols, self._scale = None, part.rows, symbols, scale

    def _read(self, i: int, begin: int, end: int) -> Tensor:
        x = self._rows[begin:end]
        if self._symbols:
            return torch.from_numpy(x[:, 0].astype(np.int64))
        if self._scale is not None:
            x = (x.astype(np.float64) - self._scale[0]) / self._scale[1]
        return torch.from_numpy(x.astype(np.float32))


class Survey(NamedTuple):
    """Facts of all values."""

    digest: str
    missing: bool
    whole: bool  # all are whole numbers
    integer: bool  # and stored as such
    low: np.ndarray  # least of each column, (x_dim,)
    high: np.ndarray  # most of each column, (x_dim,)


def surveyed(parts: dict[str, Part]) -> Survey:
    """Returns facts of all values; refuses infinite values and sequences without a value."""
    digest, missing, whole = hashlib.blake2b(digest_size=4), False, True
    low = high = np.full(parts["train"].rows.shape[1], np.nan)
    for split in SPLITS:
        part = parts[split]
        observed = np.zeros(len(part.lengths))
        digest.update(split.encode() + part.lengths.tobytes())
        for x, owner, step in part.chunks():
            digest.update(np.ascontiguousarray(x).tobytes())
            holes = np.isnan(x)
            for row in np.flatnonzero(np.isinf(x).any(1)):
                name = f"sequence '{part.names[owner[row]]}' in {split}"
                raise ValueError(f"{name} must be finite or NaN, got infinity at step {step[row]}")
            missing = missing or bool(holes.any())
            whole = whole and bool((holes | (x == np.floor(x))).all())
            low, high = np.fmin(low, np.fmin.reduce(x)), np.fmax(high, np.fmax.reduce(x))
            observed += np.bincount(owner, ~holes.all(1), len(observed))
        for name in part.names[observed == 0]:
            raise ValueError(
                f"sequence '{name}' in {split} must have observed values, got only NaN"
            )
    integer = all(part.rows.dtype.kind in "iu" for part in parts.values())
    return Survey(digest.hexdigest(), missing, whole, integer, low, high)


def emission_of(survey: Survey, kind: str) -> str:
    """Returns the emission for values of a kind; "auto" warns where symbols and counts both fit."""
    low, high, x_dim = np.fmin.reduce(survey.low), np.fmax.reduce(survey.high), len(survey.low)
    bits = survey.whole and low >= 0 and high <= 1
    if kind == "auto":
        kind = "bernoulli" if bits else "gaussian"
        if survey.integer and not bits and x_dim == 1 and low >= 0 and high < 2**16:
            kinds = {"categorical": f"{high + 1:.0f} symbols", "counts": "counts"}
            kind, other = sorted(kinds, reverse=bool(high >= 32))
            if high > 9:  # larger ones are often counts
                warnings.warn(
                    f"integers from {low:.0f} to {high:.0f} in one column are taken as "
                    f"{kinds[kind]}: 'kind' {kind} says so, {other} makes them {kinds[other]}",
                    stacklevel=2,
                )
    elif kind in KINDS:
        bound, needed = KINDS[kind]
        fits = survey.whole and low >= 0 and high < bound
        if not fits or (kind == "categorical" and (x_dim > 1 or survey.missing)):
            got = f"{x_dim} columns from {low} to {high}"
            got += ", with fractions" * (not survey.whole) + ", with NaN" * survey.missing
            raise ValueError(f"values must be {needed} to be '{kind}', got {got}")
    return "poisson" if kind == "counts" else kind


def scales(
    part: Part, columns: list[str], survey: Survey, standardize: bool
) -> tuple[list[float], list[float]]:
    """Returns the mean and the deviation of each column in train, ``(x_dim,)``.

    The deviation of a column that is constant up to rounding is 1. Warns of such columns, and of
    columns that float32 does not resolve as they are. Refuses values whose square is not finite.
    """
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    with np.errstate(all="ignore"):  # a chunk may have no value in a column
        for x, _, _ in part.chunks():
            scaler.partial_fit(x)
    mean, std = scaler.mean_, np.sqrt(scaler.var_)
    eps = np.finfo(part.rows.dtype if part.rows.dtype.kind == "f" else float).eps
    for i, name in enumerate(columns):
        value, fault = f"column '{name}' is {mean[i]:.6g}", ""
        if np.isnan(mean[i]):
            raise ValueError(f"column '{name}' must not be NaN all of train")
        if std[i] <= 4 * eps * abs(mean[i]):
            rounded = " but for rounding" * bool(std[i])
            std[i], fault = 1.0, f"all of train{rounded}: its density has no bound, so leave it out"
        elif abs(mean[i]) > 1e5 * std[i] and not standardize:
            fault = f"+- {std[i]:.1g}: float32 rounds it, 'standardize' does not"
        if fault:
            warnings.warn(f"{value} {fault}", stacklevel=2)
        shift, scale = (mean[i], std[i]) if standardize else (0.0, 1.0)
        largest = max(survey.high[i] - shift, shift - survey.low[i]) / scale
        if not (np.isfinite(std[i]) and largest <= 1e18):
            got = f"{survey.low[i]:.3g} to {survey.high[i]:.3g}"
            needed = "at most 1e150 in size, and at most 1e18 as a model sees it"
            raise ValueError(f"column '{name}' must be {needed}, got {got}")
    return mean.tolist(), std.tolist()
