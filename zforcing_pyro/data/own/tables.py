"""Tables that a person has, in files of columns or as data frames."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.columns import ColumnsCorpus
from ..formats.files import check_room, read_text
from ..formats.rows import Part
from .native import TIMES, times_of_text

if TYPE_CHECKING:
    import pandas
    import pyarrow

SUFFIXES = (".csv", ".csv.gz", ".parquet", ".feather", ".arrow")
INDEX = re.compile(r"__index_level_\d+__$")
"""Names that pandas gives to an index without a name in a file."""


class Table(ColumnsCorpus):
    """Sequences in a CSV, Parquet, Feather or Arrow file, in one of two forms.

    - Long: a row is one step, with columns that say of which sequence, and when. Names are text:
      ``01`` and ``1`` are two. Times are numbers, ISO dates or clock times (``25:30`` is
      one), which only give the order. Clock times must not go back within a sequence: whether
      they pass midnight, dates alone say.
    - Lists: a row is a sequence, and a column holds lists of its values, as many in each column.

    A CSV whose header has semicolons and no comma is divided by these. Decimals have a point.
    An empty or null entry is missing, as NaN is. Columns of values are numbers or truth values.

    Args:
        path: The file.
        sequence: Column of the sequences' names, in the long form.
        time: Column of times, in the long form; empty if rows are in order.
        values: Columns of values; empty is all others, or all with lists.
        split: Column that says "train", "valid" or "test" of each sequence; empty is 80, 10 and
            10 % by chance, see :func:`.random_split`.
        options: As for :class:`.ColumnsCorpus`.
    """

    title = "table"
    source = "your own: --data.path a .csv, .parquet, .feather or .arrow file"

    def __init__(
        self,
        path: str | Path = "",
        sequence: str = "sequence",
        time: str = "time",
        values: Sequence[str] = (),
        split: str = "",
        **options: Any,
    ):
        super().__init__(path, **options)
        self.sequence, self.time, self.split_column = sequence, time, split
        self.value_columns = list(values)
        roles = [name for name in (sequence, time, split, *values) if name]
        if len(set(roles)) < len(roles):
            raise ValueError(f"'sequence', 'time', 'split' and 'values' must differ, got {roles}")

    @classmethod
    def from_frame(cls, frame: Any, **options) -> Table:
        """Returns the sequences of a frame of pandas, polars, Arrow, or any that narwhals reads.

        An index is left out; the options are those of the class.

        Example:
            >>> import pandas
            >>> frame = pandas.DataFrame({
            ...     "patient": ["ann"] * 3 + ["bob"] * 2 + ["eve"] * 4,
            ...     "day": [2, 1, 3, 1, 2, 1, 2, 3, 4],
            ...     "pulse": [70.0, 65, None, 80, 82, 60, 61, 62, 63],
            ... })
            >>> pulses = Table.from_frame(frame, sequence="patient", time="day")
            >>> [pulses.split(name).lengths.tolist() for name in ("train", "valid", "test")]
            [[3], [2], [4]]
            >>> pulses.columns, pulses.emission
            (['pulse'], 'gaussian')
        """
        table = cls(**options)
        table._memory = frame
        return table

    def read_file(self, file: Path) -> pyarrow.Table:
        """Returns a file of columns, read as its suffix says; names of a CSV are text."""
        try:
            import pyarrow
            from pyarrow import csv, feather, parquet
        except ImportError as error:
            raise ValueError("tables need pyarrow: pip install 'zforcing_pyro[tables]'") from error
        suffix = file.name.lower()
        if not suffix.endswith(SUFFIXES) or file.is_dir():
            raise ValueError(
                f"'path' must be one file that ends in one of {list(SUFFIXES)}, got '{file}': "
                "Table.from_frame takes what pandas.read_csv or pandas.concat makes of others"
            )
        try:
            if suffix.endswith(".parquet"):
                facts = parquet.ParquetFile(file).metadata
                check_room(8 * facts.num_rows * facts.num_columns, file)
                return parquet.read_table(file)
            if suffix.endswith((".feather", ".arrow")):
                return feather.read_table(file)
            types = dict.fromkeys((self.sequence, self.split_column), pyarrow.string())
            text = read_text(file)
            head = text.partition("\n")[0]
            return csv.read_csv(
                BytesIO(text.encode()),
                parse_options=csv.ParseOptions(delimiter=",;"[";" in head and "," not in head]),
                # Threads that still read when a refusal ends the process would abort it.
                read_options=csv.ReadOptions(use_threads=False),
                convert_options=csv.ConvertOptions(column_types=types),
            )
        except (pyarrow.ArrowException, OSError) as error:
            reason = " ".join(f"{error}".split())
            if "CSV" in reason:
                reason += "; commas or semicolons divide columns: of others "
                reason += "Table.from_frame takes pandas' frame"
            raise ValueError(f"'{file}' must be a table as its name says, got: {reason}") from error

    def sequences(self, content: Any) -> tuple[dict[str, Part], list[str]]:
        table = content if self._memory is None else arrow_table(content)
        table = table.select([i for i, n in enumerate(table.column_names) if not INDEX.match(n)])
        names, roles = table.column_names, {self.sequence, self.time, self.split_column}
        nested = {field.name for field in table.schema if "list" in str(field.type)}
        lists = [name for name in self.value_columns or names if name in nested]
        values = self.value_columns or lists or [name for name in names if name not in roles]
        time = "" if lists else self.time
        needed = [*values, *filter(None, [time, self.split_column])] + [self.sequence] * (not lists)
        if not len(table) or not values:
            raise ValueError(f"rows and a column of values must be there, got {table.shape}")
        for name in [*needed, *names]:
            if names.count(name) != 1:
                raise ValueError(
                    f"column '{name}' must be there once, got {names}; the options 'sequence', "
                    "'time', 'values' and 'split' say which is which"
                )
        frame = table.to_pandas(ignore_metadata=True)
        if lists:
            if self.sequence not in names:
                frame[self.sequence] = frame.index
            frame = frame.explode(values, ignore_index=True)  # refuses lists of other lengths
        keys = frame[[]].assign(name=named(frame, self.sequence))
        keys["time"] = ranks(frame, time, keys["name"]) if time else frame.index
        keys = keys.sort_values(["name", "time"])
        for row in keys.index[keys.duplicated()]:
            at = f"'{keys['name'][row]}' at {frame[time][row]}"
            raise ValueError(f"each sequence and time must have one row, got two for {at}")
        names, lengths = keys["name"].cat.categories, keys["name"].value_counts(sort=False)
        begins, lengths = lengths.cumsum().to_numpy() - lengths, lengths.to_numpy()
        rows = np.stack([numbers(frame, name) for name in values], 1)[keys.index]
        part, splits = Part(rows, begins.to_numpy(), lengths, names.to_numpy()), None
        if self.split_column:
            keys["split"] = column(frame, self.split_column).astype(str)
            groups = keys.groupby("name", observed=True)["split"]
            for name in names[groups.nunique() > 1]:
                raise ValueError(f"'{self.split_column}' must be the same all through '{name}'")
            splits = groups.first().to_numpy()
        return part.split(splits, self.seed), values


def arrow_table(frame: Any) -> pyarrow.Table:
    """Returns a data frame as an Arrow table without an index."""
    import narwhals

    try:
        return narwhals.maybe_reset_index(narwhals.from_native(frame, eager_only=True)).to_arrow()
    except Exception as error:  # every library of frames has errors of its own
        got = f"{type(frame).__name__}: {' '.join(f'{error}'.split())}"
        raise ValueError(f"'frame' must be of pandas, polars or Arrow, got {got}") from error


def column(frame: pandas.DataFrame, name: str, full: bool = True) -> pandas.Series:
    """Returns a column, in which an empty text is null; ``full`` refuses those."""
    values = frame[name]
    if values.dtype == "category":
        values = values.astype(values.cat.categories.dtype)
    if values.dtype.kind == "O":
        values = values.replace("", None)
    if full and values.isna().any():
        raise ValueError(f"column '{name}' must not have empty entries")
    return values


def named(frame: pandas.DataFrame, name: str) -> pandas.Series:
    """Returns a column as categories of text, of which s2 comes before s10."""
    names = column(frame, name).astype(str)
    padded = {n: re.sub(r"\d+", lambda digits: digits[0].zfill(20), n) for n in set(names)}
    order = sorted(padded, key=lambda name: (padded[name], name))
    return names.astype("category").cat.set_categories(order)


def ranks(frame: pandas.DataFrame, name: str, sequences: pandas.Series) -> pandas.Series:
    """Returns the order of times, equal for equal ones, ``(rows,)``.

    Clock times that go back within a sequence are refused, because they may pass midnight.
    """
    import pandas

    time = column(frame, name)
    try:
        if isinstance(time.iloc[0], datetime.time):
            time = time.astype(str)
        if isinstance(time.iloc[0], str):
            time = times_of_text(time)
            if time.dtype.kind == "m":
                back = time.groupby(sequences, observed=True).diff() < pandas.Timedelta(0)
                for row in time.index[back]:
                    raise ValueError(
                        f"clock times in column '{name}' must not go back within a sequence, got "
                        f"'{frame[name][row]}' in '{sequences[row]}': give dates if it is the next "
                        "day, or sort the rows"
                    )
        if time.dtype != bool and not time.isna().any():
            return time.rank(method="dense")
    except TypeError:  # values without an order
        pass
    got = f"'{frame[name][time.isna().idxmax()]}'"
    raise ValueError(f"column '{name}' must hold times: {TIMES}, got {got}")


def numbers(frame: pandas.DataFrame, name: str) -> np.ndarray:
    """Returns values, NaN where there is none, ``(rows,)``."""
    import pandas
    from pyarrow.csv import ConvertOptions

    try:
        values = column(frame, name, full=False)
        if values.dtype.kind in "mM":
            raise ValueError(f"{values.dtype}")
        result = pandas.to_numeric(values, errors="coerce")
        marked = values.astype(str).isin(ConvertOptions().null_values)
        for row, value in values[result.isna() & values.notna() & ~marked].items():
            raise ValueError(f"'{value}' at position {row}")
        return result.to_numpy()
    except (TypeError, ValueError) as error:
        advice = "decimals have a point, and an empty entry is a missing value"
        raise ValueError(f"column '{name}' must hold numbers, got: {error}; {advice}") from error
