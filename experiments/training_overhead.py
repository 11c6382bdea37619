"""Costs of the training loop beside its step: ``python -m experiments.training_overhead``.

Every update of a run is followed by one of a bare loop, which is handed its batch: zero_grad, loss,
backward, clip, step, on a copy of the net. Process CPU time of one thread, so that who else uses
the machine does not count. The run is an ordinary one, with its loader, curves and TensorBoard
events, between two validations.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time

import numpy as np
import torch
from torch.nn.utils import clip_grad_norm_

from experiments.benchmarks.configurations import CONFIGURATIONS, Problem, problem
from experiments.benchmarks.measure import pin
from zforcing_pyro.data import Sequences
from zforcing_pyro.estimators import TraceELBO
from zforcing_pyro.training import TrainingOptions
from zforcing_pyro.training.fit import fit

WARM_UP = 5


class BareStep:
    """Callback that takes a bare step after each update of a run, and times both.

    Args:
        problem: The net, which is copied, and the batch.
        options: Options of the run.
    """

    def __init__(self, problem: Problem, options: TrainingOptions):
        self.net, self.x, self.lengths = copy.deepcopy(problem.net), problem.x, problem.lengths
        self.estimator, self.clip = TraceELBO(), options.clip
        self.optimizer = torch.optim.AdamW(
            self.net.parameters(), lr=options.lr, eps=1e-5, weight_decay=0.0, fused=True
        )
        self.ours, self.bare, self.since = [], [], None

    def on_update(self, loop) -> None:
        start = time.process_time()
        if self.since is not None:
            self.ours.append(start - self.since)
        self.step()
        self.since = time.process_time()
        self.bare.append(self.since - start)

    def step(self) -> None:
        self.optimizer.zero_grad()
        given = self.net.given(self.x, self.lengths)
        (-self.estimator.objective(given).value.mean()).backward()
        clip_grad_norm_(self.net.parameters(), self.clip)
        self.optimizer.step()


def overhead(name: str, num_updates: int) -> dict[str, float | str]:
    """Mean milliseconds of an update of either, and by what share ours takes longer."""
    configured = problem(CONFIGURATIONS[name])
    batch_size = len(configured.x)
    options = TrainingOptions(batch_size=batch_size, validate_every=num_updates, accelerator="cpu")
    bare = BareStep(configured, options)
    train = Sequences(list(configured.x) * 8)
    valid = Sequences(list(configured.x[:1]))
    net = copy.deepcopy(configured.net)
    fit(net, train, valid, TraceELBO(), None, options, num_updates, callbacks=[bare])
    ours, bare = (
        1e3 * np.array(times[WARM_UP : num_updates - 1]) for times in (bare.ours, bare.bare)
    )
    # Of blocks of updates, since what is done every tenth update belongs to the cost.
    num = min(10, len(ours))
    means = [[block.mean() for block in np.array_split(times, num)] for times in (ours, bare)]
    ratios = np.divide(*means) - 1
    return {
        "configuration": name,
        "ours_ms": round(ours.mean(), 3),
        "bare_ms": round(bare.mean(), 3),
        "overhead": round(ours.mean() / bare.mean() - 1, 4),
        "median_of_blocks": round(float(np.median(ratios)), 4),
        "updates": len(ours),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--configs", default="SMALL,MUSIC")
    parser.add_argument("--json", help="where to write the rows")
    options = parser.parse_args()
    print(pin(), file=sys.stderr)
    rows = [overhead(name, options.updates) for name in options.configs.split(",")]
    for row in rows:
        print(
            f"{row['configuration']:6} ours {row['ours_ms']:.2f} ms, bare {row['bare_ms']:.2f} ms "
            f"an update: {row['overhead']:+.1%} (median of ten blocks "
            f"{row['median_of_blocks']:+.1%}, {row['updates']} updates each, process CPU time)"
        )
    if options.json:
        with open(options.json, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
