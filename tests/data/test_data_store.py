"""Reading a prepared store: samples, statistics, processes, and whatever may be wrong with it."""

import hashlib
import io
import json
import os
import pickle
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from store_cases import RATE, Tones
from torch.utils.data import DataLoader

from zforcing_pyro.data import BatchSampler, Recordings, collate
from zforcing_pyro.data.store.prepare import prepare
from zforcing_pyro.data.store.store import Store

SHARD_SAMPLES = 1000
SOURCE = Tones()
WAVES = [SOURCE.wave(name) for name in SOURCE.names()]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared") / "store"
    prepare(SOURCE, folder, SHARD_SAMPLES)
    return folder


@pytest.fixture
def folder(prepared, tmp_path):
    return shutil.copytree(prepared, tmp_path / "store")


def test_recordings_are_what_was_prepared(folder):
    store = Store(folder)
    assert len(sorted(folder.glob("shard-*.npy"))) > 3
    assert (len(store), store.sample_rate, store.source) == (len(WAVES), RATE, "tones")
    assert store.names == SOURCE.names() and store.skipped == []
    assert store.lengths.tolist() == [len(wave) for wave in WAVES]
    for found, wave in zip(store, WAVES):
        assert len(found) == len(wave) and found[:].dtype == np.int16
        np.testing.assert_array_equal(found, wave)
        np.testing.assert_array_equal(found[30:70], wave[30:70])
        np.testing.assert_array_equal(found[90:10_000], wave[90:])
        assert found[50:40].tolist() == []
    store.verify()


def test_a_shard_is_what_numpy_maps(folder):
    store, shards = Store(folder), sorted(folder.glob("shard-*.npy"))
    maps = [np.load(shard, mmap_mode="r", allow_pickle=False) for shard in shards]
    assert all(m.dtype == np.int16 and len(m) <= SHARD_SAMPLES for m in maps)
    np.testing.assert_array_equal(np.concatenate(maps), np.concatenate([w[:] for w in store]))


@pytest.mark.parametrize("index", [list(range(len(WAVES))), [7], [11, 0, 5]])
def test_mean_and_std_are_those_of_all_samples(folder, index):
    part, samples = Store(folder).subset(index), np.concatenate([WAVES[i] for i in index])
    assert part.mean_and_std() == pytest.approx((samples.mean(), samples.std()), rel=1e-14)
    assert part.names == [SOURCE.names()[i] for i in index]
    np.testing.assert_array_equal(part[len(index) - 1], WAVES[index[-1]])


@pytest.mark.parametrize(("index", "got"), [([], "none"), ([12], "12..12"), ([-1, 3], "-1..3")])
def test_subset_of_what_is_not_there(folder, index, got):
    with pytest.raises(ValueError, match=rf"'indices' must be in 0\.\.11, got {got}"):
        Store(folder).subset(index)


def test_an_array_of_a_recording_is_ones_own(folder):
    wave = np.array(Store(folder)[3])
    wave += 1
    np.testing.assert_array_equal(wave, WAVES[3] + np.int16(1))


def test_what_the_system_reads_in_parts_is_read_whole(folder, monkeypatch):
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda file, size, begin: pread(file, min(size, 50), begin))
    for found, wave in zip(Store(folder), WAVES):
        np.testing.assert_array_equal(found, wave)


def test_only_slices_without_steps(folder):
    with pytest.raises(ValueError, match="step 1, got 2"):
        Store(folder)[0][::2]


def test_a_copy_for_another_process_opens_files_itself(folder):
    store = Store(folder).subset([3, 4])
    np.testing.assert_array_equal(store[0], WAVES[3])
    copy = pickle.loads(pickle.dumps(store))
    assert copy._shards._descriptors == {}
    del store
    np.testing.assert_array_equal(copy[1], WAVES[4])


def recordings(folder, size=3):
    store = Store(folder)
    return Recordings(store, 20, *store.mean_and_std()).windows(size)


@pytest.mark.filterwarnings("ignore:.*worker processes:UserWarning")
def test_many_workers_read_what_one_process_reads(folder):
    data = recordings(folder)
    first = data[0]  # a file is open before workers begin
    in_memory = Recordings(WAVES, 20, *Store(folder).mean_and_std()).windows(3)
    sampler = BatchSampler(data.lengths, 4, shuffle=True, bucket=True)
    loader = DataLoader(data, batch_sampler=sampler, collate_fn=collate, num_workers=2)
    for batch, indices in zip(loader, sampler.batches(), strict=True):
        expected = collate([in_memory[i] for i in indices])
        for found, wanted in zip(batch, expected):
            torch.testing.assert_close(found, wanted, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(data[0].x, first.x, rtol=0, atol=0)


@pytest.mark.parametrize("bucket", [False, True])
def test_ranks_see_disjoint_sequences_that_are_the_epoch(folder, bucket):
    data, world, epoch = recordings(folder), 2, 3
    seen = []
    for rank in range(world):
        sampler = BatchSampler(data.lengths, 4, True, bucket, 5, rank, world)
        sampler.set_epoch(epoch)
        seen += [i for batch in sampler for i in batch]
    left_out = len(data) - len(seen)
    assert left_out in range(world)  # so that all ranks take the same number of steps
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("stop", [0, 1, 5, 8])
@pytest.mark.parametrize("world", [1, 2])
def test_resumed_in_mid_epoch_each_remaining_sequence_is_seen_once(folder, stop, world):
    data, epoch = recordings(folder), 2
    before, after = [], []
    for rank in range(world):
        sampler = BatchSampler(data.lengths, 4, True, True, 0, rank, world)
        sampler.set_epoch(epoch)
        stop_at = stop // world
        before += [i for batch in list(sampler)[:stop_at] for i in batch]
        resumed = BatchSampler(data.lengths, 4, True, True, 0, rank, world)
        resumed.set_epoch(epoch)
        resumed.start = stop_at
        after += [i for batch in resumed for i in batch]
    seen = before + after
    assert len(seen) == len(set(seen)) >= len(data) - (world - 1)


def npy(array: np.ndarray, **options) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def json_with(**changes):
    def change(content: bytes) -> bytes:
        return json.dumps(json.loads(content) | changes).encode()

    return change


def remake(**changes):
    def change(content: bytes) -> bytes:
        return npz(**dict(np.load(io.BytesIO(content))) | changes)

    return change


@pytest.mark.parametrize(
    ("name", "change", "error", "said"),
    [
        ("store.json", None, FileNotFoundError, "must be a store, got a folder without"),
        ("store.json", lambda c: c[:-30], ValueError, "store.json' must be a JSON file"),
        ("store.json", lambda c: b"\xff\xfe", ValueError, "store.json' must be a JSON file"),
        ("store.json", lambda c: b"[]", ValueError, "store.json' must be of a store"),
        ("store.json", json_with(format="x"), ValueError, "store.json' must be of a store"),
        ("store.json", json_with(version=2), ValueError, "must be of version 1, got 2: another"),
        ("store.json", json_with(shards=3), ValueError, "'shards' in '.*' must be a list, got 3"),
        ("store.json", json_with(shards=[{}]), ValueError, "'file' in '.*' must be a str, got"),
        (
            "store.json",
            json_with(shards=[{"file": "../shard-00000.npy", "samples": 1, "sha256": ""}]),
            ValueError,
            "must be as shard-00000.npy, got '?../shard",
        ),
        ("index.npz", None, FileNotFoundError, "index.npz' is missing"),
        ("index.npz", lambda c: c[:-100], ValueError, "index.npz' must be an npz file"),
        ("index.npz", lambda c: pickle.dumps([1]), ValueError, "index.npz' must be an npz file"),
        (
            "index.npz",
            remake(samples=np.array([{}], dtype=object)),
            ValueError,
            "index.npz' must be an npz file of plain arrays, got pickled",
        ),
        ("index.npz", remake(samples=np.ones(12)), ValueError, "'samples' of '.*index.npz' must"),
        (
            "index.npz",
            remake(offset=np.arange(12)),
            ValueError,
            "index.npz' must have the checksum",
        ),
        (
            "shard-00001.npy",
            None,
            FileNotFoundError,
            "shard-00001.npy' of the store '.*' is missing",
        ),
        (
            "shard-00001.npy",
            lambda c: c[:-2],
            ValueError,
            "shard-00001.npy' must have .* cut short",
        ),
        (
            "shard-00001.npy",
            lambda c: c + b"x",
            ValueError,
            "shard-00001.npy' must have .* another",
        ),
    ],
)
def test_a_broken_store_is_an_error_that_names_the_file(folder, name, change, error, said):
    file = folder / name
    content = file.read_bytes()
    file.unlink()
    if change:
        file.write_bytes(change(content))
    with pytest.raises(error, match=said):
        Store(folder)


def as_long(content: bytes, made: bytes) -> bytes:
    return made[: len(content)].ljust(len(content), b"\0")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: as_long(c, b"x"), "must be an npy file, got"),
        (lambda c: as_long(c, npz(x=np.zeros(9))), "must be an npy file, got"),
        (lambda c: as_long(c, pickle.dumps([1])), "must be an npy file, got"),
        (lambda c: as_long(c, npy(np.array([{}], dtype=object))), ".* of int16 .* got .* object"),
        (lambda c: npy(np.zeros(len(c) - 128, dtype=np.int8)), ".* of int16 .* got .* of int8"),
        (
            lambda c: npy(np.zeros((len(c) // 2 - 64, 1), np.int16)),
            r".* shape \(\d+,\), got .*, 1\)",
        ),
    ],
)
def test_a_shard_of_another_type_is_an_error_that_names_it(folder, change, said):
    file = folder / "shard-00001.npy"
    file.write_bytes(change(file.read_bytes()))
    store = Store(folder)
    np.testing.assert_array_equal(store[0], WAVES[0])
    i = int(np.flatnonzero(store._shard == 1)[0])
    with pytest.raises(ValueError, match=f"shard-00001.npy' {said}"):
        store[i][:]


def test_a_shard_that_is_cut_short_while_it_is_read(folder):
    store = Store(folder)
    np.testing.assert_array_equal(store[0], WAVES[0])
    with open(folder / "shard-00000.npy", "r+b") as file:
        file.truncate(130)
    with pytest.raises(
        ValueError, match=r"shard-00000\.npy' must have .*, got 130: it is cut short"
    ):
        store[0][:]


def test_a_changed_sample_is_found_when_it_is_asked_for(folder):
    with open(folder / "shard-00002.npy", "r+b") as file:
        file.seek(500)
        byte = file.read(1)[0]
        file.seek(500)
        file.write(bytes([byte ^ 1]))
    store = Store(folder)
    with pytest.raises(ValueError, match=r"shard-00002\.npy' must have the checksum"):
        store.verify()


def test_checksums_are_those_of_the_samples(folder):
    shards = json.loads((folder / "store.json").read_text())["shards"]
    for shard in shards:
        samples = np.load(folder / shard["file"])
        assert hashlib.sha256(samples.tobytes()).hexdigest() == shard["sha256"]
        assert len(samples) == shard["samples"]


def test_reading_leaves_no_file_open(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store = Store(folder)
        assert len(store[0][:])
        descriptors = store._shards._descriptors
        (descriptor,) = descriptors.values()
        del store
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


class Long(Tones):
    """Recordings of 4 MB of silence."""

    def samples(self, name):
        return 1 << 21

    def wave(self, name):
        return np.zeros(1 << 21, dtype=np.int16)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for memory in use")
def test_what_was_read_is_no_memory_of_the_process(tmp_path):
    def resident() -> int:
        status = Path("/proc/self/status").read_text()
        return int(re.search(r"^VmRSS:\s*(\d+) kB", status, re.MULTILINE)[1]) // 1024

    store = prepare(Long(40), tmp_path / "store", 1 << 25)
    before = resident()
    for wave in store:
        assert len(wave[:]) == 1 << 21
    assert resident() - before < 40  # of 160 MB
