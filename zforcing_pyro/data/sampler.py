"""Which sequences make a batch, so that a run can be resumed exactly."""

from collections.abc import Iterator

import numpy as np
from torch import Tensor
from torch.utils.data import Sampler


class BatchSampler(Sampler):
    """Indices of batches: batch k of epoch e is a pure function of (seed, e, k, rank, world).

    So a run is resumed exactly from a position: :meth:`set_epoch`, then ``start``. One global batch
    has ``batch_size * world`` sequences, dealt to the ranks in turn. The last may be smaller; it is
    left out if it has fewer sequences than there are ranks, so that all take the same number of
    steps. With one rank an epoch has every sequence, in the data set's order unless shuffled.

    Args:
        lengths: Steps of each sequence. Shape ``(num,)``.
        batch_size: Sequences in a batch of one rank.
        shuffle: A new order in every epoch.
        bucket: Batches of similar lengths. Shuffled sequences are sorted within pools of 50 batches
            (a smaller data set gets much the same batches in every epoch, in a new order);
            unshuffled ones all, the longest first.
        seed: 0 or more; the only source of randomness.
        rank: Which of ``world`` processes this is.
        world: Number of processes.

    Attributes:
        start: The batch that the next iteration starts at. Used once, then 0 again.

    Raises:
        ValueError: If a number is out of its range, or there are fewer sequences than ranks.

    Example:
        >>> sampler = BatchSampler([3, 9, 2, 8, 1], batch_size=2, shuffle=False, bucket=True)
        >>> list(sampler), round(sampler.padding_share(), 3)
        ([[1, 3], [0, 2], [4]], 0.08)
    """

    pool = 50  # batches

    def __init__(
        self,
        lengths: Tensor | list[int],
        batch_size: int,
        shuffle: bool,
        bucket: bool,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ):
        super().__init__()
        for name, value, least in (("batch_size", batch_size, 1), ("seed", seed, 0)):
            if value < least:
                raise ValueError(f"'{name}' must be at least {least}, got {value}")
        if not 0 <= rank < world:
            raise ValueError(f"'rank' must be in 0..{world - 1}, got {rank}")
        if len(lengths) < world:
            raise ValueError(f"'lengths' must be of {world} or more sequences, got {len(lengths)}")
        self.lengths = np.asarray(lengths, dtype=np.int64)
        self.batch_size, self.shuffle, self.bucket, self.seed = batch_size, shuffle, bucket, seed
        self.rank, self.world, self.epoch, self.start = rank, world, 0, 0

    # Lightning calls set_epoch on `loader.batch_sampler.sampler` and nowhere else.
    sampler = property(lambda self: self)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch whose batches are drawn from now on."""
        self.epoch = epoch

    def __len__(self) -> int:
        whole, rest = divmod(len(self.lengths), self.batch_size * self.world)
        return whole + (rest >= self.world)

    def __iter__(self) -> Iterator[list[int]]:
        start, self.start = self.start, 0
        yield from self.batches()[start:]

    def batches(self) -> list[list[int]]:
        """All batches of this rank in the current epoch."""
        num, size = len(self.lengths), self.batch_size * self.world
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(num) if self.shuffle else np.arange(num)
        if num % size < self.world:
            order = order[: num - num % size]
        if self.bucket:
            pool = np.arange(len(order)) // (size * self.pool) * self.shuffle
            order = order[np.lexsort((-self.lengths[order], pool))]
        batches = np.split(order, range(size, len(order), size))
        if self.bucket and self.shuffle:
            batches = [batches[k] for k in rng.permutation(len(batches))]
        return [batch[self.rank :: self.world].tolist() for batch in batches]

    def padding_share(self) -> float:
        """Steps that are padding, as a share of all in this rank's batches of the current epoch."""
        lengths = [self.lengths[batch] for batch in self.batches()]
        return float(1 - sum(v.sum() for v in lengths) / sum(v.max() * len(v) for v in lengths))
