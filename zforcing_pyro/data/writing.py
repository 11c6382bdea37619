"""Atomic file writes and locks, used by every room that writes a file."""

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

fcntl = msvcrt = None
with suppress(ImportError):
    import fcntl  # type: ignore[assignment]
with suppress(ImportError):
    import msvcrt  # type: ignore[assignment]


@contextmanager
def replacing(
    file: str | Path, inside: str | Path | None = None, durable: bool = True
) -> Iterator[IO[bytes]]:
    """Yields a new file that replaces ``file`` once the new one is complete.

    With ``durable``, the new file is on the disk before it does. A process that is killed leaves
    the old file or the new one, never a part of either. The new file keeps the old one's mode. A
    link to a file stays: its target is replaced. No link is followed below ``inside``, a folder
    that somebody else may have filled, such as a run's.

    Raises:
        ValueError: If ``file`` is a device, a pipe or a folder, or a link below ``inside``.
        OSError: If the file cannot be written, such as on a full disk; the error names the file.
    """
    file = Path(file)
    if inside is None:
        file = Path(os.path.realpath(file))
    else:
        refuse_links(file, Path(inside))
    mode = file.lstat().st_mode if os.path.lexists(file) else None
    if mode is not None and not stat.S_ISREG(mode):
        raise ValueError(f"'{file}' must be a regular file to be written, got another kind of file")
    part = file.with_name(f".{file.name}.part")
    try:
        part.unlink(missing_ok=True)
        with open(part, "xb") as new:  # never through a link that lies there
            yield new
            new.flush()
            if durable:
                os.fsync(new.fileno())
        if mode is not None:
            os.chmod(part, stat.S_IMODE(mode))
        os.replace(part, file)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno:
            raise OSError(error.errno, os.strerror(error.errno), str(file)) from error
        raise
    if durable:
        sync_folder(file.parent)


def to_stderr(text: str, end: str = "\n") -> None:
    """Writes to stderr; where nobody can read it any more, work goes on without it."""
    try:
        print(text, end=end, file=sys.stderr, flush=True)
    except OSError:  # a broken pipe, a full disk
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def refuse_links(file: Path, inside: Path) -> None:
    """Raises ValueError if ``file`` or a folder between it and ``inside`` is a link."""
    for path in (file, *file.parents):
        if path == inside or path == path.parent:
            return
        if path.is_symlink():
            raise ValueError(f"'{path}' must not be a link: it would be written outside '{inside}'")


def sync_files(files: list[Path]) -> None:
    """Brings files to the disk, on Linux all by one call, which waits for them."""
    if sys.platform == "linux":
        os.sync()
        return
    for file in files:
        with open(file, "rb+") as stream:
            os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Brings a folder's new names to the disk, where the system opens folders for that."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def locked(descriptor: int) -> bool:
    """Locks a file until it is closed, where the system can; False if another process holds it."""
    try:
        if fcntl:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif msvcrt:  # one byte far behind the content, which others may read
            os.lseek(descriptor, 2**20, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
    except OSError as error:  # others come from a file system without locks
        return not isinstance(error, (BlockingIOError, PermissionError))
    return True
