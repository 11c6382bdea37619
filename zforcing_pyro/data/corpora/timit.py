"""TIMIT: read speech of 630 speakers."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from ..corpus import permutation
from ..formats.audio import AudioCorpus, Listing
from ..formats.tree import Tree, unique

SPEAKER = r"(?P<sex>[fm])(?P<speaker>[a-z]{3}\d)/(?P<sentence>s[aix]\d+)\.wav"
LDC = re.compile(rf"(?:^|/)(?P<part>train|test)/dr(?P<region>[1-8])/{SPEAKER}(\.wav)?$", re.I)
NLTK = re.compile(rf"(?:^|/)dr(?P<region>[1-8])-{SPEAKER}$", re.I)
REGIONS = {"train": range(1, 7), "valid": (7,), "test": (8,)}


class Utterance(NamedTuple):
    """A recording by the parts of its name; sorts by region, speaker and sentence."""

    region: int
    speaker: str  # with the sex before: "fvmh0"
    sentence: str
    part: str  # "train" or "test"; "" in NLTK's sample


class Timit(AudioCorpus):
    """TIMIT at 16 kHz, as the Linguistic Data Consortium ships it, or the sample that NLTK has.

    The LDC's tree is ``TRAIN/DR1/FCJF0/SA1.WAV``, ..., in upper or lower case, NIST SPHERE or RIFF
    (of both, the converted copy ``SA1.WAV.wav`` is read). Of its 4,620 training files 5 % are
    valid, the first in the order of :func:`.permutation`, by file and not by speaker. In NLTK's
    sample, ``timit/dr1-fvmh0/sa1.wav``, ..., the regions ``dr1`` to ``dr6`` are train, ``dr7``
    valid and ``dr8`` test. The two do not compare.

    Labels are sex (0 a woman, 1 a man), dialect region (1 to 8) and the index of the speaker.

    Args:
        data_dir: Folder with ``timit`` or ``TIMIT``, a folder or a zip file, or that folder itself.
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
        self, data_dir: str | Path | None = None, without_sa: bool = False, **options: Any
    ):
        super().__init__(data_dir, **options)
        self.without_sa = without_sa

    def alternatives(self, file: str) -> list[str]:
        return ["timit.zip", "TIMIT.zip", "timit", "TIMIT", *self.inside]

    def find_recordings(self) -> Listing:
        tree = self.tree()
        if files := utterances(tree, LDC):
            train, test = ([u for u in files if u.part == part] for part in ("train", "test"))
            valid = {train[i] for i in permutation(len(train))[: round(0.05 * len(train))]}
            splits = {"train": [u for u in train if u not in valid]}
            splits |= {"valid": [u for u in train if u in valid], "test": test}
            self.version = f"LDC93S1, {len(files):,} files, 5 % of the training files valid"
        elif files := utterances(tree, NLTK):
            splits = {k: [u for u in files if u.region in v] for k, v in REGIONS.items()}
            self.version = "NLTK's sample, split by dialect region"
        else:
            raise ValueError(
                f"'{tree.path}' must have files as TRAIN/DR1/FCJF0/SA1.WAV (LDC) or "
                "dr1-fvmh0/sa1.wav (NLTK), got none"
            )
        if self.without_sa:
            splits = {k: [u for u in v if u.sentence[:2] != "sa"] for k, v in splits.items()}
            self.version += ", without sa1 and sa2"
        speakers = sorted({u.speaker for u in files})
        names, labels = {}, {}
        for split, spoken in splits.items():
            if not spoken:
                raise ValueError(f"'{tree.path}' must have files of all splits, got no {split}")
            names[split] = [files[u] for u in spoken]
            labels[split] = [
                (int(u.speaker[0] == "m"), u.region, speakers.index(u.speaker)) for u in spoken
            ]
        return Listing(tree, names, labels, speakers)


def utterances(tree: Tree, pattern: re.Pattern) -> dict[Utterance, str]:
    """Returns the names in a tree of the recordings of one layout, in order of the recordings."""
    originals: list[tuple[Utterance, str]] = []
    copies: list[tuple[Utterance, str]] = []
    for match in filter(None, map(pattern.search, tree.names())):
        group = {k: v.lower() for k, v in match.groupdict().items()}
        speaker, part = group["sex"] + group["speaker"], group.get("part", "")
        utterance = Utterance(int(group["region"]), speaker, group["sentence"], part)
        converted = match.string.lower().endswith(".wav.wav")
        (copies if converted else originals).append((utterance, match.string))
    return dict(sorted((unique(tree, originals) | unique(tree, copies)).items()))
