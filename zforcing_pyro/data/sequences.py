"""Sequences of any length, and the padding that makes a batch of them; used by every data set."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from .checks import check_range


class Sequence(NamedTuple):
    """One sequence; symbols have no ``x_dim``."""

    x: Tensor  # observations, (time, x_dim) or (time,)
    start: Tensor | None  # the input of the first step, never scored: (x_dim,) or ()
    inputs: Tensor | None = None  # what a recurrence reads in place of x, shaped like x
    scored: Tensor | None = None  # True where x counts in the likelihood, (time,); None: everywhere


class Batch(NamedTuple):
    """Sequences padded on the right with zeros."""

    x: Tensor  # observations, (batch, time, x_dim) or (batch, time)
    lengths: Tensor  # steps of each sequence, (batch,)
    start: Tensor | None  # input of the first step, (batch, x_dim) or (batch,); NaN or -1: none
    inputs: Tensor | None = None  # what a recurrence reads in place of x, shaped like x
    scored: Tensor | None = None  # True where x counts in the likelihood, (batch, time)

    def to(self, device: str | torch.device, **kwargs) -> "Batch":
        """Returns the batch on a device, with the arguments of ``Tensor.to``."""
        fields = {name: value for name, value in self._asdict().items() if value is not None}
        moved = {name: value.to(device, **kwargs) for name, value in fields.items()}
        return self._replace(**moved)


def collate(sequences: list[Sequence]) -> Batch:
    """Pads sequences on the right with zeros.

    ``start`` is None if no sequence has one. If only some do, as among windows, the others get
    a mark, NaN or -1 for symbols, that a model replaces by its own start. ``inputs`` and ``scored``
    are of all sequences or of none.

    Example:
        >>> import torch
        >>> a, b = torch.tensor([7, 8, 9]), torch.tensor([5])
        >>> batch = collate([Sequence(a, None), Sequence(b, torch.tensor(4))])
        >>> batch.x.tolist(), batch.lengths.tolist(), batch.start.tolist()
        ([[7, 8, 9], [5, 0, 0]], [3, 1], [-1, 4])
    """
    x = pad_sequence([s.x for s in sequences], batch_first=True)
    lengths = torch.tensor([len(s.x) for s in sequences])
    start, inputs, scored = zip(*(s[1:] for s in sequences))
    more = [None if v[0] is None else pad_sequence(v, batch_first=True) for v in (inputs, scored)]
    if all(frame is None for frame in start):
        return Batch(x, lengths, None, *more)
    mark = torch.full_like(x[0, 0], torch.nan if x.is_floating_point() else -1)
    frames = torch.stack([mark if frame is None else frame for frame in start])
    return Batch(x, lengths, frames, *more)


class SequenceSet(Dataset, ABC):
    """Sequences of any length, in memory or on the disk; item ``i`` is a :class:`Sequence`.

    A subclass sets the attributes.
    """

    lengths: Tensor  # steps of each sequence, int64, (num,)
    labels: Tensor | None  # of each sequence, never seen by a model, (num, ...)
    _begins: Tensor  # first frame of each sequence, as _read counts frames, (num,)
    _started: Tensor  # True where the frame before is the start, (num,)

    @abstractmethod
    def _read(self, i: int, begin: int, end: int) -> Tensor:
        """Returns frames ``begin..end - 1`` around sequence ``i``, as a model sees them."""

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, i: int) -> Sequence:
        begin, started = int(self._begins[i]), bool(self._started[i])
        frames = self._read(i, begin - started, begin + int(self.lengths[i]))
        return Sequence(frames[1:], frames[0]) if started else Sequence(frames, None)

    def __iter__(self) -> Iterator[Sequence]:
        return (self[i] for i in range(len(self)))

    def subset(self, indices: list[int] | Tensor) -> Self:
        """Returns the sequences at ``indices``, in shared memory; ValueError if out of range."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        if not len(index) or index.min() < 0 or index.max() >= len(self):
            got = f"{int(index.min())}..{int(index.max())}" if len(index) else "none"
            raise ValueError(f"'indices' must be in 0..{len(self) - 1}, got {got}")
        return self._select(index, self._begins[index], self.lengths[index], self._started[index])

    def windows(self, size: int) -> Self:
        """Cuts each sequence into windows of ``size`` steps, the last of which may be shorter.

        The ``start`` of a window is the frame before it; the first window keeps the start of its
        sequence. Labels are repeated, memory is shared.
        """
        check_range(1, size=size)
        counts = (self.lengths + size - 1) // size
        index = torch.arange(len(self)).repeat_interleave(counts)
        window = torch.arange(len(index)) - (counts.cumsum(0) - counts)[index]
        lengths = (self.lengths[index] - window * size).clamp(max=size)
        started = self._started[index] | (window > 0)
        return self._select(index, self._begins[index] + window * size, lengths, started)

    def _select(self, index: Tensor, begins: Tensor, lengths: Tensor, started: Tensor) -> Self:
        view = copy.copy(self)
        view._begins, view.lengths, view._started = begins, lengths, started
        view.labels = None if self.labels is None else self.labels[index]
        return view


class Sequences(SequenceSet):
    """Sequences of any length held in memory; item ``i`` is a :class:`Sequence`.

    Vectors may be stored as uint8, to save memory: items are then float32.

    Args:
        sequences: Each ``(time_i, x_dim)``, float or uint8, or ``(time_i,)`` int64 for symbols.
        starts: Inputs of the first steps, which some protocols condition on without scoring them:
            ``(x_dim,)`` each, or ``()`` for symbols.
        labels: Labels of each sequence, ``(num, ...)``.
        missing: Allows NaN in a sequence, as a missing value.
        inputs: What a recurrence reads in place of each sequence, shaped like the sequence.
        scored: True where a step counts in the likelihood, ``(time_i,)`` each; None is everywhere.

    Example:
        >>> import torch
        >>> data = Sequences([torch.tensor([[0], [1], [1]], dtype=torch.uint8)])
        >>> data[0].x.shape, data[0].x.dtype, data[0].start
        (torch.Size([3, 1]), torch.float32, None)
        >>> first, second = data.windows(2)
        >>> first.x.tolist(), second.x.tolist(), first.start, second.start.tolist()
        ([[0.0], [1.0]], [[1.0]], None, [1.0])
    """

    _inputs: Tensor | None = None
    _scored: Tensor | None = None

    def __init__(
        self,
        sequences: list[Tensor],
        starts: list[Tensor] | None = None,
        labels: Tensor | None = None,
        missing: bool = False,
        inputs: list[Tensor] | None = None,
        scored: list[Tensor] | None = None,
    ):
        if not len(sequences):
            raise ValueError("'sequences' must hold at least one sequence, got none")
        for name, values in {
            "starts": starts, "labels": labels, "inputs": inputs, "scored": scored
        }.items():  # fmt: skip
            check_count(name, values, len(sequences))
        for i, x in enumerate(sequences):
            check_sequence(f"sequences[{i}]", x, sequences[0], missing)
        for i, start in enumerate(starts or []):
            if kind(start) != (expected := kind(sequences[0][0])):
                raise ValueError(f"'starts[{i}]' must be {expected}, got {kind(start)}")
            check_values(f"starts[{i}]", start)
        for i, x in enumerate(sequences):
            check_beside(f"inputs[{i}]", inputs[i] if inputs else None, x.shape, x.dtype)
            check_beside(f"scored[{i}]", scored[i] if scored else None, x.shape[:1], torch.bool)
        self.lengths = torch.tensor([len(x) for x in sequences])
        self.labels = labels
        # End to end in one tensor, a start before its sequence: a window's start is there as well.
        self._started = torch.full_like(self.lengths, starts is not None, dtype=torch.bool)
        self._begins = (self.lengths + self._started).cumsum(0) - self.lengths
        self._frames = end_to_end(sequences, starts)
        if inputs is not None:
            self._inputs = end_to_end(inputs, starts)
        if scored is not None:
            self._scored = end_to_end(scored, starts and [scored[0][0]] * len(scored))

    @classmethod
    def of(cls, frames: Tensor, lengths: Tensor, labels: Tensor | None = None) -> "Sequences":
        """Takes sequences that stand end to end in one tensor, if they are too many for a list.

        ``frames`` are ``(steps, x_dim)`` or ``(steps,)``, and ``lengths``, int64, ``(num,)``.
        """
        if lengths.min() < 1 or lengths.sum() != len(frames):
            raise ValueError(
                f"'lengths' must be positive and sum to the {len(frames)} steps of 'frames', got a "
                f"least of {int(lengths.min())} and a sum of {int(lengths.sum())}"
            )
        check_count("labels", labels, len(lengths))
        begins, started = lengths.cumsum(0) - lengths, torch.zeros_like(lengths, dtype=torch.bool)
        sequences = cls([frames])._select(torch.arange(len(lengths)), begins, lengths, started)
        sequences.labels = labels
        return sequences

    def __getitem__(self, i: int) -> Sequence:
        sequence, begin = super().__getitem__(i), int(self._begins[i])
        steps = slice(begin, begin + int(self.lengths[i]))
        if self._inputs is not None:
            start = None if sequence.start is None else self._inputs[begin - 1]
            sequence = sequence._replace(start=start, inputs=self._inputs[steps])
        return sequence if self._scored is None else sequence._replace(scored=self._scored[steps])

    def _read(self, i: int, begin: int, end: int) -> Tensor:
        frames = self._frames[begin:end]
        return frames.float() if frames.dtype == torch.uint8 else frames


def as_sequences(data: Any, missing: bool = False) -> SequenceSet:
    """Returns a set of sequences as it is, and a list, tensor or array of sequences as a set.

    Sequences of a list may differ in length; ``missing`` allows NaN, as for :class:`Sequences`.
    """
    if isinstance(data, SequenceSet):
        return data
    if not isinstance(data, Iterable) or hasattr(data, "columns"):
        got = f"a {type(data).__name__}" if hasattr(data, "columns") else f"{data!r:.80}"
        raise ValueError(f"sequences must be a set, list, tensor or array of them, got {got}")
    values = (torch.tensor(x.to_numpy()) if hasattr(x, "to_numpy") else x for x in data)
    return Sequences([torch.as_tensor(x) for x in values], missing=missing)


def end_to_end(sequences: list[Tensor], starts: list[Tensor] | None) -> Tensor:
    """Returns sequences in one tensor, each after its start if there are some."""
    if starts is not None:
        sequences = [v for s, x in zip(starts, sequences) for v in (s[None], x)]
    return torch.cat(sequences)


def check_beside(name: str, values: Tensor | None, shape: torch.Size, dtype: torch.dtype) -> None:
    """Raises ValueError unless what stands beside a sequence, if anything, has shape and dtype."""
    if values is not None and (values.shape != shape or values.dtype != dtype):
        expected = f"{str(dtype).removeprefix('torch.')} of shape {tuple(shape)}"
        raise ValueError(f"'{name}' must be {expected}, got {kind(values)}")


def check_sequence(name: str, x: Tensor, like: Tensor, missing: bool) -> None:
    """Checks one sequence; raises the errors of :class:`Sequences`."""
    fits = isinstance(x, Tensor)
    if fits and x.dtype == torch.int64:
        fits = x.dim() == 1
    elif fits:
        fits = x.dim() == 2 and (x.is_floating_point() or x.dtype == torch.uint8)
    if not fits or 0 in x.shape:
        raise ValueError(
            f"'{name}' must be a float or uint8 tensor of shape (time, x_dim) or an int64 tensor "
            f"of shape (time,), and not be empty, got {kind(x)}"
        )
    if x.shape[1:] != like.shape[1:] or x.dtype != like.dtype:
        raise ValueError(
            f"'{name}' must be like 'sequences[0]', {kind(like)}, in all but its number of steps, "
            f"got {kind(x)}"
        )
    if x.dtype != torch.uint8:
        check_values(name, x, missing)
    if missing and x.isnan().all():
        raise ValueError(f"'{name}' must have a value, got NaN everywhere")


def check_values(name: str, x: Tensor, missing: bool = False) -> None:
    """Raises ValueError if a number is infinite, negative as a symbol, or NaN, unless missing."""
    floats = x.is_floating_point()
    bad = (x.isinf() if missing else ~x.isfinite()) if floats else x < 0
    if bad.any():
        needed = "finite" if floats else "symbols of 0 or more"
        step = f" at step {int(bad.nonzero()[0, 0])}" if x.dim() == 1 + floats else ""
        raise ValueError(f"'{name}' must be {needed}, got {x[bad][0].item()}{step}")


def check_count(name: str, values: list[Tensor] | Tensor | None, num: int) -> None:
    """Checks that ``values``, if any, are one for each of ``num`` sequences; raises ValueError."""
    if values is not None and len(values) != num:
        raise ValueError(
            f"'{name}' must have one entry for each of {num} sequences, got {len(values)}"
        )


def kind(x: Tensor) -> str:
    """Returns type and shape of a tensor, or the type of anything else, for an error."""
    if not isinstance(x, Tensor):
        return f"a {type(x).__name__}"
    return f"{str(x.dtype).removeprefix('torch.')} of shape {tuple(x.shape)}"
