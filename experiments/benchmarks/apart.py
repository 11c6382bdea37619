"""A variant in a process of its own, which takes a step when it is told to.

``python -m experiments.benchmarks.apart NAME CONFIGURATION CORE`` prints what the first step took,
and for each line that it reads what one more took: JSON, in milliseconds.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from zforcing_pyro.layers.memory import keep_freed_memory

from .configurations import Configuration, problem
from .measure import Step, clocked, first, pin
from .variants import VARIANTS

ROOT = Path(__file__).parents[2]


@contextmanager
def apart(name: str, configuration: Configuration, core: int | None = None) -> Iterator[Step]:
    """Starts a variant's process; its answer to the first call is what its first step took.

    Args:
        name: Key of ``VARIANTS``.
        configuration: What it trains.
        core: See :func:`pin`.

    Raises:
        RuntimeError: At a step, if the process has ended.
    """
    command = [sys.executable, "-m", __name__, name, json.dumps(asdict(configuration))]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [*command, json.dumps(core)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            cwd=ROOT,
            text=True,
        )

        def answer() -> tuple[float, float]:
            line = ""
            try:
                process.stdin.write("\n")
                process.stdin.flush()
                line = process.stdout.readline()
                cpu, wall = json.loads(line)
                return cpu, wall
            except (BrokenPipeError, ValueError, TypeError) as error:
                process.kill()
                process.wait()
                said.seek(0)
                text = f"{line}{said.read()}"
                raise RuntimeError(f"No time came from the process of '{name}':\n{text}") from error

        try:
            yield answer
        finally:
            process.kill()
            process.communicate()


def main() -> None:
    import pyro

    name, configuration, core = sys.argv[1], *map(json.loads, sys.argv[2:])
    pin(core)
    pyro.enable_validation(False)
    if getattr(VARIANTS[name], "keeps_memory", False):
        keep_freed_memory()
    step = VARIANTS[name](problem(Configuration(**configuration))).step
    if not sys.stdin.readline():
        return  # whoever started it is gone
    print(json.dumps([0.0, first(step)]), flush=True)
    timed = clocked(step)
    for _ in sys.stdin:
        print(json.dumps(timed()), flush=True)


if __name__ == "__main__":
    main()
