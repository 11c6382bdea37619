"""``zforcing forecast``, ``impute`` and ``score``: a model of series reads a table."""

import io
from argparse import Namespace
from pathlib import Path
from typing import Any

from ..folders import check_output
from ..terminal import Parser, say, show, user_path

NAMED = {"future": "table of covariates that are known in the steps to come",
         "out": "CSV or Parquet file; by default CSV is printed"}  # fmt: skip


def forecast(args: list[str]) -> None:
    """Prints the mean and quantiles of the steps after each series of a table."""
    parser = parser_of("forecast", forecast.__doc__)
    parser.add_argument("--horizon", type=int, required=True, help="steps to forecast")
    parser.add_argument("--quantiles", type=float, nargs="+", default=[0.1, 0.5, 0.9])
    parser.add_argument("--future", help=NAMED["future"])
    parser.add_argument("--draws", type=int, default=200, help="draws that the quantiles are of")
    options = checked(parser.parse_args(args))
    model = model_of(options.run)
    if options.future and not model.layout_.future:
        raise ValueError(f"'--future' needs a model with future columns, got '{options.run}'")
    if model.layout_.future and not options.future:
        needed = [*filter(None, (model.layout_.id, model.layout_.time)), *model.layout_.future]
        raise ValueError(f"'--future' must name a table with the columns {needed}, got none")
    future = read(options.future, model) if options.future else None
    write(options.out, model.forecast(read(options.file, model), options.horizon,
          options.quantiles, future, options.draws, options.seed))  # fmt: skip


def impute(args: list[str]) -> None:
    """Prints a table with the mean of each missing value given what is observed around it."""
    parser = parser_of("impute", impute.__doc__)
    parser.add_argument("--draws", type=int, default=0, help="draws instead of means")
    parser.add_argument("--lag", type=int, default=16, help="steps after a gap that weigh draws")
    options = checked(parser.parse_args(args))
    model = model_of(options.run)
    frame = read(options.file, model)
    write(options.out, model.impute(frame, options.draws, options.lag, options.seed))


def score(args: list[str]) -> None:
    """Prints how surprising each row of a table is, in nats, and which rows are unusual."""
    options = checked(parser_of("score", score.__doc__).parse_args(args))
    model = model_of(options.run)
    write(options.out, model.score(read(options.file, model), options.seed))
    limits = ", ".join(f"{name} {limit:.4g}" for name, limit in model.thresholds_.items())
    say(f"thresholds of validation: {limits}")


def parser_of(command: str, description: str | None) -> Parser:
    """Returns a parser with the arguments that the three commands share."""
    parser = Parser(command, description=description)
    parser.add_argument("run", help="file of SequenceModel.save, or folder of a run on a table")
    parser.add_argument("file", help="CSV, Parquet, Feather or Arrow file")
    parser.add_argument("--out", help=NAMED["out"])
    parser.add_shared("--seed")
    return parser


def checked(options: Namespace) -> Namespace:
    """Returns options; ValueError if the output is one of the inputs, or in a run's folder."""
    if options.out:
        inputs = {name: getattr(options, name, None) for name in ("run", "file", "future")}
        check_output("--out", options.out, inputs)
    return options


def model_of(run: str) -> Any:
    """Returns the model of a file, or of a run's folder.

    Raises ValueError for a run that was not trained on a table, or whose net has no steps.
    """
    from ..sequence_model import SequenceModel

    place = user_path(run, "run")
    return model_of_run(place) if Path(place).is_dir() else SequenceModel.load(place)


def model_of_run(run: str) -> Any:
    """Returns the net of a run on a table as a model, with thresholds of the run's validation."""
    import numpy as np

    from ...analysis.series import thresholds
    from ...data.own.coding import Coding
    from ...data.own.frames import Layout, Series
    from ...data.own.tables import Table
    from ...emissions.columns import FAMILIES
    from ..experiment import load_corpus, load_experiment, load_weighted
    from ..sequence_model import RARE, WARM_UP, SequenceModel

    experiment = load_experiment(run)
    corpus = load_corpus(run, experiment)
    if not isinstance(corpus, Table) or corpus.emission not in FAMILIES:
        raise ValueError(f"'run' must be one on a table of numbers, got one on {corpus.title}")
    facts, targets = corpus.facts(), corpus.columns
    num, model = len(targets), SequenceModel(corpus.sequence, corpus.time, targets)
    shift, scale = [0.0] * num, [1.0] * num
    if facts["standardised"]:
        shift, scale = facts["mean"], facts["std"]
    model.layout_ = Layout(corpus.sequence, corpus.time, targets)
    model.coding_ = Coding([corpus.emission] * num, shift, scale, [False] * num)
    model.net_, valid = load_weighted(run, experiment, corpus), corpus.split("valid")
    model.window_ = experiment.training.window or int(corpus.split("train").lengths.max())
    series = []
    for sequence in valid:
        steps, x = np.arange(len(sequence.x)), corpus.values(sequence.x).numpy().astype(float)
        series.append(Series(None, steps, steps, dict(zip(targets, x.T))))
    held = [slice(min(WARM_UP, len(s.times) // 2), None) for s in series]
    parts = model.told(series, 64, 0)
    model.calm_, model.thresholds_ = thresholds(parts, held, targets, RARE)
    return model


def read(file: str, model: Any) -> Any:
    """Returns a file of columns as an Arrow table, names of series as text."""
    from ...data.own.tables import Table

    path = Path(user_path(file, "file"))
    if not path.is_file():
        raise ValueError(f"'file' must be a file, got '{file}'")
    return Table(path, sequence=model.layout_.id or "sequence").read_file(path)


def write(out: str | None, table: Any) -> None:
    """Writes an Arrow table to a file, or prints it as CSV."""
    from pyarrow import csv, parquet

    from ...data.writing import replacing

    if out is None:
        stream = io.BytesIO()
        csv.write_csv(table, stream)
        show(stream.getvalue().decode().rstrip("\n"))
        return
    path = Path(user_path(out, "--out"))
    if path.suffix not in (".csv", ".parquet"):
        raise ValueError(f"'--out' must end in .csv or .parquet, got '{out}'")
    with replacing(path) as file:
        (csv.write_csv if path.suffix == ".csv" else parquet.write_table)(table, file)
    say(f"{table.num_rows} rows: {path}")
