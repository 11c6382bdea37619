"""Options of a run, from YAML files and the command line, for the classes of the registries."""

import functools
import re
import warnings
from argparse import SUPPRESS
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from jsonargparse import ArgumentError, ArgumentParser

from ..data import DATASETS, corpus
from ..emissions import EMISSIONS
from ..estimators import ESTIMATORS
from ..models import MODELS
from ..models.zforcing import OFFICIAL_CODE
from ..training import GROUPS
from .plain_yaml import read_config
from .terminal import Parser, did_you_mean

SECTIONS: dict[str, dict[str, Callable]] = {
    "data": DATASETS,
    "model": MODELS,
    "emission": EMISSIONS,
    "bound": ESTIMATORS,
}
DEFAULTS = {"data": "digits", "model": "zforcing", "bound": "elbo"}
OF_MODEL = {"walkback": {"data": "points", "bound": "walkback"}}
"""Defaults that a model has instead, such as data of vectors."""
NOT_OPTIONS = {"data_dir", "emission", "x_dim", "in_dim", "max_plate_nesting", "missing"}
NOT_OPTIONS |= {"free_bits", "free_bits_per"}
"""Arguments of the classes in ``SECTIONS`` that the experiment or training sets."""

MOST_USED = {"help", "preset", "seed", "max_updates", "out", "data_dir"}
MOST_USED |= {"bound.num_particles", "model.z_dim", "model.h_dim"}
MOST_USED |= {"model.aux_weight", "model.reverse_weight", "emission.hidden_dims"}
MOST_USED |= {f"training.{name}" for name in (
    "batch_size", "lr", "window", "kl_start", "kl_updates", "free_bits", "frame_dropout",
    "early_stop", "validate_every", "accelerator", "devices", "precision", "loggers", "adversary",
)}  # fmt: skip
"""Options in the short help, beside those of the data."""

SHORT = {"accelerator", "devices", "nodes", "precision"}
"""Options of training that may be named alone: where a run runs, not what it is."""

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "default": {  # experiments/collapse: costs that bring latents into use, and are let go
        "model": {"name": "zforcing", "aux_target": "standardised", "aux_weight": 1.0,
                  "reverse_unit": "frame", "reverse_weight": 8.0},
        "training": {"kl_start": 0.2, "kl_updates": 1000, "aux_end": 0.0, "aux_updates": 2000,
                     "reverse_end": 0.0, "reverse_updates": 2000},
    },
    "paper": {},
    "official_code": {
        "model": {"name": "zforcing", **OFFICIAL_CODE},
        "training": {"lr_schedule": "constant", "keep": "last", "shuffle": False},
    },
}  # fmt: skip
"""The best settings here of Z-Forcing; as the paper has it; the switches of its published code."""

AIDS = {"kl_weight": ("kl_start", "kl_end", "kl_updates", "kl_shape", "kl_target"),
        "analytic_kl": ("free_bits", "free_bits_per")}  # fmt: skip
"""Options of training that only bounds with some option of their own have."""

SPEECH_WINDOW = 40
"""Frames of the windows, each from a reset state, on which that code evaluates speech."""


def items(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the entries of nested dicts by dotted names."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from items(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def nested(config: dict[str, Any]) -> dict[str, Any]:
    """Returns options by section: ``{"model": "vrnn"}`` as ``{"model": {"name": "vrnn"}}``."""
    result: dict[str, Any] = {}
    for name, value in items(config):
        name = f"training.{name}" if name in SHORT else name
        *sections, option = f"{name}.name".split(".") if name in SECTIONS else name.split(".")
        target: Any = result
        for section in sections:
            target = target.setdefault(section, {}) if isinstance(target, dict) else None
        if not isinstance(target, dict) or option in target or name == "training":
            raise ValueError(f"'{name}' must stand once, as an option or as a section of options")
        target[option] = value
    for kind, registry in SECTIONS.items():
        if "name" in result.get(kind, {}):
            chosen(kind, result[kind]["name"], registry)
    return result


def overlay(base: dict[str, Any], update: dict[str, Any]) -> dict[str, Any]:
    """Returns nested options with those of ``update`` on top.

    Where ``update`` names another class, options that the new class lacks are dropped with a
    warning: a VRNN has no ``aux_input`` that a file for Z-Forcing may set, and without a
    ``kl_weight`` the KL cannot be annealed.
    """
    for section, registry in SECTIONS.items():
        name = update.get(section, {}).get("name")
        before = base.get(section, {}).get("name", DEFAULTS.get(section))
        if name == before or not {name, before} <= registry.keys():
            continue
        lacking = class_options(registry[before]) - class_options(registry[name])
        names = {f"{section}.{option}" for option in lacking}
        if section == "bound":
            names |= {f"training.{o}" for option in lacking for o in AIDS.get(option, ())}
        names -= dict(items(update)).keys()
        if dropped := [f"--{option}" for option, _ in items(base) if option in names]:
            warnings.warn(
                f"'{name}' has no {', '.join(dropped)}: left out, since the configuration sets "
                f"them for '{before}'",
                stacklevel=1,
            )
        base = nested({option: value for option, value in items(base) if option not in names})
    merged = {k: {**base.get(k, {}), **v} for k, v in update.items() if isinstance(v, dict)}
    return {**base, **update, **merged}


@functools.cache
def class_options(entry: Callable) -> frozenset[str]:
    """Returns the names of the options of a class."""
    return frozenset(add_options(ArgumentParser(), None, entry))


def add_options(target: Any, section: str | None, entry: Callable) -> list[str]:
    """Adds an option for each argument of a class to a parser or a group of it."""
    skip: set[Any] = {*NOT_OPTIONS}
    if isinstance(entry, functools.partial):
        entry, skip = entry.func, {len(entry.args), *NOT_OPTIONS}
    return target.add_class_arguments(entry, section, as_group=False, skip=skip)


def new_parser() -> ArgumentParser:
    """Returns a parser of no options yet, which reads values as a configuration does."""
    return ArgumentParser(
        allow_abbrev=False,
        prog="zforcing train",
        usage="%(prog)s [--config FILE.yaml] [--data NAME] [--model NAME] [--resume]\n"
        "       [--devices N] [--nodes N] [--model.parameters 300k] [options]",
        exit_on_error=False,
        parser_mode="zforcing_pyro",
    )


def train_parser(names: dict[str, str]) -> ArgumentParser:
    """Returns the parser of all options of the classes that ``names`` has chosen."""
    parser = new_parser()
    for name, kind, default, text in (
        ("preset", Literal[tuple(PRESETS)], "default", "defaults that all other options override"),
        ("seed", int, 0, "seed of weights, batches and noise"),
        ("max_updates", int, 10_000, "updates of the parameters in all"),
        ("out", str, "", "folder of the run; by default runs/DATA-MODEL-SEED"),
        ("data_dir", str | None, None, "folder of the data files, before $ZFORCING_DATA"),
    ):
        parser.add_argument(f"--{name}", type=kind, default=default, help=text)
    for section, registry in SECTIONS.items():
        group = parser.add_argument_group(f"{section}: {names[section]}")
        group.add_argument(f"--{section}.name", type=Literal[tuple(registry)],
                           default=names[section], help=f"also --{section} NAME")  # fmt: skip
        add_options(group, section, registry[names[section]])
    for group in GROUPS:
        title = f"training: {group.__name__.removesuffix('Options').lower()}"
        parser.add_argument_group(title).add_class_arguments(group, "training", as_group=False)
    return parser


def parsed(parser: ArgumentParser, config: dict[str, Any], args: Sequence[str]) -> dict[str, Any]:
    """Returns all options: the defaults, then ``config``, then ``args``; ValueError if unknown."""
    try:
        values = parser.parse_object(config)
        parser.validate(values, False)  # null is no number
        values = values.as_dict()
        parser.set_defaults(dict(items(values)))
        values = parser.parse_args(list(args)).as_dict()
    except (ArgumentError, TypeError) as error:  # the second from validate
        raise ValueError(explained(str(error), parser, config, args)) from error
    typed = as_typed(config, args)
    for key, value in items(values):
        power = 53 if isinstance(value, int) else 126  # of doubles, of float32
        if isinstance(value, int | float) and abs(value) >= 2.0**power:
            raise ValueError(f"'--{key}' must be less than 2**{power}, got {value}")
        if ":" in str(typed.get(key, "")) and ":" not in str(value):  # 1:30 is 90 to YAML 1.1
            raise ValueError(f"'--{key}' must be a number, got '{typed[key]}'")
    return values


def as_typed(config: dict[str, Any], args: Sequence[str]) -> dict[str, Any]:
    """Returns the values of a configuration and arguments as they were typed, by dotted names."""
    values = dict(items(config))
    for argument, following in zip(args, [*args[1:], ""]):
        name, equals, value = argument.partition("=")
        values[name.removeprefix("--")] = value if equals else following
    return values


def explained(
    message: str, parser: ArgumentParser, config: dict[str, Any], args: Sequence[str]
) -> str:
    """Returns a parser's complaint in one line, with the option that may have been meant."""
    message = " ".join(message.split())
    if match := re.search(r'Parser key "(.+?)": (.*?)(?:Got|Given) value:', message):
        key, expected = match.groups()
        got = as_typed(config, args).get(key, "options by name")
        expected = expected.removeprefix("Expected a ").strip(" .")
        expected = re.sub(r"<class '(.+?)'>|typing\.", r"\1", expected)
        expected = re.sub(r".*Subtypes: \[(.*?)\] .*", r"one of \1", expected)
        expected = re.sub(r"^Literal(?=\[)", "one of ", expected)
        expected = re.sub(r"^(list|collections\.abc\.Sequence)$", "a list: [a, b]", expected)
        return f"'--{key}' must be {expected}, got '{got}'"
    if match := re.match(r"unrecognized arguments: (\S+)|Option '(.+)' is not accepted", message):
        name = (match[1] or f"--{match[2]}").partition("=")[0]
        options = [o for action in parser._actions for o in action.option_strings if o != "--help"]
        return f"unknown option '{name}'" + did_you_mean(name, options)
    return message


def chosen(kind: str, name: Any, registry: dict[str, Any]) -> str:
    """Returns the name if it is in the registry; ValueError if not."""
    if isinstance(name, str) and name in registry:
        return name
    hint = did_you_mean(str(name), registry)
    raise ValueError(f"'{kind}' must be one of {list(registry)}, got '{name}'{hint}")


def parse(args: Sequence[str], config: dict[str, Any] | None = None, ask_help: str = "") -> Any:
    """Returns all options of a run by section; or the text of the help, "short" or on "all".

    A configuration file's options override those of ``config``, and arguments both. The order of
    ``--config`` and other arguments does not matter. Unknown names and options are a ValueError.
    """
    first = Parser(add_help=False)
    first.add_argument("--config", action="append", default=[])
    first.add_argument("--preset")
    for section in SECTIONS:
        first.add_argument(f"--{section}", f"--{section}.name", dest=section)
    for name in SHORT:
        first.add_argument(f"--{name}", f"--training.{name}", dest=name)
    typed, rest = first.parse_known_args(list(args))
    rest += [f"--training.{n}={v}" for n in SHORT if (v := getattr(typed, n)) is not None]
    options = nested(config or {})
    for file in typed.config:
        options = overlay(options, nested(read_config(file)))
    names = {kind: {"name": v} for kind in SECTIONS if (v := getattr(typed, kind)) is not None}
    options = overlay(options, names)
    preset = chosen("preset", typed.preset or options.get("preset", "default"), PRESETS)
    model = options.get("model", {}).get("name")
    defaults = DEFAULTS | OF_MODEL.get(model, {})
    names = {k: options.get(k, {}).get("name") or defaults.get(k) for k in SECTIONS}
    names["data"] = chosen("data", names["data"], DATASETS)
    data = chosen_corpus(names["data"], options, rest)
    names["emission"] = names["emission"] or data.emission
    names = {kind: chosen(kind, name, SECTIONS[kind]) for kind, name in names.items()}
    model, base = names["model"], PRESETS[preset]
    base = {k: v for k, v in base.items() if v.get("name", model) == model}
    base = base if "model" in base or preset != "default" else {}
    has = class_options(ESTIMATORS[names["bound"]])
    lacking = {f"training.{aid}" for o, aids in AIDS.items() if o not in has for aid in aids}
    base = nested({key: value for key, value in items(base) if key not in lacking})
    if preset == "official_code" and data.view == "audio":
        base["training"] = base["training"] | {"eval_window": SPEECH_WINDOW}
    parser = train_parser(names)
    if ask_help:
        return help_text(parser, ask_help == "all")
    return parsed(parser, overlay(base, options) | {"preset": preset}, rest)


def help_text(parser: ArgumentParser, everything: bool) -> str:
    """Returns the help on the options that most people need, or on all."""
    num = len(parser._actions)
    for action in parser._actions:
        if action.dest.endswith(".name"):
            action.metavar = "NAME"  # the type lists them
        if not everything and not action.dest.startswith("data."):
            names = {f"{section}.name" for section in SECTIONS} | MOST_USED
            action.help = action.help if action.dest in names else SUPPRESS
    # Docstrings have markup, a terminal has none.
    text = re.sub(r":[a-z]+:(?=`)|``?", "", parser.format_help())
    rest = "\n--help all lists all {} options of this model, data, emission and bound.\n"
    return text if everything else text + rest.format(num)


def chosen_corpus(name: str, options: dict[str, Any], args: list[str]) -> Any:
    """Returns the data set with those of its options that stand in a configuration or arguments."""
    parser, scan = new_parser(), Parser(add_help=False)
    parser.add_argument("--data_dir", type=str | None, default=None)
    keys = ["data_dir", *add_options(parser, "data", DATASETS[name])]
    for key in keys:
        scan.add_argument(f"--{key}", dest=key)
    typed = vars(scan.parse_known_args(args)[0])
    config = {k: v for k, v in options.items() if k in ("data", "data_dir")}
    config["data"] = {k: v for k, v in config.get("data", {}).items() if k != "name"}
    values = parsed(parser, config, [f"--{k}={v}" for k, v in typed.items() if v is not None])
    return corpus(name, **values.get("data", {}), data_dir=values["data_dir"])
