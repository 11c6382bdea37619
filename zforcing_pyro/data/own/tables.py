"""Tables that a person has, in files of columns or as data frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..corpus import SPLITS, random_split
from ..formats.columns import ColumnsCorpus, Kind
from ..formats.frames import Columns, arrow_table, read_table
from ..formats.rows import Part, Read


class Table(ColumnsCorpus):
    """Sequences in a CSV, Parquet, Feather or Arrow file, in one of two forms.

    - Long: a row is one step, with columns that say of which sequence, and when. Rows may come in
      any order: they are sorted by time within a sequence, and the sequences by their names. Names
      are text: ``01`` and ``1`` are two. Times are numbers, ISO dates or clock times, and say
      nothing but the order: gaps are not filled.
    - Lists: a row is a sequence, and a column holds lists of its values, as many in each column.
      There is no time then, and there need be no names.

    An empty or null entry is missing, as NaN is. Columns of values are numbers or truth values.

    A column may say "train", "valid" or "test" of each sequence; or, without it, 80, 10 and 10 %
    are by chance: see :func:`random_split`, of the names in order.

    Args:
        path: The file.
        sequence: Column of the sequences' names, in the long form.
        time: Column of times, in the long form; empty if rows are in order.
        values: Columns of values; empty is all others, or all with lists.
        split: Column of the splits; empty is by chance.
        kind: Family of the values; "auto" looks at them, see :class:`.ColumnsCorpus`.
        standardize: Real numbers minus their mean, by their deviation, in train.
        seed: Seed of a split by chance.
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
        roles = [name for name in (sequence, time, split, *values) if name]
        if twice := sorted({name for name in roles if roles.count(name) > 1}):
            raise ValueError(f"'sequence', 'time', 'split' and 'values' must differ, got {twice}")

    @classmethod
    def from_frame(cls, frame: Any, **options) -> Table:
        """Returns the sequences of a data frame, in either form of the class.

        Args:
            frame: Of pandas, polars, Arrow, or any library that narwhals reads, without an index.
            **options: Options of the class, which raises the same errors.

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

    def read(self) -> Read:
        if self._memory is None:
            file = self.own(self.file)
            where, table = f"'{file}'", read_table(file, [self.sequence, self.split_column])
        else:
            where, table = "the frame", arrow_table(self._memory)
        columns, time = Columns(table, where), self.time
        rest = {self.sequence, time, self.split_column}
        lists = [n for n in self.value_columns or columns.names if columns.holds_lists(n)]
        values = self.value_columns or lists or [n for n in columns.names if n not in rest]
        if not values:
            raise ValueError(f"{where} must have a column of values, got {columns.names}")
        if lists:
            columns, time = columns.unnested(values, self.sequence), ""
        names, codes = columns.codes(self.sequence)
        times = columns.ranks(time) if time else np.arange(len(codes))
        order = np.lexsort((times, codes))
        codes, times = codes[order], times[order]
        for i in np.flatnonzero((np.diff(codes) == 0) & (np.diff(times) == 0)):
            raise ValueError(
                f"{where} must have one row for each sequence and time, got two for "
                f"'{names[codes[i]]}' at {columns.get(time)[int(order[i])]}"
            )
        begins = np.flatnonzero(np.diff(codes, prepend=-1))
        lengths = np.diff(begins, append=len(codes))
        rows = np.stack([columns.numbers(name) for name in values], 1)[order]
        part = Part(rows, begins, lengths, [f"'{name}'" for name in names])
        if self.split_column:
            index = self._index(columns, order, part)
        else:
            index = random_split(len(names), self.seed, f"the sequences of {where}")
        return Read({split: part.subset(index[split]) for split in SPLITS}, values, where)

    def _index(self, columns: Columns, order: np.ndarray, part: Part) -> dict[str, np.ndarray]:
        """Returns indices of sequences by split, as the column says."""
        column = columns.text(self.split_column)[order]
        splits = column[part.begins]
        for i in np.flatnonzero(column != splits.repeat(part.lengths)):
            name = part.names[part.begins.searchsorted(i, side="right") - 1]
            columns.refuse(self.split_column, f"be the same all through a sequence, but {name}")
        if (names := set(splits.tolist())) != set(SPLITS):
            got = sorted(names - set(SPLITS))[:5] or sorted(names)
            columns.refuse(self.split_column, f"hold each of {list(SPLITS)}, got {got}")
        return {split: np.flatnonzero(splits == split) for split in SPLITS}
