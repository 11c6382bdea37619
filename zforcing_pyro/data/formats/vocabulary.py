"""The symbols that words are to a model."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

UNKNOWN = "<unk>"
END = "<eos>"


class Vocabulary:
    """Words, or characters, by symbol: word ``i`` is symbol ``i`` to a model.

    ``<eos>`` ends each sequence and is scored as a symbol: a model must say where a sentence ends.
    ``<unk>`` stands for all words that are not here. There is no start symbol and no padding:
    a model has a start symbol of its own, and padding is masked.

    Args:
        words: All of them, different, with ``<eos>``, and with ``<unk>`` unless the words are all
            that there can be.

    Attributes:
        words: As given.
        end: Symbol of ``<eos>``.
        unknown: Symbol of ``<unk>``; None without.

    Raises:
        ValueError: If a word is not a string, empty or twice there, or ``<eos>`` is not.

    Example:
        >>> from collections import Counter
        >>> vocabulary = Vocabulary.learnt(Counter("a b a c b a".split()), size=2)
        >>> vocabulary.words
        ['<unk>', '<eos>', 'a', 'b']
        >>> symbols, lengths = vocabulary.encode([["b", "c"], ["a"]])
        >>> symbols.tolist(), lengths.tolist(), vocabulary.decode(symbols[:3])
        ([3, 0, 1, 2, 1], [3, 2], ['b', '<unk>'])
    """

    def __init__(self, words: list[str]):
        if not (isinstance(words, list) and all(isinstance(w, str) and w for w in words)):
            raise ValueError(f"'words' must be a list of words, got {str(words)[:40]}")
        self.words = words
        self._symbols = {word: i for i, word in enumerate(words)}
        if len(self._symbols) < len(words):
            twice = next(word for word, n in Counter(words).items() if n > 1)
            raise ValueError(f"'words' must differ from each other, got {twice!r} twice")
        if END not in self._symbols:
            raise ValueError(f"'words' must have the end symbol {END!r}, got {words[:3]}")
        self.end, self.unknown = self._symbols[END], self._symbols.get(UNKNOWN)

    @classmethod
    def learnt(
        cls,
        counts: Counter[str],
        size: int | None = None,
        min_count: int = 1,
        closed: bool = False,
    ) -> Vocabulary:
        """The commonest words first, ties alphabetical, after ``<unk>`` and ``<eos>``.

        Args:
            counts: How often each word occurs in training.
            size: At most so many words, ``<unk>`` and ``<eos>`` not counted; None is all.
            min_count: Words that occur less often are unknown.
            closed: There is no ``<unk>``: no other word can come.

        Raises:
            ValueError: If a number is not positive.
        """
        for name, value in (("vocabulary", size), ("min_count", min_count)):
            if value is not None and value < 1:
                raise ValueError(f"'{name}' must be positive, got {value}")
        special = [END] if closed else [UNKNOWN, END]
        known = [w for w, n in counts.items() if n >= min_count and w not in special]
        return cls(special + sorted(known, key=lambda word: (-counts[word], word))[:size])

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, sentences: Iterable[list[str]]) -> tuple[Tensor, Tensor]:
        """Symbols of all sentences end to end, each with ``<eos>`` after it.

        Returns:
            Symbols, int64 of shape ``(steps,)``, and how many are each sentence's, int64 of shape
            ``(num,)``.

        Raises:
            ValueError: If a sentence has ``<eos>`` within, or a word that is not here while there
                is no ``<unk>``.
        """
        symbols, lengths = array("q"), []
        get, end = self._symbols.get, self.end
        unknown = -1 if self.unknown is None else self.unknown
        for i, words in enumerate(sentences):
            encoded = [get(word, unknown) for word in words]
            if end in encoded or -1 in encoded:
                word = next(w for w, s in zip(words, encoded) if s in (end, -1))
                needed = "no end symbol within" if word == END else "words of the vocabulary only"
                raise ValueError(f"sentence {i + 1} must have {needed}, got {word!r}")
            encoded.append(end)
            symbols.extend(encoded)
            lengths.append(len(encoded))
        flat = np.array(symbols, dtype=np.int64)
        return torch.from_numpy(flat), torch.tensor(lengths, dtype=torch.int64)

    def decode(self, symbols: Tensor) -> list[str]:
        """Words up to the first ``<eos>``, which is left out.

        Args:
            symbols: Shape ``(time,)``.
        """
        words = [self.words[i] for i in symbols.tolist()]
        return words[: words.index(END)] if END in words else words
