"""Arrow tables from files and data frames, and their columns, checked."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

SUFFIXES = (".csv", ".csv.gz", ".parquet", ".feather", ".arrow")


class Columns:
    """An Arrow table whose columns are asked for by name, and checked.

    Args:
        table: The table.
        where: What it comes from, for errors.

    Raises:
        ValueError: If it is empty, or has a name twice.
    """

    def __init__(self, table: pyarrow.Table, where: str):
        self.table, self.where, self.names = table, where, table.column_names
        if not len(table):
            raise ValueError(f"{where} must have rows, got none")
        if twice := sorted({name for name in self.names if self.names.count(name) > 1}):
            raise ValueError(f"{where} must have every column once, got {twice} twice")

    def __len__(self) -> int:
        return len(self.table)

    def get(self, name: str) -> pyarrow.ChunkedArray:
        if name not in self.names:
            raise ValueError(
                f"{self.where} must have a column '{name}', got {self.names}; the options "
                "'sequence', 'time', 'values' and 'split' say which is which"
            )
        return self.table.column(name)

    def holds_lists(self, name: str) -> bool:
        types, kind = arrow_module().types, self.get(name).type
        return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)

    def column(self, name: str) -> np.ndarray:
        """Names, or splits: anything but null. Shape ``(rows,)``."""
        column = self.get(name)
        if column.null_count:
            raise ValueError(f"column '{name}' of {self.where} must not have empty entries")
        if arrow_module().types.is_dictionary(column.type):  # a categorical column of pandas
            column = column.cast(column.type.value_type)
        return column.to_numpy()

    def times(self, name: str) -> np.ndarray:
        """Numbers, dates or times. Shape ``(rows,)``."""
        time = self.column(name)
        if time.dtype.kind not in "iufmM" or (time != time).any():
            kind = self.get(name).type
            raise ValueError(f"column '{name}' of {self.where} must hold times, got {kind} or NaN")
        return time

    def numbers(self, name: str) -> np.ndarray:
        """Values, NaN where there is none. Shape ``(rows,)``."""
        return self.as_numbers(name, self.get(name))

    def as_numbers(self, name: str, column: pyarrow.ChunkedArray | pyarrow.Array) -> np.ndarray:
        arrow = arrow_module()
        types, kind = arrow.types, column.type
        if types.is_boolean(kind):
            column = column.cast(arrow.uint8())
        elif types.is_decimal(kind) or types.is_null(kind):
            column = column.cast(arrow.float64())
        elif not (types.is_integer(kind) or types.is_floating(kind)):
            raise ValueError(f"column '{name}' of {self.where} must hold numbers, got {kind}")
        if isinstance(column, arrow.Array):
            return column.to_numpy(zero_copy_only=False)
        return column.to_numpy()

    def lists(self, name: str) -> list[np.ndarray]:
        """The values of each row, NaN where there is none. Shapes ``(time_i,)``."""
        if not self.holds_lists(name):
            kind = self.get(name).type
            raise ValueError(f"column '{name}' of {self.where} must hold lists, got {kind}")
        rows = []
        for chunk in self.get(name).chunks:
            if not len(chunk):  # np.split would make a row of it
                continue
            if chunk.null_count:
                raise ValueError(f"column '{name}' of {self.where} must not have empty entries")
            lengths = chunk.value_lengths().to_numpy(zero_copy_only=False)
            if not lengths.all():
                raise ValueError(f"column '{name}' of {self.where} must not have empty lists")
            values = self.as_numbers(name, chunk.flatten())
            rows += np.split(values, lengths.cumsum()[:-1])
        return rows


def arrow_module() -> ModuleType:
    """pyarrow; without it, one line says what to install.

    Raises:
        ValueError: If it is not installed.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise ValueError("tables need pyarrow: pip install 'zforcing_pyro[tables]'") from error
    return pyarrow


def arrow_table(frame: pandas.DataFrame | polars.DataFrame | pyarrow.Table) -> pyarrow.Table:
    """A data frame as an Arrow table, without an index.

    Raises:
        ValueError: If it is none.
    """
    arrow = arrow_module()
    try:
        if type(frame).__module__.partition(".")[0] == "pandas":
            return arrow.Table.from_pandas(frame, preserve_index=False)
        return arrow.table(frame)
    except (TypeError, ValueError, arrow.ArrowException) as error:
        reason = " ".join(f"{error}".split())
        raise ValueError(
            f"'frame' must be of pandas, polars or Arrow, got {type(frame).__name__}: {reason}"
        ) from error


def checked_text(table: pyarrow.Table, file: Path) -> pyarrow.Table:
    """A table of a text file.

    Raises:
        ValueError: If the file is no UTF-8, or its columns are not divided by commas.
    """
    names = table.column_names
    types = arrow_module().types
    if other := [n for n, kind in zip(names, table.schema.types) if types.is_binary(kind)]:
        raise ValueError(f"'{file}' must be text in UTF-8, got other bytes in columns {other}")
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        raise ValueError(f"'{file}' must have commas between columns, got only {names}")
    return table


def read_table(file: Path) -> pyarrow.Table:
    """A file of columns, by its suffix.

    Raises:
        ValueError: If it has none of ours, or is broken.
    """
    arrow = arrow_module()
    name = file.name.lower()
    try:
        if name.endswith((".csv", ".csv.gz")):
            from pyarrow import csv

            return checked_text(csv.read_csv(file), file)
        if name.endswith(".parquet"):
            from pyarrow import parquet

            return parquet.read_table(file)
        if name.endswith((".feather", ".arrow")):
            from pyarrow import feather

            return feather.read_table(file)
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"'{file}' must be a table as its name says, got {reason}") from error
    raise ValueError(f"'path' must end in one of {list(SUFFIXES)}, got '{file}'")
