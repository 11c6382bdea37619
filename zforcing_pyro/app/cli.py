"""The command line: ``zforcing COMMAND``, see :mod:`.commands`."""

import errno
import os
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from importlib import import_module

from .._version import __version__
from . import completion
from .terminal import Parser, did_you_mean, say

COMMANDS = {
    "train": "train a model: zforcing train [--config FILE.yaml] [--data NAME] [--model NAME] ...",
    "evaluate": "bounds of a run on validation or test: zforcing evaluate RUN [--bound NAME] ...",
    "sweep": "many runs, a grid or a search: zforcing sweep FILE.yaml [--jobs N]",
    "sample": "draw sequences from a run's model: zforcing sample RUN [--num N] [--out DIR]",
    "inspect": "trust and meaning of a run's latents: zforcing inspect RUN [--json]",
    "interpolate": "sequences between two of test: zforcing interpolate RUN A B",
    "report": "a page on runs, one HTML file: zforcing report RUN [RUN ...] [--out FILE]",
    "table": "runs over seeds, for a paper: zforcing table RUN [RUN ...] [--latex] [--csv FILE]",
    "paper": "tables of Goyal et al. (2017): zforcing paper table1|table2|table3|figure2",
    "forecast": "quantiles of the steps to come: zforcing forecast RUN FILE --horizon N",
    "impute": "means or draws of missing values: zforcing impute RUN FILE [--draws N]",
    "score": "surprise of each row, in nats: zforcing score RUN FILE [--out FILE]",
    "compress": "files into an archive: zforcing compress FILE ... --run RUN --out ARCHIVE",
    "decompress": "and back: zforcing decompress ARCHIVE --run RUN --out DIR",
    "data": "data sets: zforcing data [list | show NAME | prepare NAME]",
}
HOMES = dict.fromkeys(("forecast", "impute", "score"), "series")
"""Modules of commands that do not have one of their own."""
LONGEST = 1_000
"""Characters of an error that are shown."""


def main(args: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status: 0, 2 for an error, 130 for Ctrl-C, or its own.

    Whatever goes wrong is one line on stderr.
    """
    args = list(sys.argv[1:] if args is None else args)
    if sys.stderr is None:  # it was closed: daemons do so
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if hasattr(sys.stdout, "reconfigure"):  # characters that a terminal lacks are replaced
        sys.stdout.reconfigure(errors="replace")
    if os.environ.pop("ZFORCING_STOP_WITH_STDIN", None):
        threading.Thread(target=stop_with_stdin, daemon=True).start()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show_warning
            try:
                return command(args)
            except OSError as error:
                if error.errno == errno.ENOSPC and error.filename is None:
                    print()  # fails again, by name, if it is stdout that is full
                raise
            finally:
                flush()
    except SystemExit as stop:  # argparse has printed a command's help
        return int(stop.code or 0)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        say("zforcing: interrupted")
        return 130
    except Exception as error:
        if os.environ.get("ZFORCING_TRACEBACK"):
            raise
        say(f"zforcing: error: {reason(error)}")
        return 2


def command(args: list[str]) -> int:
    """Runs the command that the first argument names and returns its exit status."""
    if "_ARGCOMPLETE" in os.environ:
        args = completion.words()
        if not args:
            completion.choose(Parser(), COMMANDS)
    if not args or args[0] in ("-h", "--help"):
        print("usage: zforcing COMMAND [options]\n")
        print("\n".join(f"  {name:12} {text}" for name, text in COMMANDS.items()))
        print("\nzforcing COMMAND --help tells more.")
        return 0 if args else 2
    if args[0] == "--version":
        print(f"zforcing_pyro {__version__}")
        return 0
    if args[0] not in COMMANDS:
        raise ValueError(
            f"command must be one of {list(COMMANDS)}, got '{args[0]}'"
            + did_you_mean(args[0], COMMANDS)
        )
    module = import_module(f".commands.{HOMES.get(args[0], args[0])}", __package__)
    return getattr(module, args[0])(args[1:]) or 0


def flush() -> None:
    """Writes what was printed; an OSError, such as of a full disk, names standard output."""
    try:
        print(end="", flush=True)  # also where stdout is closed
    except BrokenPipeError:
        raise
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or it fails at exit again
        raise OSError(error.errno, error.strerror, "standard output") from error


def reason(error: Exception) -> str:
    """Returns an error in one line, with its type where it was not foreseen."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        text = f"'{error.filename}': {error.strerror}"
    if isinstance(error, MemoryError) or "allocate memory" in text or "out of memory" in text:
        text = text.partition("can't allocate memory: ")[2] or text or "no more memory"
        rule = "smaller sizes, such as of batches or particles, must be chosen"
        return f"{rule}, got: {text[:LONGEST]}"
    if not text or not isinstance(error, (ValueError, OSError, ImportError)):
        hint = "ZFORCING_TRACEBACK=1 shows more"
        return f"{type(error).__name__}: {text[:LONGEST]} ({hint})"
    return text[:LONGEST]


def show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Prints a warning, of the first process of a run only, without the line of code it is of."""
    from ..training.folder import is_first_process

    if is_first_process():
        say(f"zforcing: warning: {' '.join(str(message).split())}")


def stop_with_stdin() -> None:
    """Stops this process at the end of its stdin, which a sweep holds open while it lives."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
