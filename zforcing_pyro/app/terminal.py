"""Arguments of commands, lines that are safe to print, and progress."""

import argparse
import difflib
import os
import sys
import time
from collections.abc import Iterable
from typing import Any

from ..data.writing import to_stderr
from .completion import answer

PAUSE = 20.0
"""Seconds between two lines of progress where no bar can be drawn."""


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises ValueError with one line.

    Args:
        command: Name behind ``zforcing``.
        shared: Names for :meth:`add_shared`.
    """

    def __init__(self, command: str = "", shared: str = "", **kwargs: Any):
        formatter = argparse.ArgumentDefaultsHelpFormatter
        kwargs = {"prog": f"zforcing {command}", "formatter_class": formatter} | kwargs
        super().__init__(allow_abbrev=False, **kwargs)
        self.add_shared(shared)

    def add_shared(self, names: str) -> None:
        """Adds options that several commands have, such as "run --seed"."""
        options: dict[str, dict[str, Any]] = {
            "run": {"help": "folder of a run"},
            "--split": {"choices": ("train", "valid", "test"), "default": "test",
                        "help": "part of the data"},
            "--num": {"type": int, "help": "sequences looked at; by default as many as have some "
                      "8,000 steps, but 8 to 128"},
            "--particles": {"type": int, "default": 100,
                            "help": "draws of the latents for each, 25 or more"},
            "--seed": {"type": seed_number, "default": 0, "help": "seed of the draws"},
            "--data_dir": {"help": "folder of the data files, before $ZFORCING_DATA"},
            "--json": {"action": "store_true", "help": "print one JSON object"},
        }  # fmt: skip
        for name in names.split():
            self.add_argument(name, **options[name])

    def parse_known_args(self, *args: Any, **kwargs: Any) -> Any:
        """Parses arguments, or answers a shell that completes them; scans for a few do not."""
        if "_ARGCOMPLETE" in os.environ and type(self) is Parser and self.add_help:
            answer(self)
        return super().parse_known_args(*args, **kwargs)

    def error(self, message: str) -> None:
        unknown = message.partition("unrecognized arguments: ")[2].partition(" ")[0]
        name = unknown.partition("=")[0]
        hint = did_you_mean(name, self._option_string_actions) if name else ""
        raise ValueError(message + hint)


def seed_number(text: str) -> int:
    """Returns a seed; others are refused as argparse asks for."""
    if not 0 <= int(text) < 2**32:
        raise argparse.ArgumentTypeError(f"must be in 0..{2**32 - 1}, got {text}")
    return int(text)


def printable(text: object) -> str:
    """Returns a text in one line whose control characters, such as terminal escapes, are escaped.

    Example:
        >>> printable("a\\x1b[2Jb ü"), printable("a\\nb")
        ('a\\\\x1b[2Jb ü', 'a\\\\nb')
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def show(text: object = "") -> None:
    """Prints a result on stdout, cleaned by :func:`printable`; OSError if stdout is closed."""
    if sys.stdout is None:
        raise OSError("standard output must be open, because the result is printed there")
    print("\n".join(map(printable, str(text).split("\n"))))


def say(line: object) -> None:
    """Prints a line on stderr: progress, warnings and errors."""
    to_stderr(printable(line))


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Returns ``"; did you mean 'NAME'?"``, or an empty text where no name is near.

    Example:
        >>> did_you_mean("--lr", ["--help", "--training.lr"])
        "; did you mean '--training.lr'?"
    """
    names = list(names)
    ends = {n.split(".")[-1].lstrip("-"): n for n in names}
    end = name.split(".")[-1].lstrip("-")
    near = [ends[end]] if end in ends else difflib.get_close_matches(name, names, 1)
    near = near or [ends[e] for e in difflib.get_close_matches(end, ends, 1)]
    return f"; did you mean '{near[0]}'?" if near else ""


def user_path(path: str, option: str) -> str:
    """Returns a path whose ``~`` is expanded.

    Raises ValueError if no user has the name after the ``~``, or the path holds a NUL.
    """
    expanded = os.path.expanduser(path)
    if expanded.startswith("~") or "\0" in path:
        raise ValueError(f"'{option}' must be a path, and begin with the ~ of a user, got '{path}'")
    return expanded


class Progress:
    """Progress on stderr: bars on a terminal, else a line every 20 seconds."""

    def __enter__(self) -> "Progress":
        from rich.console import Console
        from rich.progress import Progress as Bars

        self.tasks: dict[str, Any] = {}
        self.said_at = time.monotonic()
        self.bars = Bars(console=Console(stderr=True), disable=not sys.stderr.isatty())
        self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bars.stop()

    def report(self, stage: str, done: int, total: int) -> None:
        """Shows that ``done`` of ``total`` are done."""
        if stage not in self.tasks:
            self.tasks[stage] = self.bars.add_task(stage, total=total)
        self.bars.update(self.tasks[stage], completed=done)
        if self.bars.disable and time.monotonic() - self.said_at > PAUSE:
            self.said_at = time.monotonic()
            say(f"{stage}: {done:,} of {total:,}")
