"""Peak memory of a step, in a process of its own.

``python -m experiments.benchmarks.memory NAME CONFIGURATION`` prints megabytes.
"""

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from .configurations import Configuration, problem
from .measure import pin
from .variants import VARIANTS

ROOT = Path(__file__).parents[2]
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
# So that the allocator gives every block but small ones back at once: then memory is what is used.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def peak_mb_of_variant(name: str, configuration: Configuration) -> float | None:
    """Extra memory at the peak of a step; None where the system does not tell.

    Raises:
        RuntimeError: If the process fails.
    """
    if not (STATUS.exists() and RESET.exists()):
        return None
    command = [sys.executable, "-m", __name__, name, json.dumps(asdict(configuration))]
    env = os.environ | ALLOCATOR
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env)
    if done.returncode:
        raise RuntimeError(f"Memory of '{name}' could not be measured:\n{done.stderr}")
    return float(done.stdout.splitlines()[-1])


def peak_mb(step: Callable[[], None], num_steps: int = 3) -> float:
    """Returns the rise of resident memory above its present size, in megabytes of 2^20 bytes.

    Several steps, since what one leaves for the next is part of its price.
    """
    gc.collect()
    RESET.write_text("5")  # the peak so far is forgotten
    before = kilobytes("VmRSS")
    for _ in range(num_steps):
        step()
    return (kilobytes("VmHWM") - before) / 1024


def kilobytes(entry: str) -> int:
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(entry))
    return int(line.split()[1])


def main() -> None:
    import pyro

    name, configuration = sys.argv[1:]
    pin()
    pyro.enable_validation(False)
    variant = VARIANTS[name](problem(Configuration(**json.loads(configuration))))
    variant.warm_up()
    print(peak_mb(variant.step))


if __name__ == "__main__":
    main()
