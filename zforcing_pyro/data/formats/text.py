"""Sentences as sequences of words or characters: text cut into words, joined, and made symbols."""

import math
import re
import textwrap
from abc import abstractmethod
from array import array
from collections import Counter
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..corpus import Corpus, Floor
from ..sequences import Sequences
from .floors import floor

PLAIN = dict(zip(map(ord, "‘’´`“”„–—…"), [*"''''", *'"""', "-", "--", "..."]))
TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
NOT = re.compile(r"(?<=[a-z])n't\b", re.IGNORECASE)
CLITICS = "s|m|d|ll|re|ve"
TOKEN = re.compile(
    rf"""
      n't\b                                 # do n't
    | <unk>                                 # put there by somebody before
    | (?:[^\W\d_]\.){{2,}}                  # u.s.
    | \d+'s\b                               # 80's
    | \w+ (?: -(?=\w)\w+                    # war-torn
            | &\w+                          # q&a
            | (?<=\d)[.,:/]\d+              # 7/10, 1,000
            | '(?!(?:{CLITICS})\b)\w+       # o'clock
          )*
    | '(?:{CLITICS})\b                      # it 's
    | \.{{2,}} | [!?]+ | -{{2,}}            # runs
    | \S
    """,
    re.IGNORECASE | re.VERBOSE,
)
MISSING_BLANK = re.compile(r"(?<=[a-z])([.!?…]+)(?=[A-Z][a-z ])")
SENTENCE_END = re.compile(r"(?<!\S)(\S*?)([.!?…]+)([\"')\]”’]*)\s+")
ABBREVIATION = re.compile(
    "mr|mrs|ms|dr|prof|rev|gen|sgt|capt|lt|col|st|jr|sr|vs|etc|vol|dept|inc|ltd|co|"
    "jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec",
    re.IGNORECASE,
)
NO_BLANK_BEFORE = re.compile(rf" (?=n't\b|'(?:{CLITICS})\b|[.,!?;:%)\]]|\.\.\.)", re.IGNORECASE)
NO_BLANK_AFTER = re.compile(r"(?<=[(\[$#]) ")
QUOTED = re.compile(r'" ([^"]*?) "')


def sentences(text: str) -> list[str]:
    """Returns the sentences of running text.

    A sentence ends at a run of ``. ! ?`` and what closes there, but not after an abbreviation or
    an initial, nor before a small letter after an ellipsis, a quote or an acronym.

    Example:
        >>> sentences("Dr. No is fun.It's loud! \\"Why?\\" he asks ... and so on. 7/10")
        ['Dr. No is fun.', "It's loud!", '"Why?" he asks ... and so on.', '7/10']
    """
    text = " ".join(MISSING_BLANK.sub(r"\1 ", text).split())
    parts, begin = [], 0
    for match in SENTENCE_END.finditer(text):
        word, mark, closing = match.groups()
        word = word.lstrip("\"'([“‘")
        abbreviated = mark == "." and (ABBREVIATION.fullmatch(word) or re.fullmatch("[A-Z]", word))
        going_on = mark[0] == "…" or mark[:2] == ".." or closing or "." in word
        if not abbreviated and not (going_on and text[match.end() :][:1].islower()):
            parts.append(text[begin : match.end()].rstrip())
            begin = match.end()
    return [*parts, text[begin:]] if text[begin:] else parts


def words(text: str) -> list[str]:
    """Returns Penn-style tokens: punctuation and clitics are alone, hyphens stay within words.

    A run of marks becomes one, and typographic quotes and dashes those of a keyboard.

    Example:
        >>> " ".join(words("Don’t!!! It's a well-made 8/10, o'Hara.. (the U.S. one)"))
        "Do n't ! It 's a well-made 8/10 , o'Hara ... ( the U.S. one )"
    """
    tokens = TOKEN.findall(NOT.sub(" n't", text.translate(PLAIN)))
    for i, token in enumerate(tokens):
        if len(token) > 1 and token[0] in "!?.-":
            mark = "?" if "?" in token else token[0]
            tokens[i] = {".": "...", "-": "--"}.get(mark, mark)
    return tokens


def detokenised(tokens: list[str]) -> str:
    """Returns words as one writes them: the inverse of :func:`words`, as far as there is one."""
    text = QUOTED.sub(r'"\1"', " ".join(tokens))
    return NO_BLANK_AFTER.sub("", NO_BLANK_BEFORE.sub("", text))


UNKNOWN = "<unk>"
END = "<eos>"


class Vocabulary:
    """Words, or characters, by symbol: word ``i`` is symbol ``i`` to a model.

    ``<eos>`` ends each sequence; ``<unk>``, if it is there, stands for all other words.

    Example:
        >>> from collections import Counter
        >>> vocabulary = Vocabulary.learnt(Counter("a b a c b a".split()), size=2)
        >>> symbols, lengths = vocabulary.encode([["b", "c"], ["a"]])
        >>> vocabulary.words, symbols.tolist(), lengths.tolist()
        (['<unk>', '<eos>', 'a', 'b'], [3, 0, 1, 2, 1], [3, 2])
    """

    def __init__(self, words: list[str]):
        fits = isinstance(words, list) and all(isinstance(word, str) and word for word in words)
        if not fits or END not in words or len(set(words)) < len(words):
            got = str(words)[:40]
            raise ValueError(f"'words' must be a list of different words with '{END}', got {got}")
        self.words = words
        self._symbols = {word: i for i, word in enumerate(words)}
        self.end = self._symbols[END]

    @classmethod
    def learnt(
        cls, counts: Counter[str], size: int | None = None, min_count: int = 1, closed: bool = False
    ) -> "Vocabulary":
        """Returns the ``size`` commonest words, ties alphabetical, after ``<unk>`` and ``<eos>``.

        Words that occur less than ``min_count`` times are unknown; ``closed`` leaves out ``<unk>``.
        """
        special = [END] if closed else [UNKNOWN, END]
        words = [w for w, n in counts.items() if n >= min_count and w not in special]
        return cls(special + sorted(words, key=lambda word: (-counts[word], word))[:size])

    def encode(self, sentences: Iterable[list[str]]) -> tuple[Tensor, Tensor]:
        """Returns all sentences as symbols ``(steps,)``, ``<eos>`` after each, and their lengths.

        Raises ValueError for ``<eos>`` within a sentence, or an unknown word without ``<unk>``.
        """
        symbols, lengths = array("q"), []
        get, end, unknown = self._symbols.get, self.end, self._symbols.get(UNKNOWN, -1)
        for i, words in enumerate(sentences):
            encoded = [get(word, unknown) for word in words]
            if end in encoded or -1 in encoded:
                word = next(w for w, symbol in zip(words, encoded) if symbol in (end, -1))
                needed = f"words of the vocabulary, '{END}' not among them"
                raise ValueError(f"sentence {i + 1} must have {needed}, got {word!r}")
            symbols.extend([*encoded, end])
            lengths.append(len(encoded) + 1)
        return torch.from_numpy(np.array(symbols, dtype=np.int64)), torch.tensor(lengths)

    def decode(self, symbols: Tensor) -> list[str]:
        """Returns the words of ``(time,)`` symbols up to the first ``<eos>``, which is left out."""
        words = [self.words[i] for i in symbols.tolist()]
        return words[: words.index(END)] if END in words else words


class Text(NamedTuple):
    """One split as text."""

    sentences: list[str]  # words with a blank between them, or characters as they are; none empty
    labels: Tensor | None = None  # of each, (num, ...)


class TextCorpus(Corpus):
    """Sentences whose vocabulary is learnt from the training split, see :class:`Vocabulary`.

    A sentence is a sequence of its own and ends with ``<eos>``, which is scored: "nats per word"
    count it as a word, as perplexities of the field do. Perplexities under two vocabularies do not
    compare.
    """

    view = "text"
    suffix = ".txt"
    emission = "categorical"
    step = "word"
    num_words: int | None = None  # the vocabulary has at most so many; None is all
    min_count = 1  # words that occur less often in training are unknown
    closed = False  # no word can come that is not in training: there is no ``<unk>``

    def __init__(self, data_dir: str | Path | None = None):
        super().__init__(data_dir)
        self._vocabulary: Vocabulary | None = None
        self._counts: dict[str, Tensor] = {}

    @abstractmethod
    def read(self) -> dict[str, Text]:
        """Returns the three splits, read from their files."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The meaning of the symbols, read and learnt on first use, unless restored."""
        if self._vocabulary is None:
            self.split("train")
        return self._vocabulary

    @property
    def x_dim(self) -> int:
        """Number of symbols: the words of the vocabulary, ``<unk>`` and ``<eos>`` among them."""
        return len(self.vocabulary.words)

    def load(self, split: str) -> Sequences:
        texts = self.read()
        if self._vocabulary is None:
            counts = Counter(chain.from_iterable(map(self.tokens_of, texts["train"].sentences)))
            self._vocabulary = Vocabulary.learnt(
                counts, self.num_words, self.min_count, self.closed
            )
        for name, text in texts.items():
            try:
                symbols, lengths = self._vocabulary.encode(map(self.tokens_of, text.sentences))
            except ValueError as error:
                raise ValueError(f"'{name}' of {self.title}: {error}") from error
            self._splits[name] = Sequences.of(symbols, lengths, text.labels)
            self._counts[name] = symbols.bincount(minlength=self.x_dim)
        return self._splits[split]

    def tokens_of(self, sentence: str) -> list[str]:
        """Returns the words or characters of a sentence."""
        return list(sentence) if self.step == "character" else sentence.split()

    def floor(self) -> Floor:
        """Returns the cost of independent symbols, each as often as in training, at least once."""
        test = self.split("test")
        counts = self._counts["train"].double().clamp(min=1)
        nats = -(self._counts["test"] * (counts / counts.sum()).log()).sum().item()
        per_step = nats / int(test.lengths.sum())
        meaning = f"perplexity {math.exp(per_step):.1f} per word"
        if self.step == "character":
            meaning = f"{per_step / math.log(2):.3f} bits per character"
        description = f"unigram with the training frequencies, <eos> counted: {meaning}"
        return floor(nats, test, description)

    def facts(self) -> dict[str, Any]:
        return {"words": self.vocabulary.words}

    def restore(self, facts: dict[str, Any]) -> None:
        self._vocabulary = Vocabulary(facts["words"])

    def sentence(self, x: Tensor) -> str:
        """Returns symbols ``(time,)`` up to the first ``<eos>``, as one writes them."""
        words = self.vocabulary.decode(x)
        return "".join(words) if self.step == "character" else detokenised(words)

    def write(self, x: Tensor, file: Path) -> None:
        file.write_text(self.sentence(x) + "\n", encoding="utf-8")

    def as_text(self, x: Tensor) -> str:
        # A terminal would obey characters that are not printable.
        shown = (c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in self.sentence(x))
        return textwrap.fill("".join(shown), 80, break_on_hyphens=False)
