"""Trains walks on points of the plane beside a VAE, and tabulates bounds and radii.

    python -m experiments.walkback circle|rings|mixture|spiral
        [--arms walkback elbo fixed vae] [--seeds 0] [--max_updates N] [--out runs/walkback]

The same command goes on where it was killed. ``results/KIND.csv`` has a row a run: ELBO and
IWAE-100 on 1,000 test points, exact log p where it is known, nats a point, and the mean and
deviation of the distance from the origin of 2,000 draws after 0, 20 and 200 more steps at
temperature 1. ``results/KIND.png`` shows the walk of the first seed, step by step.
``python -m experiments.walkback.results`` rewrites the tables of README.md.
"""

import argparse
import csv
import time
from functools import partial
from pathlib import Path

import torch
import yaml

from zforcing_pyro.analysis.evaluation import evaluate
from zforcing_pyro.analysis.plots import walks
from zforcing_pyro.data import Points, collate
from zforcing_pyro.emissions import DiagNormal
from zforcing_pyro.estimators import ESTIMATORS, TraceELBO, TraceIWAE
from zforcing_pyro.models import MODELS, Walkback
from zforcing_pyro.models.given import evaluating
from zforcing_pyro.training import TrainingOptions
from zforcing_pyro.training.fit import fit

FOLDER = Path(__file__).parent
CONFIG = yaml.safe_load((FOLDER / "arms.yaml").read_text())
COLD = (0, 20, 200)
COLUMNS = ["arm", "seed", "updates", "cpu_seconds", "elbo", "iwae_100", "exact"]
COLUMNS += [f"radius_{part}_{num}" for num in COLD for part in ("mean", "std")]


def train(data: Points, arm: str, seed: int, updates: int, out: Path):
    """Returns a net, trained as far as that has not been done, and the CPU seconds of this call."""
    table, options = CONFIG["arms"][arm], CONFIG["options"]
    torch.manual_seed(seed)
    emission = partial(DiagNormal, **table.get("emission", {}))
    net = MODELS[table["model"]](emission, 2, **table["options"])
    training = TrainingOptions(
        **{k: options[k] for k in ("batch_size", "lr", "clip")},
        lr_schedule="constant",
        validate_every=250,
        validate_on=256,
        num_threads=1,
        checkpoint_minutes=2.0,
    )
    splits, bound = (data.split("train"), data.split("valid")), ESTIMATORS[table["bound"]]()
    begun = time.process_time()
    fit(net, *splits, bound, out / data.kind / f"{arm}-{seed}", training, updates, seed, True)
    return net, time.process_time() - begun


def measured(net, data: Points) -> list[float | None]:
    """Returns bounds, exact log p and radii, in the order of the columns."""
    test = data.split("test")
    row = [evaluate(net, test, e).nats_per_sequence for e in (TraceELBO(), TraceIWAE(100))]
    exact = data.log_prob(torch.cat([x for x, *_ in test]))
    row.append(None if exact is None else exact.mean().item())
    with evaluating(net, 0):
        s, before = net.generate(2000, 1)[:, 0], 0
        for num in COLD:
            if num and not isinstance(net, Walkback):
                row += [None, None]
                continue
            s, before = (net.cooled(s, num - before) if num else s), num
            row += [s.norm(dim=-1).mean().item(), s.norm(dim=-1).std().item()]
    return row


def draw(net: Walkback, data: Points, file: Path) -> None:
    """Draws walks from test points, and ways back, after every second step."""
    x = net.given_batch(collate([data.split("test")[i] for i in range(500)])).x[:, 0]
    with evaluating(net, 0):
        rows = {"from data": net.walk(x), "way back": net.walk_back(len(x)).flip(1)}
    places = list(range(0, len(net.log_t) + 1, 2))
    axes = walks({label: row[:, places] for label, row in rows.items()}, places, data)
    axes.figure.savefig(file, dpi=80, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["circle", "rings", "mixture", "spiral"])
    parser.add_argument("--arms", nargs="+", default=list(CONFIG["arms"]), choices=CONFIG["arms"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--max_updates", type=int, default=CONFIG["options"]["updates"])
    parser.add_argument("--out", type=Path, default=Path("runs/walkback"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    data, file = Points(options.kind), FOLDER / "results" / f"{options.kind}.csv"
    file.parent.mkdir(exist_ok=True)
    for seed in options.seeds:
        for arm in options.arms:
            rows = list(csv.reader(file.open()))[1:] if file.exists() else []
            key = [arm, str(seed), str(options.max_updates)]
            if key in [row[:3] for row in rows]:
                continue
            net, seconds = train(data, arm, seed, options.max_updates, options.out)
            numbers = ["" if v is None else f"{v:.4f}" for v in measured(net, data)]
            rows = [row for row in rows if row[:2] != key[:2]]
            rows.append([*key, f"{seconds:.1f}", *numbers])
            with file.open("w", newline="") as stream:
                csv.writer(stream).writerows([COLUMNS, *sorted(rows)])
            if arm == "walkback" and seed == options.seeds[0]:
                draw(net, data, file.with_suffix(".png"))


if __name__ == "__main__":
    main()
