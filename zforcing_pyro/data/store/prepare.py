"""Recordings into a :class:`~.store.Store`: in parallel, and restartable after being killed."""

import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, BinaryIO, Protocol

import numpy as np

from ..checks import check_range
from ..corpus import digest
from ..writing import locked, replacing, sync_files
from .store import FILE, FORMAT, NAME, SAMPLE, Store, sums

OURS = re.compile(rf"{FILE.pattern}|store\.json|progress\.jsonl|\..*\.part")


class Source(Protocol):
    """Recordings to prepare; several threads call the functions at the same time."""

    name: str  # of the data set, kept in the store
    sample_rate: int
    names: Callable[[], list[str]]  # returns all recordings, in the order of the store
    samples: Callable[[str], int]  # returns a length by the header, for the room that it takes
    wave: Callable[[str], np.ndarray]  # returns int16, ``(samples,)``, or raises ValueError


def prepare(
    source: Source,
    folder: str | Path,
    workers: int = 1,
    skip_broken: bool = False,
    report: Callable[[str, int, int], None] = lambda stage, done, of: None,
) -> Store:
    """Writes recordings into a store. The same call goes on where one that was killed stopped.

    Each recording is written under another name and renamed; a line of ``progress.jsonl`` then has
    its checksum. At the end all are brought to the disk and read back, since a sync for each would
    take longer than a short recording. ``store.json`` comes last: a folder without it is no store.
    The files are the same, byte for byte, for any number of workers and however often the call was
    killed.

    Args:
        source: The recordings.
        folder: Folder of the store; a new one, an empty one, or one that this call began.
        workers: Threads; reading, decoding and checksums release Python's global lock.
        skip_broken: Leaves out recordings that cannot be read, and names them in ``store.json``.
        report: Takes the stage ("headers" or "samples"), the part that is done, and the all.

    Raises:
        ValueError: If an argument is out of its range, a recording is broken or empty (the first
            is named), or the folder holds anything else, even a store of other options.
        OSError: If there is too little room, another process prepares this folder, or a file cannot
            be read or written.
    """
    check_range(1, workers=workers)
    folder, stop = Path(os.path.expanduser(folder)), Event()
    folder.mkdir(parents=True, exist_ok=True)
    for entry in sorted(os.listdir(folder)):
        if not OURS.fullmatch(entry):
            raise ValueError(f"'out' must be a folder for a store alone, got '{folder / entry}'")
    progress = folder / "progress.jsonl"
    with open(progress, "a+b") as log, ThreadPoolExecutor(workers) as pool:
        if not locked(log.fileno()):
            raise OSError(f"'{folder}' is being written by another process")
        try:
            names, lengths = source.names(), []
            for num in pool.map(partial(length, source, skip_broken), names):
                lengths.append(num)
                report("headers", len(lengths), len(names))
            facts = [source.name, source.sample_rate, names, lengths]
            plan = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
            notes = begun(folder, log, plan)
            if not (folder / "store.json").exists():
                kept = {note["file"] for note in notes.values()}
                for file in (*folder.glob("*.npy"), *folder.glob(".*.part")):
                    if file.name not in kept:
                        file.unlink()  # a killed process was writing it
                check_room(folder, sum(n for i, n in enumerate(lengths) if i not in notes))
                write = partial(write_recording, source, folder, notes, skip_broken, stop)
                recordings, new, done, total = [], [], 0, sum(lengths)
                for i, note in enumerate(pool.map(write, range(len(names)), names)):
                    if note and i not in notes:
                        log.write(json.dumps([i, note]).encode() + b"\n")
                        log.flush()
                        new.append(note)
                    recordings += [note] if note else []
                    report("samples", done := done + lengths[i], total)
                sync_files([folder / note["file"] for note in new])
                list(pool.map(partial(check_written, folder), new))
                write_store(source, folder, plan, recordings)
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    progress.unlink()
    return Store(folder)


def length(source: Source, skip_broken: bool, name: str) -> int:
    """Returns the samples of a recording, by its header."""
    try:
        return source.samples(name)
    except (ValueError, OSError):
        if not skip_broken:
            raise
        return 0


def begun(folder: Path, log: BinaryIO, plan: str) -> dict[int, dict[str, Any]]:
    """Returns the notes of recordings that are written; the log then begins with the plan.

    Raises ValueError if the folder holds a store, or part of one, of another plan. A plan without a
    recording gives way: its first recording may be why options changed.
    """
    log.seek(0)
    first, *lines = [line for line in log.readlines() if line.endswith(b"\n")] or [b""]
    file, other, notes = folder / "progress.jsonl", first.decode(errors="replace").strip(), {}
    try:
        notes = dict(map(json.loads, lines))
        if (file := folder / "store.json").exists():
            other = json.loads(file.read_text(encoding="utf-8"))["plan"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"'{file}' must be of a store, got another file") from error
    if other != plan and (notes or file.exists()):
        raise ValueError(
            f"'out' must be a new folder or one of the same recordings and options, got "
            f"'{folder}', which is of others"
        )
    log.truncate(0)
    log.write(b"\n".join([plan.encode(), *map(bytes.strip, lines), b""]))
    log.flush()
    return notes


def write_recording(
    source: Source, folder: Path, notes: dict, skip_broken: bool, stop: Event, i: int, name: str
) -> dict[str, Any] | None:
    """Writes one recording, unless it is intact, and returns its entry; None for a broken one."""
    file = folder / f"{i:06d}.npy"
    if i in notes and is_intact(file, notes[i]["sha256"]):
        return notes[i]
    if stop.is_set():
        raise InterruptedError("stopped; the same command goes on")
    try:
        wave = np.ascontiguousarray(source.wave(name), SAMPLE)
        if not len(wave):
            raise ValueError(f"'{name}' must have samples, got none")
    except (ValueError, OSError):
        if not skip_broken:
            raise
        file.unlink(missing_ok=True)
        return None
    content = io.BytesIO()
    np.save(content, wave)
    with replacing(file, durable=False) as stream:
        stream.write(content.getbuffer())
    checksum = hashlib.sha256(content.getbuffer()).hexdigest()
    numbers = dict(zip(("samples", "total", "squares"), sums(wave)))
    return {"file": file.name, "name": name, "sha256": checksum, **numbers}


def check_written(folder: Path, note: dict[str, Any]) -> None:
    """Raises OSError unless a recording is read from the disk as it was written."""
    file = folder / note["file"]
    if not is_intact(file, note["sha256"]):
        raise OSError(f"'{file}' is not what was written to it: the disk may be failing")


def is_intact(file: Path, checksum: str) -> bool:
    """Returns whether a file is as noted, read from the disk if the system has a call for it."""
    if not file.exists():
        return False
    if hasattr(os, "posix_fadvise"):
        with open(file, "rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return digest(file) == checksum


def write_store(source: Source, folder: Path, plan: str, recordings: list[dict[str, Any]]) -> None:
    """Writes ``store.json`` from the notes of the recordings."""
    if not recordings:
        raise ValueError(f"'{source.name}' must have at least one recording, got none to read")
    names = {note["name"] for note in recordings}
    facts = {"format": NAME, "version": FORMAT, "source": source.name}
    facts |= {"sample_rate": source.sample_rate, "plan": plan}
    facts |= {"skipped": [name for name in source.names() if name not in names]}
    with replacing(folder / "store.json") as stream:  # names that are not UTF-8 are escaped
        stream.write(json.dumps(facts | {"recordings": recordings}).encode() + b"\n")


def check_room(folder: Path, samples: int) -> None:
    """Raises OSError if recordings of so many samples do not fit on the disk."""
    needed = 1.01 * samples * SAMPLE.itemsize  # the file system needs some, too
    if needed > (free := shutil.disk_usage(folder).free):
        raise OSError(
            f"'out' must have room for {needed / 1e9:.2f} GB, got {free / 1e9:.2f} GB free in "
            f"'{folder}'"
        )
