"""Redraws the figures and rewrites the table of README.md from ``results/*.csv``."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from ..tables import rewrite, spread, table

FOLDER = Path(__file__).parent
HEADS = ["task", "arm", "seeds", "updates", "CPU s", "last ten right, %", "loss"]
HEADS += ["at 2T", "at 4T", "each seed"]


def main() -> None:
    rows = []
    for file in sorted((FOLDER / "results").glob("*.csv")):
        numbers = pd.read_csv(file)
        length = numbers["length"].min()
        measure = "accuracy" if numbers["accuracy"].notna().any() else "loss"
        numbers["accuracy"] *= 100
        figure = Figure((8, 3), layout="constrained")
        panels = figure.subplots(1, 2)
        colors = {arm: f"C{i}" for i, arm in enumerate(numbers["arm"].unique())}
        for (arm, _), run in numbers[numbers["length"] == length].groupby(["arm", "seed"]):
            for axes, x in zip(panels, ("update", "cpu_seconds")):
                label = None if arm in axes.get_legend_handles_labels()[1] else arm
                axes.plot(run[x], run[measure], ".-", color=colors[arm], label=label, lw=1, ms=3)
                axes.set(xlabel=x.replace("_", " "), ylabel=measure)
        for arm in colors:
            runs = numbers[numbers["arm"] == arm]
            last = runs[runs["update"] == runs.groupby("seed")["update"].transform("max")]
            at = {k: last[last["length"] == k * length] for k in (1, 2, 4)}
            digits = 1 if measure == "accuracy" else 4
            row = [file.stem, arm, str(len(at[1])), f"{at[1]['update'].max():,}"]
            row += [spread(at[1]["cpu_seconds"], 0), spread(at[1]["accuracy"], 1)]
            row += [spread(at[1]["loss"], 4), *(spread(at[k][measure], digits) for k in (2, 4))]
            rows.append([*row, ", ".join(f"{v:.{digits}f}" for v in at[1][measure])])
        panels[0].legend(fontsize=8)
        figure.suptitle(file.stem)
        figure.savefig(file.with_suffix(".png"), dpi=80, metadata={"Software": None})
    rewrite(FOLDER / "README.md", "table", table(HEADS, rows))
