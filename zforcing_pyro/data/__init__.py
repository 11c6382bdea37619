"""Sequences from files."""

from collections.abc import Callable
from functools import partial
from inspect import signature

from .corpora.blizzard import Blizzard
from .corpora.digits import Digits, MNIST5k
from .corpora.fsdd import FSDD
from .corpora.imdb import IMDB
from .corpora.mnist import MNIST, BinarizedMNIST
from .corpora.polyphonic import Pianoroll, PianorollSRNN
from .corpora.ptb import PTB, PTBCharacters
from .corpora.timit import Timit
from .corpus import Corpus, Floor
from .formats.audio import Recordings
from .own.arrays import Arrays
from .own.audio_folder import AudioFolder
from .own.midi import MidiFiles
from .own.tables import Table
from .own.textfiles import TextFiles
from .sampler import BatchSampler
from .sequences import Batch, Sequence, Sequences, SequenceSet, collate

DATASETS: dict[str, Callable[..., Corpus]] = {
    "digits": Digits,
    "binarized_mnist": BinarizedMNIST,
    "mnist": MNIST,
    "mnist5k": MNIST5k,
    "jsb": partial(Pianoroll, "jsb"),
    "nottingham": partial(Pianoroll, "nottingham"),
    "muse": partial(Pianoroll, "muse"),
    "piano": partial(Pianoroll, "piano"),
    "jsb_srnn": partial(PianorollSRNN, "jsb"),
    "nottingham_srnn": partial(PianorollSRNN, "nottingham"),
    "muse_srnn": partial(PianorollSRNN, "muse"),
    "piano_srnn": partial(PianorollSRNN, "piano"),
    "timit": Timit,
    "blizzard": Blizzard,
    "fsdd": FSDD,
    "audio": AudioFolder,
    "midi": MidiFiles,
    "arrays": Arrays,
    "table": Table,
    "imdb": IMDB,
    "ptb": PTB,
    "ptb_characters": PTBCharacters,
    "text": TextFiles,
}

__all__ = [
    "DATASETS",
    "FSDD",
    "IMDB",
    "MNIST",
    "PTB",
    "Arrays",
    "AudioFolder",
    "Batch",
    "BatchSampler",
    "BinarizedMNIST",
    "Blizzard",
    "Corpus",
    "Digits",
    "Floor",
    "MNIST5k",
    "MidiFiles",
    "PTBCharacters",
    "Pianoroll",
    "PianorollSRNN",
    "Recordings",
    "Sequence",
    "SequenceSet",
    "Sequences",
    "Table",
    "TextFiles",
    "Timit",
    "collate",
    "corpus",
]


def corpus(name: str, **options) -> Corpus:
    """The data set of that name in ``DATASETS``; nothing is read yet.

    Args:
        name: Key of ``DATASETS``.
        **options: Arguments of its class, such as ``data_dir``.

    Raises:
        ValueError: If the name or an option is unknown.

    Example:
        >>> digits = corpus("digits")
        >>> digits.title, digits.size, digits.found()
        ('8x8 digits', '1,297 / 250 / 250 images', True)
    """
    if name not in DATASETS:
        raise ValueError(f"'data' must be one of {list(DATASETS)}, got '{name}'")
    known = signature(DATASETS[name]).parameters
    for option in options:
        if option not in known:
            raise ValueError(f"options of '{name}' must be among {list(known)}, got '{option}'")
    return DATASETS[name](**options)
