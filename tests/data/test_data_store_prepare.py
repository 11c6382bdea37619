"""Preparing a store: the same bytes whatever happens, and clear words when it cannot be."""

import errno
import multiprocessing
import os
import random
import resource
import shutil
import signal
import time
from collections import namedtuple

import numpy as np
import pytest
from store_cases import Tones, content

from zforcing_pyro.data.store import parallel
from zforcing_pyro.data.store.parallel import locked, processes
from zforcing_pyro.data.store.prepare import prepare
from zforcing_pyro.data.store.store import Store

SHARD_SAMPLES = 1000


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """All files of a store that was prepared at once, by one process."""
    folder = tmp_path_factory.mktemp("undisturbed") / "store"
    prepare(Tones(), folder, SHARD_SAMPLES)
    return content(folder)


def test_two_workers_write_the_same_bytes(tmp_path, undisturbed):
    prepare(Tones(), tmp_path / "store", SHARD_SAMPLES, workers=2)
    assert content(tmp_path / "store") == undisturbed
    assert set(undisturbed) == {"index.npz", "store.json"} | {
        f"shard-{k:05d}.npy" for k in range(len(undisturbed) - 2)
    }


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_any_moment_it_ends_with_the_same_bytes(tmp_path, seed):
    """Killed thrice, by SIGKILL, which runs no handler, and with workers that must follow it."""
    source, folder, chance = Tones(40, seconds=0.02), tmp_path / "store", random.Random(seed)
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
    with locked(folder):  # when all workers are gone
        notes = [note.with_suffix(".npy") for note in folder.glob("shard-*.json")]
        kept = {file: file.stat().st_ino for file in notes}
        (folder / "shard-00000.npy.tmp-99999").write_bytes(b"left behind")
    store = prepare(source, folder, SHARD_SAMPLES, workers=2)
    store.verify()
    assert content(folder) == content(tmp_path / "undisturbed")
    assert kept and all(file.stat().st_ino == inode for file, inode in kept.items())


def test_what_was_damaged_since_is_written_again(tmp_path, undisturbed):
    source, folder = Tones(no_content=[Tones().names()[-1]]), tmp_path / "store"
    with pytest.raises(ValueError, match="tøne-011"):
        prepare(source, folder, SHARD_SAMPLES)
    assert (folder / "shard-00001.json").exists()
    shard = folder / "shard-00001.npy"
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x55")
    (folder / "shard-00000.npy").unlink()
    prepare(Tones(), folder, SHARD_SAMPLES)
    assert content(folder) == undisturbed


def test_prepared_again_nothing_is_written(tmp_path):
    prepare(Tones(), tmp_path, SHARD_SAMPLES)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    (tmp_path / "shard-00000.json").write_text("{}")  # as if killed while it tidied up
    prepare(Tones(), tmp_path, SHARD_SAMPLES, workers=2, skip_broken=True)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == before


class Meeting(Tones):
    """Recordings that can only be read while another process reads one too."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def wave(self, name: str) -> np.ndarray:
        (self.folder / str(os.getpid())).touch()
        until = time.monotonic() + 30
        while len(list(self.folder.iterdir())) < 2:
            if time.monotonic() > until:
                raise OSError(f"nobody came while '{name}' was read")
            time.sleep(0.01)
        return super().wave(name)


def test_two_workers_read_at_the_same_time(tmp_path):
    (tmp_path / "meeting").mkdir()
    store = prepare(Meeting(tmp_path / "meeting"), tmp_path / "store", SHARD_SAMPLES, workers=2)
    assert len(store) == 12


NAMES = Tones().names()
BROKEN = {"no_header": NAMES[2:3], "no_content": [NAMES[5], NAMES[9]], "empty": NAMES[7:8]}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_recording_is_an_error_that_names_it(tmp_path, kind, workers):
    source = Tones(**{kind: BROKEN[kind]})
    with pytest.raises(ValueError, match=BROKEN[kind][0]):
        prepare(source, tmp_path, SHARD_SAMPLES, workers)
    assert not (tmp_path / "store.json").exists()
    with pytest.raises(FileNotFoundError, match=r"without 'store\.json'"):
        Store(tmp_path)


def fail_after(seconds: float) -> None:
    time.sleep(seconds)
    raise ValueError(f"after {seconds} s")


def test_of_several_errors_the_first_in_order_is_raised():
    with processes(2) as run, pytest.raises(ValueError, match=r"after 0\.5 s"):
        list(run(fail_after, [0.5, 0.0, 0.1, 0.2], in_order=False))


def end_after(seconds: float) -> None:
    """Ends its process, or fails at once."""
    if not seconds:
        raise ValueError("sooner")
    time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_is_killed_after_an_error_is_one_line():
    with processes(2) as run, pytest.raises(OSError, match="a worker was killed"):
        list(run(end_after, [0.3, 0.0], in_order=False))


@pytest.mark.parametrize("workers", [1, 2])
def test_broken_recordings_are_skipped_and_named(tmp_path, workers):
    store = prepare(Tones(**BROKEN), tmp_path, SHARD_SAMPLES, workers, skip_broken=True)
    assert store.skipped == [NAMES[i] for i in (2, 5, 7, 9)]
    assert store.names == [name for name in NAMES if name not in store.skipped]
    for name, wave in zip(store.names, store):
        np.testing.assert_array_equal(wave, Tones().wave(name))
    store.verify()


def test_an_error_once_may_be_skipped_the_next_time(tmp_path):
    source = Tones(no_content=[NAMES[-1]])
    with pytest.raises(ValueError, match="cut short"):
        prepare(source, tmp_path, SHARD_SAMPLES)
    assert prepare(source, tmp_path, SHARD_SAMPLES, skip_broken=True).skipped == [NAMES[-1]]


def test_what_was_skipped_is_not_skipped_unasked(tmp_path, monkeypatch):
    source = Tones(no_content=[NAMES[0]])
    monkeypatch.setattr("zforcing_pyro.data.store.prepare.write_index", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prepare(source, tmp_path, SHARD_SAMPLES, skip_broken=True)
    with pytest.raises(ValueError, match=f"{NAMES[0]}' is cut short"):
        prepare(source, tmp_path, SHARD_SAMPLES)


def test_a_shard_of_broken_recordings_alone_is_left_out(tmp_path):
    source = Tones(no_content=NAMES[:6])
    store = prepare(source, tmp_path, SHARD_SAMPLES, skip_broken=True)
    assert store.names == NAMES[6:]
    np.testing.assert_array_equal(store[0], Tones().wave(NAMES[6]))
    assert not (tmp_path / "shard-00000.npy").exists()
    store.verify()


@pytest.mark.parametrize("kind", ["no_header", "no_content"])
def test_nothing_but_broken_recordings(tmp_path, kind):
    with pytest.raises(ValueError, match="at least one recording, got only broken ones"):
        prepare(Tones(**{kind: NAMES}), tmp_path, SHARD_SAMPLES, skip_broken=True)


def test_what_a_killed_process_left_makes_room_first(tmp_path):
    left = tmp_path / "shard-00000.npy.tmp-1"
    left.write_bytes(b"half of it")
    with pytest.raises(ValueError, match="cut short"):
        prepare(Tones(no_content=NAMES[:1]), tmp_path, SHARD_SAMPLES)
    assert not left.exists()


def test_no_recordings(tmp_path):
    with pytest.raises(ValueError, match="at least one recording, got none"):
        prepare(Tones(0), tmp_path)


def test_one_recording_longer_than_a_shard(tmp_path):
    store = prepare(Tones(), tmp_path, shard_samples=1)
    assert len(list(tmp_path.glob("shard-*.npy"))) == len(store) == 12


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"workers": 0}, "'workers' must be at least 1, got 0"),
        ({"shard_samples": 0}, "'shard_samples' must be at least 1, got 0"),
    ],
)
def test_options_out_of_range(tmp_path, options, said):
    with pytest.raises(ValueError, match=said):
        prepare(Tones(), tmp_path, **options)


def test_a_full_disk_is_found_before_anything_is_written(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")(10**6, 10**6 - 2000, 2000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(OSError, match=r"'out' must have room for .* GB, got 0\.00 GB free"):
        prepare(Tones(), tmp_path, SHARD_SAMPLES)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_gets_full_on_the_way(tmp_path, undisturbed):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1950, limits[1]))
        with pytest.raises(OSError, match=r"shard-0000\d\.npy") as caught:
            prepare(Tones(), tmp_path, SHARD_SAMPLES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.errno == errno.EFBIG
    assert not list(tmp_path.glob("*.tmp-*"))
    assert not (tmp_path / "store.json").exists()
    prepare(Tones(), tmp_path, SHARD_SAMPLES)
    assert content(tmp_path) == undisturbed


def test_a_disk_that_writes_something_else(tmp_path, monkeypatch):
    def write_header(stream, samples):
        stream.write(b"\x93NUMPY".ljust(128, b"\0"))

    monkeypatch.setattr("zforcing_pyro.data.store.prepare.write_header", write_header)
    with pytest.raises(OSError, match=r"shard-00000\.npy' is not what was written to it"):
        prepare(Tones(), tmp_path, SHARD_SAMPLES)


@pytest.mark.parametrize("other", ["notes.txt", "shard-00000.npy.bak", "index.csv"])
def test_a_folder_with_other_things_is_left_alone(tmp_path, other):
    (tmp_path / other).write_text("mine")
    with pytest.raises(ValueError, match=f"for a store alone, got '.*{other}'"):
        prepare(Tones(), tmp_path)
    assert content(tmp_path) == {other: b"mine"}


def test_a_plan_without_a_shard_gives_way_to_other_options(tmp_path):
    with pytest.raises(ValueError, match="cut short"):
        prepare(Tones(no_content=NAMES[:1]), tmp_path / "store", SHARD_SAMPLES)
    assert content(tmp_path / "store").keys() == {"plan.json"}
    prepare(Tones(), tmp_path / "store", SHARD_SAMPLES + 1)
    prepare(Tones(), tmp_path / "new", SHARD_SAMPLES + 1)
    assert content(tmp_path / "store") == content(tmp_path / "new")


@pytest.mark.parametrize("finished", [True, False])
def test_a_store_of_other_recordings_is_left_alone(tmp_path, finished):
    if finished:
        prepare(Tones(), tmp_path, SHARD_SAMPLES)
    else:
        with pytest.raises(ValueError, match="cut short"):
            prepare(Tones(no_content=[NAMES[-1]]), tmp_path, SHARD_SAMPLES)
    before = content(tmp_path)
    for source, samples in ((Tones(11), SHARD_SAMPLES), (Tones(), SHARD_SAMPLES + 1)):
        with pytest.raises(ValueError, match="'out' must be a new folder or one of the same rec"):
            prepare(source, tmp_path, samples)
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", ["store.json", "plan.json"])
def test_a_file_of_that_name_that_is_no_store(tmp_path, name):
    (tmp_path / name).write_text("[]")
    with pytest.raises(ValueError, match=f"{name}' must be of a store, got another file"):
        prepare(Tones(), tmp_path)


def test_two_at_once_do_not_clash(tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "PATIENCE", 0.1)
    with locked(tmp_path), pytest.raises(OSError, match="is being prepared by another process"):
        prepare(Tones(), tmp_path)
    prepare(Tones(), tmp_path)


def test_a_worker_that_is_killed_is_one_line(tmp_path):
    with pytest.raises(OSError, match="a worker was killed"):
        prepare(Suicide(), tmp_path, SHARD_SAMPLES, workers=2)


class Suicide(Tones):
    """Recordings that the system would not let a worker read."""

    def wave(self, name):
        os.kill(os.getpid(), signal.SIGKILL)


def test_progress_ends_where_the_whole_is(tmp_path):
    said = []
    prepare(Tones(), tmp_path, SHARD_SAMPLES, report=lambda *args: said.append(args))
    total = sum(Tones().samples(name) for name in NAMES)
    assert said[0] == ("headers", 12, 12)
    assert said[-1] == ("samples", total, total)
    assert [s[1] for s in said[1:]] == sorted({s[1] for s in said[1:]})


def test_names_that_are_no_utf8_are_kept(tmp_path):
    names = [os.fsdecode(b"caf\xe9/000.wav"), "b/001.wav"]
    source = Tones()
    source.names = lambda: names
    assert prepare(source, tmp_path / "store").names == names
