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
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..writing import locked, replacing
from .store import FORMAT, HEADER, NAME, SAMPLE, SHARD, Store, samples_digest, sums

OURS = re.compile(r"(shard-\d{5,}\.(npy|json)|store\.json|plan\.json|\..*\.part)")
ROOM = 1.01
"""Space that must be free, as a multiple of that of the samples: the file system needs some."""


class Source(Protocol):
    """Where recordings come from. Several threads call its methods at the same time."""

    name: str  # of the data set, kept in the store
    sample_rate: int  # samples a second of all waves

    def names(self) -> list[str]:
        """Returns the names of all recordings, in the order of the store."""

    def samples(self, name: str) -> int:
        """Returns the samples of a recording by its header, which decide its shard."""

    def wave(self, name: str) -> np.ndarray:
        """Returns the recording, int16, ``(samples,)``; raises ValueError if it is broken."""


class Plan(NamedTuple):
    """The recordings of each shard: a function of the listing and of the headers alone."""

    shards: list[list[str]]
    samples: list[int]  # of each shard, by the headers
    skipped: list[str]
    sha256: str


def prepare(
    source: Source,
    folder: str | Path,
    shard_samples: int = 500_000_000,
    workers: int = 1,
    skip_broken: bool = False,
    report: Callable[[str, int, int], None] = lambda stage, done, of: None,
) -> Store:
    """Writes recordings into a store. The same call goes on where one that was killed stopped.

    Each shard is written under another name, read back, and renamed; its entry for ``store.json``
    is then kept beside it. ``store.json`` comes last: a folder without it is not a store. The files
    are the same, byte for byte, for any number of workers and however often the call was killed.

    Args:
        source: The recordings.
        folder: Folder of the store; a new one, an empty one, or one that this call began.
        shard_samples: Most samples of a shard, unless a single recording has more; 2 bytes each.
        workers: Threads. Reading, decoding and checksums run outside of Python's global lock.
        skip_broken: Leaves out recordings that cannot be read, and names them in ``store.json``.
        report: Called with the stage ("headers" or "samples"), the part that is done, and the all.

    Raises:
        ValueError: If an argument is out of its range, a recording is broken or empty, all are, the
            folder holds anything else, or holds a store of other recordings or options. Of several
            broken recordings the error names the first.
        OSError: If there is too little room, another process prepares this folder, or a file cannot
            be read or written.

    Example:
        >>> import tempfile
        >>> class Hum:
        ...     name, sample_rate = "hum", 8000
        ...     names = lambda self: ["low", "high"]
        ...     samples = lambda self, name: 4
        ...     wave = lambda self, name: np.array([0, 1, 0, -1], dtype=np.int16) * len(name)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = prepare(Hum(), folder)
        ...     len(store), store.names[1], store[1][:].tolist(), store.mean_and_std()[0]
        (2, 'high', [0, 4, 0, -4], 0.0)
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
            plan = make_plan(source, shard_samples, skip_broken, pool.map, report)
            check_same(folder, plan)
            if not (folder / "store.json").exists():
                check_room(folder, plan)
                write_json({"plan": plan.sha256}, folder / "plan.json")
                write = partial(write_shard, source, folder, skip_broken, stop)
                notes, done = [], 0
                for k, note in enumerate(pool.map(write, range(len(plan.shards)), plan.shards)):
                    notes.append(note)
                    done += plan.samples[k]
                    report("samples", done, sum(plan.samples))
                write_store(source, folder, plan, notes)
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        for file in (*folder.glob("shard-*.json"), *folder.glob(".*.part"), folder / "plan.json"):
            file.unlink(missing_ok=True)
    return Store(folder)


def make_plan(source: Source, size: int, skip_broken: bool, run: Callable, report) -> Plan:
    """Deals recordings to shards of at most ``size`` samples, in order."""
    names, lengths = source.names(), []
    if not names:
        raise ValueError(f"'{source.name}' must have at least one recording, got none")

    def length(name: str) -> int:
        try:
            if (samples := source.samples(name)) < 1:
                raise ValueError(f"'{name}' must have samples, got none")
            return samples
        except (ValueError, OSError):
            if not skip_broken:
                raise
            return 0

    for num in run(length, names):  # in order: of several errors the first is raised
        lengths.append(num)
        if len(lengths) % 256 == 0 or len(lengths) == len(names):
            report("headers", len(lengths), len(names))
    shards: list[list[str]] = [[]]
    samples = [0]
    for name, num in zip(names, lengths):
        if num and samples[-1] and samples[-1] + num > size:
            shards.append([])
            samples.append(0)
        shards[-1] += [name] * (num > 0)
        samples[-1] += num
    skipped = [name for name, num in zip(names, lengths) if not num]
    facts = json.dumps([source.name, source.sample_rate, size, names, lengths])
    return Plan(shards, samples, skipped, hashlib.sha256(facts.encode()).hexdigest())


def write_shard(
    source: Source, folder: Path, skip_broken: bool, stop: Event, k: int, names: list[str]
) -> dict[str, Any]:
    """Writes one shard, and a note beside it, unless both are there and whole.

    Returns:
        The note: the shard's entry for ``store.json``, and the names that were skipped.
    """
    file = folder / f"shard-{k:05d}.npy"
    beside = file.with_suffix(".json")
    if beside.exists():
        note = json.loads(beside.read_text(encoding="utf-8"))
        if (skip_broken or not note["skipped"]) and is_intact(file, note):
            return note
    columns: dict[str, list] = {"names": [], "samples": [], "total": [], "squares": []}
    skipped, digest = [], hashlib.sha256()
    with replacing(file) as stream:
        stream.write(bytes(HEADER))
        for name in names:
            if stop.is_set():
                raise InterruptedError("stopped; the same command goes on")
            try:
                wave = source.wave(name)
                if not len(wave):
                    raise ValueError(f"'{name}' must have samples, got none")
            except (ValueError, OSError):
                if not skip_broken:
                    raise
                skipped.append(name)
                continue
            content = np.ascontiguousarray(wave, SAMPLE)
            digest.update(content)
            stream.write(content)
            for column, value in zip(columns.values(), (name, *sums(wave))):
                column.append(value)
        stream.seek(0)
        header = {"descr": SAMPLE.str, "fortran_order": False, "shape": (sum(columns["samples"]),)}
        np.lib.format.write_array_header_1_0(stream, header)
    note = {"file": file.name, "sha256": digest.hexdigest(), **columns, "skipped": skipped}
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


def write_store(source: Source, folder: Path, plan: Plan, notes: list[dict[str, Any]]) -> None:
    """Writes ``store.json`` from the notes of the shards."""
    broken = {*plan.skipped, *(name for note in notes for name in note["skipped"])}
    shards = [{key: note[key] for key in SHARD} for note in notes if note["names"]]
    if not shards:
        raise ValueError(f"'{source.name}' must have at least one recording, got only broken ones")
    facts = {"format": NAME, "version": FORMAT, "source": source.name}
    facts |= {"sample_rate": source.sample_rate, "plan": plan.sha256}
    facts |= {"skipped": [name for name in source.names() if name in broken], "shards": shards}
    write_json(facts, folder / "store.json")


def write_json(facts: dict[str, Any], file: Path) -> None:
    """Writes a JSON file. Names of files that are not UTF-8 are escaped."""
    with replacing(file) as stream:
        stream.write(json.dumps(facts).encode() + b"\n")


def check_same(folder: Path, plan: Plan) -> None:
    """Raises ValueError if a folder holds a store, or part of one, of another plan.

    A plan without a finished shard gives way: its first recording may be why options changed.
    """
    begun = any(folder.glob("shard-*.npy"))
    for file in (folder / "store.json", folder / "plan.json"):
        if file.exists():
            try:
                sha256 = json.loads(file.read_text(encoding="utf-8"))["plan"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"'{file}' must be of a store, got another file") from error
            if sha256 != plan.sha256 and (begun or file.name == "store.json"):
                raise ValueError(
                    f"'out' must be a new folder or one of the same recordings and options, "
                    f"got '{folder}', which is of others"
                )


def check_room(folder: Path, plan: Plan) -> None:
    """Raises OSError if the shards that are missing do not fit on the disk."""
    for file in folder.glob(".*.part"):  # a killed process left them
        file.unlink()
    missing = [not (folder / f"shard-{k:05d}.json").exists() for k in range(len(plan.shards))]
    samples = sum(n for n, wanted in zip(plan.samples, missing) if wanted)
    needed, free = samples * SAMPLE.itemsize * ROOM, shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"'out' must have room for {needed / 1e9:.2f} GB, got {free / 1e9:.2f} GB free in "
            f"'{folder}'"
        )
