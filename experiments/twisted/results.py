"""Rewrites the tables of README.md from ``results/bounds.csv``."""

from pathlib import Path

import numpy as np
import pandas as pd

from zforcing_pyro.app.report.comparison import difference

from ..tables import rewrite, spread, table

FOLDER = Path(__file__).parent


def compared(rows: pd.DataFrame, num: int) -> list[str]:
    """Returns cells of IWAE, FIVO and twisted with ``num`` particles, and twisted's advantage."""
    names = [f"{bound}_{num}" for bound in ("iwae", "fivo", "twisted")]
    by_seed = [seed[names] for _, seed in rows.groupby("seed")]
    means = pd.DataFrame([seed.mean() for seed in by_seed])
    better = names[int(means[names[1]].mean() > means[names[0]].mean())]
    pair = difference(*(np.stack([s[n].to_numpy() for s in by_seed]) for n in (names[2], better)))
    text = f"{pair.mean:+.2f} [{pair.low:.2f}, {pair.high:.2f}]"
    return [*(spread(means[n], 2) for n in names), f"**{text}**" if pair.is_clear else text]


def draw() -> None:
    bounds, heads = pd.read_csv(FOLDER / "results" / "bounds.csv"), ["data", "model", "seeds", "K"]
    heads += ["IWAE", "FIVO", "twisted", "twisted minus the better, 95 %"]
    rows = []
    for (data, model), group in bounds[bounds.learn == "value"].groupby(["data", "model"]):
        for num in (4, 16, 64):
            facts = [data, model, str(group.seed.nunique()), str(num)]
            rows.append([*facts, *compared(group, num)])
    rewrite(FOLDER / "README.md", "twisted", table(heads, rows))
    ways = []
    for (data, model, learn), group in bounds.groupby(["data", "model", "learn"]):
        compared_too = bounds[(bounds.data == data) & (bounds.model == model)].learn.nunique() > 1
        if compared_too:
            ways.append([data, model, learn, *compared(group[group.seed == 0], 16)])
    heads = ["data", "model", "learn", *heads[4:]]
    rewrite(FOLDER / "README.md", "ways", table(heads, ways))
