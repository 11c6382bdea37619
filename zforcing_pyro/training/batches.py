"""Training batches, computed from the update number alone, so that a resumed run reads the same."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..data import Batch, BatchSampler, SequenceSet, collate
from ..data.formats.rolls import transposed
from .options import TrainingOptions


class Part(NamedTuple):
    """Sequences that one process computes at a time, of the batch of an update."""

    batch: Batch
    num: int
    """Sequences in the batch of the update, over which the loss is a mean."""
    counts: bool
    """False for a stand-in, where a process has no sequence of the batch: its loss counts 0."""
    fresh: Tensor | None
    """True where a row begins a sequence, False where the row goes on from the state that the
    update before left, ``(batch,)``; None where all rows begin one."""


class Streams:
    """Batches whose row b goes on, window after window, where row b of the batch before ended.

    The sequences of an epoch, shuffled or not, are laid end to end and cut into ``batch_size``
    pieces of equally many windows; a few windows at the end are left out. ``lengths`` are steps of
    each sequence, ``(num,)``.

    Example:
        >>> streams = Streams(torch.tensor([4, 2, 6]), 2, batch_size=2, shuffle=False)
        >>> batches = streams.batches()
        >>> batches, [streams.fresh(k, batch).tolist() for k, batch in enumerate(batches)]
        ([[0, 3], [1, 4], [2, 5]], [[True, True], [False, False], [True, False]])
    """

    def __init__(self, lengths: Tensor, window: int, batch_size: int, shuffle: bool, seed: int = 0):
        self.counts = (np.asarray(lengths) + window - 1) // window
        self.batch_size, self.shuffle, self.seed, self.epoch = batch_size, shuffle, seed, 0
        self.firsts = self.counts.cumsum() - self.counts
        if len(self) < 1:
            raise ValueError(
                f"'batch_size' must be at most {self.counts.sum()}, the number of windows, got "
                f"{batch_size}"
            )

    def __len__(self) -> int:
        return int(self.counts.sum()) // self.batch_size

    def batches(self) -> list[list[int]]:
        """Returns the indices of windows of all batches of the epoch."""
        order = np.arange(len(self.counts))
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(order)
        tape = np.concatenate([np.arange(self.counts[i]) + self.firsts[i] for i in order])
        return tape[: len(self) * self.batch_size].reshape(self.batch_size, -1).T.tolist()

    def fresh(self, k: int, batch: list[int]) -> np.ndarray:
        """Returns which rows of ``batch``, number k of its epoch, begin a sequence: booleans."""
        sequence = np.searchsorted(self.firsts, batch, side="right") - 1
        return (self.firsts[sequence] == batch) | (k == 0)


class Updates:
    """Training data by update, before any window is cut; :meth:`part` depends on nothing else.

    The batch of an update is the same on any number of processes and in any number of parts: its
    sequences are dealt to them in turn.
    """

    def __init__(
        self, data: SequenceSet, options: TrainingOptions, seed: int, rank: int = 0, world: int = 1
    ):
        size = options.batch_size
        if options.carry_state and size % world:
            raise ValueError(
                f"'batch_size' must be a multiple of {world}, the number of processes, where their "
                f"rows carry a state, got {size}"
            )
        self.sequences = data.windows(options.window) if options.window else data
        self.batches: Streams | BatchSampler
        if options.carry_state:
            lengths = data.lengths
            self.batches = Streams(lengths, options.window, size, options.shuffle, seed)
        else:
            lengths = self.sequences.lengths
            self.batches = BatchSampler(lengths, size, options.shuffle, options.bucket, seed)
        self.accumulate, self.rank, self.world, self.epoch = options.accumulate, rank, world, -1
        self.transpose, self.seed = options.transpose, seed

    def part(self, update: int, turn: int = 0) -> Part:
        """Returns the part of an update's batch that this process computes at a turn."""
        epoch, k = divmod(update, len(self.batches))
        if epoch != self.epoch:
            self.epoch = self.batches.epoch = epoch
            self.indices = self.batches.batches()
        batch, step = self.indices[k], self.accumulate * self.world
        mine = slice(turn * self.world + self.rank, None, step)
        fresh = None
        if isinstance(self.batches, Streams):
            fresh = torch.from_numpy(self.batches.fresh(k, batch)[mine])
        index = batch[mine] or batch[:1]
        rows = [self.sequences[i] for i in index]
        if self.transpose:
            rngs = (np.random.default_rng([self.seed, epoch, i]) for i in index)
            rows = [transposed(row, self.transpose, rng) for row, rng in zip(rows, rngs)]
        return Part(collate(rows), len(batch), bool(batch[mine]), fresh)
