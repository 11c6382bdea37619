"""Stores: the same bytes whatever happens on the way, and whatever may be wrong with one."""

import errno
import hashlib
import json
import multiprocessing
import os
import pickle
import random
import re
import resource
import shutil
import signal
import threading
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_files import encoded, write_files, write_zip

from zforcing_pyro.data import corpus, writing
from zforcing_pyro.data.formats.waves import AudioFiles, resampled
from zforcing_pyro.data.store.prepare import prepare
from zforcing_pyro.data.store.store import Store


class Tones:
    """Recordings of 100 to 500 samples: ``num``, each read in ``seconds``.

    ``no_header`` names those whose header cannot be read, ``no_content`` those whose content
    cannot, ``empty`` those without samples, though their headers have some.
    """

    name, sample_rate = "tones", 8000

    def __init__(self, num: int = 12, seconds: float = 0.0, no_header=(), no_content=(), empty=()):
        self.num, self.seconds = num, seconds
        self.no_header, self.no_content, self.empty = no_header, no_content, empty

    def names(self) -> list[str]:
        return [f"chapter {i // 4}/tøne-{i:03d}.wav" for i in range(self.num)]

    def samples(self, name: str) -> int:
        if name in self.no_header:
            raise ValueError(f"'{name}' has a broken header")
        return 100 + int(name[-7:-4]) * 97 % 401

    def wave(self, name: str) -> np.ndarray:
        time.sleep(self.seconds)
        if name in self.no_content:
            raise ValueError(f"'{name}' is cut short")
        rng = np.random.default_rng(int(name[-7:-4]))
        samples = 0 if name in self.empty else self.samples(name)
        return rng.integers(-32768, 32768, samples).astype(np.int16)


def content(folder: Path) -> dict[str, bytes]:
    """All files of a folder."""
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


SOURCE = Tones()
NAMES = SOURCE.names()
WAVES = [SOURCE.wave(name) for name in NAMES]
BROKEN = {"no_header": NAMES[2:3], "no_content": [NAMES[5], NAMES[9]], "empty": NAMES[7:8]}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A store that was prepared at once, by one thread."""
    folder = tmp_path_factory.mktemp("prepared") / "store"
    prepare(SOURCE, folder)
    return folder


@pytest.fixture
def folder(prepared, tmp_path):
    return shutil.copytree(prepared, tmp_path / "store")


def test_store_recordings_are_what_was_prepared_in_arrays_of_numpy(folder):
    store = Store(folder)
    assert (len(store), store.sample_rate, store.source) == (len(WAVES), 8000, "tones")
    assert store.names == NAMES and store.skipped == []
    assert store.lengths.tolist() == [len(wave) for wave in WAVES]
    for read, wave in zip(store, WAVES):
        assert len(read) == len(wave) and read[:].dtype == np.int16
        for begin, end in ((None, None), (30, 70), (90, 10_000), (50, 40)):
            np.testing.assert_array_equal(read[begin:end], wave[begin:end])
    with pytest.raises(ValueError, match="step 1, got 2"):
        store[0][::2]
    recordings = json.loads((folder / "store.json").read_text())["recordings"]
    for recording, wave in zip(recordings, WAVES):
        file = folder / recording["file"]
        np.testing.assert_array_equal(np.load(file), wave)
        assert hashlib.sha256(file.read_bytes()).hexdigest() == recording["sha256"]
    for index in ([*range(len(WAVES))], [7], [11, 0, 5]):
        names = [NAMES[i] for i in index]
        part, samples = store.select(names), np.concatenate([WAVES[i] for i in index])
        assert part.mean_and_std() == pytest.approx((samples.mean(), samples.std()), rel=1e-14)
        for some in (part, pickle.loads(pickle.dumps(part))):
            assert some.names == names
            np.testing.assert_array_equal(some[len(index) - 1][:], WAVES[index[-1]])


def with_facts(**changes):
    return lambda content: json.dumps(json.loads(content) | changes).encode()


def with_recording(**changes):
    def change(content: bytes) -> bytes:
        facts = json.loads(content)
        facts["recordings"][1] |= changes
        return json.dumps(facts).encode()

    return change


def test_store_errors_name_the_file(folder):
    for name, change, message in (  # C1, W19
        ("store.json", None, "must be a store, got a folder without"),
        ("store.json", lambda c: c[:-30], "store.json' must be of a store, got"),
        ("store.json", lambda c: b"[]", "must be of a store, got another file"),
        ("store.json", with_facts(format="x"), "must be of a store, got another file"),
        ("store.json", with_facts(version=1), "got version 1, not 3: prepare the store anew"),
        ("store.json", with_facts(recordings=[]), "store.json' must be of a store"),
        ("store.json", with_facts(recordings=[{}]), "store.json' must be of a store"),
        ("store.json", with_facts(sample_rate=-5), "a 'sample_rate' of -5, not positive"),
        ("store.json", with_recording(file="../000000.npy"), "'recordings' that are none"),
        ("store.json", with_recording(samples=[1]), "store.json' must be of a store"),
        ("000001.npy", None, "000001.npy' of the store is missing"),
        ("000001.npy", lambda c: c[:-2], "000001.npy' must have .* cut short"),
    ):
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
    os.truncate(folder / "000000.npy", 130)
    with pytest.raises(ValueError, match=r"000000\.npy' must not change .*: it is cut short"):
        store[0][:]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for memory in use")
def test_store_samples_are_no_memory_of_the_process(tmp_path):
    def resident() -> int:
        status = Path("/proc/self/status").read_text()
        return int(re.search(r"^VmRSS:\s*(\d+) kB", status, re.MULTILINE)[1]) // 1024

    source = Tones(40)
    source.samples, source.wave = lambda name: 1 << 21, lambda name: np.zeros(1 << 21, np.int16)
    store = prepare(source, tmp_path / "store")
    before = resident()
    for wave in store:
        assert len(wave[:]) == 1 << 21
    assert resident() - before < 40  # of 160 MB


def test_prepare_writes_the_same_bytes_for_any_number_of_workers(tmp_path, prepared):
    steps, total = [], sum(map(len, WAVES))
    prepare(Tones(), tmp_path / "a", 3, report=lambda *s: steps.append(s))
    assert content(tmp_path / "a") == content(prepared)
    assert steps[11] == ("headers", 12, 12) and steps[-1] == ("samples", total, total)
    assert [s[1] for s in steps[12:]] == sorted({s[1] for s in steps[12:]})
    source, barrier = Tones(2), threading.Barrier(2)  # workers read at the same time
    source.wave = lambda name: barrier.wait(timeout=30) * 0 or Tones().wave(name)
    assert len(prepare(source, tmp_path / "b", workers=2)) == 2
    names = [os.fsdecode(b"caf\xe9/000.wav"), "b/001.wav"]  # the first is not UTF-8
    source = Tones()
    source.names = lambda: names
    assert prepare(source, tmp_path / "c").names == names


def test_prepare_killed_at_any_moment_ends_with_the_same_bytes(tmp_path):
    """Killed thrice, by SIGKILL, which runs no handler."""
    source, folder, chance = Tones(40, seconds=0.02), tmp_path / "store", random.Random(0)
    prepare(Tones(40), tmp_path / "undisturbed")
    progress = folder / "progress.jsonl"

    def noted() -> int:
        return progress.read_bytes().count(b"\n") if progress.exists() else 0

    for num in sorted(chance.sample(range(1, 35), 3)):
        process = multiprocessing.get_context("fork").Process(
            target=prepare, args=(source, folder, 2)
        )
        process.start()
        while noted() < num:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.02))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert not (folder / "store.json").exists()
    files = [folder / f"{i:06d}.npy" for i in range(noted() - 1)]
    inodes = {file: file.stat().st_ino for file in files}
    (folder / ".000000.npy.part").write_bytes(b"left behind")
    with open(progress, "ab") as log:
        log.write(b'[39, {"fi')  # a line that was being written
    prepare(source, folder, workers=2)
    assert content(folder) == content(tmp_path / "undisturbed")
    assert inodes and all(file.stat().st_ino == inode for file, inode in inodes.items())


def test_prepare_writes_damaged_files_again_and_complete_stores_never(tmp_path, prepared):
    with pytest.raises(ValueError, match="tøne-011"):
        prepare(Tones(no_content=NAMES[-1:]), tmp_path)
    file = tmp_path / "000001.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"\x55")
    (tmp_path / "000000.npy").unlink()
    prepare(Tones(), tmp_path)
    assert content(tmp_path) == content(prepared)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    prepare(Tones(), tmp_path, workers=2, skip_broken=True)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize("workers", [1, 2])
def test_prepare_names_the_first_broken_recording_or_skips_all(tmp_path, workers):
    """The first of several broken recordings is named, whichever worker is sooner."""
    source = Tones(seconds=0.02, **BROKEN)
    with pytest.raises(ValueError, match=BROKEN["no_header"][0]):
        prepare(source, tmp_path / "a", workers)
    source.no_header = ()
    with pytest.raises(ValueError, match=BROKEN["no_content"][0]):
        prepare(source, tmp_path / "a", workers)
    assert not (tmp_path / "a" / "store.json").exists()
    store = prepare(Tones(**BROKEN), tmp_path / "b", workers, skip_broken=True)
    assert store.skipped == [NAMES[i] for i in (2, 5, 7, 9)]
    assert store.names == [name for name in NAMES if name not in store.skipped]
    for name, wave in zip(store.names, store):
        np.testing.assert_array_equal(wave[:], Tones().wave(name))


def test_prepare_skips_only_what_it_is_asked_to(tmp_path, monkeypatch):
    source = Tones(no_content=NAMES[:6])
    with monkeypatch.context() as patch:
        patch.setattr("zforcing_pyro.data.store.prepare.write_store", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare(source, tmp_path, skip_broken=True)
    with pytest.raises(ValueError, match=f"{NAMES[0]}' is cut short"):
        prepare(source, tmp_path)
    store = prepare(source, tmp_path, skip_broken=True)
    assert store.names == NAMES[6:] and not (tmp_path / "000000.npy").exists()
    np.testing.assert_array_equal(store[0][:], Tones().wave(NAMES[6]))
    for kind in ("no_header", "no_content"):
        with pytest.raises(ValueError, match="at least one recording, got none to read"):
            prepare(Tones(**{kind: NAMES}), tmp_path / kind, skip_broken=True)


def test_prepare_on_a_full_or_failing_disk(tmp_path, monkeypatch, prepared):
    usage = namedtuple("usage", "total used free")(10**6, 10**6 - 2000, 2000)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda folder: usage)
        with pytest.raises(OSError, match=r"'out' must have room for .* GB, got 0\.00 GB free"):
            prepare(Tones(), tmp_path)
    assert content(tmp_path).keys() == {"progress.jsonl"}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:  # full on the way
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        with pytest.raises(OSError, match=r"0000\d\d\.npy") as caught:
            prepare(Tones(), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.errno == errno.EFBIG
    assert not list(tmp_path.glob(".*")) and not (tmp_path / "store.json").exists()
    prepare(Tones(), tmp_path)
    assert content(tmp_path) == content(prepared)
    monkeypatch.setattr("zforcing_pyro.data.store.prepare.digest", lambda file: "other")
    with pytest.raises(OSError, match=r"000000\.npy' is not what was written to it"):
        prepare(Tones(), tmp_path / "failing")


def test_prepare_leaves_other_folders_alone(tmp_path):
    for name, text in (
        ("notes.txt", "for a store alone, got '.*notes.txt'"),
        ("store.json", "store.json' must be of a store, got another file"),
        ("progress.jsonl", "progress.jsonl' must be of a store, got another file"),
    ):
        (tmp_path / name).write_text("[]\n[]\n")
        with pytest.raises(ValueError, match=text):
            prepare(Tones(), tmp_path)
        (tmp_path / name).unlink()
    with open(tmp_path / "progress.jsonl", "a") as log:
        assert writing.locked(log.fileno())
        with pytest.raises(OSError, match="is being written by another process"):
            prepare(Tones(), tmp_path)
    # A plan without a recording gives way to other options; a store, or part of one, does not.
    with pytest.raises(ValueError, match="cut short"):
        prepare(Tones(no_content=NAMES[:1]), tmp_path)
    with pytest.raises(ValueError, match="cut short"):
        prepare(Tones(11, no_content=NAMES[9:]), tmp_path)
    for finished in (False, True):
        before = content(tmp_path)
        with pytest.raises(ValueError, match="'out' must be a new folder or one of the same"):
            prepare(Tones(), tmp_path)
        assert finished == ("store.json" in before)
        assert {k: v for k, v in content(tmp_path).items() if k in before} == before
        prepare(Tones(11), tmp_path)


def test_prepare_works_where_the_system_has_less(tmp_path, monkeypatch, prepared):
    """Fault C6: Windows has no fcntl, and opens no folders."""
    opened = os.open

    def no_folders(path, *args, **options):
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *args, **options)

    monkeypatch.setattr(writing, "fcntl", None)
    monkeypatch.setattr(os, "open", no_folders)
    prepare(Tones(), tmp_path)
    assert content(tmp_path) == content(prepared)


def noise(i: int, samples: int) -> np.ndarray:
    return np.random.default_rng(i).normal(2, 100 + i, samples).astype(np.int16)


def test_prepare_resamples_mixes_and_reads_archives(tmp_path):
    piped = bytearray(encoded(noise(4, 900)))
    piped[4:8] = piped[40:44] = bytes(4)  # the sizes that a killed recorder left
    files = {
        "a/one.FLAC": encoded(noise(0, 4410), 44_100, "FLAC"),
        "a/two.wav": encoded(np.stack([noise(1, 4410), noise(2, 4410)], 1), 44_100),
        "b/four.wav": bytes(piped),
        "b/three.wav": encoded(noise(3, 1600)),
        "b/three.txt": b"words",
    }
    source = AudioFiles(write_zip(tmp_path / "all.zip", files), "audio", 16_000, mono=True)
    store = prepare(source, tmp_path / "store", workers=2)
    assert store.names == ["a/one.FLAC", "a/two.wav", "b/four.wav", "b/three.wav"]
    assert [len(wave) for wave in store] == [source.samples(name) for name in store.names]
    np.testing.assert_array_equal(store[0][:], resampled(noise(0, 4410), 44_100, 16_000))
    np.testing.assert_array_equal(store[2][:], noise(4, 900))
    np.testing.assert_array_equal(store[3][:], noise(3, 1600))


BOOKS = {f"wavn/CB-{'ABCD'[i % 4]}-{i:02d}.wav": noise(i, 300 + 37 * i) for i in range(40)}


def test_blizzard_is_split_normalised_and_written(tmp_path):
    data = corpus("blizzard", data_dir=tmp_path, frame=50)
    with pytest.raises(FileNotFoundError, match="zforcing data prepare blizzard --path"):
        data.split("train")
    wavs = write_files(tmp_path / "wavs", {name: encoded(wave) for name, wave in BOOKS.items()})
    prepare(AudioFiles(wavs, "blizzard"), tmp_path / "blizzard")
    assert data.found() and data.x_dim == 50
    names = {split: data.waves(split).names for split in ("train", "valid", "test")}
    assert [len(part) for part in names.values()] == [36, 2, 2]
    assert names["test"] == ["wavn/CB-A-12.wav", "wavn/CB-B-05.wav"]
    assert corpus("blizzard", data_dir=tmp_path, seed=1).waves("test").names != names["test"]
    assert sorted(name for part in names.values() for name in part) == sorted(BOOKS)
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
    (wavs / min(BOOKS)).unlink()
    prepare(AudioFiles(wavs, "blizzard"), tmp_path / "store")
    with pytest.raises(ValueError, match="training: 'store"):
        corpus("blizzard", data_dir=tmp_path / "store").check_unchanged(fingerprint)
    prepare(SOURCE, tmp_path / "tones")
    with pytest.raises(ValueError, match="must be prepared from blizzard, got tones"):
        corpus("blizzard", data_dir=tmp_path / "tones").split("train")
