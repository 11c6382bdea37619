"""Arguments and configuration files: names from the registries, and the options behind them."""

from __future__ import annotations

import argparse
import difflib
import functools
import inspect
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from ..data import DATASETS, Corpus, corpus
from ..emissions import EMISSIONS
from ..estimators import ESTIMATORS
from ..models import MODELS
from ..models.zforcing import OFFICIAL_CODE
from ..training import GROUPS

SECTIONS: dict[str, dict[str, Callable]] = {
    "data": DATASETS,
    "model": MODELS,
    "emission": EMISSIONS,
    "bound": ESTIMATORS,
}
DEFAULTS = {"data": "digits", "model": "zforcing", "bound": "elbo"}
GIVEN = {"data_dir", "emission", "x_dim", "in_dim", "max_plate_nesting", "missing"}
GIVEN |= {"free_bits", "free_bits_per"}
"""Arguments of the classes in ``SECTIONS`` that are no options: the experiment gives them, or
training does."""

SHORT = {"accelerator", "devices", "nodes", "precision"}
"""Options of training that may be named alone: where a run runs, not what it is."""

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


def help_text(args: Sequence[str] = ()) -> str:
    """All options of the chosen data, model, emission and bound."""
    text = arguments([a for a in args if a not in ("-h", "--help")])[2].format_help()
    return re.sub(r":[a-z]+:(?=`)|``?", "", text)  # docstrings have markup, a terminal has none


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
    names["emission"] = names["emission"] or chosen_corpus(given, names["data"]).emission
    for kind, name in names.items():
        if name not in SECTIONS[kind]:
            raise ValueError(f"'{kind}' must be one of {list(SECTIONS[kind])}, got '{name}'")
    preset = chosen(given, "preset", "paper")
    if preset not in PRESETS:
        raise ValueError(f"'preset' must be one of {list(PRESETS)}, got '{preset}'")
    return [*preset_arguments(preset, names), *given], names, parser(names)


def chosen_corpus(given: list[str], name: str) -> Corpus:
    """A data set with those of its options that are among arguments.

    Raises:
        ValueError: If the name, or the value of an option, is unknown.
    """
    if name not in DATASETS:
        raise ValueError(f"'data' must be one of {list(DATASETS)}, got '{name}'")
    parser, skip = ArgumentParser(exit_on_error=False, allow_abbrev=False), set()
    parser.add_argument("--data_dir", type=str | None, default=None)
    entry = DATASETS[name]
    if isinstance(entry, functools.partial):
        entry, skip = entry.func, {len(entry.args)}
    skip |= GIVEN & set(inspect.signature(entry).parameters)
    names = ["data_dir", *parser.add_class_arguments(entry, "data", as_group=False, skip=skip)]
    values = {key: chosen(given, key, "") for key in names}
    try:
        parsed = parser.parse_args([f"--{k}={v}" for k, v in values.items() if v]).as_dict()
    except ArgumentError as error:
        raise ValueError(one_line(str(error), parser)) from error
    return corpus(name, **parsed.get("data", {}), data_dir=parsed["data_dir"])


def parser(names: dict[str, str]) -> ArgumentParser:
    """Options from the signatures and docstrings of what the names stand for."""
    parser = ArgumentParser(
        allow_abbrev=False,
        prog="zforcing train",
        usage="%(prog)s [--config FILE.yaml] [--resume] [--devices N] [--nodes N] [options]",
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
    for options in GROUPS:
        group = parser.add_argument_group(f"training: {options.__name__[:-7].lower()}")
        group.add_class_arguments(options, "training", as_group=False)
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
    """``--model`` and ``--model=NAME`` as ``--model.name``; ``--devices`` as its whole name."""
    key, equals, value = argument.partition("=")
    if key[:2] == "--" and key[2:] in SECTIONS:
        return f"{key}.name{equals}{value}"
    if key[:2] == "--" and key[2:] in SHORT:
        return f"--training.{key[2:]}{equals}{value}"
    return argument


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
