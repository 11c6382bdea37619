"""Series of the backtest, their origins, and metrics; needs no package of this repository."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import scoringrules
from statsmodels import datasets

SHARE, DRAWS, LEVELS = 0.2, 100, (0.1, 0.9)


def sunspots() -> pd.Series:
    table = datasets.sunspots.load_pandas().data
    years = pd.to_datetime(table["YEAR"].astype(int).astype(str))
    return pd.Series(table["SUNACTIVITY"].to_numpy(), index=years)


def co2() -> pd.Series:
    return datasets.co2.load_pandas().data["co2"].resample("MS").mean()


def elnino() -> pd.Series:
    table = datasets.elnino.load_pandas().data.set_index("YEAR")
    months = pd.date_range(f"{int(table.index[0])}-01-01", periods=table.size, freq="MS")
    return pd.Series(table.to_numpy().ravel(), index=months)


SERIES: dict[str, tuple[Callable[[], pd.Series], int, int]] = {
    "sunspots": (sunspots, 11, 11),
    "co2": (co2, 12, 12),
    "elnino": (elnino, 12, 12),
}
"""Data, steps of a season, and steps of a forecast."""


def origins_of(y: pd.Series, horizon: int) -> tuple[int, list[int]]:
    """Returns the first step of the test part, and the steps at which forecasts begin."""
    first = int(len(y) * (1 - SHARE))
    return first, list(range(first, len(y) - horizon + 1, horizon // 2))


def metrics(name: str, draws: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Returns CRPS and coverage of draws ``(origins, steps, draws)`` at the known values."""
    known = ~np.isnan(truth)
    low, high = np.quantile(draws, LEVELS, -1)
    inside = (truth >= low) & (truth <= high)
    crps = scoringrules.crps_ensemble(truth[known], draws[known])
    return {f"{name}_crps": float(crps.mean()), f"{name}_coverage": float(inside[known].mean())}
