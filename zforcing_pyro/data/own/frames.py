"""Frames of pandas or polars as series on a grid of times, and results as such frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from . import native
from .grid import ORDER, Grid


class Series(NamedTuple):
    """One series on a grid of times."""

    name: Any  # its id; None if it is the only one
    times: np.ndarray  # of each step, datetime64[ns] or numbers, (time,)
    rows: np.ndarray  # row of the frame of each step, -1 where the frame has none, (time,)
    values: dict[str, np.ndarray]  # columns by name, NaN or None where missing, (time,)


@dataclass
class Layout:
    """Roles of a frame's columns, and the grid of their times.

    Args:
        id: Column of the series' names; empty is one series.
        time: Column of times; empty is the order of rows.
        targets: Columns that are modelled.
        future: Columns whose values are known in the future.
        static: Columns that are constant in a series.
        grid: The grid of times; None before the first frame is read.
        zone: Time zone of the times, kept in the results.
        by_day: True where all times are at one hour of the zone: steps are of its calendar.
    """

    id: str = ""
    time: str = ""
    targets: list[str] = field(default_factory=list)
    future: list[str] = field(default_factory=list)
    static: list[str] = field(default_factory=list)
    grid: Grid | None = None
    zone: str | None = None
    by_day: bool = False

    def read(self, frame: Any, names: Sequence[str] = ()) -> list[Series]:
        """Returns the series of a frame with columns of ``names``, all by default.

        The first call fills the roles that are empty and finds the grid. Steps that lie between
        the rows of a series become rows of missing values.

        Raises:
            ValueError: If the frame does not fit, by the column.
        """
        import narwhals as nw

        table, roles = self.opened(frame)
        if not len(table):
            raise ValueError(f"'frame' must have rows, got none beside {table.columns}")
        if self.grid is None:
            self.fill(table, roles)
        names = names or [*self.targets, *self.future, *self.static]
        needed = [*names, *filter(None, (self.id, self.time))]
        missing = [name for name in needed if name not in table.columns]
        if missing:
            raise ValueError(f"'frame' must have the columns {needed}, got {table.columns}")
        times = self.numbers_of_times(table)
        ids = table[self.id].to_list() if self.id else [None] * len(table)
        if self.id and (table[self.id].is_null().any() or "" in ids):
            raise ValueError(f"'{self.id}' must name each row's series, got an empty entry")
        columns = {name: table[name] for name in names}
        columns = {
            name: (c.cast(nw.Float64) if c.dtype == nw.Decimal else c).to_numpy()
            for name, c in columns.items()
        }
        groups: dict[Any, list[int]] = {}
        for row, name in enumerate(ids):
            groups.setdefault(name, []).append(row)
        if self.grid is None:
            told = [np.sort(times[rows]) for rows in groups.values()]
            self.grid = Grid.of(told) if self.time else Grid()
        return [
            self.series(name, np.asarray(rows), times, columns) for name, rows in groups.items()
        ]

    def opened(self, frame: Any) -> tuple[Any, dict[str, str]]:
        """Returns :func:`opened` with the levels of an index under their names of training."""
        table, roles = native.opened(frame)
        for role, name in roles.items():
            if (first := getattr(self, role)) and first not in table.columns:
                table, roles = table.rename({name: first}), roles | {role: first}
        return table, roles

    def fill(self, table: Any, roles: dict[str, str]) -> None:
        """Fills empty roles: from an index, a column of dates, and the remaining numbers."""
        dates = [name for name in table.columns if native.is_time(table[name])]
        self.time = self.time or roles.get("time", "")
        if not self.time and len(dates) == 1:
            self.time = dates[0]
        self.id = self.id or roles.get("id", "")
        taken = {self.id, self.time, *self.future, *self.static}
        self.targets = self.targets or [name for name in table.columns if name not in taken]
        other = [
            n for n in self.targets if n in table.columns and not native.numeric(table.schema[n])
        ]
        if other or not self.targets:
            raise ValueError(
                f"'targets' must be columns of numbers, got {other or 'none'}: 'id', 'time', "
                "'static' and 'future' name the others, and 'targets' those to model"
            )
        roles_of = [self.id, self.time, *self.targets, *self.future, *self.static]
        if twice := sorted({n for n in roles_of if n and roles_of.count(n) > 1}):
            raise ValueError(
                f"{twice} must have one role of 'id', 'time', 'targets', 'future' and 'static' each"
            )
        if self.time in table.columns and (zone := native.zone_of(table[self.time])):
            hours = native.local(native.clock(table[self.time].drop_nulls()), zone)
            hours = hours - hours.astype("datetime64[D]")
            self.zone, self.by_day = zone, bool((hours == hours[:1]).all())

    def numbers_of_times(self, table: Any) -> np.ndarray:
        """Returns the times, datetime64[ns] or numbers, ``(rows,)``."""
        import narwhals as nw

        if not self.time:
            return np.arange(len(table), dtype=float)
        column = table[self.time]
        if column.is_null().any():
            raise ValueError(f"'{self.time}' must have no empty entry, got {column.null_count()}")
        if column.dtype in (nw.String, nw.Object):
            return native.numbers_of_text(self.time, column.to_list())
        if native.is_time(column):
            zone, times = native.zone_of(column), native.clock(column)
            if bool(zone) != bool(self.zone):
                rule = f"in a time zone such as {self.zone}" if self.zone else "without a time zone"
                raise ValueError(f"'{self.time}' must be {rule} as in training, got {zone}")
            return native.local(times, self.zone) if self.by_day else times
        if not native.numeric(column.dtype):
            kind = getattr(column.to_native(), "dtype", column.dtype)
            raise ValueError(f"'{self.time}' must hold {native.TIMES}, got {kind}")
        numbers = column.to_numpy()
        if numbers.dtype.kind in "iu" and np.abs(numbers).max() > 2**53:  # int64 has no float64
            rule = (
                "must be below 2^53 as numbers: pandas.to_datetime(column, unit='ns') makes dates"
            )
            raise ValueError(f"'{self.time}' {rule}, got {numbers.max()}")
        return numbers.astype(float)

    def series(
        self, name: Any, rows: np.ndarray, times: np.ndarray, columns: dict[str, np.ndarray]
    ) -> Series:
        """Returns one series on the grid from its rows of the frame."""
        rows = rows[np.argsort(times[rows], kind="stable")]
        told, at = f" of series {name!r}" if name is not None else "", times[rows]
        if (twice := at[1:] == at[:-1]).any():
            raise ValueError(f"each time{told} must have one row, got two at {at[1:][twice][0]}")
        places = self.grid.places(at)
        if places is None:
            raise ValueError(
                f"'{self.time}'{told} must lie on the grid of steps of {self.grid.size:g} "
                f"{self.grid.unit}, got {at[:3]}, ...; resample the rows"
            )
        num = int(places[-1]) + 1
        if num > 10 * len(rows) + 1_000:
            raise ValueError(f"times{told} must have fewer gaps, got {len(rows)} of {num} steps")
        at_rows = np.full(num, -1)
        at_rows[places] = rows
        steps = at if self.grid.unit == ORDER else self.grid.later(at[0], np.arange(num))
        values = {}
        for column, entries in columns.items():
            numbers = entries.dtype.kind in "biuf"
            empty = np.full(num, np.nan) if numbers else np.full(num, None, dtype=object)
            empty[places] = entries[rows].astype(float) if numbers else entries[rows]
            if column in self.static:  # steps without a row have it too
                values_of = {v for v in entries[rows] if v == v and v is not None}
                if len(values_of) > 1:
                    rule = f"must have one value in each series, or be in 'future'; series {name!r}"
                    raise ValueError(f"'static' column '{column}' {rule} has {len(values_of)}")
                empty[:] = next(iter(values_of), empty[0])
            values[column] = empty
        return Series(name, steps, at_rows, values)

    def continued(self, series: Sequence[Series], horizon: int, future: Any) -> list[Series]:
        """Returns the times of the steps after each series, and their covariates from a frame.

        Raises:
            ValueError: If a covariate is not known at all of these times.
        """
        if self.future and future is None:
            raise ValueError(f"'future' must be a frame with {self.future}, got None")
        read = {s.name: s for s in self.read(future, self.future)} if self.future else {}
        parts = []
        for s in series:
            times = self.grid.later(s.times[-1], np.arange(1, horizon + 1))
            values = {name: np.repeat(s.values[name][-1:], horizon) for name in self.static}
            ahead = read.get(s.name)
            if self.time and self.grid.unit == ORDER:  # later times are known from 'future' alone
                times = np.arange(1, horizon + 1)
                if ahead is not None and len(after := ahead.times[ahead.times > s.times[-1]]):
                    times = after[:horizon]
            for name in self.future:
                if ahead is None or not np.isin(times, ahead.times).all() or len(times) < horizon:
                    told = f" of series {s.name!r}" if s.name is not None else ""
                    span = f"from {times[0]} to {times[-1]}"
                    span = (
                        span
                        if self.grid.unit != ORDER
                        else f"of {horizon} steps after {s.times[-1]}"
                    )
                    raise ValueError(f"'future' must have the times{told} {span}")
                values[name] = ahead.values[name][np.searchsorted(ahead.times, times)]
                if any(v is None or v != v for v in values[name]):
                    raise ValueError(f"'future' must have no empty entry in '{name}' at {times}")
            parts.append(Series(s.name, times, np.full(horizon, -1), values))
        return parts

    def frame(self, like: Any, parts: Sequence[tuple[Any, np.ndarray, dict]]) -> Any:
        """Returns results as a frame of the library of ``like``, with ids and times as it has them.

        Args:
            like: A frame that was read.
            parts: Name, times and columns of each series.
        """
        import narwhals as nw

        ids = [name for name, times, _ in parts for _ in times]
        columns: dict[str, Any] = {self.id: ids} if self.id else {}
        times = np.concatenate([times for _, times, _ in parts])
        if self.by_day and times.dtype.kind == "M":
            times = native.local(times, self.zone, back=True)
        table, roles = self.opened(like)
        has_times = bool(self.time) and times.dtype.kind != "i"
        is_text = has_times and table.schema[self.time] in (nw.String, nw.Object)
        if is_text and times.dtype.kind == "f":
            times = native.clock_texts(times)
        columns[self.time if has_times else "step"] = times if has_times else times.astype(int)
        for name in parts[0][2]:
            columns[name] = np.concatenate([values[name] for *_, values in parts])
        result = nw.from_dict(columns, backend=nw.get_native_namespace(table))
        if has_times:
            time, kind = nw.col(self.time), table.schema[self.time]
            if self.zone:
                time = time.dt.replace_time_zone("UTC").dt.convert_time_zone(self.zone)
                kind = nw.Datetime(
                    getattr(kind, "time_unit", "us"), native.zone_of(table[self.time])
                )
            result = result.with_columns(time if is_text else time.cast(kind))
        frame = result.to_native()
        keys = [key for key in (self.id, self.time) if key in roles.values() and key in columns]
        return frame.set_index(keys) if keys else frame

    def beside(self, frame: Any, series: Sequence[Series], columns: Sequence[dict]) -> Any:
        """Returns columns of each series' steps in the order, and with the index, of a frame."""
        import narwhals as nw

        table, roles = self.opened(frame)
        keys = [k for k in (self.id, self.time) if k and k not in roles.values()]
        values = self.scattered(len(table), series, columns)
        result = table.select(keys).with_columns(
            *(nw.new_series(name, v, backend=nw.get_native_namespace(table))
              for name, v in values.items())
        ) if keys else nw.from_dict(values, backend=nw.get_native_namespace(table))  # fmt: skip
        return indexed(result.to_native(), frame)

    def replaced(self, frame: Any, series: Sequence[Series], columns: Sequence[dict]) -> Any:
        """Returns a frame with the missing values of columns replaced by those of its series."""
        import narwhals as nw

        table, roles = self.opened(frame)
        for name, filled in self.scattered(len(table), series, columns).items():
            if not np.isnan(table[name].to_numpy().astype(float)).any():
                continue
            column = nw.new_series(name, filled, backend=nw.get_native_namespace(table))
            table = table.with_columns(column)
        kept = [name for name in table.columns if name not in roles.values()]
        return indexed(table.select(kept).to_native(), frame)

    @staticmethod
    def scattered(num: int, series: Sequence[Series], columns: Sequence[dict]) -> dict:
        """Returns columns of the steps of all series by the rows of their frame, ``(num,)``."""
        result = {n: np.zeros(num, dtype=np.asarray(v).dtype) for n, v in columns[0].items()}
        for s, values in zip(series, columns):
            given = s.rows >= 0
            for name, value in values.items():
                result[name][s.rows[given]] = value[given]
        return result


def indexed(result: Any, frame: Any) -> Any:
    """Returns a result with the index of a frame, where the library has one."""
    if hasattr(result, "index") and hasattr(result, "set_axis"):
        return result.set_axis(frame.index)
    return result
