"""Searches networks for polyphonic music on validation, and measures the best on test.

    python -m experiments.records search [--data jsb nottingham] [--arms NAME ...] [--seeds 0]
        [--out runs/records] [--data_dir DIR]
    python -m experiments.records measure [--data jsb nottingham] ...
    python -m experiments.records draw

The same command goes on where it was killed. Arms are those of arms.yaml. ``search`` writes
``results/search.csv``, a row a run, with the ELBO on validation. ``measure`` takes the run that was
best on validation, of each data set and emission, and writes its bounds on test into
``results/test.csv``: nats a step, total over total steps, every step scored.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from zforcing_pyro.analysis.evaluation import evaluate
from zforcing_pyro.data import corpus
from zforcing_pyro.estimators import TraceELBO, TraceFIVO, TraceIWAE, TraceTwisted
from zforcing_pyro.models.files import load_net
from zforcing_pyro.training.twists import fit_twist

from ..tables import rewrite, table
from ..trained import trained, write_rows

FOLDER = Path(__file__).parent
TABLES = yaml.safe_load((FOLDER / "arms.yaml").read_text())
BOUNDS = {
    "elbo": TraceELBO(10),
    "iwae_500": TraceIWAE(500),
    "fivo_64": TraceFIVO(64),
    "twisted_64": TraceTwisted(64),
}


def search(name: str, arm: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Returns the row of a run, trained as far as that has not been done."""
    about = TABLES[name]
    more = about["arms"][arm]
    sizes, training = (about[k] | more.get(k, {}) for k in ("sizes", "training"))
    folder = options.out / f"{name}-{arm.replace(' ', '-')}-{seed}"
    data = corpus(**about["data"], data_dir=options.data_dir)
    args = sizes, training, about["max_updates"], seed, more.get("emission")
    _, facts = trained(folder, data, more["model"], *args)
    return {"emission": more.get("emission", {}).get("name", data.emission)} | facts


def measure(net: Any, data: Any, seed: int) -> dict[str, Any]:
    """Returns the bounds of a net on test; its twist is fitted on training data."""
    begun, test = time.process_time(), data.split("test")
    train = data.split("train").windows(100)
    fit_twist(net, train, TraceTwisted(8, learn="value"), 300, seed, batch_size=16)
    results = {name: evaluate(net, test, bound, seed=seed) for name, bound in BOUNDS.items()}
    numbers = {name: result.nats_per_step for name, result in results.items()}
    return numbers | {
        "kl": results["elbo"].kl_per_sequence * len(test) / int(test.lengths.sum()),
        "seconds": time.process_time() - begun,
    }


def best(options: argparse.Namespace) -> None:
    """Measures the runs that are best on validation."""
    runs = pd.read_csv(options.results / "search.csv")
    for (name, emission), rows in runs[runs.data.isin(options.data)].groupby(["data", "emission"]):
        row = rows.loc[rows.valid_elbo.idxmax()]
        folder = options.out / f"{name}-{row.arm.replace(' ', '-')}-{row.seed}"
        file = folder / "test.json"
        if not file.exists():
            data = corpus(**TABLES[name]["data"], data_dir=options.data_dir)
            numbers = measure(load_net(folder / "net.safetensors"), data, row.seed)
            file.write_text(json.dumps(numbers))
        numbers = {"arm": row.arm, "seed": row.seed} | json.loads(file.read_text())
        key = {"data": name, "emission": emission}
        write_rows(options.results / "test.csv", key, pd.DataFrame([numbers]))
        print(key, numbers, flush=True)


def draw(results: Path) -> None:
    """Rewrites the tables of README.md."""
    runs, tests = (pd.read_csv(results / f"{name}.csv") for name in ("search", "test"))
    heads = ["data", "keys", "arm", "ELBO", "IWAE-500", "FIVO-64", "twisted-64", "KL"]
    rows = [
        [row.data, row.emission, f"{row.arm}, seed {row.seed}"]
        + [f"{getattr(row, bound):.3f}" for bound in [*BOUNDS, "kl"]]
        for row in tests.itertuples()
    ]
    rewrite(FOLDER / "README.md", "test", table(heads, rows))
    heads = ["data", "arm", "seed", "parameters", "updates", "CPU s", "ELBO on validation"]
    rows = [
        f"{r.data}|{r.arm}|{r.seed}|{r.parameters:,}|{r.updates:,}|{r.train_seconds:.0f}|"
        f"{r.valid_elbo:.3f}".split("|")
        for r in runs.itertuples()
    ]
    rewrite(FOLDER / "README.md", "search", table(heads, rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["search", "measure", "draw"])
    parser.add_argument("--data", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--arms", nargs="+", help="by default all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=Path("runs/records"))
    parser.add_argument("--results", type=Path, default=FOLDER / "results")
    parser.add_argument("--data_dir")
    options = parser.parse_args()
    if options.command == "draw":
        return draw(options.results)
    if options.command == "measure":
        return best(options)
    for seed in options.seeds:
        for name in options.data:
            for arm in options.arms or TABLES[name]["arms"]:
                row = search(name, arm, seed, options)
                key = {"data": name, "arm": arm, "seed": seed}
                write_rows(options.results / "search.csv", key, pd.DataFrame([row]))
                print(*key.values(), row, flush=True)


if __name__ == "__main__":
    main()
