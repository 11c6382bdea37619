"""Draws docs/compress.svg: sizes by method, and the cost of the latents' grid.

python -m experiments.compress.picture [--run runs/compress/images-0]
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from zforcing_pyro.analysis.coding import Coder
from zforcing_pyro.app.experiment import load_corpus, load_experiment, load_weighted

FOLDER = Path(__file__).parent
GRIDS = 0, 1, 2, 3, 4, 5, 6, 8, 10


def grid_costs(run: Path, num: int = 60) -> pd.DataFrame:
    """Returns size over the bound and initial bits of some sequences of test, by the grid."""
    experiment = load_experiment(run)
    corpus = load_corpus(run, experiment, check=False)
    coder = Coder(load_weighted(run, experiment, corpus), 4)
    xs, rows = [corpus.split("test")[i].x for i in range(num)], []
    with torch.no_grad():
        terms = [coder.net.terms(x[None], num_particles=50) for x in xs]
    elbo = -sum(t.log_weight.sum(-1).mean() for t in terms)
    for bits in GRIDS:
        coder.grid = 2**bits
        coded = coder.encode(xs)
        bound = -coder.bound(xs, coded.latents).sum()
        nats = coded.bits * np.log(2)
        row = 2**bits, float(nats / bound - 1), float(nats / elbo - 1), 32 * coded.initial
        rows.append(row)
    return pd.DataFrame(rows, columns=["points", "excess", "excess_elbo", "initial_bits"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/compress/images-0"))
    parser.add_argument("--out", type=Path, default=FOLDER.parents[1] / "docs" / "compress.svg")
    options = parser.parse_args()
    results = pd.read_csv(FOLDER / "results.csv").groupby("data", sort=False).mean(True)
    file = FOLDER / "grid.csv"
    if not file.exists():
        grid_costs(options.run).to_csv(file, index=False, float_format="%.5g")
    grid = pd.read_csv(file)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    shares = results[["gzip", "xz", "flac", "archive", "bound"]].div(results.plain, axis=0)
    shares.columns = ["gzip -9", "xz -9e", "FLAC", "archive", "bound"]
    shares.plot.bar(ax=left, rot=0, width=0.8, color=["0.75", "0.55", "tab:green", "C0", "C1"])
    left.set(ylabel="size / plain bytes", xlabel="")
    left.legend(frameon=False, ncols=2, fontsize="small")
    right.plot(grid.points, 100 * grid.excess, "o-", label="bound at the same latents")
    right.plot(grid.points, 100 * grid.excess_elbo, "s--", label="ELBO by fresh draws")
    right.axvline(32, color="0.8", zorder=0)
    right.set_xscale("log", base=2)
    right.set(xlabel="points in a deviation of the prior", ylabel="size over the bound, %")
    right.legend(frameon=False, fontsize="small")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(options.out)


if __name__ == "__main__":
    main()
