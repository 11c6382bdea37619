"""What a data set says of itself, where its files are looked for, and how they are read."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from .sequences import SequenceSet

SPLITS = ("train", "valid", "test")


class Floor(NamedTuple):
    """What a trivial model pays for the test split: a model that pays more has a bug."""

    nats_per_sequence: float
    nats_per_step: float
    description: str


class Corpus(ABC):
    """A named collection of sequences with fixed train, valid and test splits.

    Files are looked for under ``data_dir``, then under ``$ZFORCING_DATA``, in each also in the
    subfolder ``folder``; nothing is read before a split is asked for. A subclass sets the
    attributes and writes :meth:`load`, :meth:`floor`, :meth:`write` and :meth:`as_text`.

    Attributes:
        title: Its name in a table.
        source: Where to get it.
        licence: What may be done with it.
        size: Sequences of the splits, for people.
        version: Printed beside every number: two versions of one corpus do not compare.
        x_dim: Size of an observation.
        emission: The family that suits it: "bernoulli", "gaussian" or "categorical".
        step: What one step is, as in "nats per ...".
        view: How a sequence is drawn: "image" (reshaped to ``image_shape``), "pianoroll",
            "audio", "text" or "curve".
        suffix: Of the file that :meth:`write` makes of a sequence: what a person opens it with.
        files: Names of the files it needs.
        label_names: What the labels of a split say, a column each, such as ("digit", "speaker").
        sample_rate: Samples a second, for audio.
        missing: Whether NaN in a sequence is a value that is missing.

    Args:
        data_dir: Folder with the files.
    """

    title: str
    source: str
    licence: str
    size: str
    version: str
    x_dim: int
    emission: str
    step: str
    view: str
    suffix: str
    image_shape: tuple[int, int] | None = None
    files: tuple[str, ...] = ()
    label_names: tuple[str, ...] = ()
    sample_rate: int | None = None
    missing: bool = False
    folder = ""

    def __init__(self, data_dir: str | Path | None = None):
        self.data_dir = data_dir
        self._splits: dict[str, SequenceSet] = {}

    @abstractmethod
    def load(self, split: str) -> SequenceSet:
        """Reads one split, on the first call of :meth:`split`."""

    @abstractmethod
    def floor(self) -> Floor:
        """The negative log-likelihood of a trivial model with training frequencies, on test."""

    def split(self, name: str) -> SequenceSet:
        """The sequences of "train", "valid" or "test", kept in memory from the first call on.

        Raises:
            ValueError: If the name is unknown, or a file is broken.
            FileNotFoundError: If a file is missing; says where to get it and where to put it.
        """
        if name not in SPLITS:
            raise ValueError(f"'split' must be one of {list(SPLITS)}, got '{name}'")
        if name not in self._splits:
            self._splits[name] = self.load(name)
        return self._splits[name]

    def facts(self) -> dict[str, Any]:
        """What was learnt from the training split, as plain types: a mean, a vocabulary.

        A run keeps it in its ``data.json``, so that its numbers and samples stay what they were
        though the files change or are gone. Empty where nothing is learnt.
        """
        return {}

    def restore(self, facts: dict[str, Any]) -> None:  # noqa: B027
        """Takes :meth:`facts` of an earlier corpus, in place of learning them."""

    @abstractmethod
    def write(self, x: Tensor, file: Path) -> None:
        """Writes one sequence, real or generated, as a file that a person can open.

        Args:
            x: Observations as a model sees them, ``(time, x_dim)`` or ``(time,)``.
            file: Its name, which ends in ``suffix``.
        """

    @abstractmethod
    def as_text(self, x: Tensor) -> str:
        """One sequence for a terminal; lines no wider than 80 characters."""

    def found(self) -> bool:
        """Whether all files are there; says nothing of what is in them."""
        return all(any(map(os.path.isfile, self._places(file))) for file in self.files)

    def own(self, path: str | Path | None) -> Path:
        """Where a person's own file or folder is: as given, or below a folder for data.

        Raises:
            ValueError: If none was given.
            FileNotFoundError: If it is nowhere.
        """
        if not path:
            raise ValueError(f"'path' must be given for {self.title}, as --data.path, got none")
        places = [Path(path).expanduser(), *self._places(path)]
        for place in places:
            if place.exists():
                return place
        looked = ", ".join(f"'{place}'" for place in dict.fromkeys(places))
        raise FileNotFoundError(
            f"'path' must be a file or a folder, got none at {looked}; it may be below the folder "
            "given as --data_dir or $ZFORCING_DATA"
        )

    def is_there(self, path: str | Path | None) -> bool:
        """Whether :meth:`own` finds a person's own file or folder."""
        try:
            return self.own(path).exists()
        except (FileNotFoundError, ValueError):
            return False

    def path(self, file: str) -> Path:
        """Where a file is.

        Raises:
            FileNotFoundError: If it is nowhere; says where to get it and where to put it.
        """
        for place in self._places(file):
            if os.path.isfile(place):
                return place
        raise self._missing(file)

    def _missing(self, file: str) -> FileNotFoundError:
        """What is said of a file that is nowhere."""
        looked = ", ".join(f"'{p}'" for p in self._places(file)) or "no folder was given"
        return FileNotFoundError(
            f"'{file}' of {self.title} not found (looked for: {looked}); get it from {self.source} "
            "and put it into the folder given as --data_dir or $ZFORCING_DATA"
        )

    def _places(self, file: str) -> list[Path]:
        roots = [root for root in (self.data_dir, os.environ.get("ZFORCING_DATA")) if root]
        names = self.alternatives(file)
        return [Path(root).expanduser() / name for root in roots for name in names]

    def alternatives(self, file: str) -> list[str]:
        """What a file may be called in a folder for data."""
        return [f"{file}", f"{self.folder}/{file}"] if self.folder else [f"{file}"]


def random_split(
    num: int, seed: int, name: str, valid_share: float = 0.1, test_share: float = 0.1
) -> dict[str, np.ndarray]:
    """Which of ``num`` sequences are train, valid and test, where nobody has said.

    They are sorted by the first ``num`` raw 64-bit outputs of NumPy's ``PCG64(seed)``, a stream
    that never changes; test are the first, then valid, each a share, rounded, and at least one.

    Args:
        num: Sequences, of which there is an order that is always the same.
        seed: Another one is another split, whose numbers do not compare.
        name: What they are of, for an error.
        valid_share, test_share: Of the sequences.

    Returns:
        Indices by split, each increasing.

    Raises:
        ValueError: If there are fewer than three, or a number is out of its range.

    Example:
        >>> {name: len(index) for name, index in random_split(70, 0, "songs").items()}
        {'test': 7, 'valid': 7, 'train': 56}
    """
    if seed < 0:
        raise ValueError(f"'seed' must not be negative, got {seed}")
    shares = {"valid_share": valid_share, "test_share": test_share}
    for option, share in shares.items():
        if not 0 < share < 1:
            raise ValueError(f"'{option}' must be between 0 and 1, got {share}")
    valid, test = (max(1, round(share * num)) for share in shares.values())
    if valid + test >= num:
        raise ValueError(
            f"{name} must be enough for train, valid and test ({valid} and {test} of them for the "
            f"last two), got {num}"
        )
    order = np.argsort(np.random.PCG64(seed).random_raw(num))
    parts = np.split(order, [test, test + valid])
    return {split: np.sort(part) for split, part in zip(("test", "valid", "train"), parts)}


def check_comparable(corpora: dict[str, Corpus]) -> None:
    """Refuses a table of numbers that do not compare: of two data sets, or two versions of one.

    Args:
        corpora: The data behind each number, by the name of its run.

    Raises:
        ValueError: If two differ; names both.
    """
    versions = {name: f"{data.title} ({data.version})" for name, data in corpora.items()}
    for name, version in versions.items():
        first = next(iter(versions))
        if version != versions[first]:
            raise ValueError(
                f"numbers of one table must be on the same data, got '{first}' on "
                f"{versions[first]} and '{name}' on {version}"
            )


def read_npz(file: Path, **expected: tuple[type, tuple[int | None, ...]]) -> list[np.ndarray]:
    """The arrays of an ``.npz`` file that are asked for. Nothing in it is ever unpickled.

    Args:
        file: The file.
        **expected: Of each array its type and its shape, None where any size will do.

    Raises:
        ValueError: If the file is broken, or an array is missing, empty or not as expected.
    """
    try:
        # Opened here, since np.load leaves a broken file open.
        with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
            names = archive.files
            # An entry that is no array comes as bytes, which then fail as any wrong type.
            arrays = [np.asarray(archive[name]) for name in expected if name in names]
    except Exception as error:  # zipfile, zlib and numpy have a dozen ways to say "broken"
        raise ValueError(
            f"'{file}' must be an npz file of plain arrays, got {reason_of(error)}"
        ) from error
    if len(arrays) < len(expected):
        raise ValueError(f"'{file}' must hold the arrays {list(expected)}, got {names}")
    for array, (name, (kind, shape)) in zip(arrays, expected.items()):
        fits = array.ndim == len(shape) and all(
            n == wanted or wanted is None for n, wanted in zip(array.shape, shape)
        )
        if not (fits and array.size and np.issubdtype(array.dtype, kind)):
            sizes = ", ".join("any" if n is None else str(n) for n in shape)
            raise ValueError(
                f"'{name}' of '{file}' must be a non-empty {kind.__name__} array of shape "
                f"({sizes}), got {array.dtype} of shape {array.shape}"
            )
    return arrays


def reason_of(error: Exception) -> str:
    """Why NumPy does not read a file, in one line, without its advice on how to unpickle it.

    Example:
        >>> reason_of(ValueError("Object arrays cannot be loaded when allow_pickle=False"))
        'pickled Python objects, which are never loaded'
    """
    if "pickle" in str(error):
        return "pickled Python objects, which are never loaded"
    return " ".join(f"{type(error).__name__}: {error}".split())


def check_binary(file: Path, **arrays: np.ndarray) -> None:
    """Raises ValueError unless the named arrays of a file are 0 or 1 everywhere."""
    for name, array in arrays.items():
        bad = array[(array != 0) & (array != 1)]
        if bad.size:
            raise ValueError(f"'{name}' of '{file}' must be 0 or 1 everywhere, got {bad[0]}")
