"""Numbers of one's own in columns: what they are, how they are scaled, and back."""

from __future__ import annotations

import csv
import hashlib
import textwrap
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..corpus import SPLITS, Corpus, Floor
from ..sequences import Sequences
from .floors import bernoulli_floor, normal_floor, unigram_floor

Kind = Literal["auto", "bernoulli", "categorical", "gaussian"]
MAX_SYMBOLS = 2**16
BLOCKS = "▁▂▃▄▅▆▇█"


class Read(NamedTuple):
    """What a subclass of :class:`ColumnsCorpus` has read."""

    sequences: dict[str, list[np.ndarray]]  # by split, each (time,) or (time, x_dim), as they are
    names: dict[str, list[str]]  # of the sequences, for errors
    columns: list[str]
    where: str  # what they come from, for errors


class ColumnsCorpus(Corpus):
    """Sequences of numbers, whose family is told by what they are.

    Numbers that are 0 or 1 everywhere are bits ("bernoulli"). Whole numbers of 0 or more in a
    single column, without a missing one, are symbols ("categorical"), as many as the largest of all
    splits says. All else is real ("gaussian"), and standardised: each column minus its mean, by
    its population standard deviation, both of the observed values of train (a constant column is
    only shifted). Bounds are then those of standardised values; a column of deviation s adds
    log(s) nats a step to those of the values themselves. What is written is in the values' own
    units.

    NaN is a missing value: no part of a likelihood, and a model never sees it.

    Attributes:
        columns: Their names.

    Args:
        path: What is read.
        kind: What the values are, in place of looking.
        standardize: Whether real values are.
        seed: Of a split at random.
        data_dir: Folder in which a relative path is looked for as well.

    Raises:
        ValueError: If there is no such kind, or the seed is negative. On reading: if values are not
            of their kind, infinite, or NaN all through a sequence or a column of train.
    """

    licence = "yours"
    size = "any"
    step = "step"
    view = "curve"
    suffix = ".csv"

    def __init__(
        self,
        path: str | Path,
        kind: Kind,
        standardize: bool,
        seed: int,
        data_dir: str | Path | None,
    ):
        super().__init__(data_dir)
        if seed < 0:
            raise ValueError(f"'seed' must not be negative, got {seed}")
        self.given, self.seed = path, seed
        if kind not in (kinds := Kind.__args__):
            raise ValueError(f"'kind' must be one of {list(kinds)}, got '{kind}'")
        self.kind, self.standardize = kind, standardize
        self._facts: dict[str, Any] = {}

    @abstractmethod
    def read(self) -> Read:
        """Reads everything."""

    def load(self, split: str) -> Sequences:
        read = self.read()
        check_values(read)
        facts = self._facts = self._facts or self._learnt(read)
        if facts["columns"] != read.columns:
            raise ValueError(
                f"{read.where} must have the columns {facts['columns']}, got {read.columns}"
            )
        check_kind(read, facts["emission"], facts["x_dim"])
        for name, sequences in read.sequences.items():
            missing = any(np.isnan(x).any() for x in sequences)
            seen = [self._seen(x, missing) for x in sequences]
            self._splits[name] = Sequences(seen, missing=missing)
        return self._splits[split]

    def _learnt(self, read: Read) -> dict[str, Any]:
        kind = kind_of(read) if self.kind == "auto" else self.kind
        check_kind(read, kind)
        digest = hashlib.blake2b(digest_size=4)
        for split in SPLITS:
            for x in read.sequences[split]:
                digest.update(repr((split, x.shape)).encode() + np.ascontiguousarray(x).tobytes())
        facts = {"emission": kind, "columns": read.columns, "mean": None, "std": None}
        facts |= {"x_dim": len(read.columns), "version": f"digest {digest.hexdigest()}"}
        facts["missing"] = any(np.isnan(x).any() for v in read.sequences.values() for x in v)
        if kind == "categorical":
            facts["x_dim"] = 1 + max(int(x.max()) for v in read.sequences.values() for x in v)
        if kind == "gaussian" and self.standardize:
            train = np.concatenate([as_vectors(x) for x in read.sequences["train"]])
            empty = np.isnan(train).all(0)
            if empty.any():
                column = read.columns[int(empty.argmax())]
                raise ValueError(f"column '{column}' of {read.where} must not be NaN all of train")
            varies = np.nanmin(train, axis=0) < np.nanmax(train, axis=0)
            facts["mean"] = np.nanmean(train, axis=0).tolist()
            facts["std"] = np.where(varies, np.nanstd(train, axis=0), 1.0).tolist()
            facts["version"] += ", standardised"
        return facts

    def _seen(self, x: np.ndarray, missing: bool) -> Tensor:
        """Values of a split as a model sees them."""
        kind = self._facts["emission"]
        if kind == "categorical":
            return torch.from_numpy(x.reshape(-1).astype(np.int64))
        x = as_vectors(x)
        if kind == "bernoulli" and not missing:
            return torch.from_numpy(x.astype(np.uint8))
        if self._facts["mean"] is not None:
            x = (x - self._facts["mean"]) / self._facts["std"]
        return torch.from_numpy(x.astype(np.float32))

    def values(self, x: Tensor) -> Tensor:
        """A sequence as a model sees it in its own units: ``(time, x_dim)``, or symbols."""
        if not self.facts()["mean"]:
            return x
        mean, std = (torch.tensor(self.facts()[name]) for name in ("mean", "std"))
        return x * std.to(x) + mean.to(x)

    def facts(self) -> dict[str, Any]:
        if not self._facts:
            self.split("train")
        return self._facts

    def restore(self, facts: dict[str, Any]) -> None:
        needed = ("emission", "columns", "mean", "std", "x_dim", "missing", "version")
        self._facts = {name: facts[name] for name in needed}

    def _known(self, name: str, default: Any) -> Any:
        return self.facts()[name] if self._facts or self.found() else default

    @property
    def emission(self) -> str:
        return self._known("emission", "gaussian")

    @property
    def x_dim(self) -> int:
        return self.facts()["x_dim"]

    @property
    def missing(self) -> bool:
        return self.facts()["missing"]

    @property
    def columns(self) -> list[str]:
        return self.facts()["columns"]

    @property
    def version(self) -> str:
        return self._known("version", "yours")

    def floor(self) -> Floor:
        train, test = self.split("train"), self.split("test")
        if self.emission == "bernoulli":
            return bernoulli_floor(train, test, self.x_dim, "columns")
        if self.emission == "categorical":
            return unigram_floor(train, test, self.x_dim, "symbols")
        seen = torch.cat([x for x, _ in train]).double()
        mean = seen.nanmean(0)
        std = (seen - mean).square().nanmean(0).sqrt()
        std = torch.where(std > 1e-6 * (1 + mean.abs()), std, 1.0)  # float32 values that are equal
        return normal_floor(test, mean, std, "columns")

    def write(self, x: Tensor, file: Path) -> None:
        rows = self.values(x.cpu()).reshape(len(x), -1).tolist()
        with open(file, "w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["step", *self.columns])
            for step, row in enumerate(rows):
                writer.writerow([step, *("" if v != v else f"{v:.7g}" for v in row)])

    def as_text(self, x: Tensor) -> str:
        """Symbols as numbers; or a curve of each of the first 12 columns, with its range."""
        if self.emission == "categorical":
            return textwrap.fill(" ".join(map(str, x.tolist())), 80)
        values, columns = self.values(x.cpu()).double().numpy(), self.columns[:12]
        width = max(map(len, columns))
        lines = [
            f"{name[:16]:{min(width, 16)}} {curve(column)}"
            for name, column in zip(columns, values.T)
        ]
        if rest := len(self.columns) - len(columns):
            lines.append(f"{rest} more columns")
        return "\n".join(lines)


def curve(column: np.ndarray, width: int = 40) -> str:
    """Means of up to 40 stretches of a column in block characters, and its least and most.

    Example:
        >>> curve(np.array([0.0, 1.0, np.nan, 4.0]))
        '▁▃ █ 0 .. 4'
    """
    observed = column[~np.isnan(column)]
    if not len(observed):
        return "missing"
    low, high = observed.min(), observed.max()
    marks = []
    for part in np.array_split(column, min(width, len(column))):
        part = part[~np.isnan(part)]
        height = (part.mean() - low) / (high - low) if len(part) and high > low else 0.0
        marks.append(BLOCKS[round(height * 7)] if len(part) else " ")
    return f"{''.join(marks)} {low:.4g} .. {high:.4g}"


def as_vectors(x: np.ndarray) -> np.ndarray:
    """Values ``(time,)`` or ``(time, x_dim)`` as float64 vectors ``(time, x_dim)``."""
    return x.reshape(len(x), -1).astype(np.float64)


def kind_of(read: Read) -> str:
    """The family that suits what was read."""
    values = [x for sequences in read.sequences.values() for x in sequences]
    if all(((x == 0) | (x == 1) | (x != x)).all() for x in values):
        return "bernoulli"
    if all(x.dtype.kind in "iu" and x.size == len(x) for x in values) and all(
        x.min() >= 0 and x.max() < MAX_SYMBOLS for x in values
    ):
        return "categorical"
    return "gaussian"


def check_values(read: Read) -> None:
    """Raises ValueError unless all are numbers, finite or missing, of one ``x_dim``."""
    for split, sequences in read.sequences.items():
        for name, x in zip(read.names[split], sequences):
            place = f"sequence {name} of {read.where}"
            if x.dtype.kind not in "buif" or x.ndim not in (1, 2) or not x.size:
                raise ValueError(f"{place} must be numbers, got {x.dtype} of shape {x.shape}")
            if x.size != len(x) * len(read.columns):
                raise ValueError(
                    f"{place} must have the columns {read.columns}, got shape {x.shape}"
                )
            if x.dtype.kind != "f":
                continue
            if (infinite := np.isinf(x)).any():
                step = int(infinite.reshape(len(x), -1).any(1).argmax())
                raise ValueError(f"{place} must be finite or NaN, got infinity at step {step}")
            if np.isnan(x).all():
                raise ValueError(f"{place} must have observed values, got NaN everywhere")


def check_kind(read: Read, kind: str, num_symbols: int = MAX_SYMBOLS) -> None:
    """Raises ValueError unless the values are of their kind."""
    if kind == "gaussian":
        return
    for split, sequences in read.sequences.items():
        for name, x in zip(read.names[split], sequences):
            if kind == "bernoulli":
                fits, needed = (x == 0) | (x == 1) | (x != x), "0, 1 or NaN"
            elif x.size != len(x):
                raise ValueError(
                    f"{read.where} must have one column of symbols, got {read.columns}"
                )
            else:
                fits = (x >= 0) & (x < num_symbols) & (x == np.floor(x))
                needed = f"symbols in 0..{num_symbols - 1}"
            if not fits.all():
                raise ValueError(
                    f"sequence {name} of {read.where} must hold {needed} to be '{kind}', "
                    f"got {x[~fits][0]}"
                )


def by_split(
    sequences: Sequence[np.ndarray], names: Sequence[str], index: dict[str, np.ndarray]
) -> tuple[dict[str, list[np.ndarray]], dict[str, list[str]]]:
    """Sequences and their names by split, at the given indices."""
    return (
        {split: [sequences[i] for i in index[split]] for split in SPLITS},
        {split: [names[i] for i in index[split]] for split in SPLITS},
    )
