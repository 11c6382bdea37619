"""``zforcing sweep``."""

import shlex
import signal
from typing import Any

from ..terminal import Parser, say, show


def sweep(args: list[str]) -> int:
    """Trains and evaluates the runs of a grid or a search, and tabulates them.

    Returns:
        0; 1 if a run failed; 143 if SIGTERM stopped the sweep.
    """
    parser = Parser("sweep", description="Trains and evaluates the runs of a grid or a search. The "
                    "same command goes on, also on machines that share the folder.")  # fmt: skip
    parser.add_argument("file", help="YAML with common, grid, random, evaluate, out, ...")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--dry_run", action="store_true", help="only print the commands")
    arguments = parser.parse_args(args)
    if arguments.jobs < 1:
        raise ValueError(f"'--jobs' must be positive, got {arguments.jobs}")
    from ..study import open_study, table, work_off, write_table
    from ..sweep import Sweep

    described = Sweep(arguments.file)
    if arguments.dry_run:
        for _, point, drawn in described.plan:
            if drawn.keys() != described.random.keys():
                show(f"# tpe chooses {', '.join(described.random)} for {point}")
                continue
            trial = described.trial(point, drawn)
            show(shlex.join(["zforcing", "train", *trial.arguments, f"--out={trial.folder}"]))
        return 0
    before = signal.signal(signal.SIGTERM, stop)
    try:
        study = open_study(described)
        failed = work_off(described, study, arguments.jobs)
    except Terminated:
        say("stopped by SIGTERM; the same command goes on")
        return 128 + signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)
    if rows := table(described, study):
        file = described.out / "results.csv"
        write_table(rows, file)
        print_rows(rows)
        say(f"{len(rows)} of {len(described.plan)} runs: {file}")
    return 1 if failed else 0


class Terminated(BaseException):
    """SIGTERM, which ends the runs as well."""


def stop(number: int, frame: Any) -> None:
    """Ends the sweep at SIGTERM."""
    raise Terminated


def print_rows(rows: list[dict[str, Any]]) -> None:
    """Prints the table, and below it the protocols."""
    from rich.console import Console
    from rich.table import Table

    names = [name for name in rows[0] if name not in ("run", "protocol")]
    table = Table(header_style="bold", box=None)
    for name in names:
        table.add_column(name.replace("_per_", " per ").replace("_", " "), overflow="fold")
    for row in rows:
        values = [row[name] for name in names]
        table.add_row(*(f"{v:.5g}" if isinstance(v, float) else str(v) for v in values))
    Console(markup=False).print(table)
    for protocol in dict.fromkeys(row["protocol"] for row in rows):
        show(f"protocol: {protocol}")
