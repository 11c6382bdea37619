"""Numbers in columns: their emission, their scale and the way back; used by arrays and tables."""

import csv
import math
import textwrap
from abc import abstractmethod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..checks import check_choice
from ..corpus import Corpus, Floor
from .floors import bernoulli_floor, normal_floor, poisson_floor, unigram_floor
from .rows import Part, Rows, Survey, emission_of, scales, surveyed

Kind = Literal["auto", "bernoulli", "categorical", "counts", "gaussian"]
FACTS = {"emission": str, "columns": list, "x_dim": int, "missing": bool, "digest": str,
         "mean": list, "std": list, "standardised": bool}  # fmt: skip


class ColumnsCorpus(Corpus):
    """Sequences of numbers, whose emission is told by the values, unless ``kind`` decides.

    Bits ("bernoulli") are 0 or 1 everywhere. Integers of 0 or more in a single column are symbols
    ("categorical") if all are below 32, else counts ("poisson"), with a warning from 10 on. All
    else is real ("gaussian") and standardised: each column minus its mean, by its deviation, of the
    observed values of train. Bounds are then those of standardised values; a column of deviation s
    adds log(s) nats a step to those of the values themselves.

    NaN is a missing value: no part of a likelihood, and a model never sees it. Errors name the
    file, and say what does not fit.

    Args:
        path: The file.
        kind: Kind of the values; "auto" looks at them.
        standardize: Standardises real values.
        seed: Seed of a split by chance.
        data_dir: Folder in which a relative path is looked for as well.
    """

    licence = "yours"
    size = "any"
    is_own = True
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
        check_choice(Kind, kind=kind)
        self.user_path, self.kind, self.standardize, self.seed = path, kind, standardize, seed
        self._memory: Any = None  # tensors or a frame instead of a file
        self._facts: dict[str, Any] = {}

    @abstractmethod
    def read_file(self, file: Path) -> Any:
        """Returns the arrays or the table of a file; errors name the file."""

    @abstractmethod
    def sequences(self, content: Any) -> tuple[dict[str, Part], list[str]]:
        """Returns the splits and the names of the columns of what is in a file or in memory."""

    def data_files(self) -> dict[str, Path]:
        return {} if self._memory is not None else super().data_files()

    def found(self) -> bool:
        return self._memory is not None or super().found()

    def load(self, split: str) -> Rows:
        place, content = "data in memory", self._memory
        if content is None:
            file = self.own(self.user_path)
            place, content = f"'{file}'", self.read_file(file)
        try:
            parts, columns = self.sequences(content)
            survey = surveyed(parts)
            facts = self._facts or self._learnt(parts["train"], columns, survey)
            if facts["digest"] != survey.digest or facts["columns"] != columns:
                rule = "must be as it was when the run began, and so must the run's data.json"
                raise ValueError(f"{rule}: train a new run")
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
        self._facts = facts
        scale = (facts["mean"], facts["std"]) if facts["standardised"] else None
        symbols = facts["emission"] == "categorical"
        self._splits |= {name: Rows(part, symbols, scale) for name, part in parts.items()}
        return self._splits[split]

    def _learnt(self, train: Part, columns: list[str], survey: Survey) -> dict[str, Any]:
        emission, mean, std = emission_of(survey, self.kind), [], []
        if emission == "gaussian":
            mean, std = scales(train, columns, survey, self.standardize)
        x_dim = 1 + int(survey.high[0]) if emission == "categorical" else len(columns)
        standardised = emission == "gaussian" and self.standardize
        values = emission, columns, x_dim, survey.missing, survey.digest, mean, std, standardised
        return dict(zip(FACTS, values))

    def facts(self) -> dict[str, Any]:
        if not self._facts:
            self.split("train")
        return self._facts

    def restore(self, facts: dict[str, Any]) -> None:
        for name, kind in FACTS.items():
            if not isinstance(facts[name], kind):
                raise ValueError(f"'{name}' must be a {kind.__name__}, got {facts[name]!r}")
        scales = np.array([facts["mean"], facts["std"]], dtype=float)
        num = len(facts["columns"]) * (facts["emission"] == "gaussian")
        if scales.shape[1] != num or not (np.isfinite(scales).all() and (scales[1] > 0).all()):
            needed = f"{num} finite numbers, and those of 'std' positive"
            raise ValueError(f"'mean' and 'std' must be {needed}, got {scales.tolist()!r:.80}")
        self._facts = {name: facts[name] for name in FACTS}

    def _fact(self, name: str, default: Any = None) -> Any:
        readable = default is None or self._facts or self.found()
        return self.facts()[name] if readable else default

    x_dim = property(lambda self: self._fact("x_dim"))
    missing = property(lambda self: self._fact("missing"))
    columns = property(lambda self: self._fact("columns"))
    emission = property(lambda self: self._fact("emission", "gaussian"))

    @property
    def version(self) -> str:
        """Digest of the values and their scale; data sets of one name may differ in both."""
        standardised = ", standardised" * self._fact("standardised", False)
        return f"digest {self._fact('digest', 'unknown')}{standardised}"

    def values(self, x: Tensor) -> Tensor:
        """Returns a sequence in its own units, float64 if standardised, ``(time, x_dim)``."""
        if not self._fact("standardised"):
            return x
        mean, std = torch.tensor([self._facts["mean"], self._facts["std"]], dtype=torch.float64)
        return x.cpu().double() * std + mean

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
        scales = self._facts["std"] if self._facts["standardised"] else None
        write_csv(file, self.columns, self.values(x.cpu()), scales)

    def as_text(self, x: Tensor) -> str:
        """Returns symbols, or the names of the columns and the first and last values."""
        if self.emission == "categorical":
            return textwrap.fill(" ".join(map(str, x.tolist())), 80)
        names = textwrap.shorten(" ".join(self.columns), 80, placeholder=" ...")
        values = self.values(x.cpu()).numpy()
        text = np.array2string(values, 80, precision=4, suppress_small=True, threshold=60)
        return f"{names}\n{text}"


def write_csv(file: Path, columns: list[str], x: Tensor, scales: list[float] | None = None) -> None:
    """Writes a sequence as CSV, each number rounded by :func:`written` to its column's scale."""
    with open(file, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["step", *columns])
        for i, row in enumerate(x.cpu().reshape(len(x), -1).tolist()):
            writer.writerow([i, *map(written, row, scales or [0.0] * len(row))])


def written(value: float, scale: float) -> str:
    """Returns a number rounded to 7 digits of ``scale``, or to float32; empty if missing.

    Example:
        >>> written(1700000000.629, 5.0), written(0.25, 0.0), written(3.0, 0.0)
        ('1700000000.629', '0.25', '3')
    """
    if math.isnan(value):
        return ""
    if not scale:
        return str(np.float32(value)).removesuffix(".0")
    rounded = round(value, 6 - math.floor(math.log10(scale)))
    return str(rounded + 0.0).removesuffix(".0")  # and -0.0 is 0.0
