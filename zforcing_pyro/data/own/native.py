"""Frames of pandas, polars or Arrow, and their columns of times, as narwhals reads them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np


def zone_of(column: Any) -> str | None:
    """Returns the time zone of a column of narwhals; None without one.

    Narwhals reads the zones of pandas whose names have letters and "/" alone, the native type all.
    """
    zone = getattr(column.dtype, "time_zone", None)
    zone = zone or getattr(getattr(column.to_native(), "dtype", None), "tz", None)
    return str(zone) if zone else None


def is_time(column: Any) -> bool:
    """Returns whether a column of narwhals is of dates or of dates with times."""
    import narwhals as nw

    return column.dtype in (nw.Datetime, nw.Date) or zone_of(column) is not None


def clock(column: Any) -> np.ndarray:
    """Returns dates and times, those with a zone in UTC, datetime64[ns] of ``(rows,)``."""
    import narwhals as nw

    if column.dtype == nw.Date:
        column = column.cast(nw.Datetime("us"))
    if zone_of(column) and column.dtype == nw.Datetime:
        column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    elif zone_of(column):
        column = column.to_native().dt.tz_convert("UTC").dt.tz_localize(None)
    return column.to_numpy().astype("datetime64[ns]")


TIMES = "all numbers, all ISO dates such as 2024-01-31, or all clock times such as 13:15"
"""Columns of times that are read."""


def times_of_text(texts: Any) -> Any:
    """Returns a pandas series of ISO dates in UTC, or of clock times as durations; NaT for others.

    Other orders of day and month are not guessed. Clock times may go beyond 24 hours.
    """
    import pandas

    if texts.str.match(r"\d+:").any():
        texts = texts.where(texts.str.fullmatch(r"\d+:\d\d(:\d\d(\.\d+)?)?"))
        texts = texts.where(texts.str.count(":") > 1, texts + ":00")
        return pandas.to_timedelta(texts, errors="coerce")
    return pandas.to_datetime(texts, format="ISO8601", utc=True, errors="coerce")


def numbers_of_text(name: str, texts: list[Any]) -> np.ndarray:
    """Returns texts as datetime64[ns], or clock times in seconds, ``(rows,)``.

    Raises ValueError, with the name of their column, for other texts.
    """
    import pandas

    column = pandas.Series([str(text) for text in texts], dtype=object)
    times = times_of_text(column)
    if times.isna().any():
        got = f"'{column[times.isna().idxmax()]}'; pandas.to_datetime reads other texts"
        raise ValueError(f"'{name}' must hold {TIMES}, got {got}")
    if times.dtype.kind == "m":
        return times.dt.total_seconds().to_numpy()
    return times.dt.tz_localize(None).to_numpy().astype("datetime64[ns]")


def clock_texts(seconds: np.ndarray) -> list[str]:
    """Returns seconds as clock times.

    Example:
        >>> clock_texts(np.array([33300.0, 34200.0])), clock_texts(np.array([90061.0]))
        (['9:15', '9:30'], ['25:01:01'])
    """
    times = [f"{s // 3600:.0f}:{s // 60 % 60:02.0f}:{s % 60:02.0f}" for s in seconds]
    return [t.removesuffix(":00") for t in times] if not (seconds % 60).any() else times


def local(times: np.ndarray, zone: str, back: bool = False) -> np.ndarray:
    """Returns times in UTC as a zone's clocks show them, or back.

    A time that clocks show twice is the first; one that they skip is read as before the change.
    Zones that the system has no rules of, such as "+01:00", keep their times: their clocks do not
    change.
    """
    try:
        rules = ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        return times
    shown = (datetime.fromtimestamp(s, UTC) for s in times.astype("datetime64[s]").astype(int))
    if back:
        shifts = [-t.replace(tzinfo=rules).utcoffset().total_seconds() for t in shown]
    else:
        shifts = [t.astimezone(rules).utcoffset().total_seconds() for t in shown]
    return times + np.array(shifts).astype("timedelta64[s]")


def numeric(kind: Any) -> bool:
    """Returns whether a dtype of narwhals is of numbers or truth values."""
    import narwhals as nw

    return kind.is_numeric() or kind == nw.Boolean


def has_dates(level: Any) -> bool:
    """Returns whether a level of an index of pandas has ISO dates as texts or objects."""
    if level.dtype.kind not in "OT" and str(level.dtype) != "str":
        return False
    return bool(level.astype(str).str.match(r"\d{4}-\d\d-\d\d").all())


def opened(frame: Any) -> tuple[Any, dict[str, str]]:
    """Returns a frame as narwhals reads it, and the roles of columns that were its index.

    Raises ValueError for anything else than a frame or a series of pandas, polars or Arrow.
    """
    import narwhals as nw

    roles: dict[str, str] = {}
    if hasattr(frame, "to_frame") and getattr(frame, "ndim", 2) == 1:
        frame = frame.to_frame(name=frame.name if getattr(frame, "name", None) else "value")
    elif type(frame).__name__ == "Series":  # of polars
        frame = frame.to_frame()
    index = getattr(frame, "index", None)
    if index is not None and hasattr(frame, "reset_index"):
        frame = frame.rename(columns=str)
        if hasattr(index, "to_timestamp"):
            frame = frame.to_timestamp()
            index = frame.index
        levels = [index.get_level_values(i) for i in range(index.nlevels)]
        kinds = ["time" if v.dtype.kind == "M" or has_dates(v) else "id" for v in levels]
        if index.nlevels == 2 and "time" not in kinds:
            kinds = ["id", "time"]
        if index.nlevels > 2:
            raise ValueError(f"the index must be of an id and a time, got {list(index.names)}")
        if index.nlevels == 2 or kinds == ["time"] or index.name:
            names = [str(v.name or kind) for v, kind in zip(levels, kinds)]
            if index.nlevels == 1 and kinds == ["id"] and not index.has_duplicates:
                kinds = ["time"] if levels[0].dtype.kind in "iuf" else kinds
            frame, roles = frame.reset_index(names=names), dict(zip(kinds, names))
        else:
            frame = frame.reset_index(drop=True)
    try:
        return nw.from_native(frame, eager_only=True), roles
    except TypeError as error:
        raise ValueError(
            f"'frame' must be of pandas, polars or Arrow, got a {type(frame).__name__}"
        ) from error
