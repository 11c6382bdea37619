"""Trains rows of seeds for the remedies of collapsing latents, and tabulates them.

    python -m experiments.collapse mnist_rows|jsb|timit|fsdd|imdb
        [--arms plain kla ...] [--seeds 0 1 2] [--jobs 1] [--out runs/collapse] [--data_dir DIR]

The same command goes on where it was killed. Each run is trained until its validation bound has
not risen for ``early_stop`` validations; its best checkpoint is then measured on test, see
:mod:`.measure`. Runs of the current ``arms.yaml`` are written to ``results/``:

    DATA.csv            a row for each run
    DATA_bounds.csv     ELBO and IWAE-100 of each test sequence, in nats, in one order for all runs
    DATA_curves.csv     bound and KL on validation over training

Validation data alone choose the checkpoint, the end of a run, and the weights in ``arms.yaml``.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from zforcing_pyro.app.configuration import nested, overlay
from zforcing_pyro.app.sweep import digest, flat

FOLDER = Path(__file__).parent
TABLES = yaml.safe_load((FOLDER / "arms.yaml").read_text())


@dataclass(frozen=True)
class Run:
    """A run of one arm with one seed."""

    data: str
    arm: str
    seed: int
    out: Path
    max_updates: int | None = None

    @property
    def options(self) -> dict[str, Any]:
        options = nested(TABLES[self.data]["options"])
        options = overlay(options, nested(arms_of(self.data)[self.arm]))
        options |= {"seed": self.seed}
        return options | ({"max_updates": self.max_updates} if self.max_updates else {})

    @property
    def config(self) -> str:
        """Hash of everything that the run's numbers depend on."""
        return digest([self.options, TABLES[self.data]["test_on"]])

    @property
    def folder(self) -> Path:
        return self.out / self.data / f"{self.arm}-{self.seed}-{self.config}"

    @property
    def measured(self) -> Path:
        return self.folder / "measured.json"

    def finish(self, data_dir: str | None) -> None:
        """Trains and measures the run, as far as that has not been done."""
        if self.measured.exists():
            return
        where = [f"--data_dir={data_dir}"] if data_dir else []
        seconds, begun = self.folder / "seconds.txt", time.monotonic()
        if not seconds.exists():
            options = *flat(self.options), "--preset=paper"  # an arm states all that it adds
            train = ["train", *options, f"--out={self.folder}", "--resume", *where]
            call("zforcing_pyro", *train)
            seconds.write_text(f"{time.monotonic() - begun:.0f}")  # since the last start
        call("experiments.collapse.measure", self.folder, TABLES[self.data]["test_on"])


def arms_of(data: str) -> dict[str, dict[str, Any]]:
    """Returns all arms of a data set: those that run by default, then those that are named."""
    return TABLES[data]["arms"] | TABLES[data].get("more", {})


def call(module: str, *args: object) -> None:
    """Runs a module's command, which stops when this process ends."""
    environment = os.environ | {"ZFORCING_STOP_WITH_STDIN": "1"}
    command = [sys.executable, "-m", module, *map(str, args)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment) as process:
        if process.wait():
            raise SystemExit(f"failed: {' '.join(command)}")


def write_tables(runs: list[Run], results: Path) -> None:
    """Writes the tables of all runs that have been measured.

    Rows of other runs stay, if ``arms.yaml`` has not changed since.
    """
    done = {(run.arm, run.seed): run for run in runs if run.measured.exists()}
    if not done:
        return
    results.mkdir(parents=True, exist_ok=True)
    configs = {(run.arm, run.seed): run.config for run in runs}
    tables: dict[str, list[pd.DataFrame]] = {"": [], "_bounds": [], "_curves": []}
    for (arm, seed), run in done.items():
        row = json.loads(run.measured.read_text())
        bounds = {kind: row.pop(f"{kind}_per_sequence") for kind in ("elbo", "iwae")}
        parts = pd.DataFrame([row]), pd.DataFrame(bounds).round(2), curve(run)
        for part, table in zip(parts, tables.values()):
            for i, (name, value) in enumerate(
                {"arm": arm, "seed": seed, "config": run.config}.items()
            ):
                part.insert(i, name, value)
            table.append(part)
    for name, new in tables.items():
        file = results / f"{next(iter(done.values())).data}{name}.csv"
        if file.exists():
            old = pd.read_csv(file)
            keys = zip(old.arm, old.seed, old.config)
            new.insert(
                0, old[[key[:2] not in done and configs.get(key[:2]) == key[2] for key in keys]]
            )
        rows = pd.concat([table for table in new if len(table)])
        order = {key: i for i, key in enumerate(configs)}
        rank = pd.Series([order[key] for key in zip(rows.arm, rows.seed)])
        rows.iloc[rank.argsort(kind="stable")].to_csv(file, index=False, float_format="%.6g")


def curve(run: Run) -> pd.DataFrame:
    """Returns bound and KL of a run's validations, in nats per sequence and per step."""
    rows = pd.read_csv(run.folder / "metrics.csv").dropna(subset="valid_bound")
    names = {"step": "update", "valid_bound_per_sequence": "valid_elbo", "valid_kl": "valid_kl"}
    return rows[list(names)].rename(columns=names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=TABLES)
    parser.add_argument("--arms", nargs="+", help="by default those under 'arms'")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each")
    parser.add_argument("--out", type=Path, default=Path("runs/collapse"))
    parser.add_argument("--results", type=Path, default=FOLDER / "results")
    parser.add_argument("--data_dir")
    parser.add_argument("--max_updates", type=int, help="a cap for trials of this command")
    options = parser.parse_args()
    arms = arms_of(options.data)
    if unknown := set(options.arms or []) - set(arms):
        parser.error(f"--arms must be of {list(arms)}, got {sorted(unknown)}")

    def runs(names: list[str], seeds: list[int]) -> list[Run]:
        return [
            Run(options.data, arm, seed, options.out, options.max_updates)
            for seed in seeds
            for arm in names
        ]

    def finish(run: Run) -> None:
        run.finish(options.data_dir)
        print(f"{run.folder}: measured", flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        names = options.arms or list(TABLES[options.data]["arms"])
        list(pool.map(finish, runs(names, options.seeds)))
    file = options.results / f"{options.data}.csv"
    before = pd.read_csv(file).seed.tolist() if file.exists() else []
    write_tables(runs(list(arms), sorted({*options.seeds, *before})), options.results)


if __name__ == "__main__":
    main()
