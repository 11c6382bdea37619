"""Recordings as sequences of frames: what all audio data sets share."""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ..corpus import Corpus, Floor
from ..store.recordings import Recordings
from .floors import floor
from .tree import Tree, open_tree
from .waves import FULL_SCALE, Waves, write_wave

if TYPE_CHECKING:
    from ..store.store import Store

BLOCKS = " ▁▂▃▄▅▆▇█"


class AudioCorpus(Corpus):
    """Recordings cut into frames, and normalised by the training part.

    Every sample is (value - mean) / std with the mean and the population's standard deviation of
    all samples of the training recordings. Both are kept with a run, and undone by :meth:`write`.
    Log-likelihoods are those of normalised samples: they depend on the scale, and a subclass whose
    scale is another is another data set. A rest shorter than a frame is dropped. Training on
    windows is an option of training, such as ``--training.window 40``.

    A subclass sets the attributes of a corpus and writes :meth:`waves`.

    Attributes:
        inside: Names by which a folder for data is known to be the corpus itself.

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

    def __init__(
        self, data_dir: str | Path | None = None, frame: int = 200, score_first: bool = True
    ):
        super().__init__(data_dir)
        if frame < 1:
            raise ValueError(f"'frame' must be at least 1, got {frame}")
        self.x_dim, self.step, self.score_first = frame, f"frame of {frame} samples", score_first
        self._scale: tuple[float, float] | None = None
        self._digest: str | None = None

    @abstractmethod
    def waves(self, split: str) -> tuple[Waves | Store, Tensor | None]:
        """The recordings of a split, and their labels, ``(num, len(label_names))``."""

    def load(self, split: str) -> Recordings:
        if split != "train" and self._scale is None:
            self.split("train")
        waves, labels = self.waves(split)
        if self._scale is None:
            mean, std = waves.mean_and_std()
            if not std:
                raise ValueError(f"training samples of {self.title} must not be silence, got it")
            self._scale = mean, std
        return Recordings(waves, self.x_dim, *self._scale, labels, self.score_first)

    @property
    def scale(self) -> tuple[float, float]:
        """Mean and standard deviation of a sample of the training part."""
        if self._scale is None:
            self.split("train")
        return self._scale

    def facts(self) -> dict[str, Any]:
        mean, std = self.scale
        facts = {"mean": mean, "std": std, "frame": self.x_dim, "sample_rate": self.sample_rate}
        return facts if self._digest is None else facts | {"files": self._digest}

    def restore(self, facts: dict[str, Any]) -> None:
        mean, std = float(facts["mean"]), float(facts["std"])
        if not (math.isfinite(mean) and 0 < std < math.inf):
            raise ValueError(f"'std' must be positive and 'mean' finite, got {std} and {mean}")
        for name, value in (("frame", self.x_dim), ("sample_rate", self.sample_rate)):
            if value is not None and facts[name] != value:
                raise ValueError(f"'{name}' must be {value}, got {facts[name]}")
        self._scale, self.sample_rate = (mean, std), int(facts["sample_rate"])
        self._digest = facts.get("files")

    def recognise(self, files: list, path: Path) -> None:
        """Warns if files are others than when a run was trained; for splits that depend on them.

        Args:
            files: Their names, and whatever else the split depends on; plain types.
            path: Where they are.
        """
        digest = hashlib.sha256(json.dumps(files).encode()).hexdigest()
        if self._digest not in (None, digest):
            warnings.warn(
                f"'{path}' has other files, or another split, than when the run was trained: what "
                "was then in training may be in validation or test now",
                stacklevel=2,
            )
        self._digest = digest

    def floor(self) -> Floor:
        test = self.split("test")
        nats = sum(
            0.5 * (x.double().square() + math.log(2 * math.pi)).sum().item() for x, _ in test
        )
        per_sample = nats / (int(test.lengths.sum()) * self.x_dim)
        # Samples of training have mean 0 and variance 1 by construction.
        train = 0.5 * math.log(2 * math.pi * math.e)
        return floor(
            nats,
            test,
            f"a standard normal on normalised samples, {per_sample:.4f} nats a sample; on training "
            f"samples {train:.4f}, {train * self.x_dim:.1f} a frame",
        )

    def samples(self, x: Tensor) -> np.ndarray:
        """Normalised frames as the samples that they stand for, rounded and clipped.

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
        """The corpus as it lies on the disk: a folder, or a zip archive.

        Raises:
            FileNotFoundError: If it is nowhere; says where to get it and where to put it.
            ValueError: If it is broken.
        """
        for place in self._places(self.files[0]):
            if place.exists():
                mark = next((m for m in self.inside if place.as_posix().endswith(f"/{m}")), None)
                return open_tree(place.parents[mark.count("/")] if mark else place)
        raise self._missing(self.files[0])
