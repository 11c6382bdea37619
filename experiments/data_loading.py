"""Costs of streaming from a store: memory, sequences a second, and the share of a training step.

python -m experiments.data_loading FOLDER --gb 20

A store of noise is prepared in a new folder in FOLDER, read in shuffled order through the parts
that training uses, and deleted. Each measurement is of a process of its own.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader

from experiments.benchmarks.configurations import CONFIGURATIONS, problem
from experiments.benchmarks.measure import pin
from experiments.benchmarks.variants import Fast
from zforcing_pyro.data import BatchSampler, Recordings, collate
from zforcing_pyro.data.formats.waves import resampled
from zforcing_pyro.data.store.prepare import prepare
from zforcing_pyro.data.store.store import Store

STATUS = Path("/proc/self/status")
SAMPLES = 80_000  # of a recording on average: five seconds at 16 kHz
FRAME, WINDOW, BATCH_SIZE = 200, 40, 32
RESAMPLED = 1_500  # recordings that are prepared from 44.1 kHz to compare one worker with two


class Noise:
    """Recordings of white noise, each a function of its name: there are no files to read.

    Args:
        num: Recordings.
        resample: From 44.1 kHz, as recordings of speech often have to be.
    """

    name, sample_rate = "noise", 16_000

    def __init__(self, num: int, resample: bool = False):
        self.num, self.resample = num, resample

    def names(self) -> list[str]:
        return [f"{i:08d}.wav" for i in range(self.num)]

    def samples(self, name: str) -> int:
        return SAMPLES // 2 + int(name[:8]) * 7_919 % SAMPLES

    def wave(self, name: str) -> np.ndarray:
        rng, samples = np.random.Generator(np.random.SFC64(int(name[:8]))), self.samples(name)
        if self.resample:
            samples = samples * 44_100 // self.sample_rate
        wave = np.frombuffer(rng.bytes(2 * samples), dtype=np.int16) >> 4
        return resampled(wave, 44_100, self.sample_rate) if self.resample else wave


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", help="where there is room for the store")
    parser.add_argument("--gb", type=float, default=20, help="size of the store")
    parser.add_argument("--seconds", type=float, default=60, help="of reading, for each row")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure = {f.__name__: f for f in (not_cached, cached, two_workers, steps)}[options.measure]
        print(json.dumps(measure(Path(options.folder), options.seconds)))
        return
    free = shutil.disk_usage(options.folder).free / 1e9
    if options.gb > 0.9 * free:
        raise SystemExit(f"'--gb' must leave a tenth of the {free:.0f} GB free, got {options.gb:g}")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        report(Path(folder), options)


def report(folder: Path, options: argparse.Namespace) -> None:
    num = max(64, round(options.gb * 1e9 / 2 / SAMPLES))
    print(f"protocol: {os.cpu_count()} hardware threads, load {os.getloadavg()[0]:.1f}; ", end="")
    print(f"{num:,} recordings of white noise, int16; frames of {FRAME} samples, windows of ")
    print(f"{WINDOW} frames, batches of {BATCH_SIZE}, shuffled; one thread; medians of batches")
    print("| prepared | GB | workers | wall s | CPU s |")
    print("| --- | --- | --- | --- | --- |")
    few = min(num, RESAMPLED)
    for workers in (1, 2, 1, 2):
        source, part = Noise(few, resample=True), folder / "part"
        row = preparation(source, part, workers)
        print(f"| from 44.1 kHz | {row} |", flush=True)
        shutil.rmtree(part)
    print(f"| as it is | {preparation(Noise(num), folder / 'store', 2)} |", flush=True)
    print("| files | sequences/s | CPU ms a batch | wall ms | peak MB | of it before reading |")
    print("| --- | --- | --- | --- | --- | --- |")
    reading = {}
    for name in ("not_cached", "cached", "two_workers"):
        row = reading[name] = measured(name, folder / "store", options)
        print(f"| {name} | {BATCH_SIZE / row['wall'] * 1e3:,.0f} | {row['cpu']:.2f} | ", end="")
        print(f"{row['wall']:.2f} | {row['peak']:.0f} | {row['before']:.0f} |")
    print("| training step | CPU ms | loading, % of both (cached) | wall, not cached |")
    print("| --- | --- | --- | --- |")
    for name, step in measured("steps", folder / "store", options).items():
        cpu, wall = reading["cached"]["cpu"], reading["not_cached"]["wall"]
        print(f"| {name} | {step:.0f} | {cpu / (cpu + step):.1%} | {wall / (wall + step):.1%} |")


def preparation(source: Noise, folder: Path, workers: int) -> str:
    """GB of samples, workers, seconds of wall time, and of CPU time of all processes."""
    start, used = time.perf_counter(), sum(os.times()[:4])
    store = prepare(source, folder, workers)
    seconds, cpu = time.perf_counter() - start, sum(os.times()[:4]) - used
    return f"{2 * int(store.lengths.sum()) / 1e9:.2f} | {workers} | {seconds:.1f} | {cpu:.1f}"


def measured(what: str, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """A measurement in a new process."""
    command = [sys.executable, "-m", "experiments.data_loading", str(folder), "--measure", what]
    command += ["--seconds", str(options.seconds)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def not_cached(folder: Path, seconds: float) -> dict[str, float]:
    """From the disk: the system is asked to forget the files first."""
    for file in folder.glob("*.npy"):
        with open(file, "rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return read(folder, seconds)


def cached(folder: Path, seconds: float) -> dict[str, float]:
    """From memory of the system, as far as it has room: all is read once before."""
    for file in folder.glob("*.npy"):
        with open(file, "rb") as stream:
            while stream.read(1 << 24):
                pass
    return read(folder, seconds)


def two_workers(folder: Path, seconds: float) -> dict[str, float]:
    """Cached, by two worker processes: the CPU time is that of the process that trains."""
    return read(folder, seconds, num_workers=2)


def read(folder: Path, seconds: float, num_workers: int = 0) -> dict[str, float]:
    """Milliseconds a batch, and megabytes of this process."""
    pin()
    before, store = memory("VmRSS"), Store(folder)
    data = Recordings(store, FRAME, *store.mean_and_std()).windows(WINDOW)
    sampler = BatchSampler(data.lengths, BATCH_SIZE, shuffle=True, bucket=True)
    loader = DataLoader(data, batch_sampler=sampler, collate_fn=collate, num_workers=num_workers)
    wall, cpu, start = [], [], time.perf_counter()
    batches = iter(loader)
    while time.perf_counter() < start + seconds:
        begin, used = time.perf_counter(), time.process_time()
        if next(batches, None) is None:
            break
        wall.append(1e3 * (time.perf_counter() - begin))
        cpu.append(1e3 * (time.process_time() - used))
    return {
        "wall": float(np.median(wall)),
        "cpu": float(np.median(cpu)),
        "batches": len(wall),
        "before": before,
        "peak": memory("VmHWM"),
    }


def steps(folder: Path, seconds: float) -> dict[str, float]:
    """Milliseconds of CPU time of training steps on frames of that size."""
    pin()
    found = {}
    for name in ("SMALL", "TIMIT"):
        fast, times, start = Fast(problem(CONFIGURATIONS[name])), [], time.perf_counter()
        fast.step()
        while len(times) < 3 or time.perf_counter() < start + seconds / 2:
            used = time.process_time()
            fast.step()
            times.append(1e3 * (time.process_time() - used))
        found[name] = float(np.median(times))
    return found


def memory(field: str) -> float:
    """Returns the memory of this process, in megabytes."""
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(lines[field].split()[0]) / 1024


if __name__ == "__main__":
    main()
