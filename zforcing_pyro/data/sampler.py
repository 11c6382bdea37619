"""Batches of an epoch, as a function of the seed and the epoch; used wherever data is read."""

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from .checks import check_range


class BatchSampler:
    """Indices of the batches of an epoch: every sequence once, in order unless shuffled.

    Args:
        lengths: Steps of each sequence. Shape ``(num,)``.
        batch_size: Most sequences in a batch.
        shuffle: Draw a new order in every epoch.
        bucket: Make batches of similar lengths. Shuffled sequences are sorted within pools of 50
            batches. The first batch of the last pool lacks a random share of what that pool lacks,
            so that a small data set has other batches in each epoch.
        seed: 0 or more; the only source of randomness, with the attribute ``epoch`` that is set.

    Example:
        >>> sampler = BatchSampler([3, 9, 2, 8, 1], batch_size=2, shuffle=False, bucket=True)
        >>> list(sampler), round(sampler.padding_share(), 3)
        ([[1, 3], [0, 2], [4]], 0.08)
    """

    pool = 50  # batches

    def __init__(
        self, lengths: Tensor | list[int], batch_size: int, shuffle: bool, bucket: bool, seed=0
    ):
        check_range(1, batch_size=batch_size)
        check_range(0, seed=seed)
        if not len(lengths):
            raise ValueError("'lengths' must be of at least one sequence, got none")
        self.lengths = np.asarray(lengths, dtype=np.int64)
        self.batch_size, self.shuffle, self.bucket, self.seed = batch_size, shuffle, bucket, seed
        self.epoch = 0

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches())

    def batches(self) -> list[list[int]]:
        """Returns all batches of the current epoch."""
        num, size = len(self.lengths), self.batch_size
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(num) if self.shuffle else np.arange(num)
        cuts = np.arange(size, num, size)
        if self.bucket:
            pool = np.arange(num) // (size * self.pool) * self.shuffle
            order = order[np.lexsort((-self.lengths[order], pool))]
        if not (self.bucket and self.shuffle):
            return [batch.tolist() for batch in np.split(order, cuts)]
        last_pool = (num - 1) // (size * self.pool) * self.pool  # its first batch
        cuts[last_pool:] -= rng.integers(-num % size + 1)
        batches = np.split(order, cuts)
        return [batches[k].tolist() for k in rng.permutation(len(batches))]

    def padding_share(self) -> float:
        """Returns the padded steps, as a share of all steps of the current epoch's batches."""
        steps = sum(int(self.lengths[b].max()) * len(b) for b in self.batches())
        return float(1 - self.lengths.sum() / steps)
