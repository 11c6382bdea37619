"""All models at comparable parameter counts on JSB: one table, from runs that resume.

python experiments/family.py --data_dir DIR [--out runs/family] [--seeds 3] [--jobs 2]
"""

import argparse
import json
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from zforcing_pyro.app.experiment import describe, load_corpus, load_experiment
from zforcing_pyro.data.corpus import check_comparable

CONFIG = str(Path(__file__).with_name("family.yaml"))
PARAMETERS = "300k"
SIZES = {"z_dim": 32, "hidden_dim": 64, "embed_dim": 64, "h_dim": 128}
VARIANTS = {
    "rnn": [],
    "storn": [],
    "vrnn": [],
    "srnn": ["--model.resq", "true"],
    "dkf": [],
    "zforcing": ["--model.aux_weight", "0.0005", "--model.reverse_weight", "0.0005"],
}
BOUNDS = {"elbo": 1, "iwae": 25}


def model_options(variant: str) -> list[str]:
    """Options of a variant, its states as large as the parameter count allows."""
    options = ["--config", CONFIG, "--model", variant, *VARIANTS[variant]]
    known = describe(options).model
    sizes = {k: v for k, v in SIZES.items() if k in known and k != "h_dim"}
    options += [f"--model.{k}={v}" for k, v in sizes.items()]

    return [*options, "--model.parameters", PARAMETERS]


def run(variant: str, seed: int, args: argparse.Namespace) -> dict:
    """Trains and evaluates one variant; what is done already is not done again."""
    out = Path(args.out, f"{variant}-{seed}")
    result = out / "result.json"
    if not result.exists():
        where = ["--data_dir", args.data_dir] if args.data_dir else []
        zforcing = [sys.executable, "-m", "zforcing_pyro"]
        options = [*model_options(variant), "--seed", str(seed), "--out", str(out)]
        subprocess.run([*zforcing, "train", *options, *where, "--resume"], check=True)
        found = {}
        for bound, particles in BOUNDS.items():
            command = ["evaluate", str(out), "--bound", bound, "--particles", str(particles)]
            done = subprocess.run(
                [*zforcing, *command, *where, "--split", "test", "--json"],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            found[bound] = json.loads(done.stdout)
        net = describe(options).net(x_dim=88)
        found["parameters"] = sum(p.numel() for p in net.parameters())
        result.write_text(json.dumps(found))
    return json.loads(result.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="runs/family")
    parser.add_argument("--data_dir")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    args = parser.parse_args()
    todo = [(variant, seed) for seed in range(args.seeds) for variant in VARIANTS]
    with ThreadPoolExecutor(args.jobs) as pool:
        results = dict(zip(todo, pool.map(lambda job: run(*job, args), todo)))
    folders = [Path(args.out, f"{variant}-{seed}") for variant, seed in todo]
    check_comparable({f.name: load_corpus(f, load_experiment(f)) for f in folders})
    print("| model | parameters | ELBO | IWAE-25 | KL |\n| --- | --- | --- | --- | --- |")
    for variant in VARIANTS:
        runs = [results[variant, seed] for seed in range(args.seeds)]
        row = [variant, f"{runs[0]['parameters']:,}"]
        for bound in BOUNDS:
            nats = [r[bound]["nats_per_step"] for r in runs]
            spread = f" +- {statistics.stdev(nats):.3f}" if len(nats) > 1 else ""
            row.append(f"{statistics.mean(nats):.3f}{spread}")
        kl = [r["elbo"]["kl_per_sequence"] * r["elbo"]["num_sequences"] for r in runs]
        row.append(f"{statistics.mean(kl) / runs[0]['elbo']['num_steps']:.3f}")
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
