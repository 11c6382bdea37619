"""Runs that a sweep's file describes: a grid of options, or a search among them."""

import hashlib
import itertools
import json
import re
import sys
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution

from ..estimators import ESTIMATORS
from .commands.evaluate import evaluation_parser
from .configuration import chosen, items, nested, overlay
from .experiment import describe
from .plain_yaml import read_config
from .terminal import did_you_mean, user_path

KEYS = ["out", "config", "common", "grid", "random", "num", "sampler", "pruner", "storage",
        "evaluate"]  # fmt: skip
EVALUATE = ["split", "bound", "particles", "seed"]
STARTUP = 10
"""Random draws that the TPE sampler learns from at first."""


@dataclass(frozen=True)
class Trial:
    """One run of a sweep."""

    folder: Path  # of the run, named by its options and by the hash of all of them
    settings: dict[str, Any]  # options in which it differs from the others, by dotted names
    arguments: tuple[str, ...]  # that it is trained with
    evaluation: tuple[str, ...]  # arguments that it is evaluated with

    @property
    def result(self) -> dict[str, Any] | None:
        """The numbers of its evaluation, or None if it has not been evaluated so."""
        file = self.folder / "evaluation.json"
        if not file.exists():
            return None
        saved = json.loads(file.read_text(encoding="utf-8"))
        return saved["result"] if saved["arguments"] == list(self.evaluation) else None

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
    lies in ``out``, the folder of all runs. ``evaluate`` holds options of ``zforcing evaluate``. A
    file of another form, an unknown option, or runs on different data are a ValueError.
    """

    def __init__(self, file: str):
        spec = read_config(file, "file")
        self.file = file
        self.check_names("", spec, KEYS)
        for key in ("common", "grid", "random", "evaluate"):
            if not isinstance(spec.setdefault(key, {}), dict):
                raise ValueError(f"'{key}' of '{file}' must hold options by name, got {spec[key]}")
        random, axes = dict(spec["random"]), dict(items(spec["grid"]))
        self.num = self.whole_number("num", random.pop("num", spec.get("num", 1)), 1)
        self.seed = self.whole_number("seed", random.pop("seed", 0), 0)
        self.random = dict(self.distribution(key, values) for key, values in items(random))
        self.sampler = chosen("sampler", spec.get("sampler", "random"), ["random", "tpe"])
        self.pruner = chosen("pruner", spec.get("pruner", "none"), ["none", "median"])
        self.storage = spec.get("storage")
        self.out = Path(user_path(str(spec.get("out", Path("runs", Path(file).stem))), "out"))
        self.base = nested(spec["common"])
        if "config" in spec:
            path = Path(file).parent / user_path(str(spec["config"]), "config")
            self.base = overlay(nested(read_config(str(path), "config")), self.base)
        evaluation = dict(items({"split": "valid"} | spec["evaluate"]))
        self.check_names("'evaluate' of ", evaluation, EVALUATE)
        self.evaluation = tuple(flat(evaluation))
        self.bound, self.bound_options = self.evaluated()
        for name, values in axes.items():
            if not isinstance(values, list) or not values:
                raise ValueError(f"'{name}' of the grid of '{file}' must be a list, got {values}")
        for name in {"out", *self.random} & {*axes}:
            place = "outside of 'grid'" if name == "out" else "in 'grid' or in 'random' alone"
            raise ValueError(f"'{name}' of '{file}' must stand {place}, got it in the grid")
        self.points = [dict(zip(axes, point)) for point in itertools.product(*axes.values())]
        first = describe(config=overlay(self.base, nested(decoded(self.points[0], self.draw(0)))))
        self.data, corpus = first.data, first.corpus()
        self.fingerprint = corpus.fingerprint() if corpus.found() else corpus.version
        self.trials: dict[str, Trial] = {}
        self.plan = list(self.planned())
        facts = [self.base, axes, random, self.seed, self.sampler, self.evaluation]
        self.study = f"{Path(file).stem}-{digest([*facts, self.fingerprint])}"

    def check_names(self, place: str, names: dict[str, Any], allowed: list[str]) -> None:
        """Raises ValueError if a key is not allowed; ``evaluate`` has options of the bound too."""
        for name in names:
            if name not in allowed and not (place and name.startswith("bound.")):
                got = f"'{name}'{did_you_mean(name, allowed)}"
                raise ValueError(f"{place}'{self.file}' must have keys of {allowed}, got {got}")

    def evaluated(self) -> tuple[Namespace, list[str]]:
        """Returns the options of ``evaluate`` and the others, which are those of its bound."""
        try:
            options, rest = evaluation_parser().parse_known_args(["run", *self.evaluation])
            chosen("bound", options.bound, ESTIMATORS)
            return options, rest
        except ValueError as error:
            raise ValueError(f"'evaluate' of '{self.file}': {error}") from error

    def whole_number(self, name: str, value: Any, least: int) -> int:
        """Returns the value if it is a whole number of ``least`` to a million, or raises."""
        if type(value) is int and least <= value <= 10**6:
            return value
        raise ValueError(
            f"'{name}' of '{self.file}' must be a whole number of {least} or more, got {value}"
        )

    def distribution(self, key: str, values: Any) -> tuple[str, Any]:
        """Returns an option of ``random`` and what it is drawn from; choices are JSON texts."""
        name, _, kind = key.rpartition(".")
        try:
            if kind == "choice" and values and isinstance(values, list):
                return name, CategoricalDistribution(list(dict.fromkeys(map(json.dumps, values))))
            if kind in ("uniform", "log_uniform"):
                low, high = values
                return name, FloatDistribution(low, high, log=kind == "log_uniform")
        except (TypeError, ValueError):
            pass
        option, got = (name, f"'{kind}' {values}") if isinstance(values, list) else (key, values)
        raise ValueError(
            f"'{option}' of '{self.file}' must be {{uniform: [low, high]}}, {{log_uniform: "
            f"[low, high]}} of positive numbers, or {{choice: [...]}}, got {got}"
        )

    def draw(self, index: int) -> dict[str, Any]:
        """Returns a draw of the options of ``random``; a larger ``num`` keeps earlier draws."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.RandomSampler((self.seed * 1_000_003 + index) % 2**32)
        return optuna.create_study(sampler=sampler).ask(self.random).params

    def trial(self, point: dict[str, Any], drawn: dict[str, Any]) -> Trial:
        """Returns the run at a point of the grid with a draw of ``random``."""
        settings = decoded(point, drawn)
        key = json.dumps(settings)
        if key in self.trials:
            return self.trials[key]
        config = overlay(self.base, nested(settings))
        experiment = describe(config=config)
        experiment.estimator()  # refuses options that make no sense together
        experiment.estimator_for(self.bound.bound, self.bound.particles, self.bound_options)
        if experiment.data != self.data:
            raise ValueError(
                f"runs of '{self.file}' must be on the same data, to be in one table, got "
                f"{self.data} and {experiment.data}"
            )
        options = {k: v for k, v in experiment.config().items() if k not in ("out", "data_dir")}
        values = [f"{v:.4g}" if isinstance(v, float) else str(v) for v in settings.values()]
        name = re.sub(r"[^\w.+-]+", "_", "-".join(values))[:60]
        folder = self.out / f"{name}-{digest([options, self.fingerprint])}"
        self.trials[key] = Trial(folder, settings, tuple(flat(config)), self.evaluation)
        return self.trials[key]

    def planned(self) -> Iterator[tuple[int, dict[str, Any], dict[str, Any]]]:
        """Yields the number of a draw, a point of the grid, and what is drawn for it.

        Nothing is drawn where the sampler is to choose. Equal runs are yielded once.
        """
        names = set()
        for index in range(self.num if self.random else 1):
            is_open = self.sampler == "tpe" and index >= STARTUP and bool(self.random)
            drawn = {} if is_open else self.draw(index)
            for point in self.points:
                name = None if is_open else self.trial(point, drawn).folder
                if is_open or name not in names:
                    yield index, point, drawn
                names.add(name)


def decoded(point: dict[str, Any], drawn: dict[str, Any]) -> dict[str, Any]:
    """Returns options of the grid and of ``random``, whose choices are JSON texts, by name."""
    return point | {k: json.loads(v) if isinstance(v, str) else v for k, v in drawn.items()}


def flat(config: dict[str, Any]) -> Iterator[str]:
    """Yields ``{"model": {"z_dim": 8}}`` as ``--model.z_dim=8``."""
    for name, value in items(config):
        yield f"--{name}={value if isinstance(value, str) else json.dumps(value)}"


def digest(values: Any) -> str:
    """Returns a short hash of plain values."""
    text = json.dumps(values, sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:10]
