"""The backtest's measures against closed forms; the backtest itself is run by hand."""

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("statsmodels")
pytest.importorskip("scoringrules")

from experiments.forecasting import __main__ as backtest


def test_crps_and_coverage_are_those_of_the_known_values():
    """CRPS of draws 0 and 2 at 1 is E|X - 1| - E|X - X'| / 2 = 1 - 1 / 2."""
    draws = np.tile([0.0, 2.0], (1, 3, 50))
    result = backtest.metrics("ours", draws, np.array([[1.0, np.nan, 5.0]]))
    assert result["ours_coverage"] == 0.5
    assert result["ours_crps"] == pytest.approx((0.5 + 3.5) / 2)


def test_naive_repeats_the_season_and_its_spread():
    y = pd.Series(np.tile([1.0, 5.0, 9.0], 6))
    draws = backtest.naive(y, 3, 5, np.random.default_rng(0))
    np.testing.assert_array_equal(
        draws, np.tile([[1.0], [5.0], [9.0], [1.0], [5.0]], backtest.DRAWS)
    )


def test_gaps_and_faults_lie_in_the_test_part():
    y = pd.Series(np.sin(np.arange(200.0)))
    holed = backtest.with_gaps(y, 120)
    assert holed[:128].notna().all() and 10 < holed.isna().sum() < 30
    for key, (x, place) in backtest.faulty(y, 120).items():
        changed = np.flatnonzero(x != y)
        assert changed.min() in (place, place + 1) and place >= 130
        assert len(changed) == {"spike": 1, "shift": 200 - place, "frozen": 11}[key.split("-")[0]]
    assert len(backtest.faulty(y, 120)) == 15


def test_table_has_means_and_ranges_of_seeds():
    keys = ["ours_crps", "naive_crps", "ets_crps", "ours_coverage", "ours_rmse", "linear_rmse"]
    rows = [
        {"series": "co2", **dict.fromkeys(keys, crps), **dict.fromkeys(backtest.FAULTS, hits)}
        for crps, hits in ((1.0, 0.5), (1.5, 1.0))
    ]
    line = backtest.table(rows).splitlines()[-1]
    assert "1.250 (1.000 to 1.500)" in line and "75 %, 75 %, 75 %" in line
