"""Text files of one's own."""

from __future__ import annotations

import re
import warnings
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from ..corpus import SPLITS, random_split
from ..formats.text import Text, TextCorpus, decoded, read_text
from ..formats.tokens import sentences, words
from ..formats.tree import Tree, open_tree
from ..formats.vocabulary import END

SUFFIXES = (".txt", ".txt.gz")
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
        seed: Of the split, where files do not say it.
        data_dir: Where ``path`` is looked for as well.

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
        for name, value, known in (
            ("tokens", tokens, ("words", "blanks", "characters")),
            ("unit", unit, ("line", "sentence")),
        ):
            if value not in known:
                raise ValueError(f"'{name}' must be one of {list(known)}, got '{value}'")
        for name, value, least in (
            ("max_length", max_length, 1),
            ("vocabulary", vocabulary, 1),
            ("min_count", min_count, 1),
            ("seed", seed, 0),
        ):
            if value is not None and value < least:
                raise ValueError(f"'{name}' must be at least {least}, got {value}")
        self.file = path
        self.tokens, self.unit, self.lower = tokens, unit, lower
        self.max_length, self.num_words, self.min_count = max_length, vocabulary, min_count
        self.seed = seed
        self.step = "character" if tokens == "characters" else "word"
        self.title = f"text of '{Path(path).name}'" if path else "text files"
        self.version = ", ".join(
            part
            for part in (
                f"{tokens}, a {unit} a sequence",
                "small letters" if lower else "",
                f"up to {max_length} {self.step}s" if max_length else "",
                f"{vocabulary:,} commonest, {min_count} times or more",
                f"split by seed {seed}",
                "<eos> scored",
            )
            if part
        )

    def found(self) -> bool:
        return self.is_there(self.file)

    def read(self) -> dict[str, Text]:
        path = self.own(self.file)
        if path.is_file() and path.suffix.lower() != ".zip":
            units = self._units(read_text(path), str(path))
            texts = self._divided(units, f"the {self.unit}s of '{path}'")
        else:
            texts = self._from_tree(open_tree(path))
        if self.max_length is not None:
            texts = {split: self._short(units, split, path) for split, units in texts.items()}
        self._warn_of_long([unit for units in texts.values() for unit in units], path)
        return {split: Text(units) for split, units in texts.items()}

    def _from_tree(self, tree: Tree) -> dict[str, list[str]]:
        names = [name for name in tree.names() if name.lower().endswith(SUFFIXES)]
        if not names:
            raise ValueError(f"'{tree.path}' must have files {' or '.join(SUFFIXES)}, got none")

        def units(names: list[str]) -> list[str]:
            texts = ((decoded(tree.read(name), tree.place(name)), name) for name in names)
            return [u for text, name in texts for u in self._units(text, tree.place(name))]

        named = {split: [n for n in names if split_of(n) == split] for split in SPLITS}
        if any(named.values()):
            missing = [split for split in SPLITS if not named[split]]
            if missing:
                raise ValueError(
                    f"'{tree.path}' must have a text for train, valid and test, got none for "
                    f"{' and '.join(missing)}"
                )
            return {split: units(names) for split, names in named.items()}
        if len(names) == 1:
            return self._divided(units(names), f"the {self.unit}s of '{tree.path}'")
        files = self._divided(names, f"the text files of '{tree.path}'")
        return {split: units(names) for split, names in files.items()}

    def _divided(self, things: list[str], name: str) -> dict[str, list[str]]:
        """Sentences or names of files by split, in their order."""
        index = random_split(len(things), self.seed, name)
        return {split: [things[i] for i in index[split]] for split in SPLITS}

    def _units(self, text: str, place: str) -> list[str]:
        """The lines or sentences of one file, of words with blanks between, or characters."""
        if self.tokens == "blanks" and END in text:
            line = text.count("\n", 0, text.index(END)) + 1
            raise ValueError(
                f"'{place}' must not have the end symbol '{END}', which is added to every "
                f"{self.unit}, got it in line {line}"
            )
        text = text.lower() if self.lower else text
        if self.unit == "line":
            units = text.split("\n")
        else:
            units = [s for part in re.split(r"\n\s*\n", text) for s in sentences(part)]
        if self.tokens == "words":
            units = [" ".join(words(unit)) for unit in units]
        units = [unit for unit in units if unit.strip()]
        if not units:
            raise ValueError(f"'{place}' must have text, got none")
        return units

    def _short(self, units: list[str], split: str, path: Path) -> list[str]:
        short = [unit for unit in units if self._length(unit) <= self.max_length]
        if not short:
            raise ValueError(
                f"'{path}' must have {self.unit}s of at most {self.max_length} {self.step}s for "
                f"'{split}', got at least {min(map(self._length, units))} in each"
            )
        return short

    def _length(self, unit: str) -> int:
        return len(self._tokens(unit))

    def _warn_of_long(self, units: list[str], path: Path) -> None:
        lengths = np.array([self._length(unit) for unit in units])
        usual = int(np.quantile(lengths, 0.9))
        many = int((lengths > max(LONG, 20 * usual)).sum())
        if many:
            example = units[int(lengths.argmax())]
            warnings.warn(
                f"'{path}' has {many} {self.unit}s much longer than the rest, such as one of "
                f"{lengths.max()} {self.step}s, '{example[:40]}...', while 90 % have at most "
                f"{usual}: 'max_length' leaves them out",
                stacklevel=2,
            )


def split_of(name: str) -> str | None:
    """The split that a file's name says: as its last part before ``.txt``, or as a folder's.

    Example:
        >>> [split_of(name) for name in ("ptb.train.txt.gz", "a/valid/7.txt", "training.txt")]
        ['train', 'valid', None]
    """
    *folders, file = PurePosixPath(name.lower()).parts
    stem = file.removesuffix(".gz").removesuffix(".txt")
    return next((part for part in (stem.split(".")[-1], *folders) if part in SPLITS), None)
