"""Errors on options, used by every room: ranges, choices, and the names that a class takes."""

import math
from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any, get_args

MAX_SIZE = 2**20
"""Largest size of a layer: beyond it a typing error is likelier than a network."""


def check_range(low: float, high: float = math.inf, /, **numbers: float | None) -> None:
    """Raises ValueError for a number outside of ``low..high``, by its name; None is no number."""
    words: dict[float, str] = {0: "not be negative", 1: "be positive"}
    least = words.get(low, f"be at least {low}")
    limits = least if high == math.inf else f"be in {low:,}..{high:,}"
    for name, number in numbers.items():
        if number is not None and not low <= number <= high:
            raise ValueError(f"'{name}' must {limits}, got {number}")


def check_choice(literal: Any, **choices: Any) -> None:
    """Raises ValueError for an option that its ``Literal`` type does not list, by its name."""
    for name, choice in choices.items():
        if choice not in get_args(literal):
            raise ValueError(f"'{name}' must be one of {list(get_args(literal))}, got '{choice}'")


def parameters(entry: Callable) -> dict[str, Parameter]:
    """Returns a class's parameters by name, with those that ``**options`` hands to its base."""
    result: dict[str, Parameter] = {}
    kind: Any = getattr(entry, "func", entry)
    for cls in kind.__mro__:
        if "__init__" in vars(cls):
            result = {**signature(cls.__init__).parameters} | result
            if not result.pop("options", None):
                break
    return dict(list(result.items())[1 + len(getattr(entry, "args", ())) :])
