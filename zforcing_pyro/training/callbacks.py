"""The protocol of callbacks, and the progress that people see."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..data.writing import to_stderr

if TYPE_CHECKING:
    from .loop import Loop


class Callback(Protocol):
    """Methods that a callback may have, each one optional; all processes call them.

    A callback reads the loop's attributes, such as ``update``, ``row`` and ``net``. It may raise to
    end the run; what it draws at random does not change the run.
    """

    def on_update(self, loop: Loop) -> None:
        """Follows each update, before its checkpoint and validation."""

    def on_validation(self, loop: Loop) -> None:
        """Follows each validation, before its checkpoints; ``loop.last_bound`` is its bound."""

    def on_checkpoint(self, loop: Loop, file: Path) -> None:
        """Follows each checkpoint, once the first process has written the file."""

    def on_end(self, loop: Loop) -> None:
        """Follows the last update of a run that was not stopped."""


class Progress:
    """Callback for people: one line a validation, or on a terminal one that is written anew."""

    INTERVAL = 0.2
    """Seconds between two writes on a terminal."""

    def __init__(self):
        self.on_terminal = sys.stderr.isatty()
        self.begun: tuple[float, int] | None = None
        self.written = 0.0

    def on_update(self, loop: Loop) -> None:
        self.begun = self.begun or (time.monotonic(), loop.update)
        if self.on_terminal and time.monotonic() - self.written > self.INTERVAL:
            self.write(loop)

    def on_validation(self, loop: Loop) -> None:
        self.write(loop, end="" if self.on_terminal else "\n")

    def on_end(self, loop: Loop) -> None:
        if self.on_terminal:
            self.write(loop, end="\n")

    def write(self, loop: Loop, end: str = "") -> None:
        """Writes the update, the time that is left, and the last row of the curves."""
        if not loop.fabric.is_global_zero:
            return
        text, num = f"update {loop.update} of {loop.num_updates}", loop.num_updates
        if self.begun and self.begun[1] < loop.update < num:
            seconds = (time.monotonic() - self.begun[0]) / (loop.update - self.begun[1])
            text += f", {duration(seconds * (num - loop.update))} left"
        text = " ".join([f"{text}:", *described(loop.row)])
        if self.on_terminal:  # cut, because a line that wraps cannot be written anew
            width = shutil.get_terminal_size().columns - 1
            text = "\r" + text[:width].ljust(width)
        to_stderr(text, end)
        self.written = time.monotonic()


def described(row: dict[str, float]) -> list[str]:
    """Returns a row of the curves as words, the most important first."""
    names = {name: name for name in ("bound", "valid_bound", "kl", "valid_kl", "aux", "reverse")}
    names |= {"valid_latents_in_use": "in_use", "grad_norm": "grad_norm", "lr": "lr"}
    names |= {"sequences_per_second": "seq/s", "padding": "padding", "skipped": "skipped"}
    words = [f"{text} {row[name]:.4g}" for name, text in names.items() if name in row]
    return [word for word in words if word != "skipped 0"]


def duration(seconds: float) -> str:
    """Returns a time for people.

    Example:
        >>> duration(50), duration(3_000), duration(100_000)
        ('50 s', '50 min', '27.8 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6_000 else f"{seconds / 3_600:.1f} h"
