"""Recordings that do not fit in memory: only the parts that are needed are read."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

NAME = "zforcing_pyro store"
FORMAT = 2
SAMPLE = np.dtype("<i2")
HEADER = 128
"""Bytes before the samples of a shard."""
PIECE = 1 << 20


class Wave:
    """A recording on the disk: only what is sliced is read, as int16, ``(samples,)``.

    Nothing is mapped: mapped pages count as memory, and a file that is cut short kills the process.
    """

    def __init__(self, file: Path, offset: int, samples: int):
        self._file, self._offset, self._samples = str(file), offset, samples

    def __len__(self) -> int:
        return self._samples

    def __getitem__(self, part: slice) -> np.ndarray:
        begin, end, step = part.indices(self._samples)
        if step != 1:
            raise ValueError(f"a slice of a wave must have step 1, got {step}")
        content = bytearray(max(end - begin, 0) * SAMPLE.itemsize)
        with open(self._file, "rb") as stream:
            stream.seek(HEADER + (self._offset + begin) * SAMPLE.itemsize)
            if stream.readinto(content) < len(content):
                raise ValueError(
                    f"'{self._file}' must not change while it is read: it is cut short"
                )
        return np.frombuffer(content, SAMPLE)


class Store:
    """The waves that :func:`~.prepare.prepare` wrote; item ``i`` is a :class:`Wave`.

    ``store.json`` has the sample rate and, for each shard, its file and checksum (SHA-256 of the
    samples) and, for each recording in it, name, number of samples, their sum and sum of squares.
    The shards ``shard-00000.npy`` and so on have the samples, recordings end to end. A store may
    be pickled, and read by any number of processes.

    Args:
        folder: Folder of ``store.json``.

    Attributes:
        lengths: Samples of each recording, int64. Shape ``(num,)``.
        names: File of each recording, relative to the folder that was prepared.
        sample_rate: Samples a second.
        source: The data set that was prepared.
        skipped: Broken files that were left out.

    Raises:
        ValueError: If a file is broken, or another version wrote it; names the file.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(os.path.expanduser(folder))
        facts = read_facts(self.folder / "store.json")
        shards = facts["shards"]
        self.sample_rate, self.source = facts["sample_rate"], facts["source"]
        self.skipped: list[str] = facts["skipped"]
        self._files = [self.folder / shard["file"] for shard in shards]
        for file, shard in zip(self._files, shards):
            check_shard(file, sum(shard["samples"]))
        self.names: list[str] = [name for shard in shards for name in shard["names"]]
        self.lengths, self._total, self._squares = np.hstack([columns(shard) for shard in shards])
        self._shard = np.repeat(np.arange(len(shards)), [len(s["names"]) for s in shards])
        self._offset = np.concatenate([np.cumsum([0, *s["samples"]])[:-1] for s in shards])

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, i: int) -> Wave:
        file = self._files[self._shard[i]]
        return Wave(file, int(self._offset[i]), int(self.lengths[i]))

    def select(self, names: list[str]) -> Store:
        """Returns the recordings of these names, in this order; all must be in the store."""
        places = {name: i for i, name in enumerate(self.names)}
        index = [places[name] for name in names]
        view = copy.copy(self)
        view.names = names
        for name in ("lengths", "_shard", "_offset", "_total", "_squares"):
            setattr(view, name, getattr(self, name)[index])
        return view

    def mean_and_std(self) -> tuple[float, float]:
        """Returns mean and population standard deviation of all samples; reads none of them."""
        return mean_and_std(self.lengths, self._total, self._squares)


def sums(wave: np.ndarray) -> tuple[int, int, int]:
    """Returns the number of samples, their sum and sum of squares, exactly."""
    total = squares = 0
    for begin in range(0, len(wave), PIECE):  # in pieces, to use little memory
        piece = wave[begin : begin + PIECE].astype(np.int64)
        total, squares = total + int(piece.sum()), squares + int(piece @ piece)
    return len(wave), total, squares


def mean_and_std(*columns) -> tuple[float, float]:
    """Returns mean and population standard deviation from columns of :func:`sums` of waves."""
    # Python's integers neither overflow nor round.
    num, total, squares = (sum(map(int, values)) for values in columns)
    if not num:
        raise ValueError("'waves' must have samples, got none")
    return total / num, math.sqrt(num * squares - total * total) / num


def header(samples: int) -> bytes:
    """Returns the beginning of a shard, which is an npy file of ``samples`` int16 numbers."""
    stream = BytesIO()
    facts = {"descr": SAMPLE.str, "fortran_order": False, "shape": (samples,)}
    np.lib.format.write_array_header_1_0(stream, facts)
    return stream.getvalue()


def samples_digest(file: Path) -> str:
    """Returns the SHA-256 of the samples of a shard."""
    with open(file, "rb") as stream:
        stream.seek(HEADER)
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_shard(file: Path, samples: int) -> None:
    """Checks that a shard is an npy file of ``samples`` int16 numbers; raises as a ``Store``."""
    if not file.is_file():
        raise FileNotFoundError(f"'{file}' of the store is missing")
    size, expected = file.stat().st_size, HEADER + samples * SAMPLE.itemsize
    if size != expected:
        how = "it is cut short" if size < expected else "it is another file"
        raise ValueError(f"'{file}' must have {expected:,} bytes, got {size:,}: {how}")
    with open(file, "rb") as stream:
        if stream.read(HEADER) != header(samples):
            raise ValueError(f"'{file}' must be an npy file of int16 of shape ({samples},)")


def read_facts(file: Path) -> dict[str, Any]:
    """Returns the content of ``store.json``, checked."""
    if not file.is_file():
        raise FileNotFoundError(f"'{file.parent}' must be a store, got a folder without '{file}'")
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(facts, dict) or facts.get("format") != NAME:
            raise ValueError("another file of that name")
        if facts["version"] != FORMAT:
            raise ValueError(f"version {facts['version']}, not {FORMAT}: prepare the store anew")
        if type(facts["sample_rate"]) is not int or facts["sample_rate"] < 1:
            raise ValueError(f"a 'sample_rate' of {facts['sample_rate']}, not positive")
        if not facts["shards"] or not all(map(is_shard, facts["shards"])):
            raise ValueError("'shards' that are none, or without names, samples and sums")
        texts = [facts["source"], *facts["skipped"]]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("a 'source' or 'skipped' that is not text")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        reason = error if isinstance(error, ValueError) else repr(error)
        raise ValueError(f"'{file}' must be of a store, got {reason!s:.99}") from error
    return facts


def is_shard(shard: dict[str, Any]) -> bool:
    """Returns whether an entry of ``store.json`` can be of a shard."""
    numbers, names = columns(shard), shard["names"]
    fits = numbers.dtype == np.int64 and numbers.shape == (3, len(names)) and numbers[0].min() > 0
    texts = isinstance(shard["sha256"], str) and all(isinstance(name, str) for name in names)
    return bool(fits and texts and re.fullmatch(r"shard-\d{5,}\.npy", shard["file"]))


def columns(shard: dict[str, Any]) -> np.ndarray:
    """Returns samples, sum and sum of squares of each recording of a shard, ``(3, recordings)``."""
    return np.array([shard[key] for key in ("samples", "total", "squares")])
