"""Sequences from files."""

from collections.abc import Callable
from functools import partial
from inspect import signature

from .corpus import Corpus, Floor
from .digits import Digits
from .mnist import BinarizedMNIST
from .polyphonic import Pianoroll, PianorollSRNN
from .sampler import BatchSampler
from .sequences import Batch, Sequence, Sequences, collate

DATASETS: dict[str, Callable[..., Corpus]] = {
    "digits": Digits,
    "binarized_mnist": BinarizedMNIST,
    "jsb": partial(Pianoroll, "jsb"),
    "nottingham": partial(Pianoroll, "nottingham"),
    "muse": partial(Pianoroll, "muse"),
    "piano": partial(Pianoroll, "piano"),
    "jsb_srnn": partial(PianorollSRNN, "jsb"),
    "nottingham_srnn": partial(PianorollSRNN, "nottingham"),
    "muse_srnn": partial(PianorollSRNN, "muse"),
    "piano_srnn": partial(PianorollSRNN, "piano"),
}

__all__ = [
    "DATASETS",
    "Batch",
    "BatchSampler",
    "BinarizedMNIST",
    "Corpus",
    "Digits",
    "Floor",
    "Pianoroll",
    "PianorollSRNN",
    "Sequence",
    "Sequences",
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
