"""Base class of audio data sets: recordings cut into frames."""

import math
import warnings
from abc import abstractmethod
from collections.abc import Sequence as Several
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..checks import check_range
from ..corpus import Corpus, Floor, digest
from ..sequences import SequenceSet, check_count
from ..store.store import Store
from .floors import normal_floor
from .tree import Tree
from .waves import FULL_SCALE, Waves, as_int16, load_soundfile, read_waves

BLOCKS = " ▁▂▃▄▅▆▇█"


class Recordings(SequenceSet):
    """Waves cut into frames of ``frame`` samples, normalised; item ``i`` is a ``Sequence``.

    Step t is ``(wave[t * frame : (t + 1) * frame] - mean) / std``, float32. A rest shorter than a
    frame is dropped; a recording without a step is left out, with a warning. A window reads its own
    samples only, so that waves may lie in a ``Store``.

    Args:
        waves: One int16 array ``(samples,)`` each: a list, ``Waves`` or a ``Store``.
        frame: Samples of a frame, the ``x_dim`` of a model.
        mean, std: Mean and standard deviation of a sample, before normalisation.
        labels: Labels of each wave, never seen by a model. Shape ``(num, ...)``.
        score_first: If not, the first frame of a recording is its ``start``, and never scored.
    """

    def __init__(
        self,
        waves: Several[np.ndarray] | Store,
        frame: int,
        mean: float,
        std: float,
        labels: Tensor | None = None,
        score_first: bool = True,
    ):
        check_range(1, frame=frame)
        if not (np.isfinite([mean, std]).all() and std > 0):
            raise ValueError(f"'std' must be positive and 'mean' finite, got {std} and {mean}")
        check_count("labels", labels, len(waves))
        if not len(waves):
            raise ValueError("'waves' must hold at least one recording, got none")
        lengths = torch.tensor([len(wave) for wave in waves]) // frame - int(not score_first)
        self._waves, self._frame = waves, frame
        self._mean, self._std = np.float32(mean), np.float32(std)
        self._source = (lengths > 0).nonzero().flatten()
        if num := len(waves) - len(self._source):
            first = int((lengths <= 0).nonzero()[0, 0])
            name = waves.names[first] if hasattr(waves, "names") else f"waves[{first}]"
            least = frame * (1 if score_first else 2)
            short = f"{num} of {len(waves)} recordings, the first '{name}', have fewer than {least}"
            if not len(self._source):
                raise ValueError(f"'frame' must be shorter than a recording, got {frame}: {short}")
            warnings.warn(f"{short} samples and are left out", stacklevel=2)
        self.lengths = lengths[self._source]
        self.labels = None if labels is None else labels[self._source]
        self._started = torch.full_like(self.lengths, not score_first, dtype=torch.bool)
        self._begins = self._started.long()

    def _read(self, i: int, begin: int, end: int) -> Tensor:
        wave = self._waves[int(self._source[i])][begin * self._frame : end * self._frame]
        x = (wave.astype(np.float32) - self._mean) / self._std
        return torch.from_numpy(x).view(-1, self._frame)

    def _select(self, index: Tensor, *frames: Tensor) -> "Recordings":
        view = super()._select(index, *frames)
        view._source = self._source[index]
        return view


class Listing(NamedTuple):
    """Recordings of an audio data set by split."""

    place: Tree | Store  # of the recordings
    splits: dict[str, list[str]]  # names in ``place``
    labels: dict[str, list] | None = None  # a row of integers for each name
    speakers: list[str] = []


class AudioCorpus(Corpus):
    """Recordings cut into frames, and normalised by the training part.

    Every sample is (value - mean) / std of all training samples. A run keeps both, and
    :meth:`write` undoes them. Log-likelihoods are those of normalised samples.

    Args:
        data_dir: Folder with the files.
        frame: Samples of a frame.
        score_first: If not, the first frame of a recording is given to a model, and not scored, as
            in all published numbers of Z-Forcing and SRNN on speech.
    """

    view = "audio"
    suffix = ".wav"
    emission = "gaussian"
    inside: tuple[str, ...] = ()  # names in a folder that show that it is the corpus itself
    options: dict[str, Any] = {}  # for reading files, see :func:`.read_waves`
    _exists = staticmethod(Path.exists)

    def __init__(
        self, data_dir: str | Path | None = None, frame: int = 200, score_first: bool = True
    ):
        super().__init__(data_dir)
        check_range(1, frame=frame)
        self.x_dim, self.step, self.score_first = frame, f"frame of {frame} samples", score_first
        self._scale: tuple[float, float] | None = None

    @abstractmethod
    def find_recordings(self) -> Listing:
        """Returns the recordings of all splits, on the first use of :attr:`listing`."""

    @cached_property
    def listing(self) -> Listing:
        """The recordings of all splits."""
        return self.find_recordings()

    def waves(self, split: str) -> Waves | Store:
        """Returns the recordings of a split."""
        place, names = self.listing.place, self.listing.splits[split]
        if isinstance(place, Store):
            return place.select(names)
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
        rows = labels and torch.tensor(labels[split], dtype=torch.int64)
        return Recordings(waves, self.x_dim, *self._scale, rows, self.score_first)

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
        expected = {"mean": None, "std": None, "frame": self.x_dim, "sample_rate": self.sample_rate}
        for name, value in expected.items():
            got = facts.get(name)
            if type(got) not in (int, float) or not abs(got) < 1e30:
                raise ValueError(f"'{name}' must be a number, got {got!r:.80}")
            if value not in (None, got) or (name != "mean" and got <= 0):
                raise ValueError(f"'{name}' must be {value or 'positive'}, got {got}")
        self._scale = float(facts["mean"]), float(facts["std"])
        self.sample_rate = int(facts["sample_rate"])

    def floor(self) -> Floor:
        # Training samples have mean 0 and variance 1 by construction.
        train, name = 0.5 * math.log(2 * math.pi * math.e), "normalised samples"
        zero, one = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
        floor = normal_floor(self.split("test"), zero, one, name)
        return floor._replace(
            description=f"a standard normal on {name}, {floor.nats_per_step / self.x_dim:.4f} nats "
            f"a sample; on training samples {train:.4f}, {train * self.x_dim:.1f} a frame",
        )

    def samples(self, x: Tensor) -> np.ndarray:
        """Returns normalised frames ``(time, frame)`` as samples, int16, ``(time * frame,)``."""
        mean, std = self.scale
        return as_int16((x.double().cpu().numpy().reshape(-1) * std + mean) / FULL_SCALE)

    def write(self, x: Tensor, file: Path) -> None:
        options = {"subtype": "PCM_16", "format": "WAV"}
        load_soundfile().write(file, self.samples(x), self.sample_rate, **options)

    def as_text(self, x: Tensor) -> str:
        wave = np.abs(self.samples(x) / FULL_SCALE)
        level = 10 * math.log10(max(np.square(wave).mean(), FULL_SCALE**-2))
        peaks = np.array([part.max() for part in np.array_split(wave, min(len(wave), 64))])
        heights = np.rint(peaks / max(peaks.max(), 1 / FULL_SCALE) * (len(BLOCKS) - 1)).astype(int)
        seconds = len(wave) / self.sample_rate
        return (
            f"{seconds:.2f} s at {self.sample_rate:,} Hz, level {level:.1f} dB, "
            f"peak {peaks.max():.3f} of full scale\n{''.join(BLOCKS[i] for i in heights)}"
        )

    def tree(self) -> Tree:
        """Returns the corpus as it lies on the disk: a folder, or a zip archive."""
        place = self.path(self.files[0])
        mark = next((m for m in self.inside if place.as_posix().endswith(f"/{m}")), None)
        return Tree(place.parents[mark.count("/")] if mark else place)

    def fingerprint(self) -> dict[str, str]:
        place, splits, *_ = self.listing
        if isinstance(place, Store):
            return {"store.json": digest(place.folder / "store.json")}
        return {place.path.name: digest(place.path, sorted(chain(*splits.values())))}
