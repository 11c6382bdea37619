"""A run's folder: it belongs to one run, and one process at a time trains in it."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .._version import __version__

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
try:
    import msvcrt
except ImportError:
    msvcrt = None

MARKER = "run.json"
"""File that makes a folder a run's. The process that trains there holds a lock on the file."""
RANKS = "RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK"
_held: set[Path] = set()


@contextmanager
def run_folder(folder: str | Path, option: str = "folder") -> Iterator[Path]:
    """Makes or takes a run's folder and holds it against other processes until the block ends.

    The system frees the lock of a process that is killed. In one process blocks may be nested. Of
    a run's processes the first one alone makes and holds the folder.

    Args:
        folder: A new or empty folder, or the folder of a run.
        option: Name of the option, for errors.

    Raises:
        ValueError: If the folder holds other people's files, cannot be made or written, or if
            another process trains in it.
    """
    path = Path(os.path.realpath(folder))
    if path in _held or not is_first_process():
        yield path
        return
    try:
        if os.path.islink(folder) and not path.exists():
            raise ValueError(f"'{option}' must be a folder, got the dead link '{folder}'")
        path.mkdir(parents=True, exist_ok=True)
        foreign = [] if is_run(path) else sorted(os.listdir(path))
        if foreign:
            raise ValueError(
                f"'{option}' must be a new or an empty folder, got '{folder}', which holds "
                f"'{foreign[0]}'"
            )
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(path / MARKER, flags, 0o666)
    except OSError as error:
        raise ValueError(
            f"'{option}' must be a folder that can be written, got '{folder}': {error.strerror}"
        ) from error
    try:
        lock(descriptor, folder, option)
        if not os.fstat(descriptor).st_size:
            about = {"zforcing_pyro": __version__, "format": 2, "id": secrets.token_hex(8)}
            os.write(descriptor, (json.dumps(about) + "\n").encode())
        _held.add(path)
        yield path
    finally:
        _held.discard(path)
        os.close(descriptor)


def lock(descriptor: int, folder: str | Path, option: str) -> None:
    """Locks an open file, where the system can, until the file is closed.

    Raises:
        ValueError: If another process holds the lock.
    """
    try:
        if fcntl:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif msvcrt:  # one byte far behind the content, which others may read
            os.lseek(descriptor, 2**20, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
    except (BlockingIOError, PermissionError) as error:
        raise ValueError(
            f"'{option}' must not be in use, got '{folder}', in which another process trains"
        ) from error
    except OSError:  # a file system without locks
        return


def is_run(folder: str | Path) -> bool:
    """Returns whether a folder has the marker of a run."""
    return run_id(folder) is not None


def run_id(folder: str | Path) -> str | None:
    """Returns the identity of a run for loggers; None if the folder is not a run's."""
    file = Path(folder, MARKER)
    if file.is_symlink() or not file.is_file() or file.stat().st_size > 10_000:
        return None
    try:
        about = json.loads(file.read_bytes() or b'{"zforcing_pyro": ""}')
        return str(about.get("id", "")) if "zforcing_pyro" in about else None
    except (ValueError, AttributeError, TypeError, RecursionError):
        return None


def is_first_process() -> bool:
    """Returns whether this process is the first of those that were started for a run."""
    return all(os.environ.get(name, "0") == "0" for name in RANKS)
