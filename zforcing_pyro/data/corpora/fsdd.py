"""The Free Spoken Digit Dataset."""

import re

from ..formats.audio import AudioCorpus, Listing
from ..formats.tree import unique

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
