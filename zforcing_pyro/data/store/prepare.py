"""Recordings into a :class:`~.store.Store`: in parallel, and restartable after being killed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, Protocol

import numpy as np

from ..writing import locked, replacing
from .store import FORMAT, HEADER, NAME, SAMPLE, Store, header, samples_digest, sums

OURS = re.compile(r"(shard-\d{5,}\.(npy|json)|store\.json|plan\.json|\..*\.part)")


class Source(Protocol):
    """Recordings to prepare; several threads call the functions at the same time."""

    name: str  # of the data set, kept in the store
    sample_rate: int
    names: Callable[[], list[str]]  # returns all recordings, in the order of the store
    samples: Callable[[str], int]  # returns a length by the header, which decides the shard
    wave: Callable[[str], np.ndarray]  # returns int16, ``(samples,)``, or raises ValueError


def prepare(
    source: Source,
    folder: str | Path,
    shard_samples: int = 500_000_000,
    workers: int = 1,
    skip_broken: bool = False,
    report: Callable[[str, int, int], None] = lambda stage, done, of: None,
) -> Store:
    """Writes recordings into a store. The same call goes on where one that was killed stopped.

    Each shard is written under another name, renamed, and read back; its entry for ``store.json``
    is then kept beside it. ``store.json`` comes last: a folder without it is not a store. The files
    are the same, byte for byte, for any number of workers and however often the call was killed.

    Args:
        source: The recordings.
        folder: Folder of the store; a new one, an empty one, or one that this call began.
        shard_samples: Most samples of a shard, unless a single recording has more; 2 bytes each.
        workers: Threads; reading, decoding and checksums release Python's global lock.
        skip_broken: Leaves out recordings that cannot be read, and names them in ``store.json``.
        report: Takes the stage ("headers" or "samples"), the part that is done, and the all.

    Raises:
        ValueError: If an argument is out of its range, a recording is broken or empty (the first
            is named), or the folder holds anything else, even a store of other options.
        OSError: If there is too little room, another process prepares this folder, or a file cannot
            be read or written.
    """
    for option, value in (("shard_samples", shard_samples), ("workers", workers)):
        if value < 1:
            raise ValueError(f"'{option}' must be at least 1, got {value}")
    folder, stop = Path(os.path.expanduser(folder)), Event()
    folder.mkdir(parents=True, exist_ok=True)
    for entry in sorted(os.listdir(folder)):
        if not OURS.fullmatch(entry):
            raise ValueError(f"'out' must be a folder for a store alone, got '{folder / entry}'")
    with locked(folder), ThreadPoolExecutor(workers) as pool:
        try:
            shards = make_shards(source, shard_samples, skip_broken, pool.map, report)
            facts = [source.name, source.sample_rate, shard_samples, source.names(), shards]
            plan = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
            check_same(folder, plan)
            if not (folder / "store.json").exists():
                check_room(folder, shards)
                write_json({"plan": plan}, folder / "plan.json")
                write = partial(write_shard, source, folder, skip_broken, stop)
                samples, notes = [sum(shard.values()) for shard in shards], []
                for note in pool.map(write, range(len(shards)), map(list, shards)):
                    notes.append(note)
                    report("samples", sum(samples[: len(notes)]), sum(samples))
                write_store(source, folder, plan, notes)
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        for file in (*folder.glob("shard-*.json"), *folder.glob(".*.part"), folder / "plan.json"):
            file.unlink(missing_ok=True)
    return Store(folder)


def make_shards(
    source: Source, size: int, skip_broken: bool, run: Callable, report: Callable
) -> list[dict[str, int]]:
    """Returns samples by name for each shard of at most ``size`` samples, by the headers alone."""

    def length(name: str) -> int:
        try:
            return checked_length(name, source.samples(name))
        except (ValueError, OSError):
            if not skip_broken:
                raise
            return 0

    shards: list[dict[str, int]] = [{}]
    names, room = source.names(), size
    for done, (name, num) in enumerate(zip(names, run(length, names)), 1):
        report("headers", done, len(names))
        if num > room and shards[-1]:
            shards.append({})
            room = size
        if num:
            shards[-1][name] = num
            room -= num
    if not any(shards):
        raise ValueError(f"'{source.name}' must have at least one recording, got none to read")
    return shards


def checked_length(name: str, samples: int) -> int:
    """Returns the samples of a recording; raises ValueError if there are none."""
    if samples < 1:
        raise ValueError(f"'{name}' must have samples, got none")
    return samples


def write_shard(
    source: Source, folder: Path, skip_broken: bool, stop: Event, k: int, names: list[str]
) -> dict[str, Any]:
    """Writes one shard, unless it is intact, and beside it its entry, which is returned."""
    file = folder / f"shard-{k:05d}.npy"
    beside = file.with_suffix(".json")
    if beside.exists():
        note = json.loads(beside.read_text(encoding="utf-8"))
        if (skip_broken or note["names"] == names) and is_intact(file, note):
            return note
    columns: dict[str, list] = {"names": [], "samples": [], "total": [], "squares": []}
    digest = hashlib.sha256()
    with replacing(file) as stream:
        stream.write(bytes(HEADER))
        for name in names:
            if stop.is_set():
                raise InterruptedError("stopped; the same command goes on")
            try:
                wave = source.wave(name)
                checked_length(name, len(wave))
            except (ValueError, OSError):
                if not skip_broken:
                    raise
                continue
            content = np.ascontiguousarray(wave, SAMPLE).data
            digest.update(content)
            stream.write(content)
            for column, value in zip(columns.values(), (name, *sums(wave))):
                column.append(value)
        stream.seek(0)
        stream.write(header(sum(columns["samples"])))
    note = {"file": file.name, "sha256": digest.hexdigest(), **columns}
    if not note["names"]:
        file.unlink()
    if not is_intact(file, note):
        raise OSError(f"'{file}' is not what was written to it: the disk may be failing")
    write_json(note, beside)
    return note


def is_intact(file: Path, note: dict[str, Any]) -> bool:
    """Returns whether a shard is as noted, read from the disk if the system has a call for it."""
    if not file.exists():
        return not note["names"]
    if hasattr(os, "posix_fadvise"):
        with open(file, "rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    size = HEADER + sum(note["samples"]) * SAMPLE.itemsize
    return file.stat().st_size == size and samples_digest(file) == note["sha256"]


def write_store(source: Source, folder: Path, plan: str, notes: list[dict[str, Any]]) -> None:
    """Writes ``store.json`` from the notes of the shards."""
    names = {name for note in notes for name in note["names"]}
    if not names:
        raise ValueError(f"'{source.name}' must have at least one recording, got only broken ones")
    facts = {"format": NAME, "version": FORMAT, "source": source.name}
    facts |= {"sample_rate": source.sample_rate, "plan": plan}
    facts |= {"skipped": [name for name in source.names() if name not in names]}
    facts |= {"shards": [note for note in notes if note["names"]]}
    write_json(facts, folder / "store.json")


def write_json(facts: dict[str, Any], file: Path) -> None:
    """Writes a JSON file. Names of files that are not UTF-8 are escaped."""
    with replacing(file) as stream:
        stream.write(json.dumps(facts).encode() + b"\n")


def check_same(folder: Path, plan: str) -> None:
    """Raises ValueError if a folder holds a store, or part of one, of another plan."""
    # A plan without a finished shard gives way: its first recording may be why options changed.
    begun = any(folder.glob("shard-*.npy"))
    for file in filter(Path.exists, (folder / "store.json", folder / "plan.json")):
        try:
            other = json.loads(file.read_text(encoding="utf-8"))["plan"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"'{file}' must be of a store, got another file") from error
        if other != plan and (begun or file.name == "store.json"):
            raise ValueError(
                f"'out' must be a new folder or one of the same recordings and options, got "
                f"'{folder}', which is of others"
            )


def check_room(folder: Path, shards: list[dict[str, int]]) -> None:
    """Raises OSError if the shards that are missing do not fit on the disk."""
    for file in folder.glob(".*.part"):  # a killed process left them
        file.unlink()
    missing = (s for k, s in enumerate(shards) if not (folder / f"shard-{k:05d}.json").exists())
    samples = sum(sum(shard.values()) for shard in missing)
    needed = 1.01 * samples * SAMPLE.itemsize  # the file system needs some, too
    if needed > (free := shutil.disk_usage(folder).free):
        raise OSError(
            f"'out' must have room for {needed / 1e9:.2f} GB, got {free / 1e9:.2f} GB free in "
            f"'{folder}'"
        )
