"""Z-Forcing on plain ``pyro.infer.SVI``: the ten lines that a training run is made of.

python experiments/svi_zforcing.py --estimator iwae --particles 5 --updates 200
"""

import argparse

import pyro
import torch
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO

from zforcing_pyro.data import BatchSampler, collate, corpus
from zforcing_pyro.emissions import EMISSIONS
from zforcing_pyro.estimators import ESTIMATORS, TraceELBO
from zforcing_pyro.models import ZForcing

PYROS = {
    "pyro_trace": lambda k: Trace_ELBO(k, max_plate_nesting=1, vectorize_particles=k > 1),
    "pyro_mean_field": lambda k: TraceMeanField_ELBO(
        k, max_plate_nesting=1, vectorize_particles=k > 1
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains Z-Forcing by SVI.")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--data_dir")
    parser.add_argument("--estimator", choices=ESTIMATORS | PYROS, default="elbo")
    parser.add_argument("--particles", type=int, default=1)
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    pyro.set_rng_seed(args.seed)
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data = corpus(args.data, data_dir=args.data_dir)
    train, valid = data.split("train"), collate(list(data.split("valid"))).to(device)
    net = ZForcing(EMISSIONS[data.emission], data.x_dim, z_dim=16, h_dim=64, hidden_dim=64)
    net.to(device)

    loss = (ESTIMATORS | PYROS)[args.estimator](args.particles)
    optimiser = pyro.optim.ClippedAdam({"lr": 2e-3, "clip_norm": 100.0})
    svi = SVI(net.model, net.guide, optimiser, loss=loss)
    bound = TraceELBO()  # at weight 1 and without costs, whatever the training objective
    batches = BatchSampler(train.lengths, batch_size=64, shuffle=True, bucket=True, seed=args.seed)
    update = 0
    while update < args.updates:
        for indices in batches:
            x, lengths, *_ = collate([train[i] for i in indices]).to(device)
            loss = svi.step(x, lengths) / lengths.sum().item()
            update += 1
            if update % 50 == 0 or update == args.updates:
                with torch.no_grad():
                    nats = bound.bound(net.terms(valid.x, valid.lengths)).mean().item()
                print(f"update {update}: loss {loss:.4f} nats per step, ", end="")
                print(f"validation ELBO (K=1) {nats:.3f} nats per sequence")
            if update == args.updates:
                break
        batches.epoch += 1


if __name__ == "__main__":
    main()
