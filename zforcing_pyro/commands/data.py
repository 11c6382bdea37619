"""``zforcing data``."""

from __future__ import annotations

import json

from .common import Parser


def data(args: list[str]) -> None:
    """Lists data sets, or shows one."""
    from ..data import DATASETS, corpus
    from ..data.corpus import SPLITS

    parser = Parser(prog="zforcing data", description=data.__doc__)
    parser.add_argument("action", nargs="?", choices=("list", "show"), default="list")
    parser.add_argument("name", nargs="?", help="data set to show")
    parser.add_argument("--data_dir", help="where data files are, before $ZFORCING_DATA")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args(args)
    if (options.action == "show") != (options.name is not None):
        raise ValueError("'show' must be followed by a name, and 'list' by none")
    given = {"data_dir": options.data_dir}
    if options.action == "list":
        rows = {name: summary(corpus(name, **given)) for name in DATASETS}
        if options.json:
            print(json.dumps(rows))
            return
        table(rows)
        return
    shown = corpus(options.name, **given)
    facts = summary(shown)
    for split in SPLITS:
        lengths = shown.split(split).lengths
        facts[split] = {
            "sequences": len(lengths),
            "steps": int(lengths.sum()),
            "shortest": int(lengths.min()),
            "longest": int(lengths.max()),
        }
    facts["x_dim"], facts["floor"] = shown.x_dim, shown.floor()._asdict()
    if options.json:
        print(json.dumps(facts))
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(
                f"{k.replace('_', ' ')} {v:,.3f}" if isinstance(v, float) else f"{k} {v}"
                for k, v in value.items()
            )
        print(f"{name:8} {value}")


def summary(corpus) -> dict:
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


def table(rows: dict[str, dict]) -> None:
    """Data sets by name, as wide as the terminal."""
    from rich.console import Console
    from rich.table import Table

    shown = Table(header_style="bold", box=None)
    shown.add_column("name", no_wrap=True)
    for column in ("found", "title", "size", "a step is"):
        shown.add_column(column)
    for name, row in rows.items():
        found = "yes" if row["found"] else "no"
        shown.add_row(name, found, row["title"], row["size"], row["step"])
    Console().print(shown)
    print("\nFiles are looked for under --data_dir, then $ZFORCING_DATA.")
    print("'zforcing data show NAME' tells sizes, licence, and where to get a missing one.")
