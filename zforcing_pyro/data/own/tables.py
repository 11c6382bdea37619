"""Tables of one's own, in files of columns or as data frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..corpus import SPLITS, random_split
from ..formats.arrow import Columns, arrow_table, read_table
from ..formats.columns import ColumnsCorpus, Kind, Read, by_split

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow


class Table(ColumnsCorpus):
    """Sequences in a CSV, Parquet, Feather or Arrow file, in one of two forms.

    - Long: a row is one step, with columns that say of which sequence, and when. Rows may come in
      any order: they are sorted by time within a sequence, and the sequences by their names. Times
      are numbers, dates or times, and say nothing but the order: gaps are not filled.
    - Lists: a row is a sequence, and a column holds lists of its values, as many in each column.
      There is no time then, and there need be no names.

    An empty or null entry is missing, as NaN is. Columns of values are numbers or truth values. See
    :class:`ColumnsCorpus` for what they may be, and for missing ones.

    A column may say "train", "valid" or "test" of each sequence; or, without it, 80, 10 and 10 %
    are by chance: see :func:`random_split`, of the names in order.

    Args:
        path: The file.
        sequence: Column of the sequences' names, in the long form.
        time: Column of times, in the long form; empty if rows are in order.
        values: Columns of values; empty is all others, or all with lists.
        split: Column of the splits; empty is by chance.
        kind: What the values are, in place of looking: 0 and 1, symbols, or real numbers.
        standardize: Real numbers minus their mean, by their deviation, in train.
        seed: Of the split by chance.
        data_dir: Folder in which a relative ``path`` is looked for as well.

    Raises:
        ValueError: If an option is out of its range; on reading, if the file or a column is not as
            above, or a sequence has two values of one time.
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
        kind: Kind = "auto",
        standardize: bool = True,
        seed: int = 0,
        data_dir: str | Path | None = None,
    ):
        super().__init__(path, kind, standardize, seed, data_dir)
        self.sequence, self.time, self.split_column = sequence, time, split
        self.value_columns = list(values)
        self._frame = None

    @classmethod
    def from_frame(
        cls, frame: pandas.DataFrame | polars.DataFrame | pyarrow.Table, **options
    ) -> Table:
        """A data frame of pandas or polars, or an Arrow table, in either form of the class.

        Args:
            frame: The frame; an index of pandas is left out.
            **options: As of the class, without ``path`` and ``data_dir``.

        Raises:
            ValueError: As the class.

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
        table._frame = frame
        return table

    def found(self) -> bool:
        return self._frame is not None or self.is_there(self.given)

    def read(self) -> Read:
        if self._frame is None:
            file = self.own(self.given)
            table, where = read_table(file), f"'{file}'"
        else:
            table, where = arrow_table(self._frame), "the frame"
        columns = Columns(table, where)
        lists = [n for n in self.value_columns or columns.names if columns.holds_lists(n)]
        read = self._lists if lists else self._long
        sequences, names, splits, values = read(columns, lists)
        if splits is None:
            index = random_split(len(sequences), self.seed, f"the sequences of {where}")
        else:
            wrong = sorted(set(map(str, splits)) - set(SPLITS))
            if wrong or len(set(splits)) < len(SPLITS):
                raise ValueError(
                    f"column '{self.split_column}' of {where} must hold {list(SPLITS)}, each at "
                    f"least once, got {wrong[:5] or sorted(set(splits))}"
                )
            index = {s: np.flatnonzero(np.array(splits) == s) for s in SPLITS}
        return Read(*by_split(sequences, names, index), values, where)

    def _lists(self, columns: Columns, lists: list[str]) -> tuple:
        values = self.value_columns or lists
        parts = {name: columns.lists(name) for name in values}
        named = self.sequence in columns.names and self.sequence not in values
        names = columns.column(self.sequence).tolist() if named else range(len(columns))
        sequences = []
        for name, *row in zip(names, *parts.values()):
            sizes = {column: len(v) for column, v in zip(values, row)}
            if len(set(sizes.values())) > 1:
                raise ValueError(
                    f"sequence {name} of {columns.where} must have as many values in each column, "
                    f"got {sizes}"
                )
            sequences.append(row[0] if len(row) == 1 else np.stack(row, axis=1))
        splits = columns.column(self.split_column).tolist() if self.split_column else None
        return sequences, [str(name) for name in names], splits, values

    def _long(self, columns: Columns, _: list[str]) -> tuple:
        rest = {self.sequence, self.time, self.split_column}
        values = self.value_columns or [name for name in columns.names if name not in rest]
        if not values:
            raise ValueError(f"{columns.where} must have a column of values, got {columns.names}")
        keys, row_of = np.unique(columns.column(self.sequence), return_inverse=True)
        time = columns.times(self.time) if self.time else np.arange(len(columns))
        order = np.lexsort((time, row_of))
        row_of, time = row_of[order], time[order]
        twice = np.flatnonzero((np.diff(row_of) == 0) & (time[1:] == time[:-1]))
        if len(twice):
            raise ValueError(
                f"{columns.where} must have one row for each sequence and time, got two for "
                f"'{keys[row_of[twice[0]]]}' at {time[twice[0]]}"
            )
        numbers = [columns.numbers(name)[order] for name in values]
        x = numbers[0] if len(numbers) == 1 else np.stack(numbers, axis=1)
        begins = np.flatnonzero(np.diff(row_of, prepend=-1))
        splits = None
        if self.split_column:
            column = columns.column(self.split_column)[order]
            splits = column[begins].tolist()
            if (changed := column != np.repeat(splits, np.diff(begins, append=len(x)))).any():
                raise ValueError(
                    f"column '{self.split_column}' of {columns.where} must be the same all through "
                    f"a sequence, got two for '{keys[row_of[changed.argmax()]]}'"
                )
        return np.split(x, begins[1:]), [f"'{key}'" for key in keys], splits, values
