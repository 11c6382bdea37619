"""TIMIT: read speech of 630 speakers."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..formats.audio import AudioCorpus
from ..formats.tree import Tree
from ..formats.waves import Waves, read_waves

SPEAKER = r"(?P<sex>[fm])(?P<speaker>[a-z]{3}\d)/(?P<sentence>s[aix]\d+)\.wav"
LDC = re.compile(rf"(?:^|/)(?P<part>train|test)/dr(?P<region>[1-8])/{SPEAKER}(\.wav)?$", re.I)
NLTK = re.compile(rf"(?:^|/)dr(?P<region>[1-8])-{SPEAKER}$", re.I)
COUNTS = {"train": 4620, "test": 1680}
VALID_SHARE = 0.05


class Utterance(NamedTuple):
    """A recording by what its name says; sorts by region, speaker and sentence."""

    region: int
    speaker: str  # with the sex before: "fvmh0"
    sentence: str
    part: str  # "train" or "test"; of NLTK's sample ""
    name: str  # in the tree

    @property
    def key(self) -> tuple:
        """The same for two files of one recording."""
        return self[:4]


class Timit(AudioCorpus):
    """TIMIT at 16 kHz, as the Linguistic Data Consortium ships it, or the sample that NLTK has.

    The LDC's tree is ``TRAIN/DR1/FCJF0/SA1.WAV``, ..., in upper or lower case, NIST SPHERE or RIFF
    (where both are, as in ``SA1.WAV.wav``, the copy that somebody converted). Its 4,620 training
    files are, sorted by region, speaker and sentence, ordered by the raw 64-bit outputs of NumPy's
    ``PCG64(0)``: the first 5 %, 231, are valid, as in the literature by file and not by speaker.
    The 1,680 test files are test. NLTK's sample is ``timit/dr1-fvmh0/sa1.wav``, ...: there 12
    speakers of ``dr1`` to ``dr6`` are train, two of ``dr7`` valid and two of ``dr8`` test. The two
    do not compare.

    Labels are sex (0 a woman, 1 a man), dialect region (1 to 8) and speaker, an index of
    :attr:`speakers`.

    Args:
        data_dir: Folder with ``timit`` or ``TIMIT``, a folder or a zip file, or that folder itself.
        frame: Samples of a frame.
        score_first: If not, the first frame of an utterance is given to a model, and not scored, as
            in all published numbers of Z-Forcing and SRNN on speech.
        without_sa: Leaves out the two sentences that all speakers read.
    """

    title = "TIMIT"
    source = (
        "https://catalog.ldc.upenn.edu/LDC93S1, or the sample of NLTK: https://www.nltk.org/data"
    )
    licence = "LDC user agreement; NLTK's sample CC BY-NC-SA: no commercial use"
    size = "4,389 / 231 / 1,680 utterances; NLTK's sample 120 / 20 / 20"
    version = "LDC93S1, or NLTK's sample of it"
    files = ("timit.zip",)
    inside = ("TRAIN/DR1", "train/dr1", "dr1-fvmh0")
    label_names = ("sex", "dialect region", "speaker")
    sample_rate = 16000

    def __init__(
        self,
        data_dir: str | Path | None = None,
        frame: int = 200,
        score_first: bool = True,
        without_sa: bool = False,
    ):
        super().__init__(data_dir, frame, score_first)
        self.without_sa = without_sa
        self._listing: tuple[Tree, dict[str, list[Utterance]], list[str]] | None = None

    def alternatives(self, file: str) -> list[str]:
        return ["timit.zip", "TIMIT.zip", "timit", "TIMIT", *self.inside]

    @property
    def speakers(self) -> list[str]:
        """Names of the speakers of all splits, sorted, such as "fadg0": a woman, ADG, number 0."""
        return self.listing()[2]

    def listing(self) -> tuple[Tree, dict[str, list[Utterance]], list[str]]:
        """The tree, the utterances of each split, and the speakers.

        Raises:
            ValueError: If a split has no files, or an utterance is there twice.
        """
        if self._listing is None:
            tree = self.tree()
            utterances = utterances_of(tree)
            if not utterances:
                raise ValueError(
                    f"'{tree.path}' must have files as TRAIN/DR1/FCJF0/SA1.WAV (LDC) or "
                    "dr1-fvmh0/sa1.wav (NLTK), got none"
                )
            sample = not utterances[0].part
            splits = split_sample(utterances) if sample else split_corpus(utterances, tree)
            if self.without_sa:
                splits = {
                    name: [u for u in split if not u.sentence.startswith("sa")]
                    for name, split in splits.items()
                }
            for name, split in splits.items():
                if not split:
                    raise ValueError(f"'{tree.path}' must have files of all splits, got no {name}")
            self.version = (
                "NLTK's sample, split by dialect region"
                if sample
                else "LDC93S1, 5 % of the training files valid"
            ) + (", without sa1 and sa2" if self.without_sa else "")
            self._listing = tree, splits, sorted({u.speaker for u in utterances})
        return self._listing

    def waves(self, split: str) -> tuple[Waves, Tensor]:
        tree, splits, speakers = self.listing()
        utterances = splits[split]
        labels = [(u.speaker[0] == "m", u.region, speakers.index(u.speaker)) for u in utterances]
        return (
            read_waves(tree, [u.name for u in utterances], self.sample_rate),
            torch.tensor(labels, dtype=torch.int64),
        )


def utterances_of(tree: Tree) -> list[Utterance]:
    """The recordings of a tree, sorted; those of the full corpus if it has some."""
    found: dict[tuple, Utterance] = {}
    names = tree.names()
    for pattern in (LDC, NLTK):
        for match in filter(None, map(pattern.search, names)):
            group = {k: v.lower() for k, v in match.groupdict().items()}
            new = Utterance(
                int(group["region"]),
                group["sex"] + group["speaker"],
                group["sentence"],
                group.get("part", ""),
                match.string,
            )
            old = found.get(new.key)
            if old and converted(old.name) == converted(new.name):
                raise ValueError(
                    f"'{tree.place(new.name)}' and '{tree.place(old.name)}' must not be the same "
                    "utterance"
                )
            if not old or converted(new.name):
                found[new.key] = new
        if found:
            break
    return sorted(found.values())


def converted(name: str) -> bool:
    """Whether a file is a copy of a SPHERE file in another format, such as ``SA1.WAV.wav``."""
    return name.lower().endswith(".wav.wav")


def split_sample(utterances: list[Utterance]) -> dict[str, list[Utterance]]:
    """NLTK's sample by dialect region."""
    regions = {"train": range(1, 7), "valid": (7,), "test": (8,)}
    return {k: [u for u in utterances if u.region in v] for k, v in regions.items()}


def split_corpus(utterances: list[Utterance], tree: Tree) -> dict[str, list[Utterance]]:
    """The official training and test parts, a share of the former for validation."""
    parts = {part: [u for u in utterances if u.part == part] for part in COUNTS}
    for part, expected in COUNTS.items():
        if 0 < len(parts[part]) != expected:
            warnings.warn(
                f"'{tree.path}' has {len(parts[part]):,} of the {expected:,} {part} files of "
                "TIMIT: numbers do not compare with those of the full corpus",
                stacklevel=2,
            )
    train = parts["train"]
    order = np.argsort(np.random.PCG64(0).random_raw(len(train)))
    valid = set(order[: round(VALID_SHARE * len(train))].tolist())
    return {
        "train": [u for i, u in enumerate(train) if i not in valid],
        "valid": [u for i, u in enumerate(train) if i in valid],
        "test": parts["test"],
    }
