"""Piano-rolls, from MIDI files and to them."""

from pathlib import Path

from torch import Tensor

from .corpus import Corpus


class PianorollCorpus(Corpus):
    """Music as 88 keys a step, of which key k is MIDI note 21 + k."""

    view = "pianoroll"
    suffix = ".mid"
    x_dim = 88

    def write(self, x: Tensor, file: Path) -> None:
        raise NotImplementedError

    def as_text(self, x: Tensor) -> str:
        raise NotImplementedError
