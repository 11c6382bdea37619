"""Draws README's picture from the runs of the demo.

python -m experiments.demo.picture [runs/demo]
"""

import sys
from pathlib import Path

import pandas as pd
import torch
from matplotlib.figure import Figure

import zforcing_pyro as zf
from zforcing_pyro.analysis.plots import images
from zforcing_pyro.app.report.comparison import difference

FOLDER = Path(__file__).parent
TITLES = {"plain": "plain", "annealed": "annealed KL", "zforcing": "Z-Forcing"}
STEPS = 28


def draw(runs: Path, file: Path) -> None:
    """Draws bounds and KL of the three runs, and digits that each network generates."""
    corpus = zf.data.corpus("mnist5k")
    test, bounds = corpus.split("test"), {}
    figure = Figure((10, 5.2), dpi=100, layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=[1, 1.1])
    (left, right), panels = upper.subplots(1, 2), lower.subplots(1, 4)
    some = [test[i][0] for i in range(0, 480, 30)]
    images(some, corpus, panels[0]).set_title("test data", fontsize=10)
    for i, (arm, title) in enumerate(TITLES.items()):
        net = zf.load(runs / arm)
        result = zf.evaluate(net, test, zf.estimators.TraceIWAE(25))
        bounds[arm] = result.per_sequence
        rows = pd.read_csv(runs / arm / "metrics.csv").dropna(subset="valid_kl")
        used = f"{title}: {result.latents_in_use} of {result.num_latents} latents in use"
        left.plot(rows.step, STEPS * rows.valid_kl, color=f"C{i}", label=used)
        if arm != "zforcing":
            continue
        for k, other in enumerate(("plain", "annealed")):
            pair = difference(bounds[arm], bounds[other])
            right.plot([pair.low, pair.high], [k, k], color=f"C{i}", linewidth=3)
            right.plot(pair.mean, k, "o", color=f"C{i}")
            right.annotate(
                f"{pair.mean:+.2f}", (pair.mean, k), (0, 8), textcoords="offset points", ha="center"
            )
    for panel, (arm, title) in zip(panels[1:], TITLES.items()):
        net = zf.load(runs / arm)
        torch.manual_seed(0)
        with torch.no_grad():
            drawn = net.generate(16, STEPS)
        images(list(drawn), corpus, panel).set_title(f"drawn by {title}", fontsize=10)
    left.set(xlabel="updates", ylabel="KL, nats an image", ylim=(0, 45))
    left.set_title("what the latents carry (validation)", fontsize=10)
    left.legend(fontsize=8)
    right.set_yticks([0, 1], ["minus plain", "minus annealed KL"])
    right.set(ylim=(-0.6, 1.6), xlabel="nats an image, 95 % over 500 test images")
    right.axvline(0, color="grey", linewidth=0.8)
    right.set_title("Z-Forcing's IWAE-25 bound on log p(x)", fontsize=10)
    figure.savefig(file, metadata={"Software": None})


if __name__ == "__main__":
    draw(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo"), FOLDER / "demo.png")
