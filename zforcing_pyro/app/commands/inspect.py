"""``zforcing inspect``."""

from __future__ import annotations

import json

from .common import Parser, loaded


def inspect(args: list[str]) -> None:
    """Prints whether the posterior can be trusted, and what the latents mean."""
    parser = Parser(prog="zforcing inspect", description=inspect.__doc__)
    parser.add_argument("run", help="folder of a run")
    parser.add_argument(
        "--split", choices=("train", "valid", "test"), default="test", help="part of the data"
    )
    parser.add_argument("--num", type=int, help="sequences looked at; by default as many as have "
                        "some 8,000 steps, but 8 to 128")  # fmt: skip
    parser.add_argument("--particles", type=int, default=100, help="draws of the latents for each")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("--data_dir", help="where data files are, before $ZFORCING_DATA")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args(args)
    experiment, net, corpus = loaded(options)
    from ..report.findings import findings
    from ..report.numbers import as_json, numbers

    found = findings(
        experiment, net, corpus, options.split, options.num, options.particles, options.seed
    )
    if options.json:
        print(json.dumps(as_json(found)))
        return
    print(f"{options.run}, {options.split}: {corpus.title}")
    print(f"{found.subset}\n")
    if found.latents is None:
        print("The model has no latents: its bound is the exact log-likelihood.\n")
    for title, rows in numbers(found).items():
        print_rows(title.replace("_", " "), [(number.label, number.text) for number in rows])
    print(f"protocol: {found.elbo.protocol}")


def print_rows(title: str, rows: list[tuple[str, str]]) -> None:
    """Names and values below a title."""
    from rich.console import Console
    from rich.table import Table

    if not rows:
        return
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 2))
    table.add_column(min_width=26)
    table.add_column()
    for row in rows:
        table.add_row(*row)
    print(title)
    Console(highlight=False, markup=False).print(table)
    print()
