"""The Free Spoken Digit Dataset."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..formats.audio import AudioCorpus
from ..formats.tree import Tree
from ..formats.waves import Waves, read_waves

NAME = re.compile(r"(?:^|/)(?P<digit>\d)_(?P<speaker>[a-z]+)_(?P<index>\d+)\.wav$")
INDICES = {"train": range(10, 50), "valid": range(5, 10), "test": range(5)}


class Recording(NamedTuple):
    """A recording by what its name says."""

    digit: int
    speaker: str
    index: int
    name: str  # in the tree


class FSDD(AudioCorpus):
    """Digits 0 to 9 spoken in English, 50 times each by six speakers, at 8 kHz.

    Files are ``{digit}_{speaker}_{index}.wav``. The official split has index 0 to 4 for test and
    5 to 49 for training; of the latter, 5 to 9 are valid here, as many as test. The same speakers
    are in all. Labels are the digit and the speaker, an index of :attr:`speakers`.

    Args:
        data_dir: Folder with ``recordings``, ``free-spoken-digit-dataset`` or a zip file of either,
            or that folder itself.
        frame: Samples of a frame.
        score_first: If not, the first frame of a recording is given to a model, and not scored.
    """

    title = "Free Spoken Digit Dataset"
    source = "https://github.com/Jakobovski/free-spoken-digit-dataset"
    licence = "CC BY-SA 4.0"
    size = "2,400 / 300 / 300 recordings"
    version = "official test split, index 5 to 9 valid"
    files = ("fsdd_recordings.zip",)
    inside = ("0_jackson_0.wav",)
    label_names = ("digit", "speaker")
    sample_rate = 8000

    def __init__(
        self, data_dir: str | Path | None = None, frame: int = 200, score_first: bool = True
    ):
        super().__init__(data_dir, frame, score_first)
        self._listing: tuple[Tree, list[Recording], list[str]] | None = None

    def alternatives(self, file: str) -> list[str]:
        repository = "free-spoken-digit-dataset"
        folders = ("fsdd_recordings", "recordings", repository, f"{repository}-master")
        return [*(f"{name}{end}" for end in (".zip", "") for name in folders), *self.inside]

    @property
    def speakers(self) -> list[str]:
        """Names of the speakers, sorted."""
        return self.listing()[2]

    def listing(self) -> tuple[Tree, list[Recording], list[str]]:
        """The tree, all recordings, and the speakers.

        Raises:
            ValueError: If there is no recording, or one is there twice.
        """
        if self._listing is None:
            tree, found = self.tree(), {}
            for match in filter(None, map(NAME.search, tree.names())):
                digit, speaker, index = match.groups()
                new = Recording(int(digit), speaker, int(index), match.string)
                old = found.setdefault(new[:3], new)
                if old is not new:
                    raise ValueError(
                        f"'{tree.place(new.name)}' and '{tree.place(old.name)}' must not be the "
                        "same recording"
                    )
            recordings = sorted(found.values())
            self._listing = tree, recordings, sorted({r.speaker for r in recordings})
        return self._listing

    def waves(self, split: str) -> tuple[Waves, Tensor]:
        tree, recordings, speakers = self.listing()
        chosen = [r for r in recordings if r.index in INDICES[split]]
        if not chosen:
            raise ValueError(
                f"'{tree.path}' must have files {{digit}}_{{speaker}}_{{index}}.wav with an index "
                f"in {INDICES[split].start}..{INDICES[split].stop - 1}, those of {split}, got none"
            )
        labels = [(r.digit, speakers.index(r.speaker)) for r in chosen]
        names = [r.name for r in chosen]
        return read_waves(tree, names, self.sample_rate), torch.tensor(labels)
