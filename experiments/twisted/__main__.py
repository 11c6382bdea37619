"""Trains small nets and compares IWAE, FIVO and a particle filter twisted by the backward state.

    python -m experiments.twisted [--data jsb mnist_rows speech] [--models zforcing srnn dkf]
        [--seeds 0 1 2] [--learn value] [--out runs/twisted] [--data_dir DIR]
    python -m experiments.twisted draw

The same command goes on where it was killed. Nets and data are those of nets.yaml. A twist is
fitted on training data or draws of the model; the net stays as it is. ``results/runs.csv`` has a
row a net and way to learn, ``results/bounds.csv`` the bounds of each test sequence in nats.
``draw`` rewrites the tables of README.md.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from zforcing_pyro.analysis.evaluation import evaluate
from zforcing_pyro.app.report.findings import chosen
from zforcing_pyro.data import Corpus, SequenceSet, corpus
from zforcing_pyro.estimators import TraceFIVO, TraceIWAE, TraceTwisted
from zforcing_pyro.models import StochasticRNN
from zforcing_pyro.training.twists import fit_twist

from ..trained import trained, write_rows

FOLDER = Path(__file__).parent
TABLES = yaml.safe_load((FOLDER / "nets.yaml").read_text())
PARTICLES = 4, 16, 64


def split(name: str, data: Corpus, part: str) -> SequenceSet:
    """Returns the sequences of a split, in windows where the net was trained on windows."""
    window = TABLES[name]["training"].get("window")
    return data.split(part).windows(window) if window else data.split(part)


def measure(net: StochasticRNN, train: SequenceSet, test: SequenceSet, learn: str, seed: int):
    """Returns facts of a twist's fit, and bounds of each test sequence by their names."""
    begun, fit = time.process_time(), TABLES["fit"]
    way, train = TraceTwisted(8, learn=learn), train.windows(fit["window"])
    fit_twist(net, train, way, fit["updates"], seed, fit["batch_size"])
    seconds, bounds = time.process_time() - begun, {}
    for num in PARTICLES:
        for bound in (TraceIWAE(num), TraceFIVO(num), TraceTwisted(num)):
            name = type(bound).__name__.removeprefix("Trace").lower()
            bounds[f"{name}_{num}"] = evaluate(net, test, bound, seed=seed).per_sequence
    return {"fit_seconds": seconds, "steps": int(test.lengths.sum())}, bounds


def finished(
    name: str, model: str, seed: int, learn: str, out: Path, data: Corpus
) -> dict[str, Any]:
    """Returns the numbers of a net and a way to learn, computed unless they are on the disk."""
    folder, table = out / f"{name}-{model}-{seed}", TABLES[name]
    more = table["models"][model]
    sizes, training = (table[k] | more.get(k, {}) for k in ("sizes", "training"))
    net, facts = trained(
        folder, data, model, sizes, training, table["max_updates"], seed, table.get("emission")
    )
    file = folder / f"measured-{learn}.json"
    if not file.exists():
        test = split(name, data, "test")
        test = test.subset(chosen(test, table["test_on"]))
        fitted, bounds = measure(net, split(name, data, "train"), test, learn, seed)
        file.write_text(json.dumps(facts | fitted | {"bounds": bounds}))
    return json.loads(file.read_text())


def main() -> None:
    if sys.argv[1:] == ["draw"]:
        from .results import draw

        return draw()
    parser = argparse.ArgumentParser(description=__doc__)
    names = [name for name in TABLES if name != "fit"]
    parser.add_argument("--data", nargs="+", choices=names, default=names)
    parser.add_argument("--models", nargs="+", default=["zforcing", "srnn", "dkf"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--learn", default="value", help="of TraceTwisted")
    parser.add_argument("--out", type=Path, default=Path("runs/twisted"))
    parser.add_argument("--results", type=Path, default=FOLDER / "results")
    parser.add_argument("--data_dir")
    options = parser.parse_args()
    for seed in options.seeds:
        for name in options.data:
            about = TABLES[name]["data"]
            where = {} if about["name"] == "mnist5k" else {"data_dir": options.data_dir}
            data = corpus(**about, **where)
            for model in options.models:
                numbers = finished(name, model, seed, options.learn, options.out, data)
                bounds = pd.DataFrame(numbers.pop("bounds")).round(2)
                key = {"data": name, "model": model, "seed": seed, "learn": options.learn}
                for kind, rows in (("runs", pd.DataFrame([numbers])), ("bounds", bounds)):
                    write_rows(options.results / f"{kind}.csv", key, rows)
                print(*key.values(), bounds.mean().round(2).to_dict(), flush=True)


if __name__ == "__main__":
    main()
