"""Times of steps, taken in turns, so that whatever slows the machine slows all of them."""

import gc
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

MIN_ROUNDS = 5


@dataclass
class Times:
    """Times of one variant's steps, in milliseconds."""

    first: float = 0.0
    """Wall time of the first step, with all that happens once."""
    cpu: list[float] = field(default_factory=list)
    """Process time: that of all threads, and not the time that others had the core."""
    wall: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.wall)


def quartiles(times: list[float]) -> tuple[float, float, float]:
    """The median in the middle."""
    return tuple(np.quantile(times, (0.25, 0.5, 0.75)).tolist())


def pin(core: int | None = None) -> str:
    """One thread on one core, for everything that starts afterwards; says what was done.

    Args:
        core: Which one; None is the last that this process may run on.
    """
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
    if not hasattr(os, "sched_setaffinity"):
        return "one thread, on any core"
    core = max(os.sched_getaffinity(0)) if core is None else core
    for thread in os.listdir("/proc/self/task"):  # those of PyTorch too, which exist already
        os.sched_setaffinity(int(thread), {core})
    return f"one thread, on core {core}"


Step = Callable[[], tuple[float, float]]
"""A step that says what it took: process time and wall time, in milliseconds."""


def clocked(step: Callable[[], None], synchronize: Callable[[], None] = lambda: None) -> Step:
    """Times a step, without the garbage of the one before.

    Args:
        step: Of one variant.
        synchronize: Waits for a device.
    """
    gc.collect()
    gc.freeze()  # what exists by now is never looked at again: garbage is what a step leaves

    def timed() -> tuple[float, float]:
        gc.collect()
        synchronize()
        wall, cpu = time.perf_counter(), time.process_time()
        step()
        synchronize()
        return 1e3 * (time.process_time() - cpu), 1e3 * (time.perf_counter() - wall)

    return timed


def first(step: Callable[[], None], synchronize: Callable[[], None] = lambda: None) -> float:
    """Milliseconds of the first step, after which another is taken."""
    start = time.perf_counter()
    step()
    synchronize()
    taken = 1e3 * (time.perf_counter() - start)
    step()
    return taken


def interleaved(
    steps: Mapping[str, Step],
    firsts: Mapping[str, float],
    seconds: float = 60.0,
    rounds: int | None = None,
) -> dict[str, Times]:
    """Every step once a round, in an order that turns around from round to round.

    Args:
        steps: By name.
        firsts: What the first of each took.
        seconds: Rounds are begun until as much time has passed, and at least five.
        rounds: Their number, whatever time it takes.
    """
    times = {name: Times(firsts[name]) for name in steps}
    start, done, order = time.perf_counter(), 0, list(steps)
    while done < rounds if rounds else not_over(start, seconds, done):
        for name in order:
            cpu, wall = steps[name]()
            times[name].cpu.append(cpu)
            times[name].wall.append(wall)
        order.reverse()
        done += 1
    return times


def not_over(start: float, seconds: float, done: int) -> bool:
    return done < MIN_ROUNDS or time.perf_counter() - start < seconds
