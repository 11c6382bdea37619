"""Base class of data sets, and what reads and splits their files."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from .checks import check_range
from .formats.files import check_regular
from .sequences import SequenceSet

SPLITS = ("train", "valid", "test")


class Floor(NamedTuple):
    """Cost of a trivial model on the test split: a model that pays more has a bug."""

    nats_per_sequence: float
    nats_per_step: float
    description: str


class Corpus(ABC):
    """A named collection of sequences with fixed train, valid and test splits.

    Files are looked for under ``data_dir``, then under ``$ZFORCING_DATA``, in each also in the
    subfolder ``folder``; nothing is read before a split is asked for.

    Args:
        data_dir: Folder with the files.
    """

    title: str  # name of the data set in a table
    source: str  # where the files can be got
    licence: str
    size: str  # sequences of the splits, for people
    version: str  # printed beside every number: two versions of one data set do not compare
    x_dim: int
    emission: str  # the family that suits the data, such as "bernoulli"
    step: str  # name of one step, as in "nats per ..."
    view: str  # how a sequence is drawn: "image", "pianoroll", "audio", "text", "points", "curve"
    suffix: str  # of the files that :meth:`write` makes
    image_shape: tuple[int, int] | None = None
    files: tuple[str, ...] = ()  # names of the data files
    user_path: str | Path | None = None  # of a file or folder of one's own
    is_own = False  # the data lie at the user's path
    label_names: tuple[str, ...] = ()  # of the labels' columns, such as ("digit", "speaker")
    sample_rate: int | None = None  # samples a second, for audio
    missing: bool = False  # NaN in a sequence is a missing value
    folder = ""
    _exists: Callable[[Path], bool] = staticmethod(os.path.isfile)

    def __init__(self, data_dir: str | Path | None = None):
        self.data_dir = data_dir
        self._splits: dict[str, SequenceSet] = {}

    @abstractmethod
    def load(self, split: str) -> SequenceSet:
        """Reads one split, on the first call of :meth:`split`."""

    @abstractmethod
    def floor(self) -> Floor:
        """Returns the cost on test of a trivial model with training frequencies."""

    @abstractmethod
    def write(self, x: Tensor, file: Path) -> None:
        """Writes one sequence, ``(time, x_dim)`` or ``(time,)``, as a file that people can open."""

    @abstractmethod
    def as_text(self, x: Tensor) -> str:
        """Returns one sequence as text for a terminal, in lines of at most 80 characters."""

    def split(self, name: str) -> SequenceSet:
        """Returns the sequences of "train", "valid" or "test", kept in memory once read."""
        if name not in SPLITS:
            raise ValueError(f"'split' must be one of {list(SPLITS)}, got '{name}'")
        if name not in self._splits:
            self._splits[name] = self.load(name)
        return self._splits[name]

    def facts(self) -> dict[str, Any]:
        """Returns what was learnt from the training split, such as a mean or a vocabulary.

        A run keeps the facts in its ``data.json``: they are plain types.
        """
        return {}

    def restore(self, facts: dict[str, Any]) -> None:  # noqa: B027
        """Takes the :meth:`facts` of an earlier corpus; raises ValueError if they are broken."""

    def data_files(self) -> dict[str, Path]:
        """Returns the files and folders that the data are read from, by name."""
        if self.is_own:
            return {Path(self.user_path or "").name: self.own(self.user_path)}
        return {file: self.path(file) for file in self.files}

    def fingerprint(self) -> dict[str, str]:
        """Returns the SHA-256 of the content of each of :meth:`data_files`, kept in a run."""
        return {name: digest(place) for name, place in self.data_files().items()}

    def check_unchanged(self, fingerprint: dict[str, str]) -> None:
        """Raises ValueError unless the data files are those of a :meth:`fingerprint` of a run."""
        if not isinstance(fingerprint, dict):
            raise ValueError(f"'files' must map names to checksums, got {fingerprint!r:.80}")
        now = self.fingerprint()
        names = sorted(now.keys() | fingerprint)
        if changed := [name for name in names if now.get(name) != fingerprint.get(name)]:
            names = "', '".join(changed)
            raise ValueError(
                f"the data changed since training: '{names}' has other content, or is new or gone; "
                "restore the files, or train anew"
            )

    def found(self) -> bool:
        """Returns whether all files are there, whatever is in them."""
        if not self.is_own:
            return all(any(map(self._exists, self._places(file))) for file in self.files)
        try:
            return bool(self.own(self.user_path))
        except (OSError, ValueError):
            return False

    def own(self, path: str | Path | None) -> Path:
        """Returns the place of a user's file or folder: as given, or below a folder for data."""
        if not path:
            raise ValueError(f"'path' must be given for {self.title}, as --data.path, got none")
        places = [Path(os.path.expanduser(path)), *self._places(path)]
        for place in places:
            if place.is_file() or place.is_dir():
                return place
            check_regular(place)
        looked = ", ".join(f"'{place}'" for place in dict.fromkeys(places))
        raise FileNotFoundError(
            f"'path' must be a file or a folder, got none at {looked}; it may be below the folder "
            "given as --data_dir or $ZFORCING_DATA"
        )

    def path(self, file: str) -> Path:
        """Returns the place of a data file; FileNotFoundError says where to get it, if missing."""
        places = self._places(file)
        for place in filter(self._exists, places):
            return place
        looked = ", ".join(f"'{place}'" for place in places) or "no folder was given"
        raise FileNotFoundError(
            f"'{file}' of {self.title} not found (looked for: {looked}); get it from {self.source} "
            "and put it into the folder given as --data_dir or $ZFORCING_DATA"
        )

    def _places(self, file: str | Path) -> list[Path]:
        roots = [root for root in (self.data_dir, os.environ.get("ZFORCING_DATA")) if root]
        names = self.alternatives(str(file))
        return [Path(os.path.expanduser(root), name) for root in roots for name in names]

    def alternatives(self, file: str) -> list[str]:
        """Returns the names that a file may have in a folder for data."""
        return [file, f"{self.folder}/{file}"] if self.folder else [file]


def digest(place: Path, names: list[str] | None = None) -> str:
    """Returns the SHA-256 of a file, or of names and contents below a folder, all by default."""
    if not place.is_dir():
        with open(place, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    if names is None:
        files = (file for file in place.rglob("*") if file.is_file())
        names = sorted(file.relative_to(place).as_posix() for file in files)
    lines = [f"{digest(place / name)} {name!r}\n" for name in names]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def permutation(num: int, seed: int = 0) -> np.ndarray:
    """Returns a random order of ``num`` things: that of the first raw outputs of ``PCG64(seed)``.

    NumPy never changes this stream, so the order is the same everywhere.
    """
    return np.argsort(np.random.PCG64(seed).random_raw(num))


def random_split(
    num: int, seed: int, name: str, valid_share: float = 0.1, test_share: float = 0.1
) -> dict[str, np.ndarray]:
    """Deals ``num`` sequences to train, valid and test by chance, the same way everywhere.

    Test are the first in the order of :func:`permutation`, then valid, each a rounded share, at
    least one. Returns increasing indices by split; an error says ``name``.

    Example:
        >>> {name: len(index) for name, index in random_split(70, 0, "songs").items()}
        {'test': 7, 'valid': 7, 'train': 56}
    """
    check_range(0, seed=seed)
    for option, share in (("valid_share", valid_share), ("test_share", test_share)):
        if not 0 < share < 1:
            raise ValueError(f"'{option}' must be between 0 and 1, got {share}")
    valid, test = (max(1, round(share * num)) for share in (valid_share, test_share))
    if valid + test >= num:
        raise ValueError(
            f"{name} must be enough for train, valid and test ({valid} and {test} of them for the "
            f"last two), got {num}"
        )
    parts = np.split(permutation(num, seed), [test, test + valid])
    return {split: np.sort(part) for split, part in zip(("test", "valid", "train"), parts)}


def check_comparable(corpora: dict[str, Corpus]) -> None:
    """Raises ValueError unless runs, by name, are on one version of one data set."""
    versions = {name: f"{data.title} ({data.version})" for name, data in corpora.items()}
    first = next(iter(versions), "")
    for name, version in versions.items():
        if version != versions[first]:
            raise ValueError(
                f"numbers of one table must be on the same data, got '{first}' on "
                f"{versions[first]} and '{name}' on {version}"
            )
