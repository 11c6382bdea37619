"""Text files that a person has."""

from __future__ import annotations

import re
import warnings
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from ..corpus import SPLITS, random_split
from ..formats.files import decoded, read_text
from ..formats.text import END, Text, TextCorpus
from ..formats.tokens import sentences, words
from ..formats.tree import open_tree

SUFFIXES = (".txt", ".txt.gz")
CHOICES = {"tokens": ("words", "blanks", "characters"), "unit": ("line", "sentence")}
LONG = 1_000
"""Steps beyond which a sequence that is much longer than the rest is worth a warning."""


class TextFiles(TextCorpus):
    """A text file, or a folder or zip file of them, in UTF-8; each may be gzipped.

    Where files are called ``train``, ``valid`` and ``test`` (``train.txt``, ``ptb.train.txt.gz``,
    or any name in a folder ``train``) they are the splits, and other files are not read. Else
    files are divided at random, or the sentences of a single file: as many as the shares say, at
    least one for each split. Empty lines are skipped.

    Args:
        path: A file ``.txt`` or ``.txt.gz``, a folder, or a ``.zip`` file.
        tokens: ``words``: Penn-style, see :func:`.tokens.words`. ``blanks``: what blanks divide,
            for text that is in words already. ``characters``: every character.
        unit: What a sequence is: a ``line``, or a ``sentence`` of paragraphs between empty lines,
            see :func:`.tokens.sentences`.
        lower: Makes all letters small.
        max_length: Longer sentences are left out, counted in words or characters without
            ``<eos>``; None keeps all.
        vocabulary: At most so many of the commonest words of training; others are ``<unk>``.
        min_count: Words that occur less often in training are ``<unk>``, which so is learnt too.
        seed: Seed of the split, where files do not say it.
        data_dir: Folder in which a relative ``path`` is looked for as well.

    Raises:
        ValueError: If an option is out of its range.
    """

    source = "a text file of one's own, --data.path"
    licence = "its owner's"
    size = "as the file has"

    def __init__(
        self,
        path: str | None = None,
        tokens: Literal["words", "blanks", "characters"] = "words",
        unit: Literal["line", "sentence"] = "line",
        lower: bool = False,
        max_length: int | None = None,
        vocabulary: int = 10_000,
        min_count: int = 2,
        seed: int = 0,
        data_dir: str | Path | None = None,
    ):
        super().__init__(data_dir)
        for name, value in (("tokens", tokens), ("unit", unit)):
            if value not in CHOICES[name]:
                raise ValueError(f"'{name}' must be one of {list(CHOICES[name])}, got '{value}'")
        numbers = {"max_length": max_length, "vocabulary": vocabulary, "min_count": min_count}
        for name, value in (numbers | {"seed": seed}).items():
            if value is not None and value < (least := int(name != "seed")):
                raise ValueError(f"'{name}' must be at least {least}, got {value}")
        self.file, self.tokens, self.unit, self.lower = path, tokens, unit, lower
        self.max_length, self.num_words, self.min_count = max_length, vocabulary, min_count
        self.seed = seed
        self.step = "character" if tokens == "characters" else "word"
        self.title = f"text of '{Path(path).name}'" if path else "text files"
        parts = [f"{tokens}, a {unit} a sequence", "small letters" if lower else ""]
        parts += [f"up to {max_length} {self.step}s" if max_length else ""]
        parts += [f"{vocabulary:,} commonest, {min_count} times or more", f"split by seed {seed}"]
        self.version = ", ".join(filter(None, [*parts, "<eos> scored"]))

    def data_files(self) -> dict[str, Path]:
        path = self.own(self.file)
        return {path.name: path}

    def found(self) -> bool:
        return self.is_there(self.file)

    def read(self) -> dict[str, Text]:
        path = self.own(self.file)
        if path.is_dir() or path.suffix.lower() == ".zip":
            texts = self._from_tree(path)
        else:
            units = self._units(read_text(path), str(path))
            texts = self._divided(units, f"the {self.unit}s of '{path}'")
        for split, units in texts.items():
            lengths = np.array([len(self.tokens_of(unit)) for unit in units])
            if self.max_length is not None:
                texts[split] = [u for u, n in zip(units, lengths) if n <= self.max_length]
                lengths = lengths[lengths <= self.max_length]
            if not len(lengths):
                raise ValueError(
                    f"'{path}' must have {self.unit}s of at most {self.max_length} {self.step}s "
                    f"for '{split}', got none"
                )
            self._warn_of_long(texts[split], lengths, path)
        return {split: Text(units) for split, units in texts.items()}

    def _from_tree(self, path: Path) -> dict[str, list[str]]:
        tree = open_tree(path)
        names = [name for name in tree.names() if name.lower().endswith(SUFFIXES)]
        if not names:
            raise ValueError(f"'{path}' must have files {' or '.join(SUFFIXES)}, got none")

        def units(names: list[str]) -> list[str]:
            texts = ((decoded(tree.read(name), tree.place(name)), name) for name in names)
            return [u for text, name in texts for u in self._units(text, tree.place(name))]

        files = {split: [n for n in names if split_of(n) == split] for split in SPLITS}
        if not any(files.values()):
            if len(names) == 1:
                return self._divided(units(names), f"the {self.unit}s of '{path}'")
            files = self._divided(names, f"the text files of '{path}'")
        if missing := [split for split in SPLITS if not files[split]]:
            raise ValueError(
                f"'{path}' must have a text for train, valid and test, got none for "
                f"{' and '.join(missing)}"
            )
        return {split: units(names) for split, names in files.items()}

    def _divided(self, things: list[str], name: str) -> dict[str, list[str]]:
        """Returns sentences or names of files by split, in their order."""
        index = random_split(len(things), self.seed, name)
        return {split: [things[i] for i in index[split]] for split in SPLITS}

    def _units(self, text: str, place: str) -> list[str]:
        """Returns the lines or sentences of one file: words with blanks between, or characters."""
        if self.tokens == "blanks" and END in text:
            line = text.count("\n", 0, text.index(END)) + 1
            raise ValueError(
                f"'{place}' must not have the end symbol '{END}', which is added to every "
                f"{self.unit}, got it in line {line}"
            )
        text = text.lower() if self.lower else text
        units = text.split("\n")
        if self.unit == "sentence":
            units = [s for part in re.split(r"\n\s*\n", text) for s in sentences(part)]
        if self.tokens == "words":
            units = [" ".join(words(unit)) for unit in units]
        units = [unit for unit in units if unit.strip()]
        if not units:
            raise ValueError(f"'{place}' must have text, got none")
        return units

    def _warn_of_long(self, units: list[str], lengths: np.ndarray, path: Path) -> None:
        usual = int(np.quantile(lengths, 0.9))
        if many := int((lengths > max(LONG, 20 * usual)).sum()):
            warnings.warn(
                f"'{path}' has {many} {self.unit}s much longer than the rest, such as one of "
                f"{lengths.max()} {self.step}s, '{units[lengths.argmax()][:40]}...', while 90 % "
                f"have at most {usual}: 'max_length' leaves them out",
                stacklevel=2,
            )


def split_of(name: str) -> str | None:
    """Returns the split that a file's name says: its last part before ``.txt``, or a folder.

    Example:
        >>> [split_of(name) for name in ("ptb.train.txt.gz", "a/valid/7.txt", "training.txt")]
        ['train', 'valid', None]
    """
    *folders, file = PurePosixPath(name.lower()).parts
    stem = file.removesuffix(".gz").removesuffix(".txt")
    return next((part for part in (stem.split(".")[-1], *folders) if part in SPLITS), None)
