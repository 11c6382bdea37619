"""The command line: ``zforcing COMMAND``, see :mod:`.commands`."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module

from .. import __version__

COMMANDS = {
    "train": "train a model: zforcing train [--config FILE.yaml] [--data NAME] [--model NAME] ...",
    "evaluate": "bounds of a run on validation or test: zforcing evaluate RUN [--bound NAME] ...",
    "sweep": "many runs, a grid or a random search: zforcing sweep FILE.yaml [--jobs N]",
    "sample": "draw sequences from a run's model: zforcing sample RUN [--num N] [--out DIR]",
    "inspect": "trust and meaning of a run's latents: zforcing inspect RUN [--json]",
    "interpolate": "sequences between two of test: zforcing interpolate RUN A B",
    "report": "a page on runs, one HTML file: zforcing report RUN [RUN ...] [--out FILE]",
    "data": "data sets: zforcing data [list | show NAME | prepare NAME]",
    "build": "compile the time loops in C++ for faster training on a CPU (optional)",
}


def main(args: Sequence[str] | None = None) -> int:
    """Runs one command. A user's mistake is one line on stderr and status 2.

    Args:
        args: Arguments; by default those of the process.

    Returns:
        The exit status.
    """
    args = list(sys.argv[1:] if args is None else args)
    if not args or args[0] in ("-h", "--help"):
        print("usage: zforcing COMMAND [options]\n")
        print("\n".join(f"  {name:10} {text}" for name, text in COMMANDS.items()))
        print("\nzforcing COMMAND --help tells more.")
        return 0 if args else 2
    if args[0] == "--version":
        print(f"zforcing_pyro {__version__}")
        return 0
    try:
        if args[0] not in COMMANDS:
            raise ValueError(f"command must be one of {list(COMMANDS)}, got '{args[0]}'")
        module = import_module(f".commands.{args[0]}", __package__)
        with warnings.catch_warnings():
            warnings.showwarning = one_line
            return getattr(module, args[0])(args[1:]) or 0
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        if os.environ.get("ZFORCING_TRACEBACK"):
            raise
        print(f"zforcing: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("zforcing: interrupted", file=sys.stderr)
        return 130


def one_line(message: Warning | str, *_: object) -> None:
    """A warning as a person is told of it: without the line of code that it came from."""
    print(f"zforcing: warning: {message}", file=sys.stderr)
