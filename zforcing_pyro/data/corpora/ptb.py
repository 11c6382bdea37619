"""The Penn Treebank, as Mikolov prepared it for language models."""

from ..corpus import SPLITS
from ..formats.files import read_text
from ..formats.text import Text, TextCorpus


class PTB(TextCorpus):
    """Penn Treebank, words: 10,000 of them, ``<unk>``, ``<eos>`` and ``N`` for numbers among them.

    A line is a sequence of its own: a model's state is reset in each. Perplexities in the
    literature mostly carry the state on from sentence to sentence, and are lower for it.

    Args:
        data_dir: Folder with ``ptb.train.txt``, ``ptb.valid.txt`` and ``ptb.test.txt``, each maybe
            gzipped, or with a folder ``ptb`` of them.
    """

    title = "Penn Treebank, words"
    source = (
        "https://github.com/locuslab/TCN (folder TCN/word_cnn/data/penn; name its files "
        "ptb.train.txt, ptb.valid.txt and ptb.test.txt)"
    )
    licence = "LDC99T42, under LDC's agreement; no permission to redistribute is known"
    size = "42,068 / 3,370 / 3,761 sentences"
    version = "Mikolov's preprocessing, one sentence a sequence, <eos> scored"
    files = tuple(f"ptb.{split}.txt" for split in SPLITS)
    folder = "ptb"

    def alternatives(self, file: str) -> list[str]:
        return [name + zipped for name in super().alternatives(file) for zipped in ("", ".gz")]

    def read(self) -> dict[str, Text]:
        texts = {}
        for split, file in zip(SPLITS, map(self.path, self.files)):
            texts[split] = Text(list(filter(None, map(str.strip, read_text(file).split("\n")))))
            if not texts[split].sentences:
                raise ValueError(f"'{file}' must have a sentence a line, got none")
        return texts


class PTBCharacters(PTB):
    """Penn Treebank, characters: 50 of them, the end of a line among them as ``<eos>``.

    The words are those of :class:`PTB`, so an unknown one is the five characters ``<unk>``.
    """

    title = "Penn Treebank, characters"
    version = "Mikolov's preprocessing, one sentence a sequence, line ends scored"
    step = "character"
    closed = True
