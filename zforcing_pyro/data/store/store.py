"""Recordings that do not fit in memory: parts of files are read."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from ..corpus import read_npz
from .shards import Shards

FORMAT = "zforcing_pyro store"
VERSION = 1
FACTS = {
    "sample_rate": int,
    "source": str,
    "skipped": list,
    "plan_sha256": str,
    "index_sha256": str,
    "shards": list,
}
SHARD = {"file": str, "samples": int, "sha256": str}
INDEX = {
    "names": np.uint8,
    "shard": np.integer,
    "offset": np.integer,
    "samples": np.integer,
    "total": np.integer,
    "squares": np.integer,
}


class Wave:
    """A recording on the disk: only what is sliced is read, as int16, ``(samples,)``."""

    def __init__(self, shards: Shards, shard: int, offset: int, samples: int):
        self._shards, self._shard, self._offset, self._samples = shards, shard, offset, samples

    def __len__(self) -> int:
        return self._samples

    def __getitem__(self, part: slice) -> np.ndarray:
        begin, end, step = part.indices(self._samples)
        if step != 1:
            raise ValueError(f"a slice of a wave must have step 1, got {step}")
        return self._shards.read(self._shard, self._offset + begin, self._offset + max(begin, end))

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self[:].astype(dtype or np.int16, copy=bool(copy))


class Store:
    """The waves that :func:`~.prepare.prepare` wrote; item ``i`` is a :class:`Wave`.

    ``store.json`` has the sample rate and, of each shard, its file, samples and checksum (SHA-256
    of the samples); ``index.npz`` has, of each recording, its shard, offset, number of samples,
    their sum and sum of squares, and all names as UTF-8 with zeros between; ``shard-00000.npy`` and
    so on have the samples, recordings end to end. Only the index is kept in memory. A store may be
    pickled, and read by any number of processes.

    Args:
        folder: Where ``store.json`` is.

    Attributes:
        lengths: Samples of each recording, int64. Shape ``(num,)``.
        names: File of each recording, relative to the folder that was prepared, parts divided by
            ``/``.
        sample_rate: Samples a second.
        source: The data set that was prepared.
        skipped: Broken files that were left out.

    Raises:
        FileNotFoundError: If this is no store, or a shard is missing.
        ValueError: If a file is not what it should be, or a newer version wrote it; names it.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder).expanduser()
        facts = read_facts(self.folder)
        self.sample_rate, self.source = facts["sample_rate"], facts["source"]
        self.skipped: list[str] = facts["skipped"]
        self._shards = Shards(self.folder, facts["shards"])
        index = read_index(self.folder / "index.npz", facts)
        self.names: list[str] = index["names"]
        self.lengths = index["samples"]
        self._shard, self._offset = index["shard"], index["offset"]
        self._total, self._squares = index["total"], index["squares"]

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, i: int) -> Wave:
        shard, offset, samples = self._shard[i], self._offset[i], self.lengths[i]
        return Wave(self._shards, int(shard), int(offset), int(samples))

    def subset(self, indices: list[int] | np.ndarray) -> Store:
        """The recordings at ``indices``, in that order. Shares the open files.

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
        """Of all samples, from the index alone; std is that of a population, without a -1."""
        num, total, squares = (
            sum(values.tolist()) for values in (self.lengths, self._total, self._squares)
        )  # Python's integers neither overflow nor round
        return total / num, math.sqrt(num * squares - total * total) / num

    def verify(self) -> None:
        """Reads everything and compares checksums.

        Raises:
            ValueError: If a shard is not what was written; names it.
        """
        for k in range(len(self._shards.facts)):
            self._shards.verify(k)


def read_facts(folder: Path) -> dict[str, Any]:
    """What ``store.json`` says."""
    file = folder / "store.json"
    if not file.is_file():
        raise FileNotFoundError(f"'{folder}' must be a store, got a folder without 'store.json'")
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"'{file}' must be a JSON file, got: {error}") from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise ValueError(f"'{file}' must be of a store, got another file of that name")
    if facts.get("version") != VERSION:
        raise ValueError(
            f"'{file}' must be of version {VERSION}, got {facts.get('version')}: another version "
            "of zforcing_pyro wrote this store"
        )
    check_entries(file, facts, FACTS)
    for shard in facts["shards"]:
        check_entries(file, shard, SHARD)
        if not re.fullmatch(r"shard-\d{5,}\.npy", shard["file"]):
            raise ValueError(f"'file' in '{file}' must be as shard-00000.npy, got {shard['file']}")
    return facts


def read_index(file: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """The arrays of ``index.npz``, int64, and names as a list."""
    if not file.is_file():
        raise FileNotFoundError(f"'{file}' is missing")
    arrays = read_npz(file, **{name: (kind, (None,)) for name, kind in INDEX.items()})
    index: dict[str, Any] = dict(zip(INDEX, arrays))
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != facts["index_sha256"]:
        expected = facts["index_sha256"]
        raise ValueError(f"'{file}' must have the checksum {expected}, got {found}")
    index["names"] = index["names"].tobytes().decode(errors="surrogateescape").split("\0")
    return {k: v if k == "names" else v.astype(np.int64) for k, v in index.items()}


def check_entries(file: Path, entries: Any, expected: dict[str, type]) -> None:
    """Raises ValueError unless a JSON object has the entries that it should have."""
    for name, kind in expected.items():
        value = entries.get(name) if isinstance(entries, dict) else None
        if not isinstance(value, kind):
            raise ValueError(f"'{name}' in '{file}' must be a {kind.__name__}, got {value!r}")
