"""Base class of audio data sets: recordings cut into frames."""

from __future__ import annotations

import math
from abc import abstractmethod
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..corpus import Corpus, Floor, digest
from ..store.recordings import Recordings
from ..store.store import Store
from .floors import floor
from .tree import Tree, open_tree
from .waves import FULL_SCALE, Waves, read_waves, write_wave

BLOCKS = " ▁▂▃▄▅▆▇█"


class Listing(NamedTuple):
    """Recordings of an audio data set by split."""

    place: Tree | Store  # where the recordings are
    splits: dict[str, list[str]]  # names in ``place``
    labels: dict[str, list[tuple[int, ...]]] | None = None  # a row for each name
    speakers: list[str] = []


class AudioCorpus(Corpus):
    """Recordings cut into frames, and normalised by the training part.

    Every sample is (value - mean) / std with the mean and the population's standard deviation of
    all training samples. A run keeps both, and :meth:`write` undoes them. Log-likelihoods are
    those of normalised samples: they depend on the scale, and another scale is another data set.
    A rest shorter than a frame is dropped. Training on windows is an option of training, such as
    ``--training.window 40``. A subclass sets the attributes of a corpus and writes
    :meth:`find_recordings`.

    Attributes:
        inside: Names in a folder for data that show that the folder is the corpus itself.

    Args:
        data_dir: Folder with the files.
        frame: Samples of a frame.
        score_first: If not, the first frame of a recording is given to a model, and not scored, as
            in all published numbers of Z-Forcing and SRNN on speech.

    Raises:
        ValueError: If ``frame`` is not positive.
    """

    view = "audio"
    suffix = ".wav"
    emission = "gaussian"
    inside: tuple[str, ...] = ()
    options: dict[str, Any] = {}  # for reading files, see :func:`.read_waves`

    def __init__(
        self, data_dir: str | Path | None = None, frame: int = 200, score_first: bool = True
    ):
        super().__init__(data_dir)
        if frame < 1:
            raise ValueError(f"'frame' must be at least 1, got {frame}")
        self.x_dim, self.step, self.score_first = frame, f"frame of {frame} samples", score_first
        self._scale: tuple[float, float] | None = None

    @abstractmethod
    def find_recordings(self) -> Listing:
        """Returns the recordings of all splits, on the first use of :attr:`listing`.

        Raises:
            FileNotFoundError: If the data set is missing.
            ValueError: If a split has no recording, or a recording is there twice.
        """

    @cached_property
    def listing(self) -> Listing:
        """The recordings of all splits."""
        return self.find_recordings()

    @property
    def speakers(self) -> list[str]:
        """Names of the speakers of all splits, sorted; empty if they are unknown."""
        return self.listing.speakers

    def waves(self, split: str) -> Waves | Store:
        """Returns the recordings of a split."""
        place, names = self.listing.place, self.listing.splits[split]
        if isinstance(place, Store):
            index = {name: i for i, name in enumerate(place.names)}
            return place.subset([index[name] for name in names])
        return read_waves(place, names, self.sample_rate, **self.options)

    def load(self, split: str) -> Recordings:
        if split != "train" and self._scale is None:
            self.split("train")
        waves, labels = self.waves(split), self.listing.labels
        if self._scale is None:
            mean, std = waves.mean_and_std()
            if not std:
                raise ValueError(f"training samples of {self.title} must not be silence, got it")
            self._scale = mean, std
        labels = labels and torch.tensor(labels[split], dtype=torch.int64)
        return Recordings(waves, self.x_dim, *self._scale, labels, self.score_first)

    @property
    def scale(self) -> tuple[float, float]:
        """Mean and standard deviation of a sample of the training part."""
        if self._scale is None:
            self.split("train")
        return self._scale

    def facts(self) -> dict[str, Any]:
        mean, std = self.scale
        return {"mean": mean, "std": std, "frame": self.x_dim, "sample_rate": self.sample_rate}

    def restore(self, facts: dict[str, Any]) -> None:
        names = ("mean", "std", "frame", "sample_rate")
        for name in names:
            if type(facts.get(name)) not in (int, float):
                raise ValueError(f"'{name}' must be a number, got {facts.get(name)!r:.80}")
        mean, std, _, sample_rate = (facts[name] for name in names)
        if not (math.isfinite(mean) and 0 < std < math.inf and sample_rate > 0):
            raise ValueError(
                "'std' and 'sample_rate' must be positive and 'mean' finite, got "
                f"{std}, {sample_rate} and {mean}"
            )
        for name, value in (("frame", self.x_dim), ("sample_rate", self.sample_rate)):
            if value is not None and facts[name] != value:
                raise ValueError(f"'{name}' must be {value}, got {facts[name]}")
        self._scale, self.sample_rate = (float(mean), float(std)), int(sample_rate)

    def floor(self) -> Floor:
        test = self.split("test")
        nats = sum(
            0.5 * (x.double().square() + math.log(2 * math.pi)).sum().item() for x, _ in test
        )
        per_sample = nats / (int(test.lengths.sum()) * self.x_dim)
        # Training samples have mean 0 and variance 1 by construction.
        train = 0.5 * math.log(2 * math.pi * math.e)
        return floor(
            nats,
            test,
            f"a standard normal on normalised samples, {per_sample:.4f} nats a sample; on training "
            f"samples {train:.4f}, {train * self.x_dim:.1f} a frame",
        )

    def samples(self, x: Tensor) -> np.ndarray:
        """Returns the samples of normalised frames, rounded and clipped.

        Args:
            x: Frames, ``(time, frame)``.

        Returns:
            int16, ``(time * frame,)``.
        """
        mean, std = self.scale
        wave = np.rint(x.double().cpu().numpy().reshape(-1) * std + mean)
        return np.clip(wave, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)

    def write(self, x: Tensor, file: Path) -> None:
        write_wave(self.samples(x), self.sample_rate, file)

    def as_text(self, x: Tensor) -> str:
        wave = np.abs(self.samples(x) / FULL_SCALE)
        level = 20 * math.log10(max(math.sqrt(np.square(wave).mean()), 1 / FULL_SCALE))
        peaks = np.array([part.max() for part in np.array_split(wave, min(len(wave), 64))])
        heights = np.rint(peaks / max(peaks.max(), 1 / FULL_SCALE) * (len(BLOCKS) - 1)).astype(int)
        seconds = len(wave) / self.sample_rate
        return (
            f"{seconds:.2f} s at {self.sample_rate:,} Hz, level {level:.1f} dB, "
            f"peak {peaks.max():.3f} of full scale\n{''.join(BLOCKS[i] for i in heights)}"
        )

    def found(self) -> bool:
        return any(place.exists() for file in self.files for place in self._places(file))

    def tree(self) -> Tree:
        """Returns the corpus as it lies on the disk: a folder, or a zip archive.

        Raises:
            FileNotFoundError: If the corpus is missing; says where to get it.
            ValueError: If the archive is broken.
        """
        for place in self._places(self.files[0]):
            if place.exists():
                mark = next((m for m in self.inside if place.as_posix().endswith(f"/{m}")), None)
                return open_tree(place.parents[mark.count("/")] if mark else place)
        raise self._missing(self.files[0])

    def fingerprint(self) -> dict[str, str]:
        place, splits, *_ = self.listing
        if isinstance(place, Store):
            return {"store.json": digest(place.folder / "store.json")}
        return {place.path.name: digest(place.path, sorted(chain(*splits.values())))}
