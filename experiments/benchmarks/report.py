"""Measurements as rows of a file, and as a table."""

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from .agreement import Agreement
from .configurations import Configuration
from .measure import Times, quartiles

Row = dict[str, object]


def rows_of(
    configuration: Configuration,
    times: Mapping[str, Times],
    peaks: Mapping[str, float | None],
    clock: str = "cpu",
) -> list[Row]:
    """One row a variant. Ratios are of medians by ``clock``, ``"cpu"`` or ``"wall"``."""
    medians = {name: quartiles(getattr(t, clock))[1] for name, t in times.items()}
    rows = []
    for name, t in times.items():
        lower, median, upper = quartiles(getattr(t, clock))
        rows.append(
            {
                "config": configuration.name,
                "variant": name,
                "median_ms": median,
                "lower_quartile_ms": lower,
                "upper_quartile_ms": upper,
                "wall_median_ms": quartiles(t.wall)[1],
                "ratio_to_naive": ratio(median, medians.get("naive")),
                "ratio_to_floor": ratio(median, medians.get("floor")),
                "peak_mb": peaks.get(name),
                "first_ms": t.first,
                "rounds": len(t),
                "clock": clock,
                "sizes": asdict(configuration),
                **machine(),
            }
        )
    return rows


def ratio(a: float, b: float | None) -> float | None:
    return None if b is None else a / b


def machine() -> Row:
    """Returns facts that a time depends on."""
    return {
        "cpu": cpu_model(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "torch": torch.__version__,
        "pyro": version("pyro-ppl"),
        "jax": jax_version(),
    }


def cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def jax_version() -> str | None:
    try:
        return version("jax")
    except PackageNotFoundError:
        return None


def write(rows: list[Row], file: str | None) -> None:
    if file is not None:
        Path(file).write_text(json.dumps(rows, indent=1) + "\n")


def print_agreements(console: Console, title: str, found: Mapping[str, Agreement]) -> None:
    table = table_of("nats per sequence", "error", "of gradients", "of the worst")
    table.title = f"{title}: next to naive, at the same weights, data and noise"
    table.add_column("the worst", no_wrap=True)
    for name, a in found.items():
        errors = (f"{e:.1e}" for e in (a.loss_error, a.gradient_error, a.worst_gradient_error))
        table.add_row(name, f"{a.loss:.4f}", *errors, a.worst)
    console.print(table)


def print_rows(console: Console, title: str, rows: list[Row], ratios: tuple[str, ...]) -> None:
    """A table with a column for each of ``ratios``, keys of the rows."""
    names = [f"/ {key.removeprefix('ratio_to_')}" for key in ratios]
    table = table_of("ms", "quartiles", "wall ms", *names, "peak MB", "first s")
    table.title = title
    for row in rows:
        table.add_row(
            row["variant"],
            f"{row['median_ms']:.1f}",
            f"{row['lower_quartile_ms']:.1f} .. {row['upper_quartile_ms']:.1f}",
            f"{row['wall_median_ms']:.1f}",
            *("" if row[key] is None else f"{row[key]:.3f}" for key in ratios),
            "" if row["peak_mb"] is None else f"{row['peak_mb']:.0f}",
            f"{row['first_ms'] / 1e3:.1f}",
        )
    console.print(table)


def table_of(*numbers: str) -> Table:
    """A column of variants, and those of numbers."""
    table = Table(box=SIMPLE_HEAD, title_justify="left", title_style="bold")
    table.add_column("variant", no_wrap=True)
    for column in numbers:
        table.add_column(column, justify="right", no_wrap=True)
    return table
