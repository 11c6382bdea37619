"""Recordings that do not fit in memory: only the parts that are needed are read."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

NAME = "zforcing_pyro store"
FORMAT = 2
SAMPLE = np.dtype("<i2")
HEADER = 128
"""Bytes before the samples of a shard, which is an npy file."""
PIECE = 1 << 20
FACTS = {"source": str, "sample_rate": int, "skipped": list, "plan": str, "shards": list}
SHARD = {"file": str, "sha256": str, "names": list, "samples": list, "total": list, "squares": list}


class Wave:
    """A recording on the disk: only what is sliced is read, as int16, ``(samples,)``.

    The parts are read, not mapped: mapped pages would count as memory of the process, and a file
    that is cut short would kill it.
    """

    def __init__(self, file: Path, offset: int, samples: int):
        self._file, self._offset, self._samples = str(file), offset, samples

    def __len__(self) -> int:
        return self._samples

    def __getitem__(self, part: slice) -> np.ndarray:
        begin, end, step = part.indices(self._samples)
        if step != 1:
            raise ValueError(f"a slice of a wave must have step 1, got {step}")
        num = max(end - begin, 0)
        first = HEADER + (self._offset + begin) * SAMPLE.itemsize
        content = bytearray(num * SAMPLE.itemsize)
        with open(self._file, "rb") as stream:
            stream.seek(first)
            if stream.readinto(content) < len(content):
                raise ValueError(
                    f"'{self._file}' must not change while it is read: it is cut short"
                )
        return np.frombuffer(content, SAMPLE)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self[:].astype(dtype or np.int16, copy=bool(copy))


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
        names: File of each recording, relative to the folder that was prepared, parts divided by
            ``/``.
        sample_rate: Samples a second.
        source: The data set that was prepared.
        skipped: Broken files that were left out.

    Raises:
        FileNotFoundError: If there is no store, or a shard is missing.
        ValueError: If a file is broken, or another version wrote it; names the file.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(os.path.expanduser(folder))
        facts = read_facts(self.folder)
        shards = facts["shards"]
        self.sample_rate, self.source = facts["sample_rate"], facts["source"]
        self.skipped: list[str] = facts["skipped"]
        self._files = [self.folder / shard["file"] for shard in shards]
        self._sha256 = [shard["sha256"] for shard in shards]
        for file, shard in zip(self._files, shards):
            check_shard(file, sum(shard["samples"]))
        self.names: list[str] = [name for shard in shards for name in shard["names"]]
        self.lengths, self._total, self._squares = (
            np.array([value for shard in shards for value in shard[key]], dtype=np.int64)
            for key in ("samples", "total", "squares")
        )
        self._shard = np.repeat(np.arange(len(shards)), [len(s["names"]) for s in shards])
        self._offset = np.concatenate([np.cumsum([0, *s["samples"]])[:-1] for s in shards])

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, i: int) -> Wave:
        file = self._files[self._shard[i]]
        return Wave(file, int(self._offset[i]), int(self.lengths[i]))

    def subset(self, indices: list[int] | np.ndarray) -> Store:
        """Returns the recordings at ``indices``, in that order.

        Raises:
            ValueError: If there are no indices, or one is out of range.
        """
        index = np.asarray(indices, dtype=np.int64)
        if not len(index) or index.min() < 0 or index.max() >= len(self):
            got = f"{index.min()}..{index.max()}" if len(index) else "none"
            raise ValueError(f"'indices' must be in 0..{len(self) - 1}, got {got}")
        view = copy.copy(self)
        view.names = [self.names[i] for i in index]
        for name in ("lengths", "_shard", "_offset", "_total", "_squares"):
            setattr(view, name, getattr(self, name)[index])
        return view

    def mean_and_std(self) -> tuple[float, float]:
        """Returns mean and population standard deviation of all samples; reads none of them."""
        return mean_and_std(self.lengths, self._total, self._squares)

    def verify(self) -> None:
        """Reads everything and compares checksums.

        Raises:
            ValueError: If a shard is not what was written; names it.
        """
        for file, expected in zip(self._files, self._sha256):
            if (got := samples_digest(file)) != expected:
                raise ValueError(f"'{file}' must have the checksum {expected}, got {got}")


def sums(wave: np.ndarray) -> tuple[int, int, int]:
    """Returns the number of samples, their sum and sum of squares, exactly."""
    total = squares = 0
    for begin in range(0, len(wave), PIECE):  # in pieces, to use little memory
        piece = wave[begin : begin + PIECE].astype(np.int64)
        total, squares = total + int(piece.sum()), squares + int(piece @ piece)
    return len(wave), total, squares


def mean_and_std(*columns) -> tuple[float, float]:
    """Returns mean and population standard deviation from :func:`sums` of each wave."""
    # Python's integers neither overflow nor round.
    num, total, squares = (sum(map(int, values)) for values in columns)
    return total / num, math.sqrt(num * squares - total * total) / num


def samples_digest(file: Path) -> str:
    """Returns the SHA-256 of the samples of a shard."""
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        stream.seek(HEADER)
        while piece := stream.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def check_shard(file: Path, samples: int) -> None:
    """Checks that a shard is an npy file of ``samples`` int16 numbers.

    Raises:
        FileNotFoundError: If the shard is missing.
        ValueError: If it is cut short, or another file.
    """
    if not file.is_file():
        raise FileNotFoundError(f"'{file}' of the store is missing")
    size, expected = file.stat().st_size, HEADER + samples * SAMPLE.itemsize
    if size != expected:
        how = "it is cut short" if size < expected else "it is another file"
        raise ValueError(f"'{file}' must have {expected:,} bytes, got {size:,}: {how}")
    try:
        array = np.lib.format.open_memmap(file, mode="r")
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"'{file}' must be an npy file, got: {reason}") from error
    if (array.shape, array.dtype, array.offset) != ((samples,), SAMPLE, HEADER):
        raise ValueError(
            f"'{file}' must be an npy file of int16 of shape ({samples},), got {array.dtype} of "
            f"shape {array.shape}"
        )


def read_facts(folder: Path) -> dict[str, Any]:
    """Returns the content of ``store.json``, of which all types are checked."""
    file = folder / "store.json"
    if not file.is_file():
        raise FileNotFoundError(f"'{folder}' must be a store, got a folder without 'store.json'")
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"'{file}' must be a JSON file, got: {error}") from error
    if not isinstance(facts, dict) or facts.get("format") != NAME:
        raise ValueError(f"'{file}' must be of a store, got another file of that name")
    if facts.get("version") != FORMAT:
        raise ValueError(
            f"'{file}' must be of version {FORMAT}, got {facts.get('version')}: another version "
            "of zforcing_pyro wrote this store; prepare it anew"
        )
    check_types(file, facts, FACTS)
    if facts["sample_rate"] < 1:
        raise ValueError(f"'sample_rate' in '{file}' must be positive, got {facts['sample_rate']}")
    if not facts["shards"]:
        raise ValueError(f"'shards' in '{file}' must not be empty, got none")
    for shard in facts["shards"]:
        check_types(file, shard, SHARD)
        if not re.fullmatch(r"shard-\d{5,}\.npy", shard["file"]):
            raise ValueError(f"'file' in '{file}' must be as shard-00000.npy, got {shard['file']}")
        names, *numbers = (shard[key] for key in ("names", "samples", "total", "squares"))
        fits = all(type(v) is int and abs(v) < 2**63 for column in numbers for v in column)
        fits &= all(isinstance(name, str) for name in names)
        if not fits or len({len(names), *map(len, numbers)}) > 1 or min(numbers[0], default=0) < 1:
            raise ValueError(
                f"each recording of {shard['file']} in '{file}' must have a name, samples and sums"
            )
    return facts


def check_types(file: Path, entries: Any, expected: dict[str, type]) -> None:
    """Raises ValueError unless a JSON object has the entries, of the types, that it should have."""
    for name, kind in expected.items():
        value = entries.get(name) if isinstance(entries, dict) else None
        if type(value) is not kind:
            raise ValueError(
                f"'{name}' in '{file}' must be of type {kind.__name__}, got {value!r:.80}"
            )
