"""What a sweep's file describes: the runs of a grid of options, or of a search among them."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .configuration import chosen, items, nested, overlay, read_config
from .experiment import describe
from .terminal import did_you_mean, user_path

KEYS = ["out", "config", "common", "grid", "random", "num", "sampler", "pruner", "storage",
        "evaluate"]  # fmt: skip
EVALUATE = {"split", "bound", "particles", "seed"}
STARTUP = 10
"""Random draws that the TPE sampler learns from at first."""


@dataclass(frozen=True)
class Trial:
    """One run of a sweep.

    Args:
        folder: Folder of the run, named by its options and by the hash of all of them.
        settings: Options in which the run differs from the others, by dotted names.
        arguments: Arguments that it is trained with.
        evaluation: Arguments that it is evaluated with.
    """

    folder: Path
    settings: dict[str, Any]
    arguments: tuple[str, ...]
    evaluation: tuple[str, ...]

    @property
    def result(self) -> dict[str, Any] | None:
        """The numbers of its evaluation, or None if it has not been evaluated so."""
        file = self.folder / "evaluation.json"
        try:
            saved = json.loads(file.read_text(encoding="utf-8"))
            return saved["result"] if saved["arguments"] == list(self.evaluation) else None
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"'{file}' must hold an evaluation, got {error}") from error

    def commands(self) -> Iterator[list[str]]:
        """Yields the commands of the trial, one after the other."""
        program = [sys.executable, "-m", "zforcing_pyro"]
        yield [*program, "train", *self.arguments, f"--out={self.folder}", "--resume"]
        yield [*program, "evaluate", str(self.folder), *self.evaluation, "--json"]


class Sweep:
    """A sweep's file.

    ``common`` and the file that ``config`` names hold the options of all runs. ``grid`` holds
    lists, of which every combination is a run. ``random`` holds by option ``{uniform: [low,
    high]}``, ``{log_uniform: [low, high]}`` or ``{choice: [...]}``, and ``num`` and ``seed``; each
    of ``num`` draws is combined with the whole grid. ``sampler`` is "random" or "tpe", ``pruner``
    "none" or "median". ``storage`` is the URL of a database for the study; by default a journal
    lies in ``out``, the folder of all runs. ``evaluate`` holds options of ``zforcing evaluate``.

    Args:
        file: The YAML file.

    Raises:
        ValueError: If the file is not of that form, an option of a run is unknown, or runs are on
            different data.
    """

    def __init__(self, file: str):
        spec = read_config(file, "file")
        for key in spec.keys() - set(KEYS):
            hint = did_you_mean(key, KEYS)
            raise ValueError(f"'{file}' must have keys of {KEYS}, got '{key}'{hint}")
        for key in ("common", "grid", "random", "evaluate"):
            if not isinstance(spec.get(key, {}), dict):
                raise ValueError(f"'{key}' of '{file}' must hold options by name, got {spec[key]}")
        self.file, random = file, dict(spec.get("random", {}))
        self.num = whole_number(file, "num", random.pop("num", 1), 1)
        self.num = whole_number(file, "num", spec.get("num", self.num), 1)
        self.seed = whole_number(file, "seed", random.pop("seed", 0), 0)
        self.out = Path(user_path(str(spec.get("out", Path("runs", Path(file).stem))), "out"))
        self.base = nested(spec.get("common", {}))
        if "config" in spec:
            path = Path(file).parent / user_path(str(spec["config"]), "config")
            self.base = overlay(nested(read_config(str(path), "config")), self.base)
        self.random = {name: space(name, how, file) for name, how in items_of_random(random)}
        self.sampler = chosen("sampler", spec.get("sampler", "random"), ["random", "tpe"])
        self.pruner = chosen("pruner", spec.get("pruner", "none"), ["none", "median"])
        self.storage = spec.get("storage")
        evaluation = dict(items({"split": "valid"} | spec.get("evaluate", {})))
        for key in evaluation:
            if key not in EVALUATE and not key.startswith("bound."):
                got = f"'{key}'{did_you_mean(key, EVALUATE)}"
                raise ValueError(
                    f"'evaluate' of '{file}' must have keys of {sorted(EVALUATE)}, got {got}"
                )
        self.evaluation = tuple(flat(evaluation))
        axes = dict(items(spec.get("grid", {})))
        for name, values in axes.items():
            if not isinstance(values, list) or not values:
                raise ValueError(f"'{name}' of the grid of '{file}' must be a list, got {values}")
        self.points = [dict(zip(axes, point)) for point in itertools.product(*axes.values())]
        first = describe(config=overlay(self.base, nested(self.points[0] | self.draw(0))))
        self.data, corpus = first.data, first.corpus()
        self.fingerprint = corpus.fingerprint() if corpus.found() else corpus.version
        self.plan = list(self.planned())
        facts = [self.base, spec.get("grid"), spec.get("random"), self.seed, self.sampler]
        first = self.trial(self.points[0] | self.draw(0)).folder.name
        self.study = f"{Path(file).stem}-{digest([*facts, self.evaluation, first])}"

    def draw(self, index: int) -> dict[str, Any]:
        """Returns the options that ``random`` draws; a larger ``num`` keeps earlier draws."""
        rng = np.random.default_rng([self.seed, index])
        return {name: sampled(rng, *how) for name, how in self.random.items()}

    def trial(self, settings: dict[str, Any]) -> Trial:
        """Returns the run of some settings.

        Raises:
            ValueError: If an option is unknown, or the data are others than the first run's.
        """
        config = overlay(self.base, nested(settings))
        experiment = describe(config=config)
        if experiment.data != self.data:
            raise ValueError(
                f"runs of '{self.file}' must be on the same data, to be in one table, got "
                f"{self.data} and {experiment.data}"
            )
        options = {k: v for k, v in experiment.config().items() if k not in ("out", "data_dir")}
        values = [f"{v:.4g}" if isinstance(v, float) else str(v) for v in settings.values()]
        name = re.sub(r"[^\w.+-]+", "_", "-".join(values))[:60]
        folder = self.out / f"{name}-{digest([options, self.fingerprint])}"
        return Trial(folder, settings, tuple(flat(config)), self.evaluation)

    def planned(self) -> Iterator[tuple[int, dict[str, Any], dict[str, Any] | None]]:
        """Yields the number of a draw, a point of the grid, and what is drawn for it.

        The last is None where the sampler is to choose. Equal runs are yielded once.
        """
        names = set()
        for index in range(self.num if self.random else 1):
            drawn = self.draw(index) if self.sampler == "random" or index < STARTUP else None
            for point in self.points:
                if drawn is not None:
                    name = self.trial(point | drawn).folder.name
                    if name in names:
                        continue
                    names.add(name)
                yield index, point, drawn


def flat(config: dict[str, Any]) -> Iterator[str]:
    """Yields ``{"model": {"z_dim": 8}}`` as ``--model.z_dim=8``."""
    for name, value in items(config):
        yield f"--{name}={value if isinstance(value, str) else json.dumps(value)}"


def digest(values: Any) -> str:
    """Returns a short hash of plain values."""
    text = json.dumps(values, sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def whole_number(file: str, name: str, value: Any, least: int) -> int:
    """Returns a whole number of ``least`` to a million.

    Raises:
        ValueError: If the value is not one.
    """
    if type(value) is int and least <= value <= 10**6:
        return value
    raise ValueError(f"'{name}' of '{file}' must be a whole number of {least} or more, got {value}")


def items_of_random(random: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields each option of ``random`` with how it is drawn."""
    for name, how in random.items():
        if isinstance(how, dict) and not how.keys() & {"uniform", "log_uniform", "choice"}:
            yield from items_of_random(how, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", how


def space(name: str, how: Any, file: str) -> tuple[str, list[Any]]:
    """Returns how an option is drawn: "uniform", "log_uniform" or "choice", and the values.

    Raises:
        ValueError: If it is none of them.
    """
    kind, values = next(iter(how.items())) if isinstance(how, dict) and len(how) == 1 else ("", 0)
    if isinstance(values, list) and values:
        if kind == "choice":
            return kind, values
        numbers = all(type(v) in (int, float) and math.isfinite(v) for v in values)
        if kind in ("uniform", "log_uniform") and numbers and len(values) == 2:
            low, high = values
            if low < high and (kind == "uniform" or low > 0):
                return kind, values
    raise ValueError(
        f"'{name}' of '{file}' must be {{uniform: [low, high]}}, {{log_uniform: [low, high]}} of "
        f"positive numbers, or {{choice: [...]}}, got {how}"
    )


def sampled(rng: np.random.Generator, kind: str, values: list[Any]) -> Any:
    """Returns a draw of one option."""
    if kind == "choice":
        return values[int(rng.integers(len(values)))]
    if kind == "uniform":
        return float(rng.uniform(*values))
    return float(np.exp(rng.uniform(*np.log(values))).clip(*values))
