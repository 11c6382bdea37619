"""One configuration on one thread of a CPU: agreement, times, memory."""

from collections.abc import Sequence
from dataclasses import replace

import pyro
from rich.console import Console

from zforcing_pyro.training.memory import keep_freed_memory

from .agreement import agreements
from .configurations import CONFIGURATIONS, Configuration, problem
from .floor import Floor
from .measure import interleaved
from .memory import peak_mb_of_variant
from .report import Row, print_agreements, print_rows, rows_of
from .variants import VARIANTS, Unavailable

LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-4, 1e-2
"""Largest relative errors in float32, of a loss and of all gradients together. A gradient has
jumps: one of millions of pre-activations, within rounding of the kink of the leaky ReLU, made 9e-4
on TIMIT. What is wrong by less than that is for the tests to find, in float64."""


class Disagreement(Exception):
    """Variants that do not compute the same thing; what they take is then no comparison."""


def benchmark(
    configuration: Configuration,
    names: Sequence[str],
    console: Console,
    seconds: float = 60.0,
    rounds: int | None = None,
    memory: bool = True,
) -> list[Row]:
    """Prints what it finds, and returns a row for each variant.

    Args:
        configuration: What to train.
        names: Keys of ``VARIANTS``.
        console: Where to.
        seconds, rounds: As in :func:`interleaved`.
        memory: Whether the peak memory of each is measured too, in a process of its own.

    Raises:
        Disagreement: If losses or gradients differ.
    """
    keep_freed_memory()  # as training does; it serves every variant
    with pyro.validation_enabled(False):
        given, variants = problem(configuration), {}
        for name in names:
            try:
                variants[name] = VARIANTS[name](given)
            except Unavailable as reason:
                console.print(f"{configuration.name}: no {name}: {reason}")
        floor = variants.get("floor")
        found = agreements(given, {n: v for n, v in variants.items() if n != "floor"})
        print_agreements(console, configuration.name, found)
        for name, a in found.items():
            # Nor may they be NaN.
            if not (a.loss_error < LOSS_TOLERANCE and a.gradient_error < GRADIENT_TOLERANCE):
                raise Disagreement(f"'{name}' does not agree with 'naive' on {configuration.name}")
        times = interleaved({n: v.step for n, v in variants.items()}, seconds, rounds)
        measured = [n for n in variants if n != "floor"] if memory else []
        peaks = {name: peak_mb_of_variant(name, configuration) for name in measured}
    rows = rows_of(configuration, times, peaks)
    title = title_of(configuration, rows, floor)
    print_rows(console, title, rows, ("ratio_to_naive", "ratio_to_floor"))
    return rows


def title_of(configuration: Configuration, rows: list[Row], floor: Floor | None) -> str:
    title = f"{configuration.name}: CPU time of a training step, {rows[0]['rounds']} rounds"
    title += f", fast loops in {rows[0]['loops']}"
    title += f", load {rows[0]['load']:.1f}" if rows[0]["load"] is not None else ""
    if floor is not None:
        (ms,) = (row["median_ms"] for row in rows if row["variant"] == "floor")
        title += f"; floor {floor.flops / 1e9:.1f} GFLOP at {floor.flops / ms / 1e6:.0f} GFLOP/s"
    return title


def growth() -> list[Configuration]:
    """SMALL with one size changed at a time: steps, sequences, particles."""
    small = CONFIGURATIONS["SMALL"]
    sizes = {"num_steps": (40, 160, 640), "batch_size": (8, 128), "num_particles": (5, 25)}
    short = {"num_steps": "T", "batch_size": "B", "num_particles": "K"}
    return [
        replace(small, name=f"SMALL {short[size]}={value}", **{size: value})
        for size, values in sizes.items()
        for value in values
    ]
