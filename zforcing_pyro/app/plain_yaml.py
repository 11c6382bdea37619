"""YAML of plain values: the files of configurations and sweeps, and values of the command line."""

import re
from pathlib import Path
from typing import Any

import jsonargparse
import yaml

from .terminal import user_path

MAX_BYTES, MAX_DEPTH = 100_000, 20
"""Size and nesting of a YAML file that is read."""


class PlainLoader(yaml.SafeLoader):
    """Reads plain YAML: no aliases, tags, repeated keys; keys are text; 1e-3 is a number."""

    yaml_implicit_resolvers: dict = {}
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> yaml.Node:
        event = self.peek_event()
        if getattr(event, "anchor", None) or getattr(event, "tag", None) not in (None, "!"):
            raise yaml.MarkedYAMLError(problem="an anchor or a tag", problem_mark=event.start_mark)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem="too many levels", problem_mark=event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value in mapping:
                problem = f"the key '{key.value}' a second time, or a key that is not a name"
                raise yaml.MarkedYAMLError(problem=problem[:200], problem_mark=key.start_mark)
            mapping[key.value] = self.construct_object(value, deep=True)
        return mapping

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """Returns the number that was written; 1e3 is a whole one."""
        text = node.value.lower().replace(".inf", "inf").replace(".nan", "nan")
        if re.fullmatch(r"[-+]?\d+", text):
            return int(text)
        number = float(text)
        whole = "." not in text and number.is_integer() and abs(number) < 2**53
        return int(number) if whole else number


class PlainDumper(yaml.SafeDumper):
    """Writes plain YAML: a text such as "1e-3", which PlainLoader reads as a number, is quoted."""


for tag, pattern, first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("float", r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
     list("-+.0123456789")),
):  # fmt: skip
    for plain in (PlainLoader, PlainDumper):
        plain.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^({pattern})$"), first)
PlainLoader.add_constructor("tag:yaml.org,2002:float", PlainLoader.construct_number)


def load_yaml(text: str) -> Any:
    """Returns the plain values of a YAML text."""
    return yaml.load(text, PlainLoader)


def dump_yaml(values: Any) -> str:
    """Returns plain values as a YAML text, which :func:`load_yaml` reads."""
    return yaml.dump(values, Dumper=PlainDumper, sort_keys=False, allow_unicode=True)


jsonargparse.set_loader("zforcing_pyro", load_yaml, (yaml.YAMLError, ValueError))


def read_config(path: str, option: str = "--config") -> dict[str, Any]:
    """Returns the nested options of a YAML file; ValueError unless it is small and plain YAML."""
    file = Path(user_path(path, option))
    if not file.is_file():
        problem = "another kind of file" if file.exists() else "no such file"
        raise ValueError(f"'{option}' must be a YAML file, got '{path}': {problem}")
    if file.stat().st_size > MAX_BYTES:
        raise ValueError(f"'{path}' must be a YAML file of at most {MAX_BYTES:,} bytes")
    try:
        config = load_yaml(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        problem = " ".join(str(error).split())
        raise ValueError(f"'{path}' must be a YAML file, got: {problem}") from error
    if not isinstance(config, dict | None):
        raise ValueError(f"'{path}' must hold options by name, got {type(config).__name__}")
    return config or {}
