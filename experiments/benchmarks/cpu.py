"""One configuration on one thread of a CPU: agreement, times, memory."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

import pyro
from rich.console import Console

from .agreement import agreements
from .apart import apart
from .configurations import CONFIGURATIONS, Configuration, problem
from .floor import flops
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
    core: int | None = None,
) -> list[Row]:
    """Prints what it finds, and returns a row for each variant.

    Args:
        configuration: What to train.
        names: Keys of ``VARIANTS``.
        console: Where to.
        seconds, rounds: As in :func:`interleaved`.
        memory: Whether the peak memory of each is measured too, in another process of its own.
        core: See :func:`.measure.pin`.

    Raises:
        Disagreement: If losses or gradients differ.
    """
    available = agreeing(configuration, names, console)
    with ExitStack() as stack:
        steps, firsts = {}, {}
        for name in available:
            steps[name] = stack.enter_context(apart(name, configuration, core))
            _, firsts[name] = steps[name]()  # before the next one starts, which would disturb it
        times = interleaved(steps, firsts, seconds, rounds)
    measured = [n for n in available if n != "floor"] if memory else []
    peaks = {name: peak_mb_of_variant(name, configuration) for name in measured}
    rows = rows_of(configuration, times, peaks)
    print_rows(console, title_of(configuration, rows), rows, ("ratio_to_naive", "ratio_to_floor"))
    return rows


def agreeing(configuration: Configuration, names: Sequence[str], console: Console) -> list[str]:
    """Those that can be had, all of which compute the same, or it is an error."""
    with pyro.validation_enabled(False):
        given, variants = problem(configuration), {}
        for name in names:
            try:
                variants[name] = None if name == "floor" else VARIANTS[name](given)
            except Unavailable as reason:
                console.print(f"{configuration.name}: no {name}: {reason}")
        found = agreements(given, {n: v for n, v in variants.items() if v is not None})
    print_agreements(console, configuration.name, found)
    for name, a in found.items():
        # Nor may they be NaN.
        if not (a.loss_error < LOSS_TOLERANCE and a.gradient_error < GRADIENT_TOLERANCE):
            raise Disagreement(f"'{name}' does not agree with 'naive' on {configuration.name}")
    return list(variants)


def title_of(configuration: Configuration, rows: list[Row]) -> str:
    title = f"{configuration.name}: CPU time of a training step, {rows[0]['rounds']} rounds"
    title += f", load {rows[0]['load']:.1f}" if rows[0]["load"] is not None else ""
    for row in rows:
        if row["variant"] == "floor":
            count, ms = flops(configuration), row["median_ms"]
            title += f"; floor {count / 1e9:.1f} GFLOP at {count / ms / 1e6:.0f} GFLOP/s"
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
