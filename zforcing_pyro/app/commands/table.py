"""``zforcing table``."""

import sys
from pathlib import Path
from typing import Any

from ..folders import check_output, writing
from ..terminal import Parser, say, show, user_path


def table(args: list[str]) -> None:
    """Prints tables of runs for a paper: means over seeds, paired differences, published numbers.

    Runs whose options differ in the seed alone are one row.
    """
    parser = Parser("table", description=table.__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run")
    parser.add_argument("--num", type=int, default=sys.maxsize, help="sequences, drawn at random; "
                        "by default all of the split")  # fmt: skip
    parser.add_shared("--split --particles --seed --data_dir")
    parser.add_argument("--latex", action="store_true", help="LaTeX in place of Markdown")
    parser.add_argument("--csv", help="write the bounds of each sequence, in nats, to this file")
    parser.add_argument("--figures", help="write curves and differences to this folder, as PDF")
    options = parser.parse_args(args)
    from ...data.writing import replacing
    from ...training.logs import lines
    from ..report import environment, measured, names_of
    from ..report.comparison import arms, configurations, differences, published, ranking

    runs = [user_path(run, "run") for run in options.runs]
    file = Path(user_path(options.csv, "--csv")) if options.csv else None
    if file and file.suffix != ".csv":
        raise ValueError(f"'--csv' must end in .csv, got '{file}'")
    if file:
        check_output("--csv", file, {})
    about = {"split": options.split, "num": options.num, "num_particles": options.particles}
    about |= {"seed": options.seed, "bounds_only": True}
    subjects = measured(runs, names_of(runs), options.data_dir, say, **about)
    groups = arms(subjects)
    tables = [configurations(groups), *differences(groups), *published(subjects[0])]
    if options.latex:
        show(environment().get_template("tables.tex").render(tables=tables))
    else:
        show("\n".join(map(markdown, *zip(*tables))))
        show(ranking(groups) if len(groups) > 1 else "One configuration.")
    show(f"{'% ' * options.latex}Protocol: {subjects[0].findings.elbo.protocol}.")
    if file:
        with replacing(file) as new:
            rows = list(by_sequence(subjects))
            names = tuple(dict.fromkeys(name for row in rows for name in row))
            new.write(lines([dict(zip(names, names)), *rows], names))
        say(f"{len(rows)} rows: {file}")
    if options.figures:
        draw(groups, Path(user_path(options.figures, "--figures")))


def markdown(head: Any, rows: Any, caption: str) -> str:
    """Returns a table in Markdown above its caption."""
    cells = [[c.replace("|", "\\|") for c in row] for row in (head, ["---"] * len(head), *rows)]
    return "\n".join([*(f"| {' | '.join(row)} |" for row in cells), "", caption, ""])


def by_sequence(runs: Any) -> Any:
    """Yields a row of bounds, in nats, for each run and sequence."""
    for run in runs:
        facts = {"run": run.name, "seed": run.experiment.seed, "split": run.findings.split}
        for place, *values in zip(run.findings.places, *run.findings.bounds.values()):
            yield facts | {"sequence": place, **dict(zip(run.findings.bounds, values))}


def draw(groups: Any, folder: Path) -> None:
    """Writes bound and KL over training, and differences to the first configuration, as PDF."""
    from ...analysis import plots
    from ...analysis.plots.axes import plain

    step, drawn = groups[0].runs[0].findings.step, {}
    for name, title in {"bound": "bound", "kl": "KL"}.items():
        column = f"valid_{name}"
        curves = {
            arm.name: [
                [(float(row["step"]), float(row[column])) for row in run.rows if row.get(column)]
                for run in arm.runs
            ]
            for arm in groups
        }
        if curves := {name: rows for name, rows in curves.items() if all(rows)}:
            label = f"{title} on validation, nats per {step}"
            drawn[name] = plots.curves_over_seeds(curves, label)
    first, *others = groups
    if others:
        pairs = {arm.name: arm.minus(first) for arm in others}
        values = {name: (pair.mean, pair.low, pair.high) for name, pair in pairs.items()}
        label = f"tightest bound minus that of {plain(first.name)}, nats per sequence"
        drawn["differences"] = plots.intervals(values, label)
    with writing(folder) as new:
        for name, axes in drawn.items():
            axes.figure.savefig(new / f"{name}.pdf")
    say(f"{', '.join(drawn)}: {folder}")
