"""Files of samples: parts of them are read, and they are whole or not there when written."""

from __future__ import annotations

import hashlib
import json
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

SAMPLE = np.dtype("<i2")
HEADER = 128  # bytes before the samples of an npy file
PIECE = 1 << 25  # samples that are read at once where all are


class Shards:
    """The shards of a store, opened when first read.

    Parts are read into memory and not mapped: mapped pages would count as memory of the process, a
    file cut short would kill it, and windows would come from a disk a third as fast, for a page
    fault reads 4 kB and not the window.

    Args:
        folder: Where they are.
        facts: Their entries in ``store.json``.

    Raises:
        FileNotFoundError: If one is missing.
        ValueError: If one is cut short.
    """

    def __init__(self, folder: Path, facts: list[dict[str, Any]]):
        self.folder, self.facts = folder, facts
        self._open_none()
        for shard in facts:
            file = folder / shard["file"]
            if not file.is_file():
                raise FileNotFoundError(f"'{file}' of the store '{folder}' is missing")
            check_size(file, file.stat().st_size, shard["samples"])

    def _open_none(self) -> None:
        self._descriptors: dict[int, int] = {}
        weakref.finalize(self, close, self._descriptors)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open_none()  # a process opens for itself

    def read(self, k: int, begin: int, end: int) -> np.ndarray:
        """Samples of shard ``k``, int16, ``(end - begin,)``.

        Raises:
            ValueError: If the file is no shard, or has been cut short.
        """
        file, samples = self.folder / self.facts[k]["file"], self.facts[k]["samples"]
        if k not in self._descriptors:
            self._descriptors[k] = opened(file, samples)
        size, first = (end - begin) * SAMPLE.itemsize, HEADER + begin * SAMPLE.itemsize
        content = os.pread(self._descriptors[k], size, first)
        while len(content) < size:  # Linux reads 2 GB at most at a time
            more = os.pread(self._descriptors[k], size - len(content), first + len(content))
            if not more:
                check_size(file, first + len(content), samples)
            content += more
        return np.frombuffer(content, dtype=SAMPLE)

    def verify(self, k: int) -> None:
        """Raises ValueError unless the checksum of shard ``k`` is that of its samples."""
        digest, shard = hashlib.sha256(), self.facts[k]
        for begin in range(0, shard["samples"], PIECE):
            digest.update(self.read(k, begin, min(begin + PIECE, shard["samples"])))
        if (found := digest.hexdigest()) != shard["sha256"]:
            file = self.folder / shard["file"]
            raise ValueError(f"'{file}' must have the checksum {shard['sha256']}, got {found}")


def close(descriptors: dict[int, int]) -> None:
    for descriptor in descriptors.values():
        os.close(descriptor)


def opened(file: Path, samples: int) -> int:
    """A descriptor of a shard.

    Raises:
        ValueError: If it is not ``samples`` int16 numbers in the npy format.
    """
    with open(file, "rb") as stream:
        try:
            version = np.lib.format.read_magic(stream)
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"'{file}' must be an npy file, got: {reason}") from error
        if (shape, dtype, version, stream.tell()) != ((samples,), SAMPLE, (1, 0), HEADER):
            raise ValueError(
                f"'{file}' must be an npy file, version 1.0, of int16 of shape ({samples},), got "
                f"version {'.'.join(map(str, version))} of {dtype} of shape {shape}"
            )
        return os.dup(stream.fileno())


def check_size(file: Path, size: int, samples: int) -> None:
    """Raises ValueError unless a shard has as many bytes as it should."""
    expected = HEADER + samples * SAMPLE.itemsize
    if size != expected:
        how = "it is cut short" if size < expected else "it is another file"
        raise ValueError(f"'{file}' must have {expected:,} bytes, got {size:,}: {how}")


def intact(file: Path, facts: dict[str, Any]) -> bool:
    """Whether a shard is what its note says: read from the disk, where the system lets us ask."""
    if not file.exists():
        return not facts["samples"]
    if hasattr(os, "posix_fadvise"):
        with open(file, "rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    shard = {"file": file.name, "samples": sum(facts["samples"]), "sha256": facts["sha256"]}
    try:
        Shards(file.parent, [shard]).verify(0)
    except (ValueError, OSError):
        return False
    return True


def write_header(stream: BinaryIO, samples: int) -> None:
    """The start of an npy file, 128 bytes whatever the number of samples."""
    entries = {"descr": SAMPLE.str, "fortran_order": False, "shape": (samples,)}
    np.lib.format.write_array_header_1_0(stream, entries)
    if stream.tell() != HEADER:
        raise OSError(f"an npy header must be {HEADER} bytes here, got {stream.tell()}")


def write_json(facts: dict[str, Any], stream: BinaryIO) -> None:
    stream.write(json.dumps(facts, indent=1).encode() + b"\n")


def replace(file: Path, write: Callable[[BinaryIO], None]) -> None:
    """Writes a file under another name, to the disk, and renames it: it is whole or not there."""
    temporary = file.with_name(f"{file.name}.tmp-{os.getpid()}")
    try:
        with open(temporary, "wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # or the name could be lost
        finally:
            os.close(folder)
    except OSError as error:
        if error.filename or not error.errno:
            raise
        raise OSError(error.errno, error.strerror, str(file)) from error
    finally:
        temporary.unlink(missing_ok=True)  # room for others, if it has not become the file
