"""A model of one Gaussian latent whose model and guide share a parameter; all of it is known."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import torch

NAMES = ("loc", "shift", "log_scale")


def parameters(num=1, loc=0.4, shift=0.3, log_scale=-0.1):
    """``loc`` is in the prior and in the guide; ``num`` copies give a gradient each."""
    values = {"loc": loc, "shift": shift, "log_scale": log_scale}
    return {n: torch.full((num,), float(v)).requires_grad_() for n, v in values.items()}


def programs(p):
    """p(z) = N(loc, 1), p(x | z) = N(z, 1), q(z | x) = N(loc + shift, scale)."""

    def model(x):
        with pyro.plate("sequences", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(p["loc"], 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("sequences", len(x), dim=-1):
            pyro.sample("z", dist.Normal(p["loc"] + p["shift"], p["log_scale"].exp()))

    return model, guide


def exact_bound(p, x, num_particles, num_nodes=40):
    """The importance-weighted bound by Gauss-Hermite quadrature over all noise."""
    nodes, weights = (torch.tensor(v) for v in np.polynomial.hermite_e.hermegauss(num_nodes))
    weights = weights / weights.sum()
    noise = torch.cartesian_prod(*[nodes] * num_particles).view(-1, num_particles)
    share = torch.cartesian_prod(*[weights] * num_particles).view(-1, num_particles).prod(-1)
    z = p["loc"] + p["shift"] + p["log_scale"].exp() * noise
    log_p = -((z - p["loc"]) ** 2 + (x - z) ** 2) / 2 - math.log(2 * math.pi)
    log_q = -(noise**2) / 2 - p["log_scale"] - math.log(2 * math.pi) / 2
    return (share * ((log_p - log_q).logsumexp(-1) - math.log(num_particles))).sum()


def gradients(estimator, given, p):
    """Returns gradients of each objective by its own copy of the parameters: ``(3, num)``."""
    value = estimator.objective(given).value
    grads = torch.autograd.grad(value.sum(), [p[n] for n in NAMES], materialize_grads=True)
    return torch.stack(grads)
