"""Checked reading of files that people name: regular, small enough for memory; text, and arrays."""

import gzip
import os
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np


def check_regular(file: Path) -> None:
    """Raises ValueError for a pipe, a socket or a device: reading one may never end."""
    if file.exists() and not (file.is_file() or file.is_dir()):
        raise ValueError(f"'{file}' must be a regular file, got a pipe, a socket or a device")


def available_memory() -> int:
    """Returns the bytes that can be filled now; half of the memory if the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            return 1024 * next(int(s.split()[1]) for s in lines if s.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 2048 * (os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**21)


def check_room(num_bytes: float, place: object) -> None:
    """Raises ValueError if content of the declared size does not fit in the available memory."""
    if num_bytes > (room := available_memory()):
        raise ValueError(
            f"'{place}' must fit in memory, got {num_bytes / 1e9:.1f} GB for {room / 1e9:.1f} GB"
        )


def read_bytes(file: Path) -> bytes:
    """Returns the content of a regular file that fits in memory, decompressed if gzipped."""
    check_regular(file)
    check_room(file.stat().st_size, file)
    return decompressed(file.read_bytes(), str(file))


def decompressed(data: bytes, place: str) -> bytes:
    """Returns bytes as they are, or decompressed if gzipped."""
    if data[:2] != b"\x1f\x8b":
        return data
    room = available_memory() // 4  # text takes up to four times its bytes
    try:
        with gzip.open(BytesIO(data)) as stream:
            content = stream.read(room + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"'{place}' must be a whole gzip file, got: {error}") from error
    check_room(4 * len(content), place)
    return content


def read_text(file: Path) -> str:
    """Returns the text of a file, which may be gzipped; see :func:`decoded`."""
    return decoded(read_bytes(file), str(file))


def decoded(data: bytes, place: str) -> str:
    r"""Returns UTF-8 text, gzipped or not, with line ends ``"\n"`` and no byte order mark."""
    try:
        text = decompressed(data, place).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"'{place}' must be text in UTF-8, got the byte {error.object[error.start]:#04x} in "
            f"line {line}; 'iconv -f ENCODING -t UTF-8' converts it"
        ) from error
    before, nul, _ = text.partition("\0")
    if nul:
        line = before.count("\n") + 1
        raise ValueError(f"'{place}' must be text, got a NUL byte in line {line}")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_npz(file: Path, **expected: tuple[type, tuple[int | None, ...]]) -> list[np.ndarray]:
    """Returns the arrays of an ``.npz`` file that are ``expected``; nothing is ever unpickled.

    ``expected`` has type and shape of each array, None where any size will do. Raises ValueError if
    the file is broken or too large, or an array is missing, empty or not as expected.
    """
    try:
        # Open the file here, because np.load leaves a broken file open.
        with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
            names = archive.files
            entries = {e.filename.removesuffix(".npy"): e for e in archive.zip.infolist()}
            for name in expected.keys() & entries:
                check_room(entries[name].file_size, f"{file}/{name}")
            # An entry that is not an array comes as bytes, which fail below by their type.
            arrays = {name: np.asarray(archive[name]) for name in expected if name in names}
    except Exception as error:  # zipfile, zlib and numpy have a dozen ways to say "broken"
        raise ValueError(
            f"'{file}' must be an npz file of plain arrays, got {reason_of(error)}"
        ) from error
    if len(arrays) < len(expected):
        raise ValueError(f"'{file}' must hold the arrays {list(expected)}, got {names}")
    for name, (kind, shape) in expected.items():
        got = arrays[name]
        fits = got.ndim == len(shape) and all(n in (m, None) for m, n in zip(got.shape, shape))
        if not (fits and got.size and np.issubdtype(got.dtype, kind)):
            sizes = ", ".join("any" if n is None else str(n) for n in shape)
            raise ValueError(
                f"'{name}' of '{file}' must be a non-empty {kind.__name__} array of shape "
                f"({sizes}), got {got.dtype} of shape {got.shape}"
            )
    return list(arrays.values())


def reason_of(error: Exception) -> str:
    """Returns why NumPy does not read a file, in one line, without its advice to unpickle.

    Example:
        >>> reason_of(ValueError("Object arrays cannot be loaded when allow_pickle=False"))
        'pickled Python objects, which are never loaded'
    """
    if "pickle" in str(error):
        return "pickled Python objects, which are never loaded"
    return " ".join(f"{type(error).__name__}: {error}".split())
