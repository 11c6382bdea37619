"""Which sequences make a batch: pure in (seed, epoch, batch, rank, world)."""

import pytest
import torch
from torch.utils.data import DataLoader

from zforcing_pyro.data import BatchSampler, Sequences, collate

NUM = 203
LENGTHS = torch.randint(1, 200, (NUM,), generator=torch.Generator().manual_seed(0))
KINDS = [(False, False), (True, False), (False, True), (True, True)]
kinds = pytest.mark.parametrize("shuffle, bucket", KINDS)


def sampler(shuffle=True, bucket=True, seed=3, epoch=0, size=4, rank=0, world=1):
    it = BatchSampler(LENGTHS, size, shuffle, bucket, seed, rank, world)
    it.set_epoch(epoch)
    return it


def flat(batches):
    return [i for batch in batches for i in batch]


@kinds
def test_every_epoch_is_a_permutation(shuffle, bucket):
    for epoch in range(3):
        it = sampler(shuffle, bucket, epoch=epoch)
        batches = list(it)
        assert sorted(flat(batches)) == list(range(NUM))
        assert len(batches) == len(it) == 51
        assert sorted(map(len, batches)) == [3] + 50 * [4]


@kinds
def test_batches_depend_on_seed_and_epoch_only(shuffle, bucket):
    epoch_2 = list(sampler(shuffle, bucket, epoch=2))
    wanderer = sampler(shuffle, bucket)
    for epoch in (0, 7, 2):
        torch.manual_seed(epoch)  # the global state is not read
        wanderer.set_epoch(epoch)
        batches = list(wanderer)
    assert batches == epoch_2 == list(wanderer)
    others = [list(sampler(shuffle, bucket, epoch=e, seed=s)) for s, e in ((3, 1), (2, 3), (4, 2))]
    assert all((other == epoch_2) == (not shuffle) for other in others)


def test_without_shuffle_and_bucket_the_order_is_that_of_the_data():
    assert flat(sampler(shuffle=False, bucket=False)) == list(range(NUM))


def test_unshuffled_buckets_go_from_the_longest_to_the_shortest():
    lengths = LENGTHS[flat(sampler(shuffle=False, bucket=True))]
    assert (lengths.diff() <= 0).all() and lengths[0] > lengths[-1]


def test_shuffled_buckets_do_not_come_in_order_of_length():
    longest = torch.stack([LENGTHS[batch].max() for batch in sampler()])
    assert 15 < (longest.diff() > 0).sum() < 35  # of 50


@kinds
@pytest.mark.parametrize("world", [2, 3])
def test_ranks_are_disjoint_and_together_the_global_batches(shuffle, bucket, world):
    ranks = [sampler(shuffle, bucket, epoch=1, rank=r, world=world) for r in range(world)]
    batches = [list(it) for it in ranks]
    assert {len(b) for b in batches} == {len(it) for it in ranks} == {-(-NUM // (4 * world))}
    together = [sorted(flat(parts)) for parts in zip(*batches)]
    assert sorted(flat(together)) == list(range(NUM))  # so no index is on two ranks
    whole = sampler(shuffle, bucket, epoch=1, size=4 * world)
    if not bucket:  # with buckets the pools of 50 batches are larger
        assert together == [sorted(batch) for batch in whole]


@pytest.mark.parametrize("bucket", [False, True])
def test_a_last_batch_that_cannot_serve_every_rank_is_left_out(bucket):
    # 203 = 25 * 8 + 3: four ranks of 2 would leave one of them without a sequence.
    ranks = [sampler(size=2, bucket=bucket, rank=r, world=4) for r in range(4)]
    batches = [list(it) for it in ranks]
    assert {len(b) for b in batches} == {len(it) for it in ranks} == {25}
    seen = flat(flat(batches))
    assert len(seen) == len(set(seen)) == 200
    left_out = set()
    for epoch in range(40):
        for it in ranks:
            it.set_epoch(epoch)
        left_out |= set(range(NUM)) - {i for it in ranks for i in flat(it)}
    assert len(left_out) > 60  # by chance, not the shortest or the last ones always


@kinds
@pytest.mark.parametrize("start", [0, 1, 30, 51])
def test_resuming_sees_each_remaining_batch_once(shuffle, bucket, start):
    undisturbed, resumed = (sampler(shuffle, bucket, epoch=5) for _ in range(2))
    batches = list(undisturbed)
    resumed.start = start
    assert len(resumed) == len(batches)  # progress bars count from the start of the epoch
    assert list(resumed) == batches[start:]
    assert resumed.start == 0 and list(resumed) == batches  # used once


def test_the_start_is_read_when_iteration_begins():
    # Lightning makes the iterator before the state of a checkpoint arrives.
    it = sampler()
    iterator = iter(it)
    it.set_epoch(4)
    it.start = 2
    assert list(iterator) == list(sampler(epoch=4))[2:]


def test_buckets_save_padding():
    lengths = torch.randint(1, 200, (5000,))

    def share(shuffle, bucket):
        return BatchSampler(lengths, 16, shuffle, bucket, seed=0).padding_share()

    assert share(True, False) > 0.4 and share(False, False) > 0.4
    assert share(False, True) < share(True, True) < 0.05


def test_padding_share_counts_the_zeros_of_the_batches():
    data = Sequences([torch.ones(int(n), 1, dtype=torch.float32) for n in LENGTHS])
    for epoch in (0, 1):
        it = sampler(bucket=False, epoch=epoch)
        batches = [batch.x for batch in DataLoader(data, batch_sampler=it, collate_fn=collate)]
        zeros, total = sum((x == 0).sum() for x in batches), sum(x.numel() for x in batches)
        assert it.padding_share() == pytest.approx((zeros / total).item())


def test_it_is_its_own_sampler_for_lightning():
    it = sampler()
    assert it.sampler is it
    loader = DataLoader(Sequences([torch.zeros(1, 1)] * NUM), batch_sampler=it, collate_fn=collate)
    loader.batch_sampler.sampler.set_epoch(9)
    assert it.epoch == 9


BAD = {
    "batch_size": ({"size": 0}, "'batch_size' must be at least 1, got 0"),
    "seed": ({"seed": -1}, "'seed' must be at least 0, got -1"),
    "rank": ({"rank": 2, "world": 2}, r"'rank' must be in 0\.\.1, got 2"),
    "world": ({"world": NUM + 1}, "'lengths' must be of 204 or more sequences, got 203"),
}


@pytest.mark.parametrize("options, message", BAD.values(), ids=BAD)
def test_numbers_out_of_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        sampler(**options)
