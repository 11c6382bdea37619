"""What an update reads: a function of its number, of nothing else, and of no process before it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ..data import Batch, BatchSampler, Sequences, collate


class Part(NamedTuple):
    """What one process reads at a time of the batch of an update."""

    batch: Batch
    num: int
    """Sequences of the whole batch, over which the loss is a mean."""
    counts: bool
    """False for a stand-in, where a process has no sequence left: it has a part in nothing."""
    fresh: Tensor | None
    """Where a row begins with a new state, and not with the one that the row before left, as
    booleans ``(batch,)``; None where all do."""


class Streams:
    """Batches whose row b goes on, window after window, where row b of the batch before ended.

    The sequences of an epoch, in a new order unless unshuffled, are laid end to end and cut into
    as many pieces of equally many windows as a batch has rows. Up to ``batch_size - 1`` windows at
    the end are left out of an epoch, others in each if it is shuffled.

    Args:
        lengths: Steps of each sequence. Shape ``(num,)``.
        window: Steps of a window.
        batch_size: Rows.
        shuffle: A new order of sequences in every epoch.
        seed: The only source of randomness.

    Raises:
        ValueError: If there are fewer windows than rows.

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

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch whose batches are drawn from now on."""
        self.epoch = epoch

    def __len__(self) -> int:
        return int(self.counts.sum()) // self.batch_size

    def batches(self) -> list[list[int]]:
        """Indices of windows: all batches of the current epoch."""
        order = np.arange(len(self.counts))
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(order)
        tape = np.concatenate([np.arange(self.counts[i]) + self.firsts[i] for i in order])
        return tape[: len(self) * self.batch_size].reshape(self.batch_size, -1).T.tolist()

    def fresh(self, k: int, batch: list[int]) -> np.ndarray:
        """Which rows of ``batch``, of number k in its epoch, begin with a new state."""
        sequence = np.searchsorted(self.firsts, batch, side="right") - 1
        return (self.firsts[sequence] == batch) | (k == 0)


class Updates(Dataset):
    """The parts that one process reads in a run, in order; item ``i`` is one part.

    The batch of an update is the same one on any number of processes and in any number of parts:
    its sequences are dealt to them in turn.

    Args:
        sequences: What is trained on.
        batches: The batches of an epoch.
        num_updates: Updates of the run.
        accumulate: Parts that a process works off one after the other in an update.
        rank: Which of ``world`` processes this is.
        world: Number of processes.

    Raises:
        ValueError: If streams cannot be dealt to the processes evenly.
    """

    def __init__(
        self,
        sequences: Sequences,
        batches: BatchSampler | Streams,
        num_updates: int,
        accumulate: int = 1,
        rank: int = 0,
        world: int = 1,
    ):
        if isinstance(batches, Streams) and batches.batch_size % world:
            raise ValueError(
                f"'batch_size' must be a multiple of {world}, the number of processes, where their "
                f"rows carry a state, got {batches.batch_size}"
            )
        self.sequences, self.batches = sequences, batches
        self.num_updates, self.accumulate = num_updates, accumulate
        self.rank, self.world, self.epoch = rank, world, -1

    def __len__(self) -> int:
        return self.num_updates * self.accumulate

    def __getitem__(self, i: int) -> Part:
        update, turn = divmod(i, self.accumulate)
        epoch, k = divmod(update, len(self.batches))
        if epoch != self.epoch:
            self.batches.set_epoch(epoch)
            self.indices, self.epoch = self.batches.batches(), epoch
        whole, parts = self.indices[k], self.accumulate * self.world
        mine = slice(turn * self.world + self.rank, None, parts)
        fresh = None
        if isinstance(self.batches, Streams):
            fresh = torch.from_numpy(self.batches.fresh(k, whole)[mine])
        return part(self.sequences, whole[mine], len(whole), whole[0], fresh)


class Shard(Dataset):
    """The batches of validation that one process reads: each is read by one of them.

    All read equally many; the last of some is then a stand-in.

    Args:
        sequences: What is validated on.
        batch_size: Sequences in a batch.
        rank: Which of ``world`` processes this is.
        world: Number of processes.
    """

    def __init__(self, sequences: Sequences, batch_size: int, rank: int = 0, world: int = 1):
        sampler = BatchSampler(sequences.lengths, batch_size, shuffle=False, bucket=True)
        self.sequences, self.indices = sequences, sampler.batches()
        self.rank, self.world = rank, world

    def __len__(self) -> int:
        return -(-len(self.indices) // self.world)

    def __getitem__(self, i: int) -> Part:
        k = i * self.world + self.rank
        whole = self.indices[k] if k < len(self.indices) else []
        return part(self.sequences, whole, len(whole), 0)


def part(
    sequences: Sequences, mine: list[int], num: int, stand_in: int, fresh: Tensor | None = None
) -> Part:
    """Sequences as a part of a batch of ``num``; without any, a stand-in."""
    return Part(collate([sequences[i] for i in mine or [stand_in]]), num, bool(mine), fresh)


class Positions(Sampler):
    """Items from any position on, all at first."""

    def __init__(self, num: int):
        super().__init__()
        self.num, self.start = num, 0

    def __len__(self) -> int:
        return self.num

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.num))


class ResumableLoader(DataLoader):
    """A loader whose position Lightning stores and restores, by duck typing.

    Args:
        updates: What it loads.
        trainer: Whose progress its position is.
    """

    def __init__(self, updates: Updates, trainer: L.Trainer):
        super().__init__(updates, batch_size=None, sampler=Positions(len(updates)))
        self.trainer = trainer

    def state_dict(self) -> dict:
        # What training consumed, not what workers prefetched.
        return {"parts": self.trainer.fit_loop.epoch_loop.batch_progress.total.processed}

    def load_state_dict(self, state: dict) -> None:
        self.sampler.start = state["parts"]
