"""Audio files as `zforcing data prepare` reads them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from .tree import Tree, open_tree, unique
from .waves import SUFFIXES, decode_audio, load_soundfile, read_waves


class AudioFiles:
    """The audio files below a folder or in a zip file, as a :class:`~.prepare.Source`.

    Args:
        path: The folder or the zip file.
        name: Name of the data set.
        sample_rate: Samples a second, to which recordings are resampled; by default that of all,
            which must agree.
        mono: Takes the mean of several channels; without it, they are an error.

    Raises:
        FileNotFoundError: If ``path`` is missing.
        ValueError: If there is no audio file, or two that differ in case or suffix alone; or if
            ``sample_rate`` is not positive.
    """

    def __init__(
        self, path: str | Path, name: str, sample_rate: int | None = None, mono: bool = False
    ):
        self.tree, self.name, self.mono = open_tree(path), name, mono
        self.resample = sample_rate is not None
        self._names = audio_names(self.tree)
        if sample_rate is None:
            sample_rate = decode_audio(self.tree, self._names[0]).rate
        elif sample_rate < 1:
            raise ValueError(f"'sample_rate' must be positive, got {sample_rate}")
        self.sample_rate = sample_rate

    def names(self) -> list[str]:
        """Returns the names of all recordings."""
        return self._names

    def samples(self, name: str) -> int:
        """Returns the number of samples of a recording, from its header where that tells.

        Raises:
            ValueError: If the file is not audio, or broken.
        """
        soundfile = load_soundfile()
        try:
            with self.tree.open(name) as stream, soundfile.SoundFile(stream) as file:
                num, rate = file.frames, file.samplerate
        except (soundfile.SoundFileError, EOFError, ValueError, TypeError):
            num = 0
        if not 0 < num < 2**31:  # decode_audio knows headers without a size, and what is wrong
            samples, rate, _ = decode_audio(self.tree, name)
            num = len(samples)
        return math.ceil(num * self.sample_rate / rate)

    def wave(self, name: str) -> np.ndarray:
        """Returns a recording, int16, ``(samples,)``.

        Raises:
            ValueError: If the file is not audio, is broken, or has another rate or more channels.
        """
        reason = "" if self.resample else " as the first recording has"
        return read_waves(self.tree, [name], self.sample_rate, self.mono, self.resample, reason)[0]


def audio_names(tree: Tree) -> list[str]:
    """Returns the names of the audio files of a tree.

    Raises:
        ValueError: If there are none, or two names differ in case or suffix alone.
    """
    names = [name for name in tree.names() if name.lower().endswith(SUFFIXES)]
    if not names:
        raise ValueError(f"'{tree.path}' must have files {', '.join(SUFFIXES)}, got none")
    unique(tree, ((name.rpartition(".")[0].lower(), name) for name in names))
    return names
