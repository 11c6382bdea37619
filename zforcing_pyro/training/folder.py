"""A run's folder: it belongs to one run, and one process at a time trains in it."""

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from .._version import __version__
from ..data.writing import locked

MARKER = "run.json"
"""File that makes a folder a run's, and that the process which trains there holds a lock on."""
RANKS = {
    "RANK": "TORCHELASTIC_RUN_ID",
    "LOCAL_RANK": "MASTER_ADDR",
    "NODE_RANK": "MASTER_ADDR",
    "SLURM_PROCID": "SLURM_NTASKS",
    "JSM_NAMESPACE_RANK": "LSB_JOBID",
}
"""Variables that tell a process its rank, each with one that its launcher sets beside it."""
_held: set[Path] = set()


@contextlib.contextmanager
def run_folder(folder: str | Path, option: str = "folder") -> Iterator[Path]:
    """Yields a run's folder, made if it is new, and held against other processes for the block.

    The system frees the lock of a process that is killed. Blocks may be nested in one process. Of
    a run's processes the first one alone makes and holds the folder. A folder that holds other
    people's files, cannot be written, or is in use is a ValueError, which names the ``option``.
    """
    path = Path(os.path.realpath(folder))
    if path in _held or not is_first_process():
        yield path
        return
    try:
        if os.path.islink(folder) and not path.exists():
            raise ValueError(f"'{option}' must be a folder, got the dead link '{folder}'")
        path.mkdir(parents=True, exist_ok=True)
        foreign = sorted(os.listdir(path)) if run_id(path) is None else []
        if foreign:
            rule = "must be a new or an empty folder"
            raise ValueError(f"'{option}' {rule}, got '{folder}', which holds '{foreign[0]}'")
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(path / MARKER, flags, 0o666)
    except OSError as error:
        raise ValueError(
            f"'{option}' must be a folder that can be written, got '{folder}': {error.strerror}"
        ) from error
    try:
        if not locked(descriptor):
            rule = "must not be in use"
            raise ValueError(f"'{option}' {rule}, got '{folder}', in which another process trains")
        if not os.fstat(descriptor).st_size:
            about = {"zforcing_pyro": __version__, "format": 2, "id": secrets.token_hex(8)}
            os.write(descriptor, (json.dumps(about) + "\n").encode())
        _held.add(path)
        yield path
    finally:
        _held.discard(path)
        os.close(descriptor)


def run_id(folder: str | Path) -> str | None:
    """Returns the identity of a run, for loggers; None if the folder is not a run's."""
    file = Path(folder, MARKER)
    try:
        if file.is_symlink() or not file.is_file() or file.stat().st_size > 10_000:
            return None
        # It is empty if the process was killed as it wrote the marker.
        about = json.loads(file.read_bytes() or b'{"zforcing_pyro": ""}')
        return str(about.get("id", "")) if "zforcing_pyro" in about else None
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return None


def is_first_process() -> bool:
    """Returns whether this process is the first of those that were started for a run."""
    return all((os.environ.get(name) or "0") == "0" for name in RANKS)
