"""Folders that commands write: a run's is told from other people's, no link in it is followed."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FORMAT = 2
"""Format of a run's folder; another one is refused."""
MARKER = "environment.json"
"""File that makes a folder a run's."""


def is_run(folder: str | Path) -> bool:
    """Returns whether ``zforcing train`` wrote the folder.

    Raises:
        ValueError: If a version with another format wrote it.
    """
    marker = Path(folder, MARKER)
    if marker.is_symlink() or not marker.is_file():
        return False
    try:
        facts = json.loads(marker.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return False
    if not isinstance(facts, dict) or not {"format", "git_commit"} & facts.keys():
        return False
    if facts.get("format", 1) != FORMAT:
        raise ValueError(
            f"'run' must be a run of format {FORMAT}, got '{folder}' of format "
            f"{facts.get('format', 1)}, which another version of zforcing_pyro reads"
        )
    return True


def has_begun(run: Path) -> bool:
    """Returns whether a run's folder holds what ``--resume`` goes on from."""
    try:
        return (run / "checkpoints" / "last.ckpt").exists() and is_run(run)
    except OSError:  # such as a name that is too long; the training's folder says so
        return False


def claim(folder: str | Path, pattern: str, option: str = "--out") -> Path:
    """Makes a folder for output, or returns the one that is there if nobody else uses it.

    Args:
        folder: The folder; an empty one is taken.
        pattern: Regular expression of the names that may be in it.
        option: Name of the option, for errors.

    Raises:
        ValueError: If it is not a folder, cannot be made, or holds other people's files.
    """
    folder = Path(folder)
    try:
        if folder.is_symlink() and not folder.exists():
            raise ValueError(f"'{option}' must be a folder, got the dead link '{folder}'")
        folder.mkdir(parents=True, exist_ok=True)
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise ValueError(
            f"'{option}' must be a folder that can be written, got '{folder}': {error.strerror}"
        ) from error
    foreign = [name for name in names if not re.fullmatch(pattern, name)]
    if foreign:
        raise ValueError(
            f"'{option}' must be a new or an empty folder, got '{folder}', which holds "
            f"'{foreign[0]}'"
        )
    return folder


@contextmanager
def writing(folder: Path, pattern: str, inside: Path | None = None) -> Iterator[Path]:
    """Yields an empty folder whose files are moved to ``folder`` at the end, each one whole.

    Args:
        folder: Where the files go; an older file of the same name is replaced.
        pattern: Regular expression of the files' names; no others may be in ``folder``.
        inside: The run's folder, in which no link is followed, if ``folder`` lies there.

    Raises:
        ValueError: If ``folder`` holds other people's files, or a link would be followed.
    """
    from ..data.writing import refuse_links, replacing

    if inside is not None:
        refuse_links(folder, inside)
    claim(folder, pattern)
    with tempfile.TemporaryDirectory(prefix="zforcing-") as new:
        yield Path(new)
        for file in sorted(Path(new).iterdir()):
            with open(file, "rb") as source, replacing(folder / file.name, inside) as target:
                shutil.copyfileobj(source, target)
