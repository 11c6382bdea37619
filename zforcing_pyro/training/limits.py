"""Base class of groups of options, with the limits of each field."""

import math
from dataclasses import dataclass, field, fields
from typing import Any, get_args


def number(default: Any, **limits: float) -> Any:
    """Returns a dataclass field with limits: ``above``, ``least``, ``most``."""
    return field(default=default, metadata=limits)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Base class of the groups; checks types and limits of all fields."""

    def __post_init__(self):
        for option in fields(self):
            check_option(option.name, getattr(self, option.name), option.type, **option.metadata)


def check_option(
    name: str,
    value: Any,
    kind: Any,
    above: float = -math.inf,
    least: float = -math.inf,
    most: float = math.inf,
) -> None:
    """Raises ValueError unless a value is of a field's type and within its limits."""
    choices = [False, True] if kind is bool else get_args(kind)
    if choices and get_args(choices[0]):  # a list of choices
        choices = get_args(choices[0])
    values = value if isinstance(value, list) else [value]
    if kind is bool or isinstance(next(iter(choices), None), str):
        if not all(v in choices for v in values):
            raise ValueError(f"'{name}' must be one of {list(choices)}, got {value!r}")
    elif value is not None or type(None) not in choices:
        if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
            expected = "an integer" if kind is int else "a number"
            raise ValueError(f"'{name}' must be {expected}, got {value!r}")
        if not math.isfinite(value):
            raise ValueError(f"'{name}' must be finite, got {value}")
        if not (value > above and least <= value <= most):
            limits = "not be negative" if least == 0 else "be positive"
            limits = limits if most == math.inf else f"be in {least}..{most}"
            raise ValueError(f"'{name}' must {limits}, got {value}")
