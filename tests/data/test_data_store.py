"""Reading a prepared store: samples, statistics, processes, and whatever may be wrong with it."""

import hashlib
import json
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_files import encoded, write_files
from store_cases import Tones

from zforcing_pyro.data import corpus
from zforcing_pyro.data.formats.waves import AudioFiles
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


def test_store_recordings_are_what_was_prepared_in_arrays_of_numpy(folder):
    store = Store(folder)
    assert (len(store), store.sample_rate, store.source) == (len(WAVES), 8000, "tones")
    assert store.names == SOURCE.names() and store.skipped == []
    assert store.lengths.tolist() == [len(wave) for wave in WAVES]
    for read, wave in zip(store, WAVES):
        assert len(read) == len(wave) and read[:].dtype == np.int16
        for begin, end in ((None, None), (30, 70), (90, 10_000)):
            np.testing.assert_array_equal(read[begin:end], wave[begin:end])
        assert read[50:40].tolist() == []
    with pytest.raises(ValueError, match="step 1, got 2"):
        store[0][::2]
    shards = json.loads((folder / "store.json").read_text())["shards"]
    maps = [np.load(folder / shard["file"], mmap_mode="r") for shard in shards]
    assert len(maps) > 3
    assert all(m.dtype == np.int16 and len(m) <= SHARD_SAMPLES for m in maps)
    np.testing.assert_array_equal(np.concatenate(maps), np.concatenate(WAVES))
    for samples, shard in zip(maps, shards):
        assert hashlib.sha256(samples.tobytes()).hexdigest() == shard["sha256"]


def test_store_parts_and_their_statistics(folder):
    for index in ([*range(len(WAVES))], [7], [11, 0, 5]):
        names = [SOURCE.names()[i] for i in index]
        part, samples = Store(folder).select(names), np.concatenate([WAVES[i] for i in index])
        assert part.mean_and_std() == pytest.approx((samples.mean(), samples.std()), rel=1e-14)
        assert part.names == names
        for some in (part, pickle.loads(pickle.dumps(part))):
            np.testing.assert_array_equal(some[len(index) - 1][:], WAVES[index[-1]])


def with_facts(**changes):
    return lambda content: json.dumps(json.loads(content) | changes).encode()


def with_shard(**changes):
    def change(content: bytes) -> bytes:
        facts = json.loads(content)
        facts["shards"][1] |= changes
        return json.dumps(facts).encode()

    return change


SHARDS = "'shards' that are none, or without names, samples and sums"
BROKEN = [  # the file, what becomes of its content, and the message; faults C1 and W19 among them
    ("store.json", None, "must be a store, got a folder without"),
    ("store.json", lambda c: c[:-30], "store.json' must be of a store, got"),
    ("store.json", lambda c: b"[]", "must be of a store, got another file"),
    ("store.json", with_facts(format="x"), "must be of a store, got another file"),
    ("store.json", with_facts(version=1), "got version 1, not 2: prepare the store anew"),
    ("store.json", with_facts(shards=[]), SHARDS),
    ("store.json", with_facts(shards=[{}]), "store.json' must be of a store"),
    ("store.json", with_facts(sample_rate=0), "a 'sample_rate' of 0, not positive"),
    ("store.json", with_facts(sample_rate=-5), "a 'sample_rate' of -5, not positive"),
    ("store.json", with_shard(file="../shard-00000.npy"), SHARDS),
    ("store.json", with_shard(samples=[1]), "store.json' must be of a store"),
    ("shard-00001.npy", None, "shard-00001.npy' of the store is missing"),
    ("shard-00001.npy", lambda c: c[:-2], "shard-00001.npy' must have .* cut short"),
    ("shard-00001.npy", lambda c: c.replace(b"<i2", b"|O2"), "must be an npy file of int16"),
]


def test_store_errors_name_the_file(folder):
    for name, change, message in BROKEN:
        file = folder / name
        content = file.read_bytes()
        file.unlink()
        if change:
            file.write_bytes(change(content))
        with pytest.raises(ValueError if change else FileNotFoundError, match=message) as error:
            Store(folder)
        assert "\n" not in str(error.value) and len(str(error.value)) < 300
        file.write_bytes(content)
    store = Store(folder)
    with open(folder / "shard-00000.npy", "r+b") as file:
        file.truncate(130)
    with pytest.raises(ValueError, match=r"shard-00000\.npy' must not change .*: it is cut short"):
        store[0][:]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for memory in use")
def test_store_samples_are_no_memory_of_the_process(tmp_path):
    def resident() -> int:
        status = Path("/proc/self/status").read_text()
        return int(re.search(r"^VmRSS:\s*(\d+) kB", status, re.MULTILINE)[1]) // 1024

    source = Tones(40)
    source.samples, source.wave = lambda name: 1 << 21, lambda name: np.zeros(1 << 21, np.int16)
    store = prepare(source, tmp_path / "store", 1 << 25)
    before = resident()
    for wave in store:
        assert len(wave[:]) == 1 << 21
    assert resident() - before < 40  # of 160 MB


NAMES = [f"wavn/CB-{'ABCD'[i % 4]}-{i:02d}.wav" for i in range(40)]
BOOKS = {
    name: np.random.default_rng(i).normal(2, 100 + i, 300 + 37 * i).astype(np.int16)
    for i, name in enumerate(NAMES)
}


def test_blizzard_is_split_normalised_and_written(tmp_path):
    wavs = write_files(tmp_path / "wavs", {name: encoded(wave) for name, wave in BOOKS.items()})
    prepare(AudioFiles(wavs, "blizzard"), tmp_path / "blizzard", 5000)
    data = corpus("blizzard", data_dir=tmp_path, frame=50)
    assert data.found() and data.x_dim == 50
    names = {split: data.waves(split).names for split in ("train", "valid", "test")}
    assert [len(part) for part in names.values()] == [36, 2, 2]
    assert names["test"] == ["wavn/CB-A-12.wav", "wavn/CB-B-05.wav"]
    assert corpus("blizzard", data_dir=tmp_path, seed=1).waves("test").names != names["test"]
    assert sorted(name for part in names.values() for name in part) == sorted(NAMES)
    samples = np.concatenate([BOOKS[name] for name in names["train"]])
    assert data.scale == pytest.approx((samples.mean(), samples.std()), rel=1e-14)
    x = data.split("valid")[0].x
    data.write(x, tmp_path / "a.wav")
    written, rate = soundfile.read(tmp_path / "a.wav", dtype="int16")
    assert rate == data.sample_rate == 16_000
    np.testing.assert_array_equal(written, BOOKS[names["valid"][0]][: x.numel()])
    # W10: a store that was prepared anew from other files is not the one of the run.
    fingerprint = data.fingerprint()
    corpus("blizzard", data_dir=tmp_path).check_unchanged(fingerprint)
    (wavs / NAMES[0]).unlink()
    prepare(AudioFiles(wavs, "blizzard"), tmp_path / "store")
    with pytest.raises(ValueError, match="training: 'store"):
        corpus("blizzard", data_dir=tmp_path / "store").check_unchanged(fingerprint)


def test_blizzard_says_how_to_prepare(tmp_path):
    data = corpus("blizzard", data_dir=tmp_path)
    assert not data.found()
    with pytest.raises(FileNotFoundError, match="zforcing data prepare blizzard --path"):
        data.split("train")
    prepare(SOURCE, tmp_path / "blizzard")
    with pytest.raises(ValueError, match="must be prepared from blizzard, got tones"):
        data.split("train")
