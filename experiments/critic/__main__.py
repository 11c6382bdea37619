"""Trains networks with and without a critic, and tabulates them.

    python -m experiments.critic TABLE [--arms ...] [--seeds 0 1 2] [--max_updates N]
                                       [--out runs/critic] [--data_dir DIR]

TABLE is one of tables.yaml. The same command goes on where it was killed. Each run's best weights
on validation are measured on test sequences, drawn at random once. ``results/TABLE.csv`` has a row
a run, ``results/TABLE_bounds.csv`` the ELBO and IWAE-25 of each sequence, in nats. ``python -m
experiments.critic draw`` rewrites the tables of README.md. The critic is in no number.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml

from zforcing_pyro.analysis.evaluation import evaluate
from zforcing_pyro.analysis.posterior import mutual_information
from zforcing_pyro.analysis.posterior.checks import Statistic, statistics
from zforcing_pyro.app.report.findings import chosen
from zforcing_pyro.data import corpus
from zforcing_pyro.emissions import EMISSIONS
from zforcing_pyro.estimators import TraceELBO, TraceIWAE
from zforcing_pyro.models import MODELS, evaluating
from zforcing_pyro.training import TrainingOptions
from zforcing_pyro.training.fit import fit

FOLDER = Path(__file__).parent
TABLES = yaml.safe_load((FOLDER / "tables.yaml").read_text())
TIMES = 1, 3, 10
"""Lengths of free runs, in lengths of training."""


def measured(net, data, test) -> dict:
    """Returns the numbers of a net on test sequences."""
    elbo, iwae = evaluate(net, test, TraceELBO(10)), evaluate(net, test, TraceIWAE(25))
    numbers = {
        "elbo": elbo.nats_per_sequence,
        "iwae": iwae.nats_per_sequence,
        "kl": iwae.kl_per_sequence,
        "latents_in_use": iwae.latents_in_use,
        "information": None,
    }
    if not iwae.num_latents:
        numbers |= drift(net, data, test)
    else:
        numbers["information"] = mutual_information(net, test).lower[-1]
    return numbers | {"sequences": {"elbo": elbo.per_sequence, "iwae": iwae.per_sequence}}


def drift(net, data, test) -> dict:
    """Returns how far free runs are from data, by length.

    Distances are those of means of the posterior checks' statistics, in deviations of the data,
    averaged over statistics. The statistics are of the last steps of a run, as many as training
    sequences have.
    """
    real, size = [sequence.x for sequence in test], int(test.lengths.max())
    expected, distances = traits(data, [x for x in real if len(x) == size]), {}
    with evaluating(net, 0):
        x = net.generate(len(real), size * max(TIMES))
    for times in TIMES:
        drawn = traits(data, list(x[:, size * (times - 1) : size * times]))
        shifts = [
            abs(np.nanmean(drawn[name].values) - np.nanmean(s.values)) / np.nanstd(s.values)
            for name, s in expected.items()
            if np.nanstd(s.values)
        ]
        distances[f"drift_{times}"] = float(np.mean(shifts))
    return distances


def traits(data, sequences: list[torch.Tensor]) -> dict[str, Statistic]:
    """Returns statistics of sequences; those of windows of a text are each symbol's share."""
    if data.view != "text":
        return statistics(data, sequences)
    shares = torch.stack([x.bincount(minlength=data.x_dim) / len(x) for x in sequences]).numpy()
    return {str(symbol): Statistic(share, "") for symbol, share in enumerate(shares.T)}


def train(name: str, arm: str, seed: int, options: argparse.Namespace) -> dict:
    """Trains and measures a run as far as that has not been done, and returns its numbers."""
    table = TABLES[name]
    folder, updates = (
        options.out / name / f"{arm}-{seed}",
        options.max_updates or table["updates"],
    )
    file = folder / f"measured-{updates}.json"
    if file.exists():
        return json.loads(file.read_text())
    where = {} if table["data"] == "mnist5k" else {"data_dir": options.data_dir}
    data = corpus(table["data"], **where)
    torch.manual_seed(seed)
    net = MODELS[table["model"]](EMISSIONS[data.emission], data.x_dim, **table["sizes"])
    training = TrainingOptions(**table["training"] | table["arms"][arm], checkpoint_minutes=1.0)
    begun, splits = time.process_time(), (data.split("train"), data.split("valid"))
    fitted = fit(net, *splits, TraceELBO(), folder, training, updates, seed, resume=True)
    seconds, test = time.process_time() - begun, data.split("test")
    test = test.windows(training.eval_window) if training.eval_window else test
    test = test.subset(chosen(test, table["test_on"]))
    critics = [row["critic_accuracy"] for row in fitted.curves if "critic_accuracy" in row]
    numbers = {"cpu_seconds": seconds, "critic_accuracy": critics[-1] if critics else None}
    numbers |= measured(net, data, test)
    file.write_text(json.dumps(numbers, default=float))
    return json.loads(file.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", choices=[*TABLES, "draw"])
    parser.add_argument("--arms", nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--max_updates", type=int, default=0, help="instead of the table's")
    parser.add_argument("--out", type=Path, default=Path("runs/critic"))
    parser.add_argument("--results", type=Path, default=FOLDER / "results")
    parser.add_argument("--data_dir")
    options = parser.parse_args()
    if options.table == "draw":
        from .results import main as draw

        return draw()
    arms = options.arms or list(TABLES[options.table]["arms"])
    if unknown := set(arms) - set(TABLES[options.table]["arms"]):
        parser.error(f"--arms must be of {list(TABLES[options.table]['arms'])}, got {unknown}")
    options.results.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        for arm in arms:
            numbers = train(options.table, arm, seed, options)
            sequences = pd.DataFrame(numbers.pop("sequences")).round(2)
            for suffix, rows in (("", pd.DataFrame([numbers])), ("_bounds", sequences)):
                file = options.results / f"{options.table}{suffix}.csv"
                rows.insert(0, "seed", seed)
                rows.insert(0, "arm", arm)
                if file.exists():
                    old = pd.read_csv(file)
                    rows = pd.concat([old[(old.arm != arm) | (old.seed != seed)], rows])
                rows.to_csv(file, index=False, float_format="%.6g")
            print(f"{options.table}: {arm}, seed {seed}: {numbers}", flush=True)


if __name__ == "__main__":
    main()
