"""Measures time and memory of an evaluation with K particles, each K in its own process.

python experiments/evaluation_cost.py --particles 50 500 5000 --bounds iwae fivo
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

from zforcing_pyro.analysis.evaluation import evaluate
from zforcing_pyro.data import Sequences, corpus
from zforcing_pyro.emissions import Bernoulli
from zforcing_pyro.estimators import ESTIMATORS
from zforcing_pyro.models import ZForcing

STATUS = Path("/proc/self/status")
# The allocator returns all but small blocks at once, so that the peak is memory in use.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures evaluations of Z-Forcing on digits.")
    parser.add_argument("--particles", type=int, nargs="+", default=[50, 500, 1000, 2500, 5000])
    parser.add_argument("--bounds", choices=tuple(ESTIMATORS), nargs="+", default=["iwae", "fivo"])
    parser.add_argument("--sequences", type=int, default=16)
    parser.add_argument("--max_rows", type=int, default=1_024)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.one, options.particles[0], options)))
        return
    print("| bound | K | chunk | CPU seconds | ms per particle and sequence | peak memory (MB) |")
    print("| --- | --- | --- | --- | --- | --- |")
    for bound in options.bounds:
        for particles in options.particles:
            command = [sys.executable, __file__, "--one", bound, "--particles", str(particles)]
            command += ["--sequences", str(options.sequences), "--max_rows", str(options.max_rows)]
            environment = os.environ | ALLOCATOR
            done = subprocess.run(
                command, capture_output=True, text=True, check=True, env=environment
            )
            seconds, peak = json.loads(done.stdout)
            chunk = (
                options.max_rows if ESTIMATORS[bound].chunked else max(options.max_rows, particles)
            )
            each = 1e3 * seconds / particles / options.sequences
            print(
                f"| `{bound}` | {particles} | {chunk} | {seconds:.1f} | {each:.2f} | {peak:.0f} |"
            )


def measured(bound: str, particles: int, options: argparse.Namespace) -> tuple[float, float]:
    """Returns CPU seconds, and the peak above the memory before, in megabytes."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    digits = corpus("digits").split("test")
    sequences = Sequences([digits[i].x for i in range(options.sequences)])
    net = ZForcing(Bernoulli, 1, z_dim=32, h_dim=192, hidden_dim=128, embed_dim=0)
    evaluate(net, sequences, ESTIMATORS[bound](25), max_rows=64)  # one-time costs
    before, start = memory("VmRSS"), time.process_time()
    evaluate(net, sequences, ESTIMATORS[bound](particles), max_rows=options.max_rows)
    return time.process_time() - start, memory("VmHWM") - before


def memory(field: str) -> float:
    """Returns a field of this process's status, in megabytes."""
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(lines[field].split()[0]) / 1024


if __name__ == "__main__":
    main()
