"""Frames from files and from Python as one Arrow table, and its columns, checked."""

from __future__ import annotations

import re
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from .files import check_regular, check_room, read_text

if TYPE_CHECKING:
    import pyarrow

SUFFIXES = (".csv", ".csv.gz", ".parquet", ".feather", ".arrow")


class Columns:
    """An Arrow table whose columns are checked; ``where`` names its file or frame in errors."""

    def __init__(self, table: pyarrow.Table, where: str):
        self.table, self.where, self.names = table, where, table.column_names
        self.arrow = arrow_module()
        self.texts = (self.arrow.string(), self.arrow.large_string())
        if not len(table):
            raise ValueError(f"{where} must have rows, got none")
        if twice := sorted({name for name in self.names if self.names.count(name) > 1}):
            raise ValueError(f"{where} must have every column once, got {twice} twice")

    def get(self, name: str, full: bool = True) -> pyarrow.Array:
        """Returns a column, which has no empty entries if ``full``."""
        if name not in self.names:
            raise ValueError(
                f"{self.where} must have a column '{name}', got {self.names}; the options "
                "'sequence', 'time', 'values' and 'split' say which is which"
            )
        column, pc = self.table.column(name).combine_chunks(), self.arrow.compute
        if self.arrow.types.is_dictionary(column.type):  # a categorical column of pandas
            column = column.cast(column.type.value_type)
        empty = pc.is_null(column, nan_is_null=True)
        if column.type in self.texts:
            empty = pc.or_kleene(empty, pc.equal(column, ""))
        if full and pc.any(empty).as_py():
            self.refuse(name, "not have empty entries")
        return column

    def refuse(self, name: str, needed: str) -> None:
        raise ValueError(f"column '{name}' of {self.where} must {needed}")

    def text(self, name: str) -> np.ndarray:
        """Returns names as text, ``(rows,)``."""
        return self.get(name).cast(self.arrow.string()).to_numpy(zero_copy_only=False)

    def codes(self, name: str) -> tuple[list[str], np.ndarray]:
        """Returns the names in order, ``(names,)``, and the place of each row's, ``(rows,)``."""
        encoded = self.get(name).cast(self.arrow.string()).dictionary_encode()
        names = encoded.dictionary.to_pylist()
        parts = [re.split(r"(\d+)", name) for name in names]  # s2 comes before s10
        keys = [([int(p) if p.isdecimal() else p for p in v], n) for v, n in zip(parts, names)]
        order = sorted(range(len(names)), key=keys.__getitem__)
        return [names[i] for i in order], np.argsort(order)[encoded.indices.to_numpy()]

    def ranks(self, name: str) -> np.ndarray:
        """Returns the order of times, equal for equal ones, ``(rows,)``."""
        time, arrow, types = self.get(name), self.arrow, self.arrow.types
        if time.type in self.texts:
            text = time
            for clock, date in ((r"^(\d):", r"0\1:"), (r"^(\d\d:)", r"1970-01-01 \1")):
                text = arrow.compute.replace_substring_regex(text, clock, date)
            for kind in (arrow.timestamp("us"), arrow.timestamp("us", "UTC")):
                with suppress(arrow.ArrowException):
                    time = text.cast(kind)
        if time.type in self.texts or types.is_boolean(time.type) or types.is_nested(time.type):
            got = f"{time.type} such as '{time[0]}'"
            self.refuse(name, f"hold times: numbers, ISO dates or clock times, got {got}")
        return arrow.compute.rank(time, tiebreaker="dense").to_numpy()

    def numbers(self, name: str) -> np.ndarray:
        """Returns values, NaN where there is none, ``(rows,)``."""
        column, arrow, types = self.get(name, full=False), self.arrow, self.arrow.types
        if column.type in self.texts:
            column = arrow.compute.if_else(arrow.compute.equal(column, ""), None, column)
        if not (types.is_integer(column.type) or types.is_floating(column.type)):
            try:
                column = column.cast(arrow.float64())
            except arrow.ArrowException as error:
                advice = "decimals have a point, and an empty entry is a missing value"
                self.refuse(name, f"hold numbers, got: {one_line(error)}; {advice}")
        return column.to_numpy(zero_copy_only=False)

    def holds_lists(self, name: str) -> bool:
        types, kind = self.arrow.types, self.get(name, full=False).type
        return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)

    def unnested(self, values: list[str], sequence: str) -> Columns:
        """Returns a long table of one with lists, whose rows have a name or get a number."""
        pc, table, lengths = self.arrow.compute, self.table, {}
        for name in values:
            if not self.holds_lists(name):
                self.refuse(name, f"hold lists, got {self.get(name).type}")
            lengths[name] = pc.list_value_length(self.get(name)).to_numpy()
            if not lengths[name].all():
                self.refuse(name, "not have empty lists")
        first = lengths[values[0]]
        for row in np.flatnonzero(np.any([first != other for other in lengths.values()], 0)):
            sizes = {name: int(length[row]) for name, length in lengths.items()}
            raise ValueError(
                f"row {row} of {self.where} must have as many values in each column, got {sizes}"
            )
        if sequence not in self.names:
            table = table.append_column(sequence, [np.arange(len(first))])
        long = table.drop(values).take(np.arange(len(first)).repeat(first))
        for name in values:
            long = long.append_column(name, pc.list_flatten(self.get(name)))
        return Columns(long, self.where)


def arrow_module() -> ModuleType:
    """Returns pyarrow; raises ValueError with what to install if it is not there."""
    try:
        import pyarrow
        import pyarrow.compute
    except ImportError as error:
        raise ValueError("tables need pyarrow: pip install 'zforcing_pyro[tables]'") from error
    return pyarrow


def one_line(error: Exception) -> str:
    return " ".join(f"{error}".split())


def arrow_table(frame: Any) -> pyarrow.Table:
    """Returns a data frame as an Arrow table without an index; anything else is a ValueError."""
    import narwhals

    arrow_module()
    try:
        return narwhals.maybe_reset_index(narwhals.from_native(frame, eager_only=True)).to_arrow()
    except Exception as error:  # every library of frames has errors of its own
        got = f"{type(frame).__name__}: {one_line(error)}"
        raise ValueError(f"'frame' must be of pandas, polars or Arrow, got {got}") from error


def read_table(file: Path, text: list[str]) -> pyarrow.Table:
    """Returns a file of columns, read as its suffix says, with columns ``text`` as names.

    Raises:
        ValueError: If the suffix is another, or the file is broken.
    """
    arrow, name = arrow_module(), file.name.lower()
    from pyarrow import csv, feather, parquet

    if not name.endswith(SUFFIXES) or file.is_dir():
        raise ValueError(
            f"'path' must be one file that ends in one of {list(SUFFIXES)}, got '{file}': "
            "Table.from_frame takes what pandas.read_csv makes of others, and pandas.concat of many"
        )
    check_regular(file)
    try:
        if name.endswith(".parquet"):
            facts = parquet.ParquetFile(file).metadata
            check_room(8 * facts.num_rows * facts.num_columns, file)
            return parquet.read_table(file)
        if name.endswith((".feather", ".arrow")):
            return feather.read_table(file)
        content = read_text(file)
        header = content.partition("\n")[0]
        if "," not in header and any(mark in header for mark in ";\t|"):
            raise ValueError(
                f"'{file}' must have commas between columns, got '{header}': Table.from_frame "
                "takes what pandas.read_csv makes of others"
            )
        options = csv.ConvertOptions(column_types=dict.fromkeys(text, arrow.string()))
        return csv.read_csv(BytesIO(content.encode()), convert_options=options)
    except (arrow.ArrowException, OSError) as error:
        reason = one_line(error)
        raise ValueError(f"'{file}' must be a table as its name says, got: {reason}") from error
