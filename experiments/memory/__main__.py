"""Trains SAB, truncated and full back-propagation on a task of long memory, and tabulates them.

    python -m experiments.memory TASK [--arms sab tbptt full] [--seeds 0 1 2] [--max_updates N]
                                      [--out runs/memory]

TASK is one of tasks.yaml. The same command goes on where it was killed. What was measured during
training, on 500 test sequences, is in results/TASK.csv: a row each 250 updates, with the CPU
seconds of the run's process. The last rows of a run add the same net at two and four times the
length. ``python -m experiments.memory draw`` redraws the figures and the tables of README.md.
"""

import argparse
import csv
import time
from pathlib import Path

import torch
import yaml

from zforcing_pyro.data import SequenceSet, collate, corpus
from zforcing_pyro.emissions import EMISSIONS
from zforcing_pyro.models import MODELS
from zforcing_pyro.models.given import evaluating
from zforcing_pyro.training import TrainingOptions
from zforcing_pyro.training.fit import fit

FOLDER = Path(__file__).parent
CONFIG = yaml.safe_load((FOLDER / "tasks.yaml").read_text())
COLUMNS = ("arm", "seed", "update", "cpu_seconds", "length", "accuracy", "loss")
NUM_TEST = 500


def measured(net, data: SequenceSet) -> tuple[float | None, float]:
    """Returns the accuracy and the cross-entropy of the answers, nats; for sums the squared error.

    The accuracy of sums is None.
    """
    given = net.given_batch(collate([data[i] for i in range(NUM_TEST)]))
    with evaluating(net, 0):
        features = net.context(given.batch)[0]["h"][given.counted]
        answer, answered = given.x[given.counted], net.emission(features)
        if not net.emission.symbols:
            return None, (answered.mean - answer)[:, -1].square().mean().item()
        right = answered.scores.argmax(-1) == answer
        return right.float().mean().item(), -answered.log_prob(answer).mean().item()


class Measure:
    """Callback that appends a row to a run's ``answers.csv``; a resumed run replaces later rows."""

    def __init__(self, file: Path, about: list, data: dict[int, SequenceSet]):
        self.file, self.about, self.data = file, about, data
        self.rows = list(csv.reader(file.open())) if file.exists() else []
        self.begun, self.before = time.process_time(), None

    def on_validation(self, loop) -> None:
        if self.before is None:
            self.rows = [row for row in self.rows if int(row[2]) < loop.update]
            self.before = float(self.rows[-1][3]) if self.rows else 0.0
        seconds = self.before + time.process_time() - self.begun
        for length, data in self.data.items():
            if length == min(self.data) or loop.update == loop.num_updates:
                row = [*self.about, loop.update, f"{seconds:.1f}", length]
                self.rows.append([*row, *measured(loop.net, data)])
        with self.file.open("w", newline="") as stream:
            csv.writer(stream).writerows(self.rows)


def train(task: str, arm: str, seed: int, max_updates: int, out: Path) -> list[list[str]]:
    """Trains a run as far as that has not been done, and returns its rows."""
    table, options = CONFIG["tasks"][task], CONFIG["options"] | CONFIG["arms"][arm]
    folder, updates = out / task / f"{arm}-{seed}", max_updates or table["updates"][arm]
    rows = folder / "answers.csv"
    if not rows.exists() or int(list(csv.reader(rows.open()))[-1][2]) < updates:
        name, length = table["data"], table["length"]
        data = corpus(name, length=length)
        longer = {k * length: corpus(name, length=k * length).split("test") for k in (1, 2, 4)}
        model, sizes = options["model"], {k: options[k] for k in ("h_dim", "embed_dim")}
        if model == "sab":
            sizes |= {k: options[k] for k in ("k_trunc", "k_att") if k in options}
        torch.manual_seed(seed)
        emission = EMISSIONS[data.emission]
        if data.missing:
            emission = lambda *sizes: EMISSIONS[data.emission](*sizes, missing=True)  # noqa: E731
        net = MODELS[model](emission, data.x_dim, **sizes)
        training = TrainingOptions(
            **{k: options[k] for k in ("batch_size", "lr", "lr_schedule", "clip")},
            validate_every=options["measure_every"],
            validate_on=64,
            keep="last",
            num_threads=1,
            checkpoint_minutes=2.0,
        )
        splits, measure = (
            (data.split("train"), data.split("valid")),
            Measure(rows, [arm, seed], longer),
        )
        fit(net, *splits, None, folder, training, updates, seed, resume=True, callbacks=[measure])
    return list(csv.reader(rows.open()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=[*CONFIG["tasks"], "draw"])
    parser.add_argument("--arms", nargs="+", default=list(CONFIG["arms"]), choices=CONFIG["arms"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--max_updates", type=int, default=0, help="instead of the table's")
    parser.add_argument("--out", type=Path, default=Path("runs/memory"))
    options = parser.parse_args()
    if options.task == "draw":
        from .results import main as draw

        return draw()
    file = FOLDER / "results" / f"{options.task}.csv"
    file.parent.mkdir(exist_ok=True)
    for seed in options.seeds:
        for arm in options.arms:
            rows = train(options.task, arm, seed, options.max_updates, options.out)
            old = list(csv.reader(file.open()))[1:] if file.exists() else []
            old = [row for row in old if row[:2] != [arm, str(seed)]]
            with file.open("w", newline="") as stream:
                csv.writer(stream).writerows([COLUMNS, *sorted(old + rows, key=lambda r: r[:2])])


if __name__ == "__main__":
    main()
