"""Sequences from files."""

from collections.abc import Callable
from functools import partial

from .checks import parameters
from .corpora.digits import Digits, MNIST5k
from .corpora.imdb import IMDB
from .corpora.memory import Adding, Copy
from .corpora.mnist import MNIST, BinarizedMNIST
from .corpora.points import Points
from .corpora.polyphonic import Pianoroll, PianorollSRNN
from .corpora.ptb import PTB, PTBCharacters
from .corpora.speech import FSDD, Blizzard, Timit
from .corpus import Corpus, Floor
from .formats.audio import Recordings
from .own.arrays import Arrays
from .own.audio_folder import AudioFolder
from .own.midi import MidiFiles
from .own.tables import Table
from .own.textfiles import TextFiles
from .sampler import BatchSampler
from .sequences import Batch, Sequence, Sequences, SequenceSet, collate

MUSIC = ("jsb", "nottingham", "muse", "piano")
DATASETS: dict[str, Callable[..., Corpus]] = {
    "digits": Digits,
    "binarized_mnist": BinarizedMNIST,
    "mnist": MNIST,
    "mnist5k": MNIST5k,
    **{name: partial(Pianoroll, name) for name in MUSIC},
    **{f"{name}_srnn": partial(PianorollSRNN, name) for name in MUSIC},
    "timit": Timit,
    "blizzard": Blizzard,
    "fsdd": FSDD,
    "copy": Copy,
    "adding": Adding,
    "points": Points,
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
    "Adding",
    "Arrays",
    "AudioFolder",
    "Batch",
    "BatchSampler",
    "BinarizedMNIST",
    "Blizzard",
    "Copy",
    "Corpus",
    "Digits",
    "Floor",
    "MNIST5k",
    "MidiFiles",
    "PTBCharacters",
    "Pianoroll",
    "PianorollSRNN",
    "Points",
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
    """Returns the data set of that name in ``DATASETS``; nothing is read yet.

    ``options`` are arguments of its class, such as ``data_dir``. An unknown name or option is a
    ValueError.

    Example:
        >>> digits = corpus("digits")
        >>> digits.title, digits.size, digits.found()
        ('8x8 digits', '1,297 / 250 / 250 images', True)
    """
    if name not in DATASETS:
        raise ValueError(f"'data' must be one of {list(DATASETS)}, got '{name}'")
    names = list(parameters(DATASETS[name]))
    for option in options:
        if option not in names:
            raise ValueError(f"options of '{name}' must be among {names}, got '{option}'")
    return DATASETS[name](**options)
