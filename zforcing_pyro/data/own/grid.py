"""Grids of times: steps of months, business days, nanoseconds or numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MONTHS, BUSINESS_MONTHS, BUSINESS, NANOSECONDS, NUMBER, ORDER = (
    "months", "business months", "business days", "nanoseconds", "numbers", "rows",
)  # fmt: skip


@dataclass(frozen=True)
class Grid:
    """Times at equal distances: ``size`` units each. In the unit ``ORDER`` each row is a step."""

    unit: str = ORDER
    size: float = 1.0

    @classmethod
    def of(cls, times: Sequence[np.ndarray]) -> Grid:
        """Returns the grid on which the increasing times of all series lie, or that of order."""
        times = [t for t in times if len(t) > 1]
        if not times:
            return cls()
        steps = np.concatenate([np.diff(t) for t in times])
        if np.issubdtype(steps.dtype, np.timedelta64):
            months = [np.diff(t.astype("datetime64[M]").astype(int)) for t in times]
            weekdays = np.concatenate([t.astype("datetime64[D]").view(int) + 3 for t in times]) % 7
            ends = [t + np.timedelta64(1, "D") for t in times]
            for days in (times, ends):
                firsts = [t.astype("datetime64[D]") - t.astype("datetime64[M]") for t in days]
                if len({*np.concatenate(firsts).tolist()}) == 1 and min(map(min, months)) > 0:
                    return cls(MONTHS, float(np.gcd.reduce(np.concatenate(months))))
            last = [t.astype("datetime64[D]") == last_business_days(t) for t in times]
            if np.concatenate(last).all() and min(map(min, months)) > 0:
                return cls(BUSINESS_MONTHS, float(np.gcd.reduce(np.concatenate(months))))
            day, steps = 86_400 * 10**9, steps.astype(int)
            if (weekdays < 5).all() and {*(steps / day).tolist()} >= {1.0, 3.0}:
                return cls(BUSINESS)
            unit = NANOSECONDS
        else:
            unit = NUMBER
        grid = cls(unit, float(Counter(steps.tolist()).most_common(1)[0][0]))
        return cls() if grid.size <= 0 or any(grid.places(t) is None for t in times) else grid

    def places(self, times: np.ndarray) -> np.ndarray | None:
        """Returns the steps of increasing times from the first on; None if they are on no grid."""
        if self.unit == ORDER:
            return np.arange(len(times))
        if self.unit in (MONTHS, BUSINESS_MONTHS):
            steps = (times.astype("datetime64[M]").astype(int)) / self.size
        elif self.unit == BUSINESS:
            first = times[0].astype("datetime64[D]")
            return np.busday_count(first, times.astype("datetime64[D]"))
        else:
            steps = (times - times[0]).astype(float) / self.size
        steps = steps - steps[0]
        return steps.round().astype(int) if np.abs(steps - steps.round()).max() < 0.05 else None

    def later(self, time: Any, steps: np.ndarray) -> np.ndarray:
        """Returns the times that lie some steps after a time."""
        if self.unit == MONTHS:
            month, size = time.astype("datetime64[M]"), int(self.size)
            is_last = (time + np.timedelta64(1, "D")).astype("datetime64[M]") > month
            if is_last:  # the last day of each month, at the same time of day
                ends = (month + 1 + size * steps).astype("datetime64[D]") - 1
                return (ends + (time - time.astype("datetime64[D]"))).astype("datetime64[ns]")
            rest = time - month.astype("datetime64[ns]")
            return (month + size * steps).astype("datetime64[ns]") + rest
        if self.unit == BUSINESS_MONTHS:
            days = last_business_days(time.astype("datetime64[M]") + int(self.size) * steps)
            return days.astype("datetime64[ns]") + (time - time.astype("datetime64[D]"))
        if self.unit == BUSINESS:
            days = np.busday_offset(time.astype("datetime64[D]"), steps, roll="forward")
            return days.astype("datetime64[ns]") + (time - time.astype("datetime64[D]"))
        if np.issubdtype(np.asarray(time).dtype, np.datetime64):
            return time + (self.size * steps).astype("timedelta64[ns]")
        return time + self.size * steps


def last_business_days(times: np.ndarray) -> np.ndarray:
    """Returns the last day from Monday to Friday of each time's month, ``(time,)``."""
    ends = (times.astype("datetime64[M]") + 1).astype("datetime64[D]") - 1
    return np.busday_offset(ends, 0, roll="backward")
