"""What a data set says of itself, where its files are looked for, and how they are read."""

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .sequences import Sequences

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
    folder = ""

    def __init__(self, data_dir: str | Path | None = None):
        self.data_dir = data_dir
        self._splits: dict[str, Sequences] = {}

    @abstractmethod
    def load(self, split: str) -> Sequences:
        """Reads one split, on the first call of :meth:`split`."""

    @abstractmethod
    def floor(self) -> Floor:
        """The negative log-likelihood of a trivial model with training frequencies, on test."""

    def split(self, name: str) -> Sequences:
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

    def path(self, file: str) -> Path:
        """Where a file is.

        Raises:
            FileNotFoundError: If it is nowhere; says where to get it and where to put it.
        """
        places = self._places(file)
        for place in places:
            if os.path.isfile(place):
                return place
        looked = ", ".join(f"'{place}'" for place in places) or "no folder was given"
        raise FileNotFoundError(
            f"'{file}' of {self.title} not found (looked for: {looked}); get it from {self.source} "
            "and put it into the folder given as --data_dir or $ZFORCING_DATA"
        )

    def _places(self, file: str) -> list[Path]:
        roots = [root for root in (self.data_dir, os.environ.get("ZFORCING_DATA")) if root]
        folders = dict.fromkeys(("", self.folder))
        return [Path(root).expanduser() / folder / file for root in roots for folder in folders]


def bernoulli_floor(train: Sequences, test: Sequences, variables: int, name: str) -> Floor:
    """The cost of independent bits, each on as often as in training.

    Frequencies are (count + 1/2) / (rows + 1), the Krichevsky-Trofimov estimate: a bit that is
    never on in training must not cost infinity.

    Args:
        train: Sequences of 0 and 1 that give the frequencies.
        test: Sequences of 0 and 1 that are paid for.
        variables: Bits in a row, ``x_dim`` or all of a sequence: each has its own frequency.
        name: What these are called.
    """

    def count(data: Sequences) -> tuple[Tensor, int]:
        on, rows = torch.zeros(variables, dtype=torch.float64), 0
        for x, _ in data:
            on += x.reshape(-1, variables).sum(0)
            rows += x.numel() // variables
        return on, rows

    (train_on, train_rows), (on, rows) = count(train), count(test)
    frequency = (train_on + 0.5) / (train_rows + 1)
    nats = -(on * frequency.log() + (rows - on) * (-frequency).log1p()).sum().item()
    description = f"independent {name} with the training frequencies"
    return Floor(nats / len(test), nats / test.lengths.sum().item(), description)


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
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"'{file}' must be an npz file of plain arrays, got {reason}") from error
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


def check_binary(file: Path, **arrays: np.ndarray) -> None:
    """Raises ValueError unless the named arrays of a file are 0 or 1 everywhere."""
    for name, array in arrays.items():
        bad = array[(array != 0) & (array != 1)]
        if bad.size:
            raise ValueError(f"'{name}' of '{file}' must be 0 or 1 everywhere, got {bad[0]}")
