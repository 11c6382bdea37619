"""What a run calls: the protocol of callbacks, and the progress that people see."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .loop import Loop


class Callback(Protocol):
    """Methods that a callback may have; each one is optional, on every process.

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
    """Time since a run began in this process, for an estimate of the rest."""

    def __init__(self):
        self.begun: tuple[float, int] | None = None

    def words(self, loop: Loop) -> str:
        """Returns the update, the time that is left, and the last row of the curves."""
        text, num = f"update {loop.update} of {loop.num_updates}", loop.num_updates
        if self.begun and self.begun[1] < loop.update < num:
            seconds = (time.monotonic() - self.begun[0]) / (loop.update - self.begun[1])
            text += f", {duration(seconds * (num - loop.update))} left"
        described = " ".join(f"{name} {value}" for name, value in describe_row(loop.row).items())
        return f"{text}: {described}"

    def on_update(self, loop: Loop) -> None:
        self.begun = self.begun or (time.monotonic(), loop.update)


class LinePerValidation(Progress):
    """Progress for logs and pipes: one line a validation."""

    def on_validation(self, loop: Loop) -> None:
        if loop.fabric.is_global_zero:
            print(self.words(loop), file=sys.stderr, flush=True)


class Line(Progress):
    """Progress on a terminal: one line that is written anew and never wraps."""

    INTERVAL = 0.2
    """Seconds between two writes."""

    def __init__(self):
        super().__init__()
        self.written = 0.0

    def on_update(self, loop: Loop) -> None:
        super().on_update(loop)
        if time.monotonic() - self.written > self.INTERVAL:
            self.write(loop)

    def on_validation(self, loop: Loop) -> None:
        self.write(loop)

    def on_end(self, loop: Loop) -> None:
        self.write(loop, end="\n")

    def write(self, loop: Loop, end: str = "") -> None:
        """Writes the line, cut to the terminal's width."""
        if loop.fabric.is_global_zero:
            width = shutil.get_terminal_size().columns - 1
            words = self.words(loop)[:width].ljust(width)
            print(f"\r{words}", end=end, file=sys.stderr, flush=True)
            self.written = time.monotonic()


def progress() -> list[Progress]:
    """Returns the progress that suits the standard error stream."""
    return [Line() if sys.stderr.isatty() else LinePerValidation()]


def describe_row(row: dict[str, float]) -> dict[str, str]:
    """Returns a row of the curves as texts by short names, the most important first."""
    names = {
        **{name: name for name in ("bound", "valid_bound", "kl", "valid_kl", "aux", "reverse")},
        **{"valid_latents_in_use": "in_use", "grad_norm": "grad_norm", "lr": "lr"},
    }
    texts = {text: f"{row[name]:.4g}" for name, text in names.items() if name in row}
    if "sequences_per_second" in row:
        texts["seq/s"] = f"{row['sequences_per_second']:.4g}"
        texts["padding"] = f"{row['padding']:.1%}"
    if row.get("skipped"):
        texts["skipped"] = str(row["skipped"])
    return texts


def duration(seconds: float) -> str:
    """Returns a time for people.

    Example:
        >>> duration(50), duration(3_000), duration(100_000)
        ('50 s', '50 min', '27.8 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6_000 else f"{seconds / 3_600:.1f} h"
