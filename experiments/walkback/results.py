"""Rewrites the table of README.md from ``results/*.csv``: means and deviations over seeds."""

from pathlib import Path

import pandas as pd

from ..tables import rewrite, spread, table

FOLDER = Path(__file__).parent
HEADS = ["points", "arm", "seeds", "updates", "CPU s", "ELBO", "IWAE-100", "exact log p"]
HEADS += ["radius of draws: mean; deviation", "after 20 steps", "after 200 steps"]


def main() -> None:
    rows = []
    for file in sorted((FOLDER / "results").glob("*.csv")):
        for arm, runs in pd.read_csv(file).groupby("arm", sort=False):
            row = [file.stem, arm, str(len(runs)), f"{runs['updates'].iloc[0]:,}"]
            row += [spread(runs["cpu_seconds"], 0)]
            row += [spread(runs[name], 2) for name in ("elbo", "iwae_100")]
            row += [f"{runs['exact'].iloc[0]:.2f}" if runs["exact"].notna().any() else "-"]
            for num in (0, 20, 200):
                mean, std = runs[f"radius_mean_{num}"], runs[f"radius_std_{num}"]
                row += [f"{spread(mean, 3)}; {spread(std, 3)}" if mean.notna().any() else "-"]
            rows.append(row)
    rewrite(FOLDER / "README.md", "table", table(HEADS, rows))


if __name__ == "__main__":
    main()
