"""Archives of files that a trained model codes."""

import json
import platform
import zlib
from collections.abc import Callable, Sequence
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .._version import __version__
from ..analysis.coding import Coder
from ..analysis.stack import load_constriction
from ..data import Corpus
from ..data.formats.files import check_regular, check_room
from ..models import StochasticRNN
from ..models.files import net_digest
from .coded_files import read, written

MAGIC = b"zforcing archive 1\n"
MAX_SEQUENCES, MAX_STEPS = 2**20, 2**28
"""Most sequences and steps of an archive; more would not be decoded in a year."""
BROKEN = ValueError, LookupError, TypeError, AttributeError, zlib.error, RecursionError
"""Errors that a broken header makes."""

Progress = Callable[[int, int], Any]


class Sizes(NamedTuple):
    """Parts of an archive in bytes, beside the bound."""

    archive: int
    code: float  # without header and initial bits
    initial: int
    bound: float  # log q(z | x) - log p(x, z) at the latents that were coded
    sequences: int
    steps: int


def needs() -> dict[str, Any]:
    """Returns what decoding must have as encoding had it, to compute the same numbers."""
    load_constriction()
    return {
        "zforcing_pyro": __version__,
        "torch": torch.__version__,
        "constriction": version("constriction"),
        "machine": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "arithmetic": "float64, one thread",
    }


def pack(
    net: StochasticRNN,
    corpus: Corpus,
    files: Sequence[Path],
    batch_size: int = 1,
    content_only: bool = False,
    progress: Progress = lambda done, total: None,
) -> tuple[bytes, Sizes]:
    """Returns an archive of files, and its sizes.

    Raises ValueError if the model cannot be coded with, or a file is not of the kind of the run's
    data, has a value that the model lacks, or would not come back byte for byte, which
    ``content_only`` allows.
    """
    names = [file.name for file in files]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"'FILE' must be of different names, got '{twice[0]}' more than once")
    coder, rows, contents, sequences = Coder(net, batch_size), [], [], list[Tensor]()
    for file in files:
        check_regular(file)
        original = file.read_bytes()
        check_room(64 * len(original), file)
        xs, facts = read(corpus, original, file)
        content = written(corpus, xs, facts, file.name)
        if content != original and not content_only:
            raise ValueError(
                f"'{file}' must come back byte for byte, but holds more than the model reads: "
                "--content_only keeps what the model reads"
            )
        rows.append([file.name, len(xs), facts])
        contents.append(content)
        sequences += xs
    if len(sequences) > MAX_SEQUENCES:
        raise ValueError(f"'FILE' must hold at most {MAX_SEQUENCES:,} sequences in all")
    coded = coder.encode(sequences, lambda done: progress(done, len(sequences)))
    lengths = [len(x) for x in sequences]
    header = {
        "needs": needs(),
        "model": net_digest(net),
        "batch_size": batch_size,
        "files": rows,
        "lengths": lengths if stop_of(corpus) is None else max(lengths),
        "content": digest(names, contents),
    }
    text = zlib.compress(json.dumps(header, separators=(",", ":")).encode(), 9)
    body = MAGIC + len(text).to_bytes(4, "little") + text + coded.words.astype("<u4").tobytes()
    archive = body + checksum(body)
    nats = -coder.bound(sequences, coded.latents).sum().item()
    parts = coded.bits / 8, 4 * coded.initial, nats / np.log(2) / 8
    return archive, Sizes(len(archive), *parts, len(lengths), sum(lengths))


def unpack(
    archive: bytes,
    place: str,
    net: StochasticRNN,
    corpus: Corpus,
    folder: Path,
    progress: Progress = lambda done, total: None,
) -> list[str]:
    """Writes the files of an archive to a folder, and returns their names.

    Raises ValueError if the archive is cut short, altered, of another model or of another build;
    ``place`` names it.
    """
    header, words = read_archive(archive, place)
    for name, value in needs().items():
        if (expected := header["needs"].get(name)) != value:
            rule = f"must be {expected!r:.80}, as when '{place}' was written"
            raise ValueError(f"'{name}' {rule}, got {value!r}")
    if header["model"] != net_digest(net):
        raise ValueError(f"'--run' must hold the model that wrote '{place}', got another one")
    rows, lengths, stop = header["files"], header["lengths"], stop_of(corpus)
    num, contents = sum(row[1] for row in rows), []
    lengths = [lengths] * num if isinstance(lengths, int) else lengths
    check_room(64.0 * len(words) + 32.0 * corpus.x_dim * max(lengths), place)
    try:
        coder = Coder(net, header["batch_size"])
        xs = coder.decode(words, lengths, stop, lambda done: progress(done, num))
        for name, count, facts in rows:
            contents.append(written(corpus, xs[:count], facts, name))
            xs = xs[count:]
    except (*BROKEN, RuntimeError, OverflowError) as error:
        raise ValueError(f"'{place}' cannot be decoded: {error}") from error
    names = [row[0] for row in rows]
    if digest(names, contents) != header["content"]:
        raise ValueError(f"'{place}' was decoded to other files: this machine computes otherwise")
    for name, content in zip(names, contents):
        (folder / name).write_bytes(content)
    return names


def read_archive(archive: bytes, place: str) -> tuple[dict[str, Any], np.ndarray]:
    """Returns header and code of an archive; ValueError if it is broken or hostile."""
    rule = f"'{place}' must be an archive that 'zforcing compress' wrote"
    if not archive.startswith(MAGIC):
        raise ValueError(f"{rule}, got another kind of file")
    body, begin = archive[:-16], len(MAGIC) + 4
    if checksum(body) != archive[-16:]:
        raise ValueError(f"{rule}, but it was cut short or altered")
    try:
        end = begin + int.from_bytes(body[begin - 4 : begin], "little")
        text = zlib.decompressobj().decompress(body[begin:end], 2**24)
        header, words = json.loads(text), np.frombuffer(body[end:], "<u4").astype(np.uint32)
        check_header(header)
        if len(words) < 2 or not words[-1]:
            raise ValueError("no code follows it")
    except BROKEN as error:
        raise ValueError(f"{rule}, got a broken header: {type(error).__name__}: {error}") from error
    return header, words


def check_header(header: dict[str, Any]) -> None:
    """Raises an error of ``BROKEN`` unless a header can be worked with."""
    names, counts, facts = zip(*header["files"])
    lengths, size = header["lengths"], header["batch_size"]
    several = isinstance(lengths, list)
    numbers = [*counts, size, *(lengths if several else [lengths])]
    if not all(type(n) is int and 1 <= n <= MAX_STEPS for n in numbers):
        raise ValueError("counts must be positive")
    if several and not sum(counts) == len(lengths) <= sum(lengths) <= MAX_STEPS:
        raise ValueError("lengths must be of all sequences")
    if not all(n == Path(n).name and n.isprintable() and "\\" not in n for n in names):
        raise ValueError("names of files must have no folder")
    if len({*names}) < len(names) or not all(isinstance(f, dict) for f in facts):
        raise ValueError("names of files must differ, and facts of files have names")
    if sum(counts) > MAX_SEQUENCES or not isinstance(header["needs"], dict):
        raise ValueError("sequences must be fewer, and needs have names")
    if not isinstance(header["model"], str) or not isinstance(header["content"], str):
        raise ValueError("'model' and 'content' must be checksums")


def checksum(content: bytes) -> bytes:
    """Returns 16 bytes that change with the content."""
    return blake2b(content, digest_size=16).digest()


def digest(names: Sequence[str], contents: Sequence[bytes]) -> str:
    """Returns a checksum of files with their names."""
    parts = (name.encode() + b"\0" + checksum(part) for name, part in zip(names, contents))
    return checksum(b"".join(parts)).hex()


def stop_of(corpus: Any) -> int | None:
    """Returns the symbol that ends each sequence, if there is one."""
    return corpus.vocabulary.end if corpus.view == "text" else None
