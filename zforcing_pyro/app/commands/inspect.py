"""``zforcing inspect``."""

import json

from ..terminal import Parser, printable, show


def inspect(args: list[str]) -> None:
    """Prints whether the posterior can be trusted, and what the latents mean."""
    shared = "run --split --num --particles --seed --data_dir --json"
    parser = Parser("inspect", shared, description=inspect.__doc__)
    arguments = parser.parse_args(args)
    from ..experiment import opened
    from ..report.findings import findings
    from ..report.numbers import as_json, numbers

    experiment, net, corpus = opened(arguments.run, arguments.data_dir)
    num, particles = arguments.num, arguments.particles
    results = findings(experiment, net, corpus, arguments.split, num, particles, arguments.seed)
    if arguments.json:
        show(json.dumps(as_json(results)))
        return
    show(f"{arguments.run}, {arguments.split}: {corpus.title}")
    show(f"{results.subset}\n")
    if results.weights is None:
        show("The model has no latents: its bound is the exact log-likelihood.\n")
    for title, rows in numbers(results).items():
        print_rows(title.replace("_", " "), [(number.label, number.text) for number in rows])
    show(f"protocol: {results.elbo.protocol}")


def print_rows(title: str, rows: list[tuple[str, str]]) -> None:
    """Prints names and values below a title."""
    from rich.console import Console
    from rich.table import Table

    if not rows:
        return
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 2))
    table.add_column(min_width=26)
    table.add_column()
    for row in rows:
        table.add_row(*map(printable, row))
    show(title)
    Console(highlight=False, markup=False).print(table)
    show()
