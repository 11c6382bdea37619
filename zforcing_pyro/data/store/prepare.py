"""Recordings into a :class:`~.store.Store`: in parallel, and again after being killed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

import numpy as np

from .parallel import locked, processes
from .shards import HEADER, SAMPLE, intact, replace, write_header, write_json
from .store import FORMAT, VERSION, Store

OURS = re.compile(r"(shard-\d{5,}\.(npy|json)|index\.npz|store\.json|plan\.json)(\.tmp-\d+)?")
ROOM = 1.01
"""Space that is asked for, next to that of the samples: for the index, and for the file system."""


class Source(Protocol):
    """Where recordings come from. It is pickled for every part of the work: keep that small."""

    name: str  # of the data set, as the store has it
    sample_rate: int  # samples a second that waves have

    def names(self) -> list[str]:
        """Of all recordings, in the order of the store."""

    def samples(self, name: str) -> int:
        """Samples of a recording, from its header: how they are dealt to shards."""

    def wave(self, name: str) -> np.ndarray:
        """The recording, int16, ``(samples,)``; as ``samples``, raises ValueError if broken."""


class Plan(NamedTuple):
    """Which recordings a shard gets: a function of the listing and of the headers alone."""

    shards: list[list[str]]
    samples: list[int]  # of each shard, as headers have it
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

    Each shard is written under another name, read back, and renamed; what it holds is then noted
    beside it. ``store.json`` comes last: a folder without it is no store. The files are the same,
    byte for byte, whatever the number of workers and however often it was killed.

    Args:
        source: The recordings.
        folder: Of the store; a new one, an empty one, or one that this call began.
        shard_samples: Most samples of a shard, unless a single recording has more; 2 bytes each.
        workers: Processes.
        skip_broken: Leave recordings out that cannot be read, and name them in ``store.json``.
        report: Called with the stage, "headers" or "samples", how much of it is done, and of what.

    Raises:
        ValueError: If an argument is out of its range, a recording is broken or empty, all are, the
            folder holds anything else, or is that of other recordings or options.
        OSError: If there is not room enough, another process prepares this folder, or a file cannot
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
    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    check_ours(folder)
    with locked(folder), processes(workers) as run:
        plan = planned(source, shard_samples, skip_broken, run, report)
        check_same(folder, plan)
        if not (folder / "store.json").exists():
            check_room(folder, plan)
            for file in folder.glob("*.tmp-*"):
                file.unlink()
            replace(folder / "plan.json", partial(write_json, {"plan_sha256": plan.sha256}))
            write_shards(source, folder, plan, skip_broken, run, report)
            write_index(source, folder, plan)
        for file in (*folder.glob("shard-*.json"), *folder.glob("*.tmp-*"), folder / "plan.json"):
            file.unlink(missing_ok=True)
    return Store(folder)


def planned(source: Source, shard_samples: int, skip_broken: bool, run, report) -> Plan:
    """Deals recordings to shards, in order."""
    names, lengths = source.names(), []
    if not names:
        raise ValueError(f"'{source.name}' must have at least one recording, got none")
    chunks = [names[i : i + 256] for i in range(0, len(names), 256)]
    for chunk in run(partial(header_lengths, source, skip_broken), chunks):
        lengths += chunk
        report("headers", len(lengths), len(names))
    shards: list[list[str]] = [[]]
    samples = [0]
    for name, length in zip(names, lengths):
        if length and samples[-1] and samples[-1] + length > shard_samples:
            shards.append([])
            samples.append(0)
        if length:
            shards[-1].append(name)
            samples[-1] += length
    skipped = [name for name, length in zip(names, lengths) if not length]
    facts = [source.name, source.sample_rate, shard_samples, names, lengths]
    return Plan(shards, samples, skipped, hashlib.sha256(json.dumps(facts).encode()).hexdigest())


def header_lengths(source: Source, skip_broken: bool, names: list[str]) -> list[int]:
    """Samples of each recording; 0 for a broken one that is skipped."""

    def length(name: str) -> int:
        try:
            if (samples := source.samples(name)) < 1:
                raise ValueError(f"'{name}' must have samples, got none")
            return samples
        except (ValueError, OSError):
            if not skip_broken:
                raise
            return 0

    return [length(name) for name in names]


def write_shards(source: Source, folder: Path, plan: Plan, skip_broken: bool, run, report) -> None:
    """Writes what is not there yet."""
    task, done = partial(write_shard, source, folder, skip_broken), 0
    for k in run(task, list(enumerate(plan.shards)), in_order=False):
        done += plan.samples[k]
        report("samples", done, sum(plan.samples))


def write_shard(
    source: Source, folder: Path, skip_broken: bool, part: tuple[int, list[str]]
) -> int:
    """Writes one shard, and beside it a note of what it holds, unless both are there."""
    k, names = part
    file = folder / f"shard-{k:05d}.npy"
    note = file.with_suffix(".json")
    if note.exists():
        facts = json.loads(note.read_text())
        if (skip_broken or not facts["skipped"]) and intact(file, facts):
            return k
    facts = {"names": [], "samples": [], "total": [], "squares": [], "skipped": []}
    digest = hashlib.sha256()

    def write(stream: BinaryIO) -> None:
        stream.write(bytes(HEADER))
        for name in names:
            try:
                wave = source.wave(name)
                if not len(wave):
                    raise ValueError(f"'{name}' must have samples, got none")
            except (ValueError, OSError):
                if not skip_broken:
                    raise
                facts["skipped"].append(name)
                continue
            content = wave.astype(SAMPLE, copy=False)
            digest.update(content)
            stream.write(content)
            for key, value in zip(("names", "samples", "total", "squares"), (name, *sums(wave))):
                facts[key].append(value)
        stream.seek(0)
        write_header(stream, sum(facts["samples"]))

    replace(file, write)
    facts["sha256"] = digest.hexdigest()
    if not facts["names"]:
        file.unlink()
    if not intact(file, facts):
        raise OSError(f"'{file}' is not what was written to it: the disk may be failing")
    replace(note, partial(write_json, facts))
    return k


def sums(wave: np.ndarray) -> tuple[int, int, int]:
    """Samples, their sum and their sum of squares, exactly; in pieces, for memory's sake."""
    total = squares = 0
    for begin in range(0, len(wave), 1 << 20):
        piece = wave[begin : begin + (1 << 20)].astype(np.int64)
        total, squares = total + int(piece.sum()), squares + int(piece @ piece)
    return len(wave), total, squares


def write_index(source: Source, folder: Path, plan: Plan) -> None:
    """``index.npz`` and ``store.json`` from the notes beside the shards."""
    files = [folder / f"shard-{k:05d}.json" for k in range(len(plan.shards))]
    notes = {file.with_suffix(".npy").name: json.loads(file.read_text()) for file in files}
    broken = {*plan.skipped, *(name for note in notes.values() for name in note["skipped"])}
    notes = {file: note for file, note in notes.items() if note["names"]}
    if not notes:
        raise ValueError(f"'{source.name}' must have at least one recording, got only broken ones")
    names = [name for note in notes.values() for name in note["names"]]
    # As Python has names of files that are no UTF-8.
    encoded = "\0".join(names).encode(errors="surrogateescape")
    arrays = {"names": np.frombuffer(encoded, dtype=np.uint8)}
    arrays["shard"] = np.repeat(np.arange(len(notes)), [len(n["names"]) for n in notes.values()])
    arrays["offset"] = np.concatenate([np.cumsum([0, *n["samples"]])[:-1] for n in notes.values()])
    for key in ("samples", "total", "squares"):
        arrays[key] = np.array([v for n in notes.values() for v in n[key]], dtype=np.int64)
    replace(folder / "index.npz", lambda stream: np.savez(stream, **arrays))
    facts = {
        "format": FORMAT,
        "version": VERSION,
        "source": source.name,
        "sample_rate": source.sample_rate,
        "recordings": len(names),
        "skipped": [name for name in source.names() if name in broken],
        "plan_sha256": plan.sha256,
        "index_sha256": hashlib.sha256((folder / "index.npz").read_bytes()).hexdigest(),
        "shards": [
            {"file": file, "samples": sum(n["samples"]), "sha256": n["sha256"]}
            for file, n in notes.items()
        ],
    }
    replace(folder / "store.json", partial(write_json, facts))


def check_ours(folder: Path) -> None:
    """Raises ValueError if a folder holds what is no part of a store."""
    for entry in sorted(os.listdir(folder)):
        if not OURS.fullmatch(entry):
            raise ValueError(f"'out' must be a folder for a store alone, got '{folder / entry}'")


def check_same(folder: Path, plan: Plan) -> None:
    """Raises ValueError if a folder holds a store, or part of one, of another plan.

    A plan of which no shard was finished holds nobody to it: its first recording may be what made
    a person change the options.
    """
    begun = any(file.suffix in (".npy", ".json") for file in folder.glob("shard-*"))
    for file in (folder / "store.json", folder / "plan.json"):
        if file.exists():
            try:
                found = json.loads(file.read_text())["plan_sha256"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"'{file}' must be of a store, got another file") from error
            if found != plan.sha256 and (begun or file.name == "store.json"):
                raise ValueError(
                    f"'out' must be a new folder or one of the same recordings and options, "
                    f"got '{folder}', which is of others"
                )


def check_room(folder: Path, plan: Plan) -> None:
    """Raises OSError unless what is not written yet fits on the disk."""
    missing = [not (folder / f"shard-{k:05d}.json").exists() for k in range(len(plan.shards))]
    samples = sum(n for n, wanted in zip(plan.samples, missing) if wanted)
    # Temporary files of a process that was killed are about to go.
    stale = sum(file.stat().st_size for file in folder.glob("*.tmp-*"))
    needed, free = samples * SAMPLE.itemsize * ROOM, shutil.disk_usage(folder).free + stale
    if needed > free:
        raise OSError(
            f"'out' must have room for {needed / 1e9:.2f} GB, got {free / 1e9:.2f} GB free in "
            f"'{folder}'"
        )
