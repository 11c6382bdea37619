"""``zforcing data show``."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..folders import writing
from ..terminal import Parser, say, show, user_path

if TYPE_CHECKING:
    from ...data import Corpus, SequenceSet

MOST_LINES = 32  # of an example
INDENT = 9
OURS = r"(train|valid|test)-\d+\.\w+"


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
        with writing(out, OURS) as folder:
            for i in chosen:
                corpus.write(part[i].x, folder / f"{arguments.split}-{i:05d}{corpus.suffix}")
        say(f"examples in {out}: {len(chosen)}")
    if arguments.json:
        print(json.dumps(facts))
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
