"""Sentences of film reviews: the Large Movie Review Dataset of Maas et al. (2011)."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..checks import check_range
from ..corpus import SPLITS, permutation
from ..formats.files import read_npz, read_text
from ..formats.text import TAG, Text, TextCorpus, sentences, words

FOLDERS = {"test/pos": 1, "test/neg": 0, "train/pos": 1, "train/neg": 0, "train/unsup": -1}
"""Folders of ``aclImdb``, with the sentiment of the reviews in them."""
LINE_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
PREPARED = ("imdb_sentences.txt.gz", "imdb_sentences_meta.npz")
PREPARED_LENGTH = 15


class IMDB(TextCorpus):
    """Short sentences of film reviews, in small letters: the text of the Z-Forcing paper.

    Labels are the sentiment of the review: 1, 0, or -1 where unknown. The numbers of the two
    layouts of files do not compare.

    *aclImdb*, as it is downloaded: cut at line breaks, by :func:`.text.sentences` and
    :func:`.text.words`, without those of fewer than 3 words, or 2 that are not punctuation. Its
    training part is divided by film, 5 % of them valid, the first in the order of
    :func:`.permutation`. A review of a film of the test part, or seen before, is left out of it.

    *Prepared*, and read if both are there: ``imdb_sentences.txt.gz``, a sentence a line, words
    divided by blanks, and ``imdb_sentences_meta.npz`` with ``split_sizes``, the number of lines of
    train, valid and test, and ``label``, one of each line.

    Args:
        data_dir: Folder with the prepared files or with those of aclImdb, or with ``aclImdb``.
        max_length: Longer sentences are left out; ``<eos>`` not counted.
        vocabulary: So many of the commonest words of training; others are ``<unk>``.
    """

    title = "IMDB sentences"
    source = "https://ai.stanford.edu/~amaas/data/sentiment/ (aclImdb_v1.tar.gz, unpacked)"
    licence = "none given; cite Maas et al. (ACL 2011); the texts belong to their authors and IMDb"
    size = "100,000 reviews; prepared: 317,753 / 15,931 / 112,296 sentences"
    label_names = ("sentiment",)
    files = tuple(f"{part}/urls_{kind}.txt" for part, kind in (name.split("/") for name in FOLDERS))
    folder = "aclImdb"

    def __init__(
        self, data_dir: str | Path | None = None, max_length: int = 15, vocabulary: int = 16_000
    ):
        super().__init__(data_dir)
        check_range(1, max_length=max_length, vocabulary=vocabulary)
        self.max_length, self.num_words = max_length, vocabulary
        self._restored_prepared: bool | None = None

    @property
    def prepared(self) -> bool:
        """Tells whether the prepared files are read; a restored run keeps its layout."""
        if self._restored_prepared is not None:
            return self._restored_prepared
        return all(any(p.is_file() for p in self._places(file)) for file in PREPARED)

    @property
    def version(self) -> str:
        layout = "prepared sentences" if self.prepared else "aclImdb, cut here"
        limits = f"up to {self.max_length} words, {self.num_words:,} commonest"
        return f"{layout}, {limits}, <eos> scored"

    def data_files(self) -> dict[str, Path]:
        return {file: self.path(file) for file in (PREPARED if self.prepared else self.files)}

    def found(self) -> bool:
        return self.prepared or super().found()

    def facts(self) -> dict[str, Any]:
        return super().facts() | {"prepared": self.prepared}

    def restore(self, facts: dict[str, Any]) -> None:
        super().restore(facts)
        self._restored_prepared = bool(facts["prepared"])

    def read(self) -> dict[str, Text]:
        rows = self._prepared() if self.prepared else self._downloaded()
        for split in SPLITS:
            if not rows[split]:
                raise ValueError(
                    f"{self.title} must have sentences of at most {self.max_length} words for "
                    f"'{split}', got none"
                )
        columns = {split: list(zip(*part)) for split, part in rows.items()}
        return {split: Text([*part[0]], torch.tensor(part[1])) for split, part in columns.items()}

    def _prepared(self) -> dict[str, list[tuple]]:
        if self.max_length > PREPARED_LENGTH:
            raise ValueError(
                f"'max_length' must be at most {PREPARED_LENGTH}, the longest that is in "
                f"'{PREPARED[0]}', got {self.max_length}"
            )
        file, meta = map(self.path, PREPARED)
        sizes, labels = read_npz(meta, split_sizes=(np.integer, (3,)), label=(np.integer, (None,)))
        lines = read_text(file).removesuffix("\n").split("\n")
        if not sizes.sum() == len(labels) == len(lines) or sizes.min() < 1:
            raise ValueError(
                f"'{meta}' must tell of the {len(lines)} lines of '{file}', got splits of "
                f"{sizes.tolist()} and {len(labels)} labels"
            )
        rows: dict[str, list[tuple]] = {split: [] for split in SPLITS}
        for split, line, label in zip(np.repeat(SPLITS, sizes), lines, labels.tolist()):
            if 0 < len(line.split()) <= self.max_length:
                rows[split].append((line, label))
        return rows

    def _downloaded(self) -> dict[str, list[tuple]]:
        folder = self.path("train/urls_pos.txt").parents[1]
        hashes: set[int] = set()
        films: dict[str, set[str]] = {"test": set(), "train": set()}
        rows: dict[str, list[tuple]] = {"train": [], "test": []}
        for name, label in FOLDERS.items():
            part = name.partition("/")[0]
            for text, film in reviews(folder, name):
                repeated = hash(text) in hashes
                hashes.add(hash(text))  # the texts themselves would fill 130 MB
                if repeated or (part == "train" and film in films["test"]):
                    continue
                films[part].add(film)
                rows[part] += [(s, label, film) for s in self._sentences(text)]
        ordered = sorted(films["train"])
        valid = {ordered[i] for i in permutation(len(ordered))[: round(len(ordered) / 20)]}
        rows["valid"] = [row for row in rows["train"] if row[2] in valid]
        rows["train"] = [row for row in rows["train"] if row[2] not in valid]
        return rows

    def _sentences(self, review: str) -> Iterator[str]:
        for line in LINE_BREAK.split(review):
            for sentence in sentences(TAG.sub(" ", line)):
                tokens = words(sentence.lower())
                num_words = sum(token[0].isalnum() for token in tokens)
                if 3 <= len(tokens) <= self.max_length and num_words >= 2:
                    yield " ".join(tokens)


def reviews(folder: Path, name: str) -> Iterator[tuple[str, str]]:
    """Yields the text and the film's address of the reviews of a folder such as "train/pos".

    File ``{number}_{rating}.txt`` is of the film in line ``number`` of ``urls_{name}.txt``.
    """
    addresses = folder / Path(name).parent / f"urls_{Path(name).name}.txt"
    films = read_text(addresses).split()
    matches = (re.fullmatch(r"(\d+)_\d+\.txt", file.name) for file in (folder / name).iterdir())
    numbered = sorted((int(match[1]), folder / name / match[0]) for match in matches if match)
    if not numbered:
        raise ValueError(f"'{folder / name}' must have reviews such as '0_9.txt', got none")
    for number, file in numbered:
        if number >= len(films):
            raise ValueError(f"'{addresses}' must have a line for '{file}', got {len(films)} lines")
        yield read_text(file).strip(), films[number]
