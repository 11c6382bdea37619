"""Measures a run on test: ``python -m experiments.collapse.measure RUN NUM_SEQUENCES``."""

import json
import sys
from pathlib import Path

import torch

from zforcing_pyro.analysis.evaluation import evaluate
from zforcing_pyro.analysis.posterior import future_prediction, latent_codes
from zforcing_pyro.app.experiment import load_corpus, load_experiment, load_weighted
from zforcing_pyro.app.report.findings import chosen
from zforcing_pyro.training.logs import read_rows

NUM_CODES = 200
"""Sequences on which the R2 of b is measured, cross-validated."""


def measure(run: Path, num: int) -> dict:
    """Returns the numbers of a run's best checkpoint on ``num`` test sequences drawn at random.

    R2 of b is that of linear maps to the backward state b_t: from a draw of z_t, from h_{t-1}, and
    from both.
    """
    torch.set_num_threads(1)
    experiment = load_experiment(run)
    corpus = load_corpus(run, experiment)
    net, test = load_weighted(run, experiment, corpus), corpus.split("test")
    window = experiment.training.eval_window
    test = test.windows(window) if window else test
    data = test.subset(chosen(test, num))
    floor = getattr(net.emission, "min_scale", 0)
    protocol = f"{len(data)} of {len(test)} test {'windows' if window else 'sequences'}"
    protocol += "; first frame given, not scored" if data[0].start is not None else ""
    protocol += f"; floor of the emission's scale {floor:g}" if floor else ""
    elbo = evaluate(net, data, experiment.estimator_for("elbo", 10))
    iwae = evaluate(net, data, experiment.estimator_for("iwae", 100))
    some = data.subset(torch.arange(min(NUM_CODES, len(data))))
    future = future_prediction(latent_codes(net, some), some, (0,))
    r2 = future["b"].sel(horizon=0) if "b" in future else None
    rows = read_rows(run / "metrics.csv")
    valid = [row["valid_bound_per_sequence"] for row in rows if "valid_bound" in row]
    return {
        "elbo": elbo.nats_per_sequence,
        "iwae": iwae.nats_per_sequence,
        "kl": iwae.kl_per_sequence,
        "latents_in_use": iwae.latents_in_use,
        "num_latents": iwae.num_latents,
        "r2_b_from_z": None if r2 is None else float(r2.sel(source="z")),
        "r2_b_from_h": None if r2 is None else float(r2.sel(source="h")),
        "r2_b_from_both": None if r2 is None else float(r2.sel(source="h and z")),
        "bits_per_dim": iwae.bits_per_dim,
        "perplexity": iwae.perplexity,
        "best_valid_elbo": max(valid),
        "updates": int(rows[-1]["step"]),
        "seconds": int(Path(run, "seconds.txt").read_text()),
        "protocol": protocol,
        "elbo_per_sequence": elbo.per_sequence,
        "iwae_per_sequence": iwae.per_sequence,
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    numbers = measure(folder, int(sys.argv[2]))
    new = folder / "measured.json.new"
    new.write_text(json.dumps(numbers))
    new.replace(folder / "measured.json")
