"""Tables of the experiments on twisted filters and on music."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # experiments are no part of the package

from experiments.trained import write_rows
from experiments.twisted.results import compared


def test_twisted_is_compared_with_the_better_bound_pair_by_pair():
    noise = np.random.default_rng(0).normal(size=(2, 50))
    rows = pd.DataFrame({"seed": [0] * 50 + [1] * 50, "iwae_4": noise.ravel()})
    rows = rows.assign(fivo_4=rows.iwae_4 + 1, twisted_4=rows.iwae_4 + 3)
    *means, text = compared(rows, 4)
    assert text == "**+2.00 [2.00, 2.00]**"
    expected = [noise.mean() + shift for shift in (0, 1, 3)]
    assert [float(mean.split(" ")[0]) for mean in means] == pytest.approx(expected, abs=0.006)
    rows["iwae_4"] += 5
    assert compared(rows, 4)[-1] == "**-2.00 [-2.00, -2.00]**"


def test_rows_replace_those_of_their_key(tmp_path):
    file = tmp_path / "results" / "table.csv"
    for seed, value in ((1, 5.0), (0, 6.0), (1, 7.0)):
        write_rows(file, {"data": "jsb", "seed": seed}, pd.DataFrame({"bound": [value, -value]}))
    table = pd.read_csv(file)
    assert table.seed.tolist() == [0, 0, 1, 1] and table.bound.tolist() == [6, -6, 7, -7]
