"""Waves as sequences of frames, in memory or in a store."""

from __future__ import annotations

import warnings
from collections.abc import Sequence as Several

import numpy as np
import torch
from torch import Tensor

from ..sequences import SequenceSet, check_count


class Recordings(SequenceSet):
    """Waves cut into frames of ``frame`` samples, normalised; item ``i`` is a ``Sequence``.

    Step t of a recording is ``(wave[t * frame : (t + 1) * frame] - mean) / std``, float32. A rest
    shorter than a frame is dropped. A recording that has no step is left out, and a warning counts
    them. A window reads its own samples only, so that waves may lie in a ``Store``.

    Args:
        waves: One int16 array ``(samples,)`` each: a list, ``Waves`` or a ``Store``.
        frame: Samples of a frame, the ``x_dim`` of a model.
        mean, std: Mean and standard deviation of a sample, before normalisation.
        labels: Labels of each wave, never seen by a model. Shape ``(num, ...)``.
        score_first: If not, the first frame of a recording is its ``start``, and never scored.

    Attributes:
        lengths: Frames of each recording, int64. Shape ``(num,)``.

    Raises:
        ValueError: If no recording has a step, a number is out of its range, or labels are not as
            many as waves.

    Example:
        >>> import numpy as np
        >>> data = Recordings([np.arange(7, dtype=np.int16)], frame=2, mean=1.0, std=2.0)
        >>> data[0].x.tolist()
        [[-0.5, 0.0], [0.5, 1.0], [1.5, 2.0]]
        >>> first, second = data.windows(2)
        >>> second.x.tolist(), second.start.tolist()
        ([[1.5, 2.0]], [0.5, 1.0])
    """

    def __init__(
        self,
        waves: Several[np.ndarray],
        frame: int,
        mean: float,
        std: float,
        labels: Tensor | None = None,
        score_first: bool = True,
    ):
        if frame < 1:
            raise ValueError(f"'frame' must be at least 1, got {frame}")
        if not (np.isfinite([mean, std]).all() and std > 0):
            raise ValueError(f"'std' must be positive and 'mean' finite, got {std} and {mean}")
        if labels is not None:
            check_count("labels", labels, len(waves))
        if not len(waves):
            raise ValueError("'waves' must hold at least one recording, got none")
        lengths = torch.tensor([len(wave) for wave in waves]) // frame - int(not score_first)
        self._waves, self._frame = waves, frame
        self._mean, self._std = np.float32(mean), np.float32(std)
        self._source = (lengths > 0).nonzero().flatten()
        if len(self._source) < len(waves):
            first = int((lengths <= 0).nonzero()[0, 0])
            name = waves.names[first] if hasattr(waves, "names") else f"waves[{first}]"
            short = (
                f"{len(waves) - len(self._source)} of {len(waves)} recordings, the first '{name}', "
                f"have fewer than {frame * (1 if score_first else 2)} samples"
            )
            if not len(self._source):
                raise ValueError(f"'frame' must be shorter than a recording, got {frame}: {short}")
            warnings.warn(f"{short} and are left out", stacklevel=2)
        self.lengths = lengths[self._source]
        self.labels = None if labels is None else labels[self._source]
        self._started = torch.full_like(self.lengths, not score_first, dtype=torch.bool)
        self._begins = self._started.long()

    def _read(self, i: int, begin: int, end: int) -> Tensor:
        wave = self._waves[int(self._source[i])][begin * self._frame : end * self._frame]
        x = (wave.astype(np.float32) - self._mean) / self._std
        return torch.from_numpy(x).view(-1, self._frame)

    def _select(self, index: Tensor, *frames: Tensor) -> Recordings:
        view = super()._select(index, *frames)
        view._source = self._source[index]
        return view
