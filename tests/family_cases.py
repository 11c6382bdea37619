"""The models with their options at small sizes, and data for them."""

import inspect
import math
from functools import partial

import torch

from zforcing_pyro.emissions import Bernoulli, Categorical, DiagNormal
from zforcing_pyro.models import MODELS

SIZES = {"z_dim": 2, "h_dim": 4, "hidden_dim": 3, "embed_dim": 3}
NETWORKS = {"aux_network": True, "reverse_network": True}
COSTS = {"aux_weight": 0.7, "reverse_weight": 0.4, **NETWORKS}
LENGTHS = torch.tensor([5, 1, 4])

CASES = {
    "rnn": {},
    "storn": {},
    "vrnn": {},
    "vrnn-i": {"prior": "standard"},
    "srnn": {},
    "srnn without resq": {"resq": False},
    "srnn filtering": {"posterior": "filtering"},
    "srnn filtering without resq": {"posterior": "filtering", "resq": False},
    "srnn with costs": COSTS,
    "srnn with l2 cost": COSTS | {"aux_kind": "l2"},
    "dkf": {},
    "dkf left": {"inference": "left"},
    "dkf both": {"inference": "both"},
    "dkf with costs": COSTS,
    "dkf both with costs": COSTS | {"inference": "both"},
    "dkf without clamp": {"clamp": 0.0},
    "zforcing": {},
    "zforcing layer norm": COSTS | {"injection": "layer_norm", "aux_input": "h_z"},
}
BACKWARD = {"srnn", "dkf", "zforcing"}
FILTERING = [
    case
    for case, options in CASES.items()
    if case.partition(" ")[0] not in BACKWARD
    or options.get("posterior") == "filtering"
    or options.get("inference") == "left"
]
WITH_COSTS = [case for case in CASES if CASES[case].get("aux_weight")]
EMISSIONS = {
    "gaussian": partial(DiagNormal, hidden_dims=[3]),
    "bernoulli": Bernoulli,
    "categorical": Categorical,
}


def make(case: str, kind: str = "gaussian", **options):
    """A net of a case whose parameters are all of a size to matter."""
    model = MODELS[case.partition(" ")[0].partition("-")[0]]
    sizes = {k: v for k, v in SIZES.items() if k in inspect.signature(model).parameters}
    net = model(EMISSIONS.get(kind, kind), 3, **sizes | CASES[case] | options)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return net


def batch(kind: str = "gaussian", num_sequences: int = 3, num_steps: int = 5):
    shape = num_sequences, num_steps
    if kind == "categorical":
        return torch.randint(3, shape)
    if kind == "bernoulli":
        return torch.randint(2, (*shape, 3)).double()
    return torch.randn(*shape, 3)


def latents_of(net, num_particles: int = 1, num_sequences: int = 3, num_steps: int = 5):
    """Latents to score."""
    z_dim = net.terms(batch(num_steps=1), torch.ones(3).long()).latents.shape[-1]
    return torch.randn(num_particles, num_sequences, num_steps, z_dim)


def bounds_by_particles(log_weight, counts):
    """Mean multi-sample bound of each count of particles, ``(counts, batch)``."""
    groups = [log_weight.unflatten(0, (-1, count)) for count in counts]
    return torch.stack([(g.logsumexp(1) - math.log(g.shape[1])).mean(0) for g in groups])


def standard_error(log_weight):
    """Of the log of the mean weight, ``(batch,)``."""
    weight = (log_weight - log_weight.logsumexp(0)).exp() * len(log_weight)  # of mean 1
    return weight.std(0) / len(log_weight) ** 0.5
