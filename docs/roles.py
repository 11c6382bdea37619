"""Griffe extension: docstrings with roles and formulas of reStructuredText, as Markdown."""

import re
import textwrap
from pathlib import Path
from runpy import run_path
from typing import Any

import griffe

HOOKS = run_path(str(Path(__file__).with_name("hooks.py")))
PLACES = {
    name: f"{HOOKS['PACKAGE']}.{module}.{name}"
    for module in HOOKS["ROOMS"].values()
    for name in HOOKS["exported"](f"{HOOKS['PACKAGE']}.{module}")
}
ROLE = re.compile(r":(class|func|meth|mod|attr|data):`~?\.?([^`]+)`")
MATH = re.compile(r"^( *)\.\. math::(.*)\n((?:\1 +.*\n|\s*\n)*)", re.M)


def reference(match: re.Match) -> str:
    """Returns a link to a public name, and other names as code."""
    role, name = match.groups()
    name = name.removeprefix("recurrence.") + "()" * (role in ("func", "meth"))
    place = PLACES.get(name.removesuffix("()"))
    return f"[`{name}`][{place}]" if place else f"`{name}`"


def formula(match: re.Match) -> str:
    """Returns a block of TeX; rows that are parted by an empty line are aligned."""
    indent, first, rest = match.groups()
    rows = re.split(r"\n\s*\n", f"{first}\n{textwrap.dedent(rest)}".strip())
    tex = r" \\ ".join(" ".join(row.split()) for row in rows)
    if "&" in tex:
        tex = rf"\begin{{aligned}} {tex} \end{{aligned}}"
    return f"{indent}$$\n{indent}{tex}\n{indent}$$\n\n"


def markdown(text: str) -> str:
    """Returns a docstring as Markdown.

    Example:
        >>> markdown("Twice :math:`x`, see :meth:`bound`.")
        'Twice $x$, see `bound()`.'
    """
    text = MATH.sub(formula, text + "\n")
    text = re.sub(r":math:`([^`]+)`", r"$\1$", text)
    text = re.sub(r"^( *)Example:$", r"\1Examples:", text, flags=re.M)
    return ROLE.sub(reference, text).rstrip()


class Roles(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **options: Any) -> None:
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)
