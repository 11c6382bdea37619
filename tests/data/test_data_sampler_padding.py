"""How little of a batch is padding, with batches that vary and depend on the seed only."""

import gzip
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from zforcing_pyro.data import BatchSampler, corpus
from zforcing_pyro.data.sampler import padded

DATA = Path(__file__).parents[3] / "shared" / "data"
real = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real data sets are not at '{DATA}'")
SONGS = np.random.default_rng(0).gamma(9, 7, 229).astype(int) + 20  # as many as JSB has


def batches(lengths, epoch=0, seed=0, size=32, rank=0, world=1):
    it = BatchSampler(lengths, size, True, True, seed, rank, world)
    it.set_epoch(epoch)
    return it, it.batches()


def share(lengths, groups):
    zeros = sum(lengths[g].max() * len(g) - lengths[g].sum() for g in groups)
    return zeros / sum(lengths[g].max() * len(g) for g in groups)


@pytest.mark.parametrize("seed", range(3))
def test_a_small_data_set_has_other_batches_in_each_epoch(seed):
    epochs = [{frozenset(b) for b in batches(SONGS, e, seed)[1]} for e in range(6)]
    assert len(set().union(*epochs)) > 30  # of 48; of batches that stay there would be 8


@pytest.mark.parametrize("world", [1, 2, 3])
def test_no_batch_is_larger_than_asked_for_and_all_ranks_have_one(world):
    for num in (64 * world, 64 * world + world, 65 * world + 1, 229):
        for epoch in range(5):
            ranks = [
                batches(SONGS[:num], epoch, size=32, rank=r, world=world) for r in range(world)
            ]
            assert len({len(b) for _, b in ranks}) == 1
            sizes = [len(group) for _, groups in ranks for group in groups]
            assert min(sizes) >= 1 and max(sizes) <= 32
            seen = sorted(i for _, groups in ranks for group in groups for i in group)
            assert len(seen) == len(set(seen)) > num - world


def test_every_rank_has_a_part_of_every_batch():
    for world in range(1, 5):
        for size in range(1, 4):
            for num in range(world, 8 * world):
                it, groups = batches(SONGS[:num], num, size=size, world=world)
                dealt = [len(it.batches()[k]) for k in range(len(it))]
                last = batches(SONGS[:num], num, size=size, rank=world - 1, world=world)[1]
                assert len(groups) == len(last) == len(it)
                assert min(map(len, last)) >= 1 and max(dealt) <= size


def test_it_saves_padding_and_is_never_worse_than_full_batches():
    order = np.argsort(-SONGS)
    full = share(SONGS, np.split(order, range(32, 229, 32)))
    for seed in range(5):
        it, groups = batches(SONGS, seed, seed)
        assert it.padding_share() == pytest.approx(share(SONGS, groups))
        assert it.padding_share() < 0.97 * full


def test_equal_lengths_have_one_small_batch_as_without_buckets():
    sizes = sorted(len(b) for b in batches(np.full(100, 64))[1])
    assert sizes == [4, 32, 32, 32]


def test_only_the_last_pool_lacks_sequences():
    lengths = np.random.default_rng(0).integers(1, 50, 2 * 50 * 4 + 30)
    sizes = sorted(len(b) for b in batches(lengths, size=4)[1])
    assert len(sizes) == 108 and sum(sizes) == 430 and sizes[8:] == [4] * 100


def test_padded_steps_are_those_of_the_longest():
    assert padded(np.array([9, 7, 7, 2]), np.array([1])) == 9 + 3 * 7
    assert padded(np.array([9, 7]), np.array([], dtype=int)) == 18


@real
@pytest.mark.parametrize("size, most", [(16, 0.055), (32, 0.099)])
def test_padding_of_jsb_is_under_ten_percent_in_every_epoch(size, most):
    lengths = corpus("jsb", data_dir=DATA).split("train").lengths
    shares = []
    for seed in range(4):
        it = BatchSampler(lengths, size, shuffle=True, bucket=True, seed=seed)
        for epoch in range(25):
            it.set_epoch(epoch)
            shares.append(it.padding_share())
    assert max(shares) < most and len(set(shares)) > 20


@real
def test_padding_of_imdb_is_about_a_hundredth():
    with gzip.open(DATA / "imdb_sentences.txt.gz") as file:  # words, and the end of the sentence
        lengths = np.array([line.count(b" ") + 2 for line in islice(file, 317_753)])
    for epoch in range(2):
        assert batches(lengths, epoch)[0].padding_share() < 0.012
