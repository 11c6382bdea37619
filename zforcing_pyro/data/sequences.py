"""Sequences of any length in memory, and the padding that makes a batch of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset


class Sequence(NamedTuple):
    """One sequence; symbols have no ``x_dim``."""

    x: Tensor  # observations, (time, x_dim) or (time,)
    start: Tensor | None  # the input of the first step, never scored: (x_dim,) or ()


class Batch(NamedTuple):
    """Sequences padded on the right with zeros."""

    x: Tensor  # observations, (batch, time, x_dim) or (batch, time)
    lengths: Tensor  # steps of each sequence, (batch,)
    start: Tensor | None  # of the first step, (batch, x_dim) or (batch,); NaN or -1: none

    def to(self, device: str | torch.device, **kwargs) -> Batch:
        """The batch on a device, with the arguments of ``Tensor.to``."""
        start = None if self.start is None else self.start.to(device, **kwargs)
        return Batch(self.x.to(device, **kwargs), self.lengths.to(device, **kwargs), start)


def collate(sequences: list[Sequence]) -> Batch:
    """Pads on the right with zeros.

    ``start`` is None if no sequence has one. If only some do, as among windows, the others get
    a mark that there is none, for a model to put its own in place: NaN, or -1 for symbols.

    Example:
        >>> import torch
        >>> a, b = torch.tensor([7, 8, 9]), torch.tensor([5])
        >>> batch = collate([Sequence(a, None), Sequence(b, torch.tensor(4))])
        >>> batch.x.tolist(), batch.lengths.tolist(), batch.start.tolist()
        ([[7, 8, 9], [5, 0, 0]], [3, 1], [-1, 4])
    """
    x = pad_sequence([s.x for s in sequences], batch_first=True)
    lengths = torch.tensor([len(s.x) for s in sequences])
    if all(s.start is None for s in sequences):
        return Batch(x, lengths, None)
    own = torch.full_like(x[0, 0], torch.nan if x.is_floating_point() else -1)
    starts = [own if s.start is None else s.start for s in sequences]
    return Batch(x, lengths, torch.stack(starts))


class Sequences(Dataset):
    """Sequences of any length held in memory; item ``i`` is a :class:`Sequence`.

    Vectors may be stored as uint8, an eighth to a quarter of the memory: items are then float32.

    Args:
        sequences: Each ``(time_i, x_dim)``, float or uint8, or ``(time_i,)`` int64 for symbols.
        starts: Where a protocol conditions on a first frame without scoring it, that frame: the
            input of the first step, ``(x_dim,)`` each, or ``()`` for symbols.
        labels: Anything known of each sequence, never seen by a model. Shape ``(num, ...)``.

    Attributes:
        lengths: Steps of each sequence, int64. Shape ``(num,)``.

    Raises:
        ValueError: If there are no sequences or one without steps, if shapes or types differ, if
            a float is NaN or infinite, a symbol negative, or a count not that of the sequences.

    Example:
        >>> import torch
        >>> data = Sequences([torch.tensor([[0], [1], [1]], dtype=torch.uint8)])
        >>> data[0].x.shape, data[0].x.dtype, data[0].start
        (torch.Size([3, 1]), torch.float32, None)
        >>> first, second = data.windows(2)
        >>> first.x.tolist(), second.x.tolist(), first.start, second.start.tolist()
        ([[0.0], [1.0]], [[1.0]], None, [1.0])
    """

    def __init__(
        self,
        sequences: list[Tensor],
        starts: list[Tensor] | None = None,
        labels: Tensor | None = None,
    ):
        check_sequences(sequences)
        for name, values in (("starts", starts), ("labels", labels)):
            if values is not None and len(values) != len(sequences):
                raise ValueError(
                    f"'{name}' must have one entry for each of {len(sequences)} sequences, "
                    f"got {len(values)}"
                )
        self.lengths = torch.tensor([len(x) for x in sequences])
        self.labels = labels
        # End to end in one tensor, a start before its sequence: a window's start is there as well.
        self._started = torch.full_like(self.lengths, starts is not None, dtype=torch.bool)
        ends = (self.lengths + self._started).cumsum(0)
        self._begins = ends - self.lengths
        if starts is not None:
            check_starts(starts, sequences[0])
            sequences = [v for s, x in zip(starts, sequences) for v in (s[None], x)]
        self._frames = torch.cat(sequences)
        self._check_values()

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, i: int) -> Sequence:
        begin, end = int(self._begins[i]), int(self._begins[i] + self.lengths[i])
        frames = self._frames[begin - int(self._started[i]) : end]
        if frames.dtype == torch.uint8:
            frames = frames.float()
        return Sequence(frames[1:], frames[0]) if self._started[i] else Sequence(frames, None)

    def __iter__(self) -> Iterator[Sequence]:
        return (self[i] for i in range(len(self)))

    def subset(self, indices: list[int] | Tensor) -> Sequences:
        """The sequences at ``indices``, in that order. Shares memory with the whole.

        Raises:
            ValueError: If there are no indices, or one is out of range.
        """
        index = torch.as_tensor(indices, dtype=torch.int64)
        if not len(index) or index.min() < 0 or index.max() >= len(self):
            got = f"{int(index.min())}..{int(index.max())}" if len(index) else "none"
            raise ValueError(f"'indices' must be in 0..{len(self) - 1}, got {got}")
        return self._select(index, self._begins[index], self.lengths[index], self._started[index])

    def windows(self, size: int) -> Sequences:
        """Cuts each sequence into windows of ``size`` steps, the last of which may be shorter.

        To a model they are sequences of their own: its state is reset in each. The ``start`` of a
        window is the frame before it; the first window keeps what its sequence had. Labels are
        repeated. Shares memory with the whole.

        Raises:
            ValueError: If ``size`` is not positive.
        """
        if size < 1:
            raise ValueError(f"'size' must be at least 1, got {size}")
        counts = (self.lengths + size - 1) // size
        index = torch.arange(len(self)).repeat_interleave(counts)
        window = torch.arange(len(index)) - (counts.cumsum(0) - counts)[index]
        return self._select(
            index,
            begins=self._begins[index] + window * size,
            lengths=(self.lengths[index] - window * size).clamp(max=size),
            started=self._started[index] | (window > 0),
        )

    def _select(self, index: Tensor, begins: Tensor, lengths: Tensor, started: Tensor) -> Sequences:
        view = copy.copy(self)
        view._begins, view.lengths, view._started = begins, lengths, started
        view.labels = None if self.labels is None else self.labels[index]
        return view

    def _check_values(self) -> None:
        if self._frames.is_floating_point():
            bad, needed = ~self._frames.isfinite(), "finite"
        elif self._frames.dtype == torch.int64:
            bad, needed = self._frames < 0, "symbols of 0 or more"
        else:
            return
        if bad.any():
            row, got = int(bad.nonzero()[0, 0]), self._frames[bad][0].item()
            i = int((self._begins - self._started.long() <= row).sum()) - 1
            step = row - int(self._begins[i])
            if step < 0:
                raise ValueError(f"'starts[{i}]' must be {needed}, got {got}")
            raise ValueError(f"'sequences[{i}]' must be {needed}, got {got} at step {step}")


def check_sequences(sequences: list[Tensor]) -> None:
    """Raises ValueError unless all are tensors of one kind with at least one step."""
    if not len(sequences):
        raise ValueError("'sequences' must hold at least one sequence, got none")
    first = sequences[0]
    for i, x in enumerate(sequences):
        if not (is_vectors(x) or is_symbols(x)):
            raise ValueError(
                f"'sequences[{i}]' must be a float or uint8 tensor of shape (time, x_dim) or an "
                f"int64 tensor of shape (time,), got {kind(x)}"
            )
        if x.shape[1:] != first.shape[1:] or x.dtype != first.dtype:
            raise ValueError(
                f"'sequences[{i}]' must be like 'sequences[0]', {kind(first)}, in all but its "
                f"number of steps, got {kind(x)}"
            )
        if 0 in x.shape:
            raise ValueError(f"'sequences[{i}]' must not be empty, got {kind(x)}")


def check_starts(starts: list[Tensor], first: Tensor) -> None:
    """Raises ValueError unless every start is like one step of ``first``."""
    for i, start in enumerate(starts):
        if kind(start) != kind(first[0]):
            raise ValueError(f"'starts[{i}]' must be {kind(first[0])}, got {kind(start)}")


def is_vectors(x: Tensor) -> bool:
    """Whether ``x`` is a tensor of float or uint8 vectors."""
    if not isinstance(x, Tensor) or x.dim() != 2:
        return False
    return x.is_floating_point() or x.dtype == torch.uint8


def is_symbols(x: Tensor) -> bool:
    """Whether ``x`` is a tensor of symbols."""
    return isinstance(x, Tensor) and x.dim() == 1 and x.dtype == torch.int64


def kind(x: Tensor) -> str:
    """Type and shape, for an error."""
    if not isinstance(x, Tensor):
        return f"a {type(x).__name__}"
    return f"{str(x.dtype).removeprefix('torch.')} of shape {tuple(x.shape)}"
