"""Completion by the TAB key: ``eval "$(register-python-argcomplete zforcing)"`` in a shell."""

import argparse
import os
from collections.abc import Iterable


def words() -> list[str]:
    """Returns the words between the program's name and what a shell completes."""
    from argcomplete.lexers import split_line

    return split_line(os.environ["COMP_LINE"], int(os.environ["COMP_POINT"]))[3][1:]


def choose(parser: argparse.ArgumentParser, names: Iterable[str]) -> None:
    """Answers a shell by names for the first argument, and ends the process."""
    parser.add_argument("name", choices=tuple(names))
    answer(parser)


def answer(parser: argparse.ArgumentParser) -> None:
    """Answers a shell by the options of a parser, and ends the process."""
    from argcomplete import autocomplete

    os.environ["_ARGCOMPLETE"] = str(len(parser.prog.split()))  # words before its arguments
    autocomplete(parser)
