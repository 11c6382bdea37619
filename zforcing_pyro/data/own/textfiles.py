"""Text files that a person has."""

import re
import warnings
from itertools import compress
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from ..checks import check_choice, check_range
from ..corpus import SPLITS, random_split
from ..formats.files import decoded, read_text
from ..formats.text import Text, TextCorpus, sentences, words
from ..formats.tree import Tree

SUFFIXES = (".txt", ".txt.gz")
Tokens = Literal["words", "blanks", "characters"]
Unit = Literal["line", "sentence"]
LONG = 1_000
"""Steps beyond which a sequence that is much longer than the rest is worth a warning."""


class TextFiles(TextCorpus):
    """A text file, or a folder or zip file of them, in UTF-8; each may be gzipped.

    Files called ``train``, ``valid`` and ``test`` (``train.txt``, ``ptb.train.txt.gz``, or any name
    in a folder ``train``) are the splits, and other files are not read. Without such names, files
    are divided at random, or the sentences of a single file. Empty lines are skipped.

    Args:
        path: A file ``.txt`` or ``.txt.gz``, a folder, or a ``.zip`` file.
        tokens: ``words``: Penn-style, see :func:`.text.words`. ``blanks``: what blanks divide.
            ``characters``: every character.
        unit: A sequence: a ``line``, or a ``sentence`` of paragraphs between empty lines.
        lower: Makes all letters small.
        max_length: Longer sentences are left out, ``<eos>`` not counted; None keeps all.
        vocabulary: At most so many of the commonest words of training; others are ``<unk>``.
        min_count: Words that occur less often in training are ``<unk>``, which so is learnt too.
        seed: Seed of the split, where files do not say it.
        data_dir: Folder in which a relative ``path`` is looked for as well.
    """

    source = "a text file of one's own, --data.path"
    licence = "its owner's"
    size = "as the file has"
    is_own = True

    def __init__(
        self,
        path: str | None = None,
        tokens: Tokens = "words",
        unit: Unit = "line",
        lower: bool = False,
        max_length: int | None = None,
        vocabulary: int = 10_000,
        min_count: int = 2,
        seed: int = 0,
        data_dir: str | Path | None = None,
    ):
        super().__init__(data_dir)
        check_choice(Tokens, tokens=tokens)
        check_choice(Unit, unit=unit)
        check_range(1, max_length=max_length, vocabulary=vocabulary, min_count=min_count)
        self.user_path, self.tokens, self.unit, self.lower = path, tokens, unit, lower
        self.max_length, self.num_words, self.min_count = max_length, vocabulary, min_count
        self.seed = seed
        self.step = "character" if tokens == "characters" else "word"
        self.title = f"text of '{Path(path).name}'" if path else "text files"
        limit = "" if max_length is None else f"max_length {max_length}, "
        options = f"lower {lower}, {limit}vocabulary {vocabulary}, min_count {min_count}"
        self.version = f"{tokens}, a {unit} a sequence, <eos> scored, {options}, seed {seed}"

    def read(self) -> dict[str, Text]:
        path, texts = self.own(self.user_path), {}
        for split, units in self._units_of_splits(path).items():
            lengths = np.array([len(self.tokens_of(unit)) for unit in units])
            short = lengths <= (self.max_length or np.inf)
            if not short.any():
                raise ValueError(
                    f"'{path}' must have {self.unit}s of at most {self.max_length} {self.step}s "
                    f"for '{split}', got none"
                )
            texts[split] = Text(list(compress(units, short)))
            lengths = lengths[short]
            usual = int(np.quantile(lengths, 0.9))
            if many := int((lengths > max(LONG, 20 * usual)).sum()):
                longest = texts[split].sentences[lengths.argmax()]
                warnings.warn(
                    f"'{path}' has {many} {self.unit}s much longer than the rest, such as one of "
                    f"{lengths.max()} {self.step}s, '{longest[:40]}...', while 90 % have at most "
                    f"{usual}: 'max_length' leaves them out",
                    stacklevel=2,
                )
        return texts

    def _units_of_splits(self, path: Path) -> dict[str, list[str]]:
        """Returns the lines or sentences of each split, in the order of the files."""

        def divided(items: list, name: str) -> dict[str, list]:
            index = random_split(len(items), self.seed, f"the {name}s of '{path}'")
            return {split: [items[i] for i in index[split]] for split in SPLITS}

        if not (path.is_dir() or path.suffix.lower() == ".zip"):
            return divided(self._units(read_text(path), path), self.unit)
        tree = Tree(path)
        names = [name for name in tree.names() if name.lower().endswith(SUFFIXES)]
        named = {split: [name for name in names if split_of(name) == split] for split in SPLITS}
        names = [name for name in names if split_of(name)] or names
        files = {n: self._units(decoded(tree.read(n), tree.place(n)), tree.place(n)) for n in names}
        if len(files) == 1 and not any(named.values()):
            return divided(files[names[0]], self.unit)
        if not any(named.values()):
            named = divided(names, "text file")
        for split in SPLITS:
            if not named[split]:
                needed = "a text for train, valid and test"
                raise ValueError(f"'{path}' must have {needed}, got none for '{split}'")
        return {split: [u for n in named[split] for u in files[n]] for split in SPLITS}

    def _units(self, text: str, place: str | Path) -> list[str]:
        """Returns the lines or sentences of one file: words with blanks between, or characters."""
        text = text.lower() if self.lower else text
        units = text.split("\n")
        if self.unit == "sentence":
            units = [s for part in re.split(r"\n\s*\n", text) for s in sentences(part)]
        if self.tokens == "words":
            units = [" ".join(words(unit)) for unit in units]
        units = list(filter(str.strip, units))
        if not units:
            raise ValueError(f"'{place}' must have text, got none")
        return units


def split_of(name: str) -> str | None:
    """Returns the split that a file's name says: its last part before ``.txt``, or a folder.

    Example:
        >>> [split_of(name) for name in ("ptb.train.txt.gz", "a/valid/7.txt", "training.txt")]
        ['train', 'valid', None]
    """
    *folders, file = PurePosixPath(name.lower()).parts
    stem = file.removesuffix(".gz").removesuffix(".txt")
    return next((part for part in (stem.split(".")[-1], *folders) if part in SPLITS), None)
