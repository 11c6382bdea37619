"""Checked reading of files that people name: regular, small enough for memory, text in UTF-8."""

import gzip
import os
import zlib
from io import BytesIO
from pathlib import Path


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
