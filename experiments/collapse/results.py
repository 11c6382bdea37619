"""Redraws figures and rewrites the tables of README.md from ``results/*.csv``: ``make results``."""

from pathlib import Path

import numpy as np
import pandas as pd

from zforcing_pyro.app.report.comparison import Difference, difference

from ..tables import rewrite, spread, table

FOLDER = Path(__file__).parent
BASELINES = ["plain", "kla", "kla_1000"]


class Results:
    """The results on one data set.

    Args:
        file: ``DATA.csv``, beside which ``DATA_bounds.csv`` and ``DATA_curves.csv`` lie.
    """

    def __init__(self, file: Path):
        self.name, self.runs = file.stem, pd.read_csv(file)
        bounds, self.curves = (
            pd.read_csv(file.with_name(f"{file.stem}_{kind}.csv")) for kind in ("bounds", "curves")
        )
        self.bounds = dict(iter(bounds.groupby(["arm", "seed"])))
        self.arms = list(dict.fromkeys(self.runs.arm))

    def difference(self, arm: str, baseline: str, bound: str) -> Difference | None:
        """Returns arm minus baseline over the seeds that both have; None without one."""
        seeds = [{seed for name, seed in self.bounds if name == a} for a in (arm, baseline)]
        common = sorted(set.intersection(*seeds))
        if arm == baseline or not common:
            return None
        rows = ([self.bounds[a, s][bound].to_numpy() for s in common] for a in (arm, baseline))
        return difference(*map(np.stack, rows))

    def tables(self) -> str:
        """Returns the tables as Markdown."""
        heads = ["arm", "seeds", "ELBO", "IWAE-100", "KL", "latents in use"]
        heads += ["R2 of b from z; h; both", "validation ELBO", "updates", "minutes"]
        lines = []
        for arm in self.arms:
            rows = self.runs[self.runs.arm == arm]
            numbers = [spread(rows[c], 2) for c in ("elbo", "iwae", "kl")]
            used = f"{spread(rows.latents_in_use, 0)} of {rows.num_latents.iloc[0]}"
            sources = [f"r2_b_from_{source}" for source in ("z", "h", "both")]
            r2 = "; ".join(f"{rows[s].mean():.2f}" for s in sources if s in rows)
            end = [spread(rows.best_valid_elbo, 2), f"{rows.updates.mean():,.0f}"]
            minutes = f"{rows.seconds.mean() / 60:.1f}"
            lines.append([arm, str(len(rows)), *numbers, used, r2, *end, minutes])
        pairs = [
            (bound, base) for bound in ("iwae", "elbo") for base in BASELINES if base in self.arms
        ]
        titles = [f"{b.upper()}{'-100' * (b == 'iwae')} - {base}'s" for b, base in pairs]
        differences = [
            [arm, *(interval(self.difference(arm, base, bound)) for bound, base in pairs)]
            for arm in self.arms
        ]
        parts = table(heads, lines), table(["arm", *titles], differences)
        return "\n\n".join([*parts, f"Measured on {self.runs.protocol.iloc[0]}."])

    def draw(self, file: Path) -> None:
        """Draws the KL over training (mean and range over seeds) and the paired differences."""
        from matplotlib.figure import Figure

        figure = Figure((10, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        for i, arm in enumerate(self.arms):
            curves = self.curves[self.curves.arm == arm].groupby("update").valid_kl
            whole = curves.count() == curves.count().max()  # updates that all seeds reach
            mean, low, high = (v[whole] for v in (curves.mean(), curves.min(), curves.max()))
            left.plot(mean.index, mean, color=f"C{i}", label=arm)
            left.fill_between(mean.index, low, high, color=f"C{i}", alpha=0.15, linewidth=0)
            if (pair := self.difference(arm, BASELINES[0], "iwae")) is not None:
                right.plot([pair.low, pair.high], [i, i], color=f"C{i}")
                right.plot(pair.mean, i, "o", color=f"C{i}")
        left.set(xlabel="updates", ylabel="KL on validation, nats a step")
        left.legend(fontsize="small")
        right.axvline(0, color="grey", linewidth=0.8)
        right.set_yticks(range(len(self.arms)), self.arms)
        right.set_ylim(len(self.arms) - 0.5, -0.5)
        right.set_xlabel("IWAE-100 minus plain's, nats a sequence, 95 %")
        figure.suptitle(self.name)
        figure.savefig(file, dpi=90, metadata={"Software": None})


def interval(pair: Difference | None) -> str:
    """Returns a difference with its interval, bold where the interval leaves 0 out."""
    if pair is None:
        return "-"
    text = f"{pair.mean:+.2f} [{pair.low:.2f}, {pair.high:.2f}]"
    return f"**{text}**" if pair.is_clear else text


def main(folder: Path = FOLDER) -> None:
    files = (folder / "results").glob("*.csv")
    for file in sorted(f for f in files if not f.stem.endswith(("_bounds", "_curves"))):
        results = Results(file)
        results.draw(file.with_suffix(".png"))
        picture = f"![KL over training, and differences](results/{file.stem}.png)"
        rewrite(folder / "README.md", file.stem, f"{results.tables()}\n\n{picture}")


if __name__ == "__main__":
    main()
