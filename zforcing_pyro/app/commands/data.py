"""``zforcing data``."""

from __future__ import annotations

import json
import sys
from inspect import signature
from typing import Any

from .common import Parser, say
from .data_show import show, summary

PREPARED = {"audio": None, "blizzard": 16_000}
"""What is prepared, and to which sample rate: None is that of the files."""


def data(args: list[str]) -> None:
    """Lists data sets, shows one, or prepares one that does not fit in memory."""
    actions = {"list": list_all, "show": show, "prepare": prepare}
    if args and args[0] in ("-h", "--help"):
        print("usage: zforcing data [list | show NAME | prepare NAME] [options]\n")
        print("\n".join(f"  {name:8} {action.__doc__}" for name, action in actions.items()))
        print("\nzforcing data ACTION --help tells more.")
        return
    if args and not args[0].startswith("-"):
        action, args = args[0], args[1:]
    else:
        action = "list"
    if action not in actions:
        raise ValueError(f"action must be one of {list(actions)}, got '{action}'")
    actions[action](args)


def list_all(args: list[str]) -> None:
    """Every data set: size, licence, where to get it, and whether it is found."""
    from ...data import DATASETS, corpus

    parser = Parser(prog="zforcing data list", description=list_all.__doc__)
    parser.add_argument("--data_dir", help="where data files are, before $ZFORCING_DATA")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args(args)
    rows = {name: summary(corpus(name, data_dir=options.data_dir)) for name in DATASETS}
    for name, row in rows.items():
        row["path"] = "path" in signature(DATASETS[name]).parameters
    if options.json:
        print(json.dumps(rows))
    else:
        print_table(rows)


def prepare(args: list[str]) -> None:
    """Writes a folder of recordings into a store that is read from the disk as needed."""
    parser = Parser(prog="zforcing data prepare", description=prepare.__doc__)
    parser.add_argument("name", choices=tuple(PREPARED), help="data set")
    parser.add_argument("--path", required=True, help="folder or zip file of recordings")
    parser.add_argument("--out", required=True, help="folder of the store; goes on with one begun")
    parser.add_argument("--sample_rate", type=int, help="samples a second, to which all are "
                        f"resampled; by default {PREPARED['blizzard']} for blizzard, that of all "
                        "for audio")  # fmt: skip
    parser.add_argument("--mono", action="store_true", help="take the mean of several channels")
    parser.add_argument("--skip_broken", action="store_true", help="leave broken files out")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--shard_mb", type=int, default=1000, help="most of a file of the store")
    options = parser.parse_args(args)
    from ...data.formats.audio_files import AudioFiles
    from ...data.store import prepare as preparing

    rate = options.sample_rate if options.sample_rate is not None else PREPARED[options.name]
    source = AudioFiles(options.path, options.name, rate, options.mono)
    with Progress() as progress:
        store = preparing.prepare(
            source,
            options.out,
            options.shard_mb * 500_000,
            options.workers,
            options.skip_broken,
            progress.report,
        )
    hours = int(store.lengths.sum()) / store.sample_rate / 3600
    print(
        f"{len(store):,} recordings, {hours:.2f} hours at {store.sample_rate:,} Hz: {options.out}"
    )
    if store.skipped:
        print(f"broken files left out: {len(store.skipped):,}, the first is '{store.skipped[0]}'")
    option = "--data_dir" if options.name == "blizzard" else "--data.path"
    say(f"next: zforcing train --data {options.name} {option} {options.out} --training.window 40")


class Progress:
    """Bars on stderr, from the first report on: workers are to be there before its thread."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import Progress as Bars

        self.bars = Bars(console=Console(stderr=True), disable=not sys.stderr.isatty())
        self.tasks: dict[str, Any] = {}

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error) -> None:
        self.bars.stop()

    def report(self, stage: str, done: int, of: int) -> None:
        if not self.tasks:
            self.bars.start()
        if stage not in self.tasks:
            self.tasks[stage] = self.bars.add_task(stage, total=of)
        self.bars.update(self.tasks[stage], completed=done)


def print_table(rows: dict[str, dict]) -> None:
    """Data sets by name, those with one licence and one place to get them from together."""
    from rich.console import Console
    from rich.table import Table

    shown = Table(header_style="bold", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    shown.add_column("name", no_wrap=True)
    shown.add_column("found", no_wrap=True)
    shown.add_column("what, licence, and where to get it", overflow="fold")
    names = list(rows)
    for name, following in zip(names, [*names[1:], None]):
        row = rows[name]
        found = "-" if row["path"] else "yes" if row["found"] else "no"
        shown.add_row(name, found, f"{row['title']}: {row['size']}")
        same = following and all(row[k] == rows[following][k] for k in ("licence", "source"))
        if not same:
            shown.add_row("", "", f"licence: {row['licence']}", style="dim")
            shown.add_row("", "", f"from: {row['source']}", style="dim")
            shown.add_row("", "", "")
    Console().print(shown)
    print("Files are looked for under --data_dir, then $ZFORCING_DATA; one's own (-) are")
    print("given as --data.path. 'zforcing data show NAME' has lengths, floor and examples.")
