"""A run described: names from the registries, and options from the signatures behind them."""

from __future__ import annotations

import argparse
import difflib
import functools
import inspect
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from jsonargparse import ArgumentError, ArgumentParser

from .data import DATASETS, Corpus, corpus
from .emissions import EMISSIONS
from .environment import environment
from .estimators import ESTIMATORS, SequenceELBO
from .models import MODELS, StochasticRNN
from .models.zforcing import OFFICIAL_CODE
from .training import TrainingOptions
from .training.checkpoint import load_weights

SECTIONS: dict[str, dict[str, Callable]] = {
    "data": DATASETS,
    "model": MODELS,
    "emission": EMISSIONS,
    "bound": ESTIMATORS,
}
DEFAULTS = {"data": "digits", "model": "zforcing", "bound": "elbo"}
GIVEN = {"data_dir", "emission", "x_dim", "in_dim", "max_plate_nesting"}
GIVEN |= {"free_bits", "free_bits_per"}
"""Arguments of the classes in ``SECTIONS`` that are no options: the experiment gives them, or
training does."""

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "paper": {},
    "official_code": {
        "model": OFFICIAL_CODE,
        "training": {"lr_schedule": "constant", "keep": "last", "shuffle": False},
    },
}
"""Z-Forcing as the paper has it, and the switches in which its published code differs."""

SPEECH_WINDOW = 40
"""Frames of the windows, each from a reset state, on which that code evaluates speech."""


CHANGEABLE = {
    "max_updates",
    "out",
    "data_dir",
    "training.accelerator",
    "training.num_threads",
    "training.early_stop",
}
"""What a resumed run may have otherwise than it began."""


@dataclass(frozen=True)
class Experiment:
    """What makes a run; all of it stands in the run's ``config.yaml``. See :func:`describe`.

    Args:
        data, model, emission, bound: A ``name``, and options of the class behind it.
        training: How to train.
        preset: The defaults that the options depart from.
        seed: Seed of initial weights, batches and noise.
        max_updates: Updates of the parameters.
        out: Folder of the run.
        data_dir: Where data files are looked for, before ``$ZFORCING_DATA``.
    """

    data: dict[str, Any]
    model: dict[str, Any]
    emission: dict[str, Any]
    bound: dict[str, Any]
    training: TrainingOptions
    preset: str
    seed: int
    max_updates: int
    out: str
    data_dir: str | None

    def __post_init__(self):
        if self.max_updates < 1:
            raise ValueError(f"'max_updates' must be positive, got {self.max_updates}")
        if self.seed < 0:
            raise ValueError(f"'seed' must not be negative, got {self.seed}")

    def corpus(self) -> Corpus:
        """The data; nothing is read yet."""
        return corpus(**self.data, data_dir=self.data_dir)

    def net(self, x_dim: int) -> StochasticRNN:
        """A new net, its weights a function of the seed.

        Raises:
            ValueError: If an option is out of its range.
        """
        emission = functools.partial(EMISSIONS[self.emission["name"]], **options(self.emission))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return MODELS[self.model["name"]](emission, x_dim, **options(self.model))

    def estimator(self) -> SequenceELBO:
        """The training objective.

        Raises:
            ValueError: If an option is out of its range, or makes no sense with another.
        """
        estimator = ESTIMATORS[self.bound["name"]](**options(self.bound))
        self.training.check(estimator)
        return estimator

    def estimator_for(self, name: str, num_particles: int) -> SequenceELBO:
        """A bound for evaluation, with the options that the run has for it if it was trained so."""
        chosen = options(self.bound) if name == self.bound["name"] else {}
        return ESTIMATORS[name](**chosen | {"num_particles": num_particles})

    def resumed(self, earlier: Experiment) -> Experiment:
        """This experiment, as the continuation of ``earlier``.

        Raises:
            ValueError: If it differs in what a run cannot change on its way.
        """
        ours, theirs = (dict(items(e.config())) for e in (self, earlier))
        for name in theirs:
            if ours[name] != theirs[name] and name not in CHANGEABLE:
                raise ValueError(f"'--{name}' must be {theirs[name]}, got {ours[name]}")
        return self

    def config(self) -> dict[str, Any]:
        """Everything as plain types; ``describe(config=...)`` gives the experiment back."""
        return vars(self) | {"training": vars(self.training)}

    def save(self, folder: Path, corpus: Corpus, command: Sequence[str] = ()) -> None:
        """Writes what the run can be repeated from.

        That is ``config.yaml``, ``environment.json``, and ``data.json`` with what ``corpus`` has
        learnt from its training split.
        """
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(self.config(), sort_keys=False))
        (folder / "data.json").write_text(json.dumps(corpus.facts(), indent=1) + "\n")
        facts = environment() | {"command": list(command), "seed": self.seed}
        (folder / "environment.json").write_text(json.dumps(facts, indent=2) + "\n")


def load_experiment(run: str | Path) -> Experiment:
    """The experiment whose folder ``run`` is.

    Raises:
        ValueError: If it is not the folder of a run.
    """
    file = Path(run, "config.yaml")
    if not file.is_file():
        raise ValueError(f"'run' must be a folder that 'zforcing train' wrote, got '{run}'")
    return describe(config=read_config(str(file)))


def load_corpus(run: str | Path, experiment: Experiment) -> Corpus:
    """The data of a run, with what the run has learnt of it; learnt anew without ``data.json``.

    Raises:
        ValueError: If the run's ``data.json`` is broken.
    """
    corpus, file = experiment.corpus(), Path(run, "data.json")
    try:
        if file.exists():
            corpus.restore(json.loads(file.read_text()))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"'{file}' must hold what was learnt of the data, got {error}") from error
    return corpus


def load(run: str | Path) -> StochasticRNN:
    """The net of a run, with the weights that it kept, in evaluation mode on the CPU.

    Raises:
        ValueError: If ``run`` is not the folder of a run, or its checkpoint is broken.
    """
    experiment = load_experiment(run)
    net = experiment.net(load_corpus(run, experiment).x_dim)
    checkpoint = Path(run, "checkpoints", f"{experiment.training.keep}.ckpt")
    if not checkpoint.is_file():
        raise ValueError(f"'run' must have been validated once, got '{run}' without {checkpoint}")
    if experiment.training.precision == "64-true":
        net.double()
    load_weights(net, checkpoint)
    return net.eval()


def items(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Entries of nested dicts by dotted names."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from items(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def options(section: dict[str, Any]) -> dict[str, Any]:
    """A section without its name."""
    return {k: v for k, v in section.items() if k != "name"}


def describe(args: Sequence[str] = (), config: dict[str, Any] | None = None) -> Experiment:
    """An experiment from a configuration and from command-line arguments, which win over it.

    Args:
        args: Such as ``["--data", "jsb", "--model.z_dim", "32"]``; may name a ``--config`` file.
        config: The same as a nested dict: ``{"data": "jsb", "model": {"z_dim": 32}}``.

    Raises:
        ValueError: If a name, an option or a value is unknown, or a file is no configuration.
        FileNotFoundError: If a configuration file is missing.

    Example:
        >>> experiment = describe(["--model.z_dim", "8"], {"data": "jsb"})
        >>> experiment.model["z_dim"], experiment.emission["name"], experiment.out
        (8, 'bernoulli', 'runs/jsb-zforcing-0')
    """
    given, names, parser = arguments(args, config)
    try:
        parsed = parser.parse_args(given).as_dict()
    except ArgumentError as error:
        raise ValueError(one_line(str(error), parser)) from error
    parsed = json.loads(json.dumps(parsed))  # lists for tuples: as a file would give it back
    parsed["training"] = TrainingOptions(**parsed["training"])
    parsed["out"] = parsed["out"] or f"runs/{names['data']}-{names['model']}-{parsed['seed']}"
    return Experiment(**parsed)


def help_text(args: Sequence[str] = ()) -> str:
    """All options of the chosen data, model, emission and bound."""
    text = arguments([a for a in args if a not in ("-h", "--help")])[2].format_help()
    return re.sub(r":class:|``?", "", text)  # docstrings have markup, a terminal has none


def arguments(
    args: Sequence[str], config: dict[str, Any] | None = None
) -> tuple[list[str], dict[str, str], ArgumentParser]:
    """All arguments, the weakest first; the names chosen among them; and a parser of the rest.

    A preset's and a configuration file's entries become arguments, so that a misspelt key is the
    same error wherever it stands.
    """
    args, files = without_config(list(args))
    given = list(flat(config or {}))
    given += [argument for file in files for argument in flat(read_config(file))]
    given = [with_name(argument) for argument in [*given, *args]]
    names = {k: chosen(given, f"{k}.name", DEFAULTS.get(k, "")) for k in SECTIONS}
    names["emission"] = names["emission"] or corpus(names["data"]).emission
    for kind, name in names.items():
        if name not in SECTIONS[kind]:
            raise ValueError(f"'{kind}' must be one of {list(SECTIONS[kind])}, got '{name}'")
    preset = chosen(given, "preset", "paper")
    if preset not in PRESETS:
        raise ValueError(f"'preset' must be one of {list(PRESETS)}, got '{preset}'")
    return [*preset_arguments(preset, names), *given], names, parser(names)


def parser(names: dict[str, str]) -> ArgumentParser:
    """Options from the signatures and docstrings of what the names stand for."""
    parser = ArgumentParser(
        prog="zforcing train",
        usage="%(prog)s [--config FILE.yaml] [--resume] [options]",
        exit_on_error=False,
    )
    parser.add_argument("--preset", type=Literal[tuple(PRESETS)], default="paper",
                        help="defaults that all else departs from")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of weights, batches and noise")
    parser.add_argument("--max_updates", type=int, default=10_000, help="updates in all")
    parser.add_argument("--out", type=str, default="", help="folder of the run")
    parser.add_argument("--data_dir", type=str | None, default=None,
                        help="where data files are, before $ZFORCING_DATA")  # fmt: skip
    for kind, registry in SECTIONS.items():
        group = parser.add_argument_group(f"{kind}: {names[kind]}")
        group.add_argument(f"--{kind}.name", type=Literal[tuple(registry)], default=names[kind],
                           help=f"also --{kind} NAME")  # fmt: skip
        entry, skip = registry[names[kind]], set()
        if isinstance(entry, functools.partial):
            entry, skip = entry.func, {len(entry.args)}
        skip |= GIVEN & set(inspect.signature(entry).parameters)
        group.add_class_arguments(entry, kind, as_group=False, skip=skip)
    group = parser.add_argument_group("training")
    group.add_class_arguments(TrainingOptions, "training", as_group=False)
    return parser


def without_config(args: list[str]) -> tuple[list[str], list[str]]:
    """Arguments without ``--config FILE``, and the files."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", action="append", default=[])
    if args and args[-1] == "--config":
        raise ValueError("'--config' must be followed by a file, got nothing")
    known, rest = parser.parse_known_args(args)
    return rest, known.config


def read_config(file: str) -> dict[str, Any]:
    """A YAML file of nested options."""
    if not Path(file).is_file():
        raise FileNotFoundError(f"'--config' must be a YAML file, got '{file}', which is not there")
    try:
        config = yaml.safe_load(Path(file).read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"'{file}' must be a YAML file, got: {reason}") from error
    if not isinstance(config, dict):
        raise ValueError(f"'{file}' must hold options by name, got {type(config).__name__}")
    return config


def flat(config: dict[str, Any]) -> Iterator[str]:
    """``{"model": {"z_dim": 8}}`` as ``--model.z_dim=8``."""
    for name, value in items(config):
        yield f"--{name}={value if isinstance(value, str) else json.dumps(value)}"


def with_name(argument: str) -> str:
    """``--model`` and ``--model=NAME`` as ``--model.name``."""
    key, equals, value = argument.partition("=")
    return f"{key}.name{equals}{value}" if key[2:] in SECTIONS and key[:2] == "--" else argument


def chosen(given: list[str], key: str, default: str) -> str:
    """The last value of an option among arguments."""
    for i, argument in enumerate(given):
        name, equals, value = argument.partition("=")
        if name == f"--{key}":
            default = value if equals else "".join(given[i + 1 : i + 2])
    return default


def preset_arguments(preset: str, names: dict[str, str]) -> list[str]:
    """The defaults of a preset, as far as the chosen model and data have such options."""
    defaults = PRESETS[preset]
    if names["model"] != "zforcing":
        defaults = {k: v for k, v in defaults.items() if k != "model"}
    if preset == "official_code" and corpus(names["data"]).view == "audio":
        defaults = defaults | {"training": defaults["training"] | {"eval_window": SPEECH_WINDOW}}
    return list(flat(defaults))


def one_line(message: str, parser: ArgumentParser) -> str:
    """A parser's complaint in one line, with what it may have been about."""
    message = " ".join(message.split())
    if match := re.match(r'Parser key "(.+?)": (.*?)Got value: (.*)', message):
        key, expected, got = match.groups()
        expected = expected.removeprefix("Expected a ").strip(" .")
        expected = re.sub(r"<class '(.+?)'>|typing\.", r"\1", expected)
        return f"'--{key}' must be {expected}, got '{got}'"
    if match := re.match(r"unrecognized arguments: (\S+)", message):
        name = match[1].partition("=")[0]
        known = [o for action in parser._actions for o in action.option_strings]
        near = difflib.get_close_matches(name, known, 1)
        return f"unknown option '{name}'" + (f"; did you mean '{near[0]}'?" if near else "")
    return message
