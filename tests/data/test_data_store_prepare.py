"""Preparing a store: the same bytes whatever happens, and clear words when it cannot be."""

import errno
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import threading
import time
from collections import namedtuple

import numpy as np
import pytest
from audio_files import encoded, write_files, write_zip
from store_cases import Tones, content

from zforcing_pyro.data.formats.waves import AudioFiles, resampled
from zforcing_pyro.data.store.prepare import prepare
from zforcing_pyro.data.writing import locked

SHARD_SAMPLES = 1000
NAMES = Tones().names()
BROKEN = {"no_header": NAMES[2:3], "no_content": [NAMES[5], NAMES[9]], "empty": NAMES[7:8]}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """All files of a store that was prepared at once, by one thread."""
    folder = tmp_path_factory.mktemp("undisturbed") / "store"
    prepare(Tones(), folder, SHARD_SAMPLES)
    return content(folder)


def test_prepare_writes_the_same_bytes_for_any_number_of_workers(tmp_path, undisturbed):
    steps = []
    prepare(Tones(), tmp_path / "a", SHARD_SAMPLES, 3, report=lambda *s: steps.append(s))
    assert content(tmp_path / "a") == undisturbed
    shards = {f"shard-{k:05d}.npy" for k in range(len(undisturbed) - 1)}
    assert set(undisturbed) == {"store.json"} | shards
    total = sum(map(Tones().samples, NAMES))
    assert steps[11] == ("headers", 12, 12) and steps[-1] == ("samples", total, total)
    assert [s[1] for s in steps[12:]] == sorted({s[1] for s in steps[12:]})


def test_prepare_killed_at_any_moment_ends_with_the_same_bytes(tmp_path):
    """Killed thrice, by SIGKILL, which runs no handler."""
    source, folder, chance = Tones(40, seconds=0.02), tmp_path / "store", random.Random(0)
    prepare(Tones(40), tmp_path / "undisturbed", SHARD_SAMPLES)
    for shards in sorted(chance.sample(range(10), 3)):  # of 13
        process = multiprocessing.get_context("fork").Process(
            target=prepare, args=(source, folder, SHARD_SAMPLES, 2)
        )
        process.start()
        while len(list(folder.glob("shard-*.json"))) < shards:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.05))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert not (folder / "store.json").exists()
    notes = [note.with_suffix(".npy") for note in folder.glob("shard-*.json")]
    inodes = {file: file.stat().st_ino for file in notes}
    (folder / ".shard-00000.npy.part").write_bytes(b"left behind")
    prepare(source, folder, SHARD_SAMPLES, workers=2)
    assert content(folder) == content(tmp_path / "undisturbed")
    assert inodes and all(file.stat().st_ino == inode for file, inode in inodes.items())


def test_prepare_writes_damaged_shards_again_and_complete_stores_never(tmp_path, undisturbed):
    with pytest.raises(ValueError, match="tøne-011"):
        prepare(Tones(no_content=NAMES[-1:]), tmp_path, SHARD_SAMPLES)
    assert (tmp_path / "shard-00001.json").exists()
    shard = tmp_path / "shard-00001.npy"
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x55")
    (tmp_path / "shard-00000.npy").unlink()
    prepare(Tones(), tmp_path, SHARD_SAMPLES)
    assert content(tmp_path) == undisturbed
    before = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    (tmp_path / "shard-00000.json").write_text("{}")  # as if killed while it tidied up
    prepare(Tones(), tmp_path, SHARD_SAMPLES, workers=2, skip_broken=True)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == before


def test_prepare_workers_read_at_the_same_time(tmp_path):
    source, barrier, wave = Tones(2), threading.Barrier(2), Tones().wave
    source.wave = lambda name: barrier.wait(timeout=30) * 0 or wave(name)
    assert len(prepare(source, tmp_path, shard_samples=1, workers=2)) == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_prepare_names_the_first_broken_recording_or_skips_all(tmp_path, workers):
    """Of several broken recordings the first in order is named, whichever worker is sooner."""
    source = Tones(seconds=0.02, **BROKEN)
    with pytest.raises(ValueError, match=BROKEN["no_header"][0]):
        prepare(source, tmp_path / "a", SHARD_SAMPLES, workers)
    source.no_header = ()
    with pytest.raises(ValueError, match=BROKEN["no_content"][0]):
        prepare(source, tmp_path / "a", SHARD_SAMPLES, workers)
    assert not (tmp_path / "a" / "store.json").exists()
    store = prepare(Tones(**BROKEN), tmp_path / "b", SHARD_SAMPLES, workers, skip_broken=True)
    assert store.skipped == [NAMES[i] for i in (2, 5, 7, 9)]
    assert store.names == [name for name in NAMES if name not in store.skipped]
    for name, wave in zip(store.names, store):
        np.testing.assert_array_equal(wave[:], Tones().wave(name))


def test_prepare_skips_only_what_it_is_asked_to(tmp_path, monkeypatch):
    source = Tones(no_content=NAMES[:6])
    with monkeypatch.context() as patch:
        patch.setattr("zforcing_pyro.data.store.prepare.write_store", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare(source, tmp_path, SHARD_SAMPLES, skip_broken=True)
    with pytest.raises(ValueError, match=f"{NAMES[0]}' is cut short"):
        prepare(source, tmp_path, SHARD_SAMPLES)
    store = prepare(source, tmp_path, SHARD_SAMPLES, skip_broken=True)
    assert store.names == NAMES[6:] and not (tmp_path / "shard-00000.npy").exists()
    np.testing.assert_array_equal(store[0][:], Tones().wave(NAMES[6]))
    for kind, got in (("no_header", "none to read"), ("no_content", "only broken ones")):
        with pytest.raises(ValueError, match=f"at least one recording, got {got}"):
            prepare(Tones(**{kind: NAMES}), tmp_path / kind, SHARD_SAMPLES, skip_broken=True)


def test_prepare_long_recordings_and_names_that_are_not_utf8(tmp_path):
    source, names = Tones(), [os.fsdecode(b"caf\xe9/000.wav"), "b/001.wav"]
    source.names = lambda: names
    assert prepare(source, tmp_path, shard_samples=1).names == names  # a shard each
    assert len(list(tmp_path.glob("shard-*.npy"))) == 2
    with pytest.raises(ValueError, match="'workers' must be at least 1, got 0"):
        prepare(Tones(), tmp_path, workers=0)


def test_prepare_on_a_full_or_failing_disk(tmp_path, monkeypatch, undisturbed):
    usage = namedtuple("usage", "total used free")(10**6, 10**6 - 2000, 2000)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda folder: usage)
        with pytest.raises(OSError, match=r"'out' must have room for .* GB, got 0\.00 GB free"):
            prepare(Tones(), tmp_path, SHARD_SAMPLES)
    assert list(tmp_path.iterdir()) == []
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:  # full on the way
        resource.setrlimit(resource.RLIMIT_FSIZE, (1950, limits[1]))
        with pytest.raises(OSError, match=r"shard-0000\d\.npy") as caught:
            prepare(Tones(), tmp_path, SHARD_SAMPLES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.errno == errno.EFBIG
    assert not list(tmp_path.glob(".*")) and not (tmp_path / "store.json").exists()
    prepare(Tones(), tmp_path, SHARD_SAMPLES)
    assert content(tmp_path) == undisturbed
    monkeypatch.setattr("zforcing_pyro.data.store.prepare.samples_digest", lambda file: "other")
    with pytest.raises(OSError, match=r"shard-00000\.npy' is not what was written to it"):
        prepare(Tones(), tmp_path / "failing", SHARD_SAMPLES)


def test_prepare_leaves_other_folders_alone(tmp_path):
    for name, text in (
        ("notes.txt", "for a store alone, got '.*notes.txt'"),
        ("store.json", "store.json' must be of a store, got another file"),
        ("plan.json", "plan.json' must be of a store, got another file"),
    ):
        (tmp_path / name).write_text("[]")
        with pytest.raises(ValueError, match=text):
            prepare(Tones(), tmp_path)
        (tmp_path / name).unlink()
    with locked(tmp_path), pytest.raises(OSError, match="is being written by another process"):
        prepare(Tones(), tmp_path)
    # A plan without a finished shard gives way to other options; a store, or part of one, does not.
    with pytest.raises(ValueError, match="cut short"):
        prepare(Tones(no_content=NAMES[:1]), tmp_path, SHARD_SAMPLES)
    assert content(tmp_path).keys() == {"plan.json"}
    with pytest.raises(ValueError, match="cut short"):
        prepare(Tones(no_content=NAMES[-1:]), tmp_path, SHARD_SAMPLES + 1)
    for finished in (False, True):
        before = content(tmp_path)
        for source, samples in ((Tones(11), SHARD_SAMPLES + 1), (Tones(), SHARD_SAMPLES)):
            with pytest.raises(ValueError, match="'out' must be a new folder or one of the same"):
                prepare(source, tmp_path, samples)
        assert content(tmp_path) == before and finished == ("store.json" in before)
        prepare(Tones(), tmp_path, SHARD_SAMPLES + 1)


def test_prepare_works_where_the_system_has_less(tmp_path, monkeypatch, undisturbed):
    """Fault C6: Windows has no fcntl, and opens no folders."""
    opened = os.open

    def no_folders(path, *args, **options):
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *args, **options)

    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "fcntl", None)
        prepare(Tones(), tmp_path / "a", SHARD_SAMPLES)
    monkeypatch.setattr(os, "open", no_folders)
    prepare(Tones(), tmp_path / "b", SHARD_SAMPLES)
    assert content(tmp_path / "a") == content(tmp_path / "b") == undisturbed


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
    store = prepare(source, tmp_path / "store", 1600, workers=2)
    assert store.names == ["a/one.FLAC", "a/two.wav", "b/four.wav", "b/three.wav"]
    assert [len(wave) for wave in store] == [source.samples(name) for name in store.names]
    np.testing.assert_array_equal(store[0][:], resampled(noise(0, 4410), 44_100, 16_000))
    np.testing.assert_array_equal(store[2][:], noise(4, 900))
    np.testing.assert_array_equal(store[3][:], noise(3, 1600))
    assert store.sample_rate == 16_000


def test_prepare_names_or_skips_audio_files_that_do_not_fit(tmp_path):
    for i, (wav, message) in enumerate((
        (encoded(noise(0, 400))[:-100], "b.wav' must"),
        (encoded(noise(0, 9), 8000), "b.wav' must have 16000 samples"),
        (encoded(noise(0, 400)[:0]), "b.wav' must have samples"),
    )):  # fmt: skip
        files = {"a.wav": encoded(noise(0, 400)), "b.wav": wav}
        source = AudioFiles(write_files(tmp_path / f"{i}", files), "audio")
        with pytest.raises(ValueError, match=message):
            prepare(source, tmp_path / f"{i} whole")
        store = prepare(source, tmp_path / f"{i} rest", skip_broken=True)
        assert (store.names, store.skipped) == (["a.wav"], ["b.wav"])
    with pytest.raises(ValueError, match="'sample_rate' must be positive, got 0"):
        AudioFiles(tmp_path / "0", "audio", sample_rate=0)
