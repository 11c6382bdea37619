"""``zforcing sweep``."""

from __future__ import annotations

import signal
from typing import Any

from .common import Parser, say


def sweep(args: list[str]) -> int:
    """Trains and evaluates the runs of a grid or a random search, and tabulates them.

    Called again, it goes on.

    Returns:
        0; 1 if a run failed; 143 if it was stopped by SIGTERM.
    """
    parser = Parser(prog="zforcing sweep", description="Runs a grid or a random search; goes on.")
    parser.add_argument("file", help="YAML: common, grid, random, evaluate, out; see the README")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--shard", default="0/1", metavar="I/N",
                        help="run I of every N only, as one job of a cluster's array")  # fmt: skip
    parser.add_argument("--dry_run", action="store_true", help="only print what would be run")
    options = parser.parse_args(args)
    from ..sweep import table, trials, work_off, write_table

    if options.jobs < 1:
        raise ValueError(f"'--jobs' must be positive, got {options.jobs}")
    index, num = shard(options.shard)
    all_trials = trials(options.file)
    mine = all_trials[index::num]
    if options.dry_run:
        for trial in mine:
            print(" ".join(["zforcing", "train", *trial.arguments, "--out", str(trial.folder)]))
        return 0

    signal.signal(signal.SIGTERM, stop)
    try:
        failed = work_off(mine, options.jobs, say)
    except Terminated:
        say("stopped by SIGTERM; the same command goes on")
        return 128 + signal.SIGTERM
    rows = table(all_trials)
    if rows:
        file = all_trials[0].folder.parent / "results.csv"
        write_table(rows, file)
        show(rows)
        say(f"{len(rows)} of {len(all_trials)} runs: {file}")
    return 1 if failed else 0


class Terminated(BaseException):
    """SIGTERM, which ends the runs as well."""


def stop(number: int, frame: Any) -> None:
    raise Terminated


def shard(text: str) -> tuple[int, int]:
    """``2/8`` as numbers."""
    parts = text.split("/")
    if len(parts) == 2 and all(part.isdigit() for part in parts):
        index, num = map(int, parts)
        if index < num:
            return index, num
    raise ValueError(f"'--shard' must be I/N with 0 <= I < N, got '{text}'")


def show(rows: list[dict[str, Any]]) -> None:
    """The table, without what is the same in all rows."""
    from rich.console import Console
    from rich.table import Table

    hidden = {"run", "protocol"}
    names = [name for name in rows[0] if name not in hidden]
    shown = Table(header_style="bold", box=None)
    for name in names:
        shown.add_column(name.replace("_per_", " per ").replace("_", " "), overflow="fold")
    for row in rows:
        values = [row[name] for name in names]
        shown.add_row(*(f"{v:.5g}" if isinstance(v, float) else str(v) for v in values))
    Console().print(shown)
    for protocol in dict.fromkeys(row["protocol"] for row in rows):
        print(f"protocol: {protocol}")
