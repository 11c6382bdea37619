"""Rewrites the tables of README.md from ``results/*.csv``."""

from pathlib import Path

import numpy as np
import pandas as pd

from zforcing_pyro.app.report.comparison import difference

from ..tables import rewrite, spread

FOLDER = Path(__file__).parent
HEADS = {
    "elbo": "ELBO",
    "iwae": "IWAE-25",
    "kl": "KL",
    "latents_in_use": "latents in use",
    "information": "information",
    "drift_1": "drift at 1x",
    "drift_3": "at 3x",
    "drift_10": "at 10x",
    "critic_accuracy": "critic's accuracy",
    "cpu_seconds": "CPU s",
}
EXACT = "elbo", "kl", "latents_in_use"
"""Columns that say nothing of a model whose likelihood is exact."""


def table(file: Path) -> str:
    """Returns the runs of ``TABLE.csv`` as Markdown: means over seeds, paired differences."""
    runs = pd.read_csv(file)
    bounds = dict(iter(pd.read_csv(file.with_stem(f"{file.stem}_bounds")).groupby(["arm", "seed"])))
    arms, exact = list(dict.fromkeys(runs.arm)), "drift_1" in runs
    columns = [
        c for c in HEADS if c in runs and runs[c].notna().any() and not (exact and c in EXACT)
    ]
    heads = ["log p(x)" if exact and c == "iwae" else HEADS[c] for c in columns]
    lines = [f"| arm | seeds | {' | '.join(heads)} | minus {arms[0]}'s, 95 % |"]
    lines.append("| --- " * (len(columns) + 3) + "|")
    for arm in arms:
        rows = runs[runs.arm == arm]
        cells = [spread(rows[c], 2) for c in columns]
        seeds = sorted({s for a, s in bounds if a == arm} & {s for a, s in bounds if a == arms[0]})
        text = "-"
        if arm != arms[0] and seeds:
            pair = difference(
                *(np.stack([bounds[a, s].iwae.to_numpy() for s in seeds]) for a in (arm, arms[0]))
            )
            text = f"{pair.mean:+.2f} [{pair.low:.2f}, {pair.high:.2f}]"
            text = f"**{text}**" if pair.is_clear else text
        lines.append(f"| {' | '.join([arm, str(len(rows)), *cells, text])} |")
    return "\n".join(lines)


def main(folder: Path = FOLDER) -> None:
    for file in sorted((folder / "results").glob("*.csv")):
        if not file.stem.endswith("_bounds"):
            rewrite(folder / "README.md", file.stem, table(file))


if __name__ == "__main__":
    main()
