"""``zforcing data show``."""

from __future__ import annotations

import json
import shutil
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .common import Parser, say

if TYPE_CHECKING:
    from ...data import Corpus, SequenceSet

MOST_LINES = 32  # of an example
INDENT = 9


def show(args: list[str]) -> None:
    """Shapes, lengths, labels and examples of a data set, and the floor of a trivial model."""
    from ...data.corpus import SPLITS

    parser = Parser(
        prog="zforcing data show",
        description=show.__doc__,
        usage="%(prog)s NAME [--data.OPTION VALUE ...] [options]",
        epilog="Options of a data set are those of 'zforcing train --data NAME --help'.",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="data set")
    parser.add_argument("--data_dir", help="where data files are, before $ZFORCING_DATA")
    parser.add_argument("--split", choices=SPLITS, default="train", help="where examples are from")
    parser.add_argument("--num", type=int, default=2, help="examples")
    parser.add_argument("--out", help="folder to write examples to, as pictures, sound, MIDI, ...")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options, rest = parser.parse_known_args(args)
    if options.name is None:
        raise ValueError("'show' must be followed by a name, got none")
    if options.num < 0:
        raise ValueError(f"'--num' must not be negative, got {options.num}")
    shown = described(options.name, options.data_dir, rest)
    splits = {split: shown.split(split) for split in SPLITS}
    facts = summary(shown) | {split: lengths(part) for split, part in splits.items()}
    facts["labels"] = {split: labels(shown, part) for split, part in splits.items()}
    facts |= {"x_dim": shown.x_dim, "emission": shown.emission, "floor": shown.floor()._asdict()}
    chosen = examples(splits[options.split], options.num)
    if options.out:
        write_examples(shown, splits[options.split], options.split, chosen, options.out)
    if options.json:
        print(json.dumps(facts))
    else:
        print_facts(options.name, facts, splits["train"])
        for i in chosen:
            print_example(shown, splits[options.split], options.split, i)
    if options.out:
        say(f"examples in {options.out}: {len(chosen)}")


def described(name: str, data_dir: str | None, args: list[str]) -> Corpus:
    """The data set with options as ``zforcing train`` takes them; nothing is read yet."""
    from ..experiment import describe

    for argument in args:
        if argument.startswith("-") and not argument.startswith("--data."):
            raise ValueError(f"unknown option '{argument.partition('=')[0]}' of 'data show'")
    args = ["--data", name, *args]
    return describe(args + ["--data_dir", data_dir] * (data_dir is not None)).corpus()


def summary(corpus: Corpus) -> dict[str, Any]:
    """What a data set says of itself."""
    return {
        "title": corpus.title,
        "size": corpus.size,
        "step": corpus.step,
        "found": corpus.found(),
        "version": corpus.version,
        "licence": corpus.licence,
        "source": corpus.source,
    }


def lengths(part: SequenceSet) -> dict[str, int]:
    """Sequences and steps of a split."""
    return {
        "sequences": len(part),
        "steps": int(part.lengths.sum()),
        "shortest": int(part.lengths.min()),
        "median": int(part.lengths.median()),
        "longest": int(part.lengths.max()),
    }


def labels(corpus: Corpus, part: SequenceSet) -> dict[str, dict[str, int]]:
    """How often each value of each label is in a split."""
    if part.labels is None:
        return {}
    columns = part.labels.view(len(part), -1).T
    return {
        name: dict(zip(map(str, values.tolist()), counts.tolist()))
        for name, column in zip(corpus.label_names, columns)
        for values, counts in (column.unique(return_counts=True),)
    }


def examples(part: SequenceSet, num: int) -> list[int]:
    """Some sequences of a split, the same at every call: files are often sorted by label."""
    import torch

    return torch.randperm(len(part), generator=torch.Generator().manual_seed(0))[:num].tolist()


def write_examples(
    corpus: Corpus, part: SequenceSet, split: str, chosen: list[int], out: str
) -> None:
    """A file for each, named by split and index."""
    folder = Path(out).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    for i in chosen:
        corpus.write(part[i].x, folder / f"{split}-{i:05d}{corpus.suffix}")


def print_facts(name: str, facts: dict[str, Any], train: SequenceSet) -> None:
    """What is known of a data set, for people."""
    from rich.console import Console
    from rich.table import Table

    from ...data import BatchSampler
    from ...data.corpus import SPLITS

    print(f"{name}: {facts['title']}\n")
    for key in ("version", "licence", "source"):
        print_field(key, facts[key])
    x = train[0].x
    kind = f"(time, {facts['x_dim']}), {str(x.dtype).removeprefix('torch.')}"
    if x.dim() == 1:
        kind = f"(time,), symbols 0 to {facts['x_dim'] - 1:,}"
    print_field("x", f"{kind}; step: {facts['step']}; emission: {facts['emission']}")
    table = Table(header_style="bold", box=None, padding=(0, 2, 0, 0))
    table.add_column("", min_width=INDENT - 2)
    for column in facts["train"]:
        table.add_column(column, justify="right")
    for split in SPLITS:
        table.add_row(split, *(f"{value:,}" for value in facts[split].values()))
    print()
    Console().print(table)
    print()
    for label, counts in facts["labels"]["train"].items():
        few = ", ".join(f"{value} ({count:,})" for value, count in list(counts.items())[:10])
        print_field(label, few + (f", ... ({len(counts):,} values)" if len(counts) > 10 else ""))
    padding = BatchSampler(train.lengths, 32, shuffle=True, bucket=True).padding_share()
    print_field("padding", f"{padding:.1%} of a training batch of 32, bucketed by length")
    floor = facts["floor"]
    print_field(
        "floor",
        f"{floor['nats_per_sequence']:,.3f} nats per sequence, {floor['nats_per_step']:,.3f} nats "
        f"per {facts['step']}, on test: {floor['description']}",
    )


def print_field(name: str, text: str) -> None:
    """A name and what it is, as wide as the terminal."""
    width = max(40, shutil.get_terminal_size().columns)
    print(
        textwrap.fill(
            f"{name:{INDENT - 1}} {text}",
            width,
            subsequent_indent=" " * INDENT,
            break_long_words=False,  # addresses are to be copied
            break_on_hyphens=False,
        )
    )


def print_example(corpus: Corpus, part: SequenceSet, split: str, i: int) -> None:
    """One sequence as text, cropped."""
    x, start = part[i]
    said = f"{len(x):,} steps"
    if part.labels is not None:
        values = part.labels[i].view(-1).tolist()
        said += "".join(f", {name} {value}" for name, value in zip(corpus.label_names, values))
    print(f"\n{split}, {i} of {len(part):,}: {said}{'; first frame given' * (start is not None)}")
    lines = corpus.as_text(x).splitlines()
    print("\n".join(lines[:MOST_LINES]))
    if len(lines) > MOST_LINES:
        print(f"... ({len(lines) - MOST_LINES} more lines)")
