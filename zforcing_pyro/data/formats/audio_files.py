"""Audio files as a store is prepared from them."""

from __future__ import annotations

import math
import os
from functools import cache
from pathlib import Path

import numpy as np

from ..own.audio_folder import check_distinct
from .tree import Tree, open_tree
from .waves import SUFFIXES, load_soundfile, read_audio, read_waves


class AudioFiles:
    """The audio files below a folder or in a zip file, as a :class:`~.prepare.Source`.

    Args:
        path: The folder or the zip file.
        name: Of the data set.
        sample_rate: Samples a second, to which recordings are resampled; by default that of all,
            which must agree.
        mono: Takes the mean of several channels; without it, they are an error.

    Raises:
        FileNotFoundError: If ``path`` is not there.
        ValueError: If it has no audio file, or two that differ in case or suffix alone; or if
            ``sample_rate`` is not positive.
    """

    def __init__(
        self, path: str | Path, name: str, sample_rate: int | None = None, mono: bool = False
    ):
        self.path, self.name, self.mono = str(path), name, mono
        self.resample = sample_rate is not None
        names = self.names()
        if not names:
            raise ValueError(f"'path' must have files {', '.join(SUFFIXES)}, got none in '{path}'")
        check_distinct(names, tree(self.path))
        if sample_rate is None:
            sample_rate = read_audio(tree(self.path), names[0])[1]
        elif sample_rate < 1:
            raise ValueError(f"'sample_rate' must be positive, got {sample_rate}")
        self.sample_rate = sample_rate

    def names(self) -> list[str]:
        return [name for name in tree(self.path).names() if name.lower().endswith(SUFFIXES)]

    def samples(self, name: str) -> int:
        soundfile, files = load_soundfile(), tree(self.path)
        try:
            with files.open(name) as stream, soundfile.SoundFile(stream) as file:
                return math.ceil(file.frames * self.sample_rate / file.samplerate)
        except (soundfile.SoundFileError, EOFError, ValueError, TypeError) as error:
            read_audio(files, name)  # has words for what is wrong
            raise ValueError(f"'{files.place(name)}' must say its length, got: {error}") from error

    def wave(self, name: str) -> np.ndarray:
        reason = "" if self.resample else " as the first recording has"
        return read_waves(
            tree(self.path), [name], self.sample_rate, self.mono, self.resample, reason
        )[0]


def tree(path: str) -> Tree:
    """A tree that this process opened itself: the position in an archive is not to be shared."""
    return opened(path, os.getpid())


@cache
def opened(path: str, process: int) -> Tree:
    return open_tree(path)
