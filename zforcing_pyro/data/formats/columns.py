"""Numbers in columns: their kind, their scale and the way back; used by arrays and tables."""

from __future__ import annotations

import csv
import math
import textwrap
from abc import abstractmethod
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..corpus import Corpus, Floor
from .floors import bernoulli_floor, normal_floor, poisson_floor, unigram_floor
from .rows import Read, Rows, check_kind, kind_of, scales, surveyed

Kind = Literal["auto", "bernoulli", "categorical", "counts", "gaussian"]
FACTS = {"emission": str, "columns": list, "x_dim": int, "missing": bool, "digest": str,
         "version": str, "mean": list, "std": list, "standardised": bool}  # fmt: skip
BLOCKS = "▁▂▃▄▅▆▇█"


class ColumnsCorpus(Corpus):
    """Sequences of numbers, whose family is told by the values.

    - Numbers that are 0 or 1 everywhere are bits ("bernoulli").
    - Integers of 0 or more in a single column are symbols ("categorical") if all are below 32, and
      counts ("poisson") if not. A warning says so from 10 on; ``kind`` decides.
    - All else is real ("gaussian"), and standardised: each column minus its mean, by its
      population standard deviation, both of the observed values of train. A column that is
      constant up to rounding is only shifted. Bounds are then those of standardised values; a
      column of deviation s adds log(s) nats a step to those of the values themselves. Values are
      written in their own units.

    NaN is a missing value: no part of a likelihood, and a model never sees it.

    Args:
        path: The file.
        kind: Family of the values; "auto" looks at them.
        standardize: Standardises real values.
        seed: Seed of a split by chance.
        data_dir: Folder in which a relative path is looked for as well.

    Raises:
        ValueError: If there is no such kind, or the seed is negative. On reading: if values are not
            of their kind, infinite, too large, or NaN all through a sequence or a column of train.
    """

    licence = "yours"
    size = "any"
    step = "step"
    view = "curve"
    suffix = ".csv"

    def __init__(
        self,
        path: str | Path = "",
        kind: Kind = "auto",
        standardize: bool = True,
        seed: int = 0,
        data_dir: str | Path | None = None,
    ):
        super().__init__(data_dir)
        if seed < 0:
            raise ValueError(f"'seed' must not be negative, got {seed}")
        if kind not in (kinds := Kind.__args__):
            raise ValueError(f"'kind' must be one of {list(kinds)}, got '{kind}'")
        self.file, self.kind, self.standardize, self.seed = path, kind, standardize, seed
        self._memory: Any = None  # tensors or a frame in place of a file
        self._facts: dict[str, Any] = {}

    @abstractmethod
    def read(self) -> Read:
        """Reads all splits."""

    def data_files(self) -> dict[str, Path]:
        return {} if self._memory is not None else {Path(self.file).name: self.own(self.file)}

    def found(self) -> bool:
        return self._memory is not None or self.is_there(self.file)

    def load(self, split: str) -> Rows:
        read = self.read()
        survey = surveyed(read)
        if not self._facts:
            kind = kind_of(read, survey) if self.kind == "auto" else self.kind
            check_kind(read, survey, kind)
            self._facts = {
                "emission": "poisson" if kind == "counts" else kind,
                "columns": read.columns,
                "x_dim": 1 + int(survey.high[0]) if kind == "categorical" else len(read.columns),
                "missing": survey.missing,
                "digest": survey.digest,
                "version": f"digest {survey.digest}",
                "mean": [],
                "std": [],
                "standardised": kind == "gaussian" and self.standardize,
            }
            if kind == "gaussian":
                mean, std = scales(read, survey, self.standardize)
                self._facts |= {"mean": mean.tolist(), "std": std.tolist()}
                self._facts["version"] += ", standardised" * self.standardize
        facts = self._facts
        if facts["digest"] != survey.digest or facts["columns"] != read.columns:
            raise ValueError(
                f"{read.where} must hold the data that the run has learnt from, the columns "
                f"{facts['columns']} of digest {facts['digest']}, got {read.columns} of "
                f"{survey.digest}: the file has changed; train a new run"
            )
        scale = (facts["mean"], facts["std"]) if facts["standardised"] else None
        convert = partial(seen, emission=facts["emission"], scale=scale)
        self._splits |= {name: Rows(part, convert) for name, part in read.parts.items()}
        return self._splits[split]

    def values(self, x: Tensor) -> Tensor:
        """Returns a sequence in its own units, float64 if standardised, ``(time, x_dim)``."""
        if not self.facts()["standardised"]:
            return x
        mean, std = torch.tensor([self._facts["mean"], self._facts["std"]], dtype=torch.float64)
        return x.cpu().double() * std + mean

    def facts(self) -> dict[str, Any]:
        if not self._facts:
            self.split("train")
        return self._facts

    def restore(self, facts: dict[str, Any]) -> None:
        for name, kind in FACTS.items():
            if not isinstance(facts[name], kind):
                raise ValueError(f"'{name}' must be a {kind.__name__}, got {facts[name]!r}")
        np.array([facts["mean"], facts["std"]], dtype=float)
        self._facts = {name: facts[name] for name in FACTS}

    def _known(self, name: str, default: Any) -> Any:
        return self.facts()[name] if self._facts or self.found() else default

    emission = property(lambda self: self._known("emission", "gaussian"))
    version = property(lambda self: self._known("version", "yours"))
    x_dim = property(lambda self: self.facts()["x_dim"])
    missing = property(lambda self: self.facts()["missing"])
    columns = property(lambda self: self.facts()["columns"])

    def floor(self) -> Floor:
        train, test, facts = self.split("train"), self.split("test"), self.facts()
        if self.emission == "gaussian":
            mean, std = torch.tensor([facts["mean"], facts["std"]], dtype=torch.float64)
            if facts["standardised"]:
                mean, std = 0 * mean, torch.ones_like(std)
            return normal_floor(test, mean, std, "columns")
        if self.emission == "categorical":
            return unigram_floor(train, test, self.x_dim, "symbols")
        independent = bernoulli_floor if self.emission == "bernoulli" else poisson_floor
        return independent(train, test, self.x_dim, "columns")

    def write(self, x: Tensor, file: Path) -> None:
        rows = self.values(x.cpu()).reshape(len(x), -1).tolist()
        scales = self.facts()["std"] if self.facts()["standardised"] else [0.0] * len(self.columns)
        with open(file, "w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(["step", *self.columns])
            for step, row in enumerate(rows):
                writer.writerow([step, *map(written, row, scales)])

    def as_text(self, x: Tensor) -> str:
        """Returns symbols as numbers, or a curve and the range of each of the first 12 columns."""
        if self.emission == "categorical":
            return textwrap.fill(" ".join(map(str, x.tolist())), 80)
        values, columns = self.values(x.cpu()).double().numpy(), self.columns[:12]
        width = min(16, max(map(len, columns)))
        lines = [f"{name[:16]:{width}} {curve(v)}" for name, v in zip(columns, values.T)]
        if rest := len(self.columns) - len(columns):
            lines.append(f"{rest} more columns")
        return "\n".join(lines)


def seen(x: np.ndarray, emission: str, scale: tuple[list, list] | None) -> Tensor:
    """Returns rows ``(time, x_dim)`` in float32 as a model sees them, or symbols ``(time,)``."""
    if emission == "categorical":
        return torch.from_numpy(x[:, 0].astype(np.int64))
    if scale is not None:
        x = (x.astype(np.float64) - scale[0]) / scale[1]
    return torch.from_numpy(x.astype(np.float32))


def written(value: float, scale: float, digits: int = 7) -> str:
    """Returns a number rounded to ``digits`` digits of ``scale``, or to float32; empty if missing.

    Example:
        >>> written(1700000000.629, 5.0), written(0.25, 0.0), written(3.0, 0.0)
        ('1700000000.629', '0.25', '3')
    """
    if value != value:
        return ""
    if not scale:
        return str(np.float32(value)).removesuffix(".0")
    rounded = round(value, digits - 1 - math.floor(math.log10(scale)))
    return str(rounded + 0.0).removesuffix(".0")  # and -0.0 is 0.0


def curve(column: np.ndarray, width: int = 40) -> str:
    """Returns means of up to 40 stretches of a column as blocks, and its least and most.

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
    return f"{''.join(marks)} {' .. '.join(written(v, high - low, 4) for v in (low, high))}"
