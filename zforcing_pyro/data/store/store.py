"""Recordings that do not fit in memory: only the parts that are needed are read."""

import copy
import json
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

NAME = "zforcing_pyro store"
FORMAT = 3
SAMPLE = np.dtype("<i2")
HEADER = 128
"""Bytes before the samples of an npy file."""
PIECE = 1 << 20
FILE = re.compile(r"\d{6,}\.npy")


class Wave:
    """A recording on the disk: only what is sliced is read, as int16, ``(samples,)``.

    Nothing is mapped: mapped pages count as memory, and a file that is cut short kills the process.
    """

    def __init__(self, file: Path, samples: int):
        self._file, self._samples = str(file), samples

    def __len__(self) -> int:
        return self._samples

    def __getitem__(self, part: slice) -> np.ndarray:
        begin, end, step = part.indices(self._samples)
        if step != 1:
            raise ValueError(f"a slice of a wave must have step 1, got {step}")
        content = bytearray(max(end - begin, 0) * SAMPLE.itemsize)
        with open(self._file, "rb") as stream:
            stream.seek(HEADER + begin * SAMPLE.itemsize)
            if stream.readinto(content) < len(content):
                raise ValueError(
                    f"'{self._file}' must not change while it is read: it is cut short"
                )
        return np.frombuffer(content, SAMPLE)


class Store:
    """The waves that :func:`~.prepare.prepare` wrote; item ``i`` is a :class:`Wave`.

    ``store.json`` has the sample rate and, for each recording, its npy file of int16 and the file's
    checksum (SHA-256), name, number of samples, their sum and sum of squares. A store may be
    pickled, and read by any number of processes.

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
        self.sample_rate, self.source = facts["sample_rate"], facts["source"]
        self.skipped: list[str] = facts["skipped"]
        recordings = facts["recordings"]
        self.names: list[str] = [recording["name"] for recording in recordings]
        self._files = np.array([recording["file"] for recording in recordings])
        self.lengths, self._total, self._squares = sums_of(recordings)
        for name, samples in zip(self._files, self.lengths):
            file, expected = self.folder / name, HEADER + samples * SAMPLE.itemsize
            if not file.is_file():
                raise FileNotFoundError(f"'{file}' of the store is missing")
            if (size := file.stat().st_size) != expected:
                how = "it is cut short" if size < expected else "it is another file"
                raise ValueError(f"'{file}' must have {expected:,} bytes, got {size:,}: {how}")

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, i: int) -> Wave:
        return Wave(self.folder / self._files[i], int(self.lengths[i]))

    def select(self, names: list[str]) -> "Store":
        """Returns the recordings of these names, in this order; all must be in the store."""
        places = {name: i for i, name in enumerate(self.names)}
        index = [places[name] for name in names]
        view = copy.copy(self)
        view.names = names
        for name in ("lengths", "_files", "_total", "_squares"):
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


def sums_of(recordings: list[dict[str, Any]]) -> np.ndarray:
    """Returns samples, sum and sum of squares of each recording, ``(3, recordings)``."""
    return np.array([[r[key] for r in recordings] for key in ("samples", "total", "squares")])


def read_facts(file: Path) -> dict[str, Any]:
    """Returns the content of ``store.json``, checked."""
    if not file.is_file():
        raise FileNotFoundError(f"'{file.parent}' must be a store, got a folder without '{file}'")
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        if facts["format"] != NAME:
            raise KeyError
        if facts["version"] != FORMAT:
            raise ValueError(f"version {facts['version']}, not {FORMAT}: prepare the store anew")
        if type(facts["sample_rate"]) is not int or facts["sample_rate"] < 1:
            raise ValueError(f"a 'sample_rate' of {facts['sample_rate']}, not positive")
        texts, numbers = [facts["source"], *facts["skipped"]], sums_of(facts["recordings"])
        texts += [recording["name"] for recording in facts["recordings"]]
        files = [FILE.fullmatch(recording["file"]) for recording in facts["recordings"]]
        if numbers.dtype != np.int64 or not all(isinstance(text, str) for text in texts):
            raise TypeError
        if not files or not all(files) or numbers[0].min() < 1:
            raise ValueError("'recordings' that are none, or without files or samples")
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"'{file}' must be of a store, got another file") from error
    except ValueError as error:
        raise ValueError(f"'{file}' must be of a store, got {error!s:.99}") from error
    return facts
