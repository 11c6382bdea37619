"""Batches: a pure function of the seed and the epoch, with little padding."""

from itertools import product

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from zforcing_pyro.data import BatchSampler, Sequences, collate

NUM = 203
LENGTHS = torch.randint(1, 200, (NUM,), generator=torch.Generator().manual_seed(0))
SONGS = np.random.default_rng(0).gamma(9, 7, 229).astype(int) + 20  # as many as JSB has
kinds = pytest.mark.parametrize("shuffle", [False, True])


def sampler(shuffle=True, bucket=True, seed=3, epoch=0, size=4, lengths=LENGTHS):
    it = BatchSampler(lengths, size, shuffle, bucket, seed)
    it.epoch = epoch
    return it


def flat(batches):
    return [i for batch in batches for i in batch]


@kinds
def test_sampler_epochs_are_permutations(shuffle):
    for num in (*range(1, 12), NUM):
        for epoch, bucket in product(range(3), (False, True)):
            it = sampler(shuffle, bucket, epoch=epoch, lengths=LENGTHS[:num])
            batches = list(it)
            assert sorted(flat(batches)) == list(range(num))
            assert len(batches) == len(it) == -(-num // 4)
            assert min(map(len, batches)) >= 1 and max(map(len, batches)) <= 4


@kinds
@pytest.mark.parametrize("bucket", [False, True])
def test_sampler_depends_on_seed_and_epoch_only(shuffle, bucket):
    epoch_2 = list(sampler(shuffle, bucket, epoch=2))
    wanderer = sampler(shuffle, bucket)
    for epoch in (0, 7, 2):
        torch.manual_seed(epoch)  # the global state is not read
        wanderer.epoch = epoch
        batches = list(wanderer)
    assert batches == epoch_2 == list(wanderer)
    others = [list(sampler(shuffle, bucket, epoch=e, seed=s)) for s, e in ((3, 1), (2, 3), (4, 2))]
    assert all((other == epoch_2) == (not shuffle) for other in others)


def test_sampler_orders():
    assert flat(sampler(shuffle=False, bucket=False)) == list(range(NUM))
    lengths = LENGTHS[flat(sampler(shuffle=False, bucket=True))]
    assert (lengths.diff() <= 0).all() and lengths[0] > lengths[-1]
    longest = torch.stack([LENGTHS[batch].max() for batch in sampler()])
    assert 15 < (longest.diff() > 0).sum() < 35  # of 50: shuffled buckets are not sorted
    for seed in range(3):  # small data have other batches in each epoch
        its = [sampler(seed=seed, epoch=e, size=32, lengths=SONGS) for e in range(6)]
        batches = [frozenset(batch) for it in its for batch in it]
        assert len(set(batches)) > 30  # of 48; batches that stay would be 8
    lengths = np.random.default_rng(0).integers(1, 50, 2 * 50 * 4 + 30)
    sizes = sorted(map(len, sampler(lengths=lengths)))  # only the last pool lacks sequences
    assert len(sizes) == 108 and sum(sizes) == 430 and sizes[2:] == [4] * 106


def test_sampler_padding_share_counts_the_zeros_of_the_batches():
    data = Sequences([torch.ones(int(n), 1, dtype=torch.float32) for n in LENGTHS])
    for bucket in (False, True):
        it = sampler(bucket=bucket, epoch=1)
        batches = [batch.x for batch in DataLoader(data, batch_sampler=it, collate_fn=collate)]
        zeros, total = sum((x == 0).sum() for x in batches), sum(x.numel() for x in batches)
        assert it.padding_share() == pytest.approx((zeros / total).item())
    many = torch.randint(1, 200, (5000,))
    assert sampler(bucket=False, size=16, lengths=many).padding_share() > 0.4
    assert sampler(size=16, lengths=many).padding_share() < 0.05


def test_sampler_refuses_numbers_out_of_range():
    for options, message in (
        ({"size": 0}, "'batch_size' must be positive, got 0"),
        ({"lengths": []}, "'lengths' must be of at least one sequence, got none"),
    ):
        with pytest.raises(ValueError, match=message):
            sampler(**options)
