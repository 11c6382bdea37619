"""Trains three arms on 5,000 handwritten digits and writes one page on them.

    python -m experiments.demo [--out runs/demo] [--seed 0] [--max_updates 800] [--num 500]

The same command goes on where it was stopped.
"""

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FOLDER = Path(__file__).parent
ARMS = "plain", "annealed", "zforcing"


def call(*args: object) -> None:
    """Calls one command of zforcing; an error ends the demo."""
    done = subprocess.run([sys.executable, "-m", "zforcing_pyro", *map(str, args)])
    if done.returncode:
        raise SystemExit(done.returncode)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder of the runs")
    parser.add_argument("--seed", type=int, default=0, help="seed of all three arms")
    parser.add_argument("--max_updates", type=int, default=800, help="updates of each arm")
    parser.add_argument("--num", type=int, default=500, help="test images that are measured")
    options = parser.parse_args()
    common = "--seed", options.seed, "--max_updates", options.max_updates, "--resume"

    def train(arm: str) -> None:
        call("train", "--config", FOLDER / f"{arm}.yaml", "--out", options.out / arm, *common)

    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:  # one core for each run
        list(pool.map(train, reversed(ARMS)))
    page = options.out / "report.html"
    runs = [options.out / arm for arm in ARMS]
    call("report", *runs, "--num", options.num, "--particles", 25, "--out", page)


if __name__ == "__main__":
    main()
