"""``zforcing data``."""

import json

from ..terminal import Parser, Progress, did_you_mean, say, show, user_path
from .data_show import show_data, summary

PREPARED = {"audio": None, "blizzard": 16_000}
"""What is prepared, and to which sample rate: None is that of the files."""


def data(args: list[str]) -> None:
    """Lists data sets, shows one, or prepares one that does not fit in memory."""
    actions = {"list": list_all, "show": show_data, "prepare": prepare}
    if args and args[0] in ("-h", "--help"):
        print("usage: zforcing data [list | show NAME | prepare NAME] [options]\n")
        print("\n".join(f"  {name:8} {action.__doc__}" for name, action in actions.items()))
        print("\nzforcing data ACTION --help tells more.")
        return
    action, args = (args[0], args[1:]) if args and args[0][:1] != "-" else ("list", args)
    if action not in actions:
        hint = did_you_mean(action, actions)
        raise ValueError(f"action must be one of {list(actions)}, got '{action}'{hint}")
    actions[action](args)


def list_all(args: list[str]) -> None:
    """Every data set: size, licence, where to get it, and whether it is found."""
    parser = Parser("data list", "--data_dir --json", description=list_all.__doc__)
    arguments = parser.parse_args(args)
    from ...data import DATASETS, corpus

    data_dir = arguments.data_dir and user_path(arguments.data_dir, "--data_dir")
    rows = {name: summary(corpus(name, data_dir=data_dir)) for name in DATASETS}
    for name, row in rows.items():
        row["path"] = corpus(name).is_own
    if arguments.json:
        print(json.dumps(rows))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(header_style="bold", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("found", no_wrap=True)
    table.add_column("what, licence, and where to get it", overflow="fold")
    for name, following in zip(rows, [*list(rows)[1:], None]):
        row = rows[name]
        mark = "-" if row["path"] else "yes" if row["found"] else "no"
        table.add_row(name, mark, f"{row['title']}: {row['size']}")
        if not following or any(row[k] != rows[following][k] for k in ("licence", "source")):
            table.add_row("", "", f"licence: {row['licence']}", style="dim")
            table.add_row("", "", f"from: {row['source']}\n", style="dim")
    Console().print(table)
    show("Files are looked for under --data_dir, then $ZFORCING_DATA; one's own (-) are")
    show("given as --data.path. 'zforcing data show NAME' has lengths, floor and examples.")


def prepare(args: list[str]) -> None:
    """Writes a folder of recordings into a store that is read from the disk as needed."""
    parser = Parser("data prepare", description=prepare.__doc__)
    parser.add_argument("name", choices=tuple(PREPARED), help="data set")
    parser.add_argument("--path", required=True, help="folder or zip file of recordings")
    parser.add_argument("--out", required=True, help="folder of the store; goes on with one begun")
    parser.add_argument("--sample_rate", type=int, help="samples a second; by default 16,000 for "
                        "blizzard, that of all files for audio")  # fmt: skip
    parser.add_argument("--mono", action="store_true", help="take the mean of several channels")
    parser.add_argument("--skip_broken", action="store_true", help="leave broken files out")
    parser.add_argument("--workers", type=int, default=1, help="threads")
    arguments = parser.parse_args(args)
    from ...data.formats.waves import AudioFiles
    from ...data.store import prepare as preparing

    name, out = arguments.name, user_path(arguments.out, "--out")
    rate = PREPARED[name] if arguments.sample_rate is None else arguments.sample_rate
    source = AudioFiles(user_path(arguments.path, "--path"), name, rate, arguments.mono)
    options = arguments.workers, arguments.skip_broken
    with Progress() as progress:
        store = preparing.prepare(source, out, *options, progress.report)
    hours = int(store.lengths.sum()) / store.sample_rate / 3600
    show(f"{len(store):,} recordings, {hours:.2f} hours at {store.sample_rate:,} Hz: {out}")
    if store.skipped:
        show(f"broken files left out: {len(store.skipped):,}, the first is '{store.skipped[0]}'")
    option = "--data_dir" if name == "blizzard" else "--data.path"
    say(f"next: zforcing train --data {name} {option} {out} --training.window 40")
