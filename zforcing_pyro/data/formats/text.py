"""Sentences as sequences of words or characters."""

from __future__ import annotations

import gzip
import math
import textwrap
import zlib
from abc import abstractmethod
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from ..corpus import Corpus, Floor
from ..sequences import Sequences
from .floors import floor
from .tokens import detokenised
from .vocabulary import Vocabulary


class Text(NamedTuple):
    """One split as text."""

    sentences: list[str]  # words with a blank between them, or characters as they are; none empty
    labels: Tensor | None = None  # of each, (num, ...)


class TextCorpus(Corpus):
    """Sentences whose vocabulary is learnt from the training split, see :class:`.Vocabulary`.

    A sentence is a sequence of its own and ends with ``<eos>``, which is scored: "nats per word"
    count it as a word, as perplexities of the field do, and a generated sentence is shown up to
    it. ``<unk>`` stands for the words that are not in the vocabulary, and is scored as one word:
    perplexities under two vocabularies do not compare.

    A subclass sets the attributes and writes :meth:`read`.

    Attributes:
        num_words: The vocabulary has at most so many, the commonest of training; None is all.
        min_count: Words that occur less often in training are unknown.
        closed: No word can come that is not in training; then there is no ``<unk>``.
    """

    view = "text"
    suffix = ".txt"
    emission = "categorical"
    step = "word"
    num_words: int | None = None
    min_count = 1
    closed = False

    def __init__(self, data_dir: str | Path | None = None):
        super().__init__(data_dir)
        self._vocabulary: Vocabulary | None = None
        self._counts: dict[str, Tensor] = {}

    @abstractmethod
    def read(self) -> dict[str, Text]:
        """The three splits, read from their files."""

    @property
    def vocabulary(self) -> Vocabulary:
        """What the symbols mean; read and learnt on first use, unless restored.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If one is broken.
        """
        if self._vocabulary is None:
            self.split("train")
        return self._vocabulary

    @property
    def x_dim(self) -> int:
        """Number of symbols: the words of the vocabulary, ``<unk>`` and ``<eos>`` among them."""
        return len(self.vocabulary)

    def load(self, split: str) -> Sequences:
        tokens = self._tokens
        texts = self.read()
        if self._vocabulary is None:
            counts = Counter(chain.from_iterable(map(tokens, texts["train"].sentences)))
            self._vocabulary = Vocabulary.learnt(
                counts, self.num_words, self.min_count, closed=self.closed
            )
        for name, text in texts.items():
            try:
                symbols, lengths = self._vocabulary.encode(map(tokens, text.sentences))
            except ValueError as error:
                raise ValueError(f"'{name}' of {self.title}: {error}") from error
            self._splits[name] = Sequences.of(symbols, lengths, text.labels)
            self._counts[name] = symbols.bincount(minlength=len(self._vocabulary))
        return self._splits[split]

    def _tokens(self, sentence: str) -> list[str]:
        return list(sentence) if self.step == "character" else sentence.split()

    def floor(self) -> Floor:
        """The cost of independent symbols, each as frequent as in training.

        A symbol that training does not have, such as ``<unk>`` under a vocabulary of all words,
        counts as if it were there once.
        """
        test = self.split("test")
        train_counts = self._counts["train"].double().clamp(min=1)
        log_frequency = (train_counts / train_counts.sum()).log()
        nats = -(self._counts["test"] * log_frequency).sum().item()
        per_step = nats / int(test.lengths.sum())
        if self.step == "character":
            meaning = f"{per_step / math.log(2):.3f} bits per character"
        else:
            meaning = f"perplexity {math.exp(per_step):.1f} per word"
        description = f"unigram with the training frequencies, <eos> counted: {meaning}"
        return floor(nats, test, description)

    def facts(self) -> dict[str, Any]:
        return {"words": self.vocabulary.words}

    def restore(self, facts: dict[str, Any]) -> None:
        self._vocabulary = Vocabulary(facts["words"])

    def sentence(self, x: Tensor) -> str:
        """Symbols up to the first ``<eos>`` as one writes them.

        Args:
            x: Shape ``(time,)``.
        """
        words = self.vocabulary.decode(x)
        return "".join(words) if self.step == "character" else detokenised(words)

    def write(self, x: Tensor, file: Path) -> None:
        file.write_text(self.sentence(x) + "\n", encoding="utf-8")

    def as_text(self, x: Tensor) -> str:
        # What a terminal would obey rather than show is not shown.
        shown = "".join(
            c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in self.sentence(x)
        )
        return textwrap.fill(shown, 80, break_on_hyphens=False)


def read_text(file: Path) -> str:
    """The text of a file, which may be gzipped; see :func:`decoded`."""
    return decoded(file.read_bytes(), str(file))


def decoded(data: bytes, place: str) -> str:
    r"""UTF-8 text, gzipped or not. Line ends become ``"\n"``, a byte order mark is left out.

    Args:
        data: The content of a file.
        place: What the file is called, for an error.

    Raises:
        ValueError: If it is no text in UTF-8 or a broken gzip file; names the line.

    Example:
        >>> decoded(b"one\r\ntwo", "a.txt")
        'one\ntwo'
    """
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"'{place}' must be a whole gzip file, got: {error}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"'{place}' must be text in UTF-8, got the byte {error.object[error.start]:#04x} in "
            f"line {line}; 'iconv -f ENCODING -t UTF-8' converts it"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ValueError(f"'{place}' must be text, got a NUL byte in line {line}")
    return text.replace("\r\n", "\n").replace("\r", "\n")
