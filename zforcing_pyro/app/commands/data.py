"""``zforcing data``."""

from __future__ import annotations

import json
import os
import shutil
import textwrap
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..completion import choose
from ..folders import writing
from ..terminal import Parser, Progress, did_you_mean, say, show, user_path

if TYPE_CHECKING:
    from ...data import Corpus, SequenceSet

MOST_LINES = 32  # of an example
INDENT = 9
PREPARED = {"audio": None, "blizzard": 16_000}
"""Data sets that can be prepared, and their sample rates: None is that of the files."""


def show_data(args: list[str]) -> None:
    """Shapes, lengths, labels and examples of a data set, and the floor of a trivial model."""
    parser = Parser(
        "data show",
        description=show_data.__doc__,
        usage="%(prog)s NAME [--data.OPTION VALUE ...] [options]",
        epilog="Options of a data set are those of 'zforcing train --data NAME --help'.",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="data set")
    parser.add_shared("--split --data_dir --json")
    parser.set_defaults(split="train")
    parser.add_argument("--num", type=int, default=2, help="examples")
    parser.add_argument("--out", help="folder to write examples to, as pictures, sound, MIDI, ...")
    arguments, rest = parser.parse_known_args(args)
    if arguments.name is None:
        raise ValueError("'show' must be followed by a name, got none")
    if arguments.num < 0:
        raise ValueError(f"'--num' must not be negative, got {arguments.num}")
    for argument in rest:
        if argument.startswith("-") and not argument.startswith("--data."):
            raise ValueError(f"unknown option '{argument.partition('=')[0]}' of 'data show'")
    import torch

    from ...data.corpus import SPLITS
    from ..experiment import describe

    data_dir = [f"--data_dir={arguments.data_dir}"] * (arguments.data_dir is not None)
    corpus = describe(["--data", arguments.name, *rest, *data_dir]).corpus()
    splits = {split: corpus.split(split) for split in SPLITS}
    facts = summary(corpus) | {split: lengths(part) for split, part in splits.items()}
    facts["labels"] = {split: labels(corpus, part) for split, part in splits.items()}
    facts |= {"x_dim": corpus.x_dim, "emission": corpus.emission, "floor": corpus.floor()._asdict()}
    part = splits[arguments.split]
    # The same at every call; files are often sorted by label.
    order = torch.randperm(len(part), generator=torch.Generator().manual_seed(0))
    chosen = order[: arguments.num].tolist()
    if arguments.out:
        out = Path(user_path(arguments.out, "--out"))
        with writing(out) as folder:
            for i in chosen:
                corpus.write(part[i].x, folder / f"{arguments.split}-{i:05d}{corpus.suffix}")
        say(f"examples in {out}: {len(chosen)}")
    if arguments.json:
        show(json.dumps(facts))
        return
    print_facts(arguments.name, facts, splits["train"])
    for i in chosen:
        print_example(corpus, part, arguments.split, i)


def summary(corpus: Corpus) -> dict[str, Any]:
    """Returns what a data set says about itself."""
    names = ("title", "size", "step", "version", "licence", "source")
    return {name: getattr(corpus, name) for name in names} | {"found": corpus.found()}


def lengths(part: SequenceSet) -> dict[str, int]:
    """Returns numbers of sequences and steps of a split."""
    n = part.lengths
    numbers = {"steps": n.sum(), "shortest": n.min(), "median": n.median(), "longest": n.max()}
    return {"sequences": len(part)} | {name: int(number) for name, number in numbers.items()}


def labels(corpus: Corpus, part: SequenceSet) -> dict[str, dict[str, int]]:
    """Returns how often each value of each label is in a split."""
    columns = [] if part.labels is None else part.labels.view(len(part), -1).T.tolist()
    counts = [sorted(Counter(column).items()) for column in columns]
    return {n: {f"{v}": num for v, num in c} for n, c in zip(corpus.label_names, counts)}


def print_facts(name: str, facts: dict[str, Any], train: SequenceSet) -> None:
    """Prints a data set's facts for people."""
    from ...data import BatchSampler
    from ...data.corpus import SPLITS

    show(f"{name}: {facts['title']}\n")
    for key in ("version", "licence", "source"):
        print_field(key, facts[key])
    x = train[0].x
    kind = f"(time, {facts['x_dim']}), {str(x.dtype).removeprefix('torch.')}"
    if x.dim() == 1:
        kind = f"(time,), symbols 0 to {facts['x_dim'] - 1:,}"
    print_field("x", f"{kind}; step: {facts['step']}; emission: {facts['emission']}")
    show("\n" + " " * INDENT + "".join(f"{column:>12}" for column in facts["train"]))
    for split in SPLITS:
        show(f"{split:{INDENT}}" + "".join(f"{value:12,}" for value in facts[split].values()))
    show()
    for label, counts in facts["labels"]["train"].items():
        few = ", ".join(f"{value} ({count:,})" for value, count in list(counts.items())[:10])
        print_field(label, few + (f", ... ({len(counts):,} values)" if len(counts) > 10 else ""))
    padding = BatchSampler(train.lengths, 32, shuffle=True, bucket=True).padding_share()
    print_field("padding", f"{padding:.1%} of a training batch of 32, bucketed by length")
    nats, floor = "{nats_per_sequence:,.3f} nats per sequence, {nats_per_step:,.3f}", facts["floor"]
    nats = f"{nats.format(**floor)} nats per {facts['step']}"
    print_field("floor", f"{nats}, on test: {floor['description']}")


def print_field(name: str, text: str) -> None:
    """Prints a name and a text, as wide as the terminal; addresses are not broken."""
    width = max(40, shutil.get_terminal_size().columns)
    indent = " " * INDENT
    show(textwrap.fill(f"{name:{INDENT - 1}} {text}", width, subsequent_indent=indent,
                       break_long_words=False, break_on_hyphens=False))  # fmt: skip


def print_example(corpus: Corpus, part: SequenceSet, split: str, i: int) -> None:
    """Prints one sequence as text, cropped."""
    x, start, *_ = part[i]
    words = f"{len(x):,} steps"
    if part.labels is not None:
        values = part.labels[i].view(-1).tolist()
        words += "".join(f", {name} {value}" for name, value in zip(corpus.label_names, values))
    show(f"\n{split}, {i} of {len(part):,}: {words}{'; first frame given' * (start is not None)}")
    lines = corpus.as_text(x).splitlines()
    rest = len(lines) - MOST_LINES
    show("\n".join(lines[:MOST_LINES] + [f"... ({rest} more lines)"] * (rest > 0)))


def data(args: list[str]) -> None:
    """Lists data sets, shows one, or prepares one that does not fit in memory."""
    actions = {"list": list_all, "show": show_data, "prepare": prepare}
    if args and args[0] in ("-h", "--help"):
        print("usage: zforcing data [list | show NAME | prepare NAME] [options]\n")
        print("\n".join(f"  {name:8} {action.__doc__}" for name, action in actions.items()))
        print("\nzforcing data ACTION --help tells more.")
        return
    if not args and "_ARGCOMPLETE" in os.environ:
        choose(Parser("data"), actions)
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
        show(json.dumps(rows))
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
