"""``zforcing build``."""

from __future__ import annotations

from ..terminal import Parser, say


def build(args: list[str]) -> None:
    """Compiles the time loops of the fast path in C++: optional, and needs a compiler and ninja."""
    Parser("build", description=build.__doc__).parse_args(args)
    from ...models.recurrence import native

    try:
        file = native.build()
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"the loops were not built, all works without them: {reason}") from error
    say(f"built, and taken by models from now on: {file}")
