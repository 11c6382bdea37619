"""Speech: TIMIT, the Free Spoken Digit Dataset, and an audiobook voice from a prepared store."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from ..corpus import permutation, random_split
from ..formats.audio import AudioCorpus, Listing
from ..formats.tree import Tree, unique
from ..store.store import Store

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


NAME = re.compile(r"(?:^|/)(?P<digit>\d)_(?P<speaker>[a-z]+)_(?P<index>\d+)\.wav$")
INDICES = {"train": range(10, 50), "valid": range(5, 10), "test": range(5)}


class FSDD(AudioCorpus):
    """Digits 0 to 9 spoken in English, 50 times each by six speakers, at 8 kHz.

    Files are ``{digit}_{speaker}_{index}.wav`` in a folder ``recordings`` or
    ``free-spoken-digit-dataset``, or a zip file of either. The official split has index 0 to 4 for
    test; of the rest, 5 to 9 are valid here. Labels are the digit and the index of the speaker.
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

    def alternatives(self, file: str) -> list[str]:
        repository = "free-spoken-digit-dataset"
        folders = ("fsdd_recordings", "recordings", repository, f"{repository}-master")
        return [*(f"{name}{end}" for end in (".zip", "") for name in folders), *self.inside]

    def find_recordings(self) -> Listing:
        tree = self.tree()
        matches = filter(None, map(NAME.search, tree.names()))
        keyed = [((int(m["digit"]), m["speaker"], int(m["index"])), m.string) for m in matches]
        recordings = dict(sorted(unique(tree, keyed).items()))
        speakers = sorted({speaker for _, speaker, _ in recordings})
        splits, labels = {}, {}
        for split, indices in INDICES.items():
            keys = [key for key in recordings if key[2] in indices]
            if not keys:
                raise ValueError(
                    f"'{tree.path}' must have files {{digit}}_{{speaker}}_{{index}}.wav with an "
                    f"index in {indices[0]}..{indices[-1]} for {split}, got none"
                )
            splits[split] = [recordings[key] for key in keys]
            labels[split] = [(digit, speakers.index(speaker)) for digit, speaker, _ in keys]
        return Listing(tree, splits, labels, speakers)


class Blizzard(AudioCorpus):
    """The audiobooks of the Blizzard Challenge 2013, read by one speaker, from a prepared store.

    The folder of segmented wav files is prepared once, at 16 kHz as in the VRNN paper
    (https://arxiv.org/abs/1506.02216). Nobody has published a split: files are dealt at random.

    Args:
        data_dir: The store, or a folder with a store ``blizzard``.
        seed: Seed of the split.
    """

    title = "Blizzard Challenge 2013 audiobooks"
    source = (
        "https://www.synsig.org/index.php/Blizzard_Challenge_2013 (prepare it: 'zforcing data "
        "prepare blizzard --path FOLDER --out DATA_DIR/blizzard')"
    )
    licence = "Lessac Technologies' for the Blizzard Challenge 2013: research, not to be passed on"
    size = "90 / 5 / 5 % of the files; hundreds of hours"
    version = "prepared segmented recordings"
    files = ("store.json",)
    folder = "blizzard"

    def __init__(self, data_dir: str | Path | None = None, seed: int = 0, **options: Any):
        super().__init__(data_dir, **options)
        self.seed = seed

    def find_recordings(self) -> Listing:
        store = Store(self.path("store.json").parent)
        if store.source != "blizzard":
            raise ValueError(
                f"'{store.folder}' must be prepared from blizzard, got {store.source}; any "
                "other store is read by '--data audio --data.path STORE'"
            )
        self.sample_rate = store.sample_rate
        self.version = (
            f"{len(store):,} recordings at {store.sample_rate:,} Hz, split 90/5/5 % by file at "
            f"random (seed {self.seed})"
        )
        index = random_split(len(store), self.seed, f"'{store.folder}'", 0.05, 0.05)
        return Listing(store, {s: [store.names[i] for i in index[s]] for s in index})
