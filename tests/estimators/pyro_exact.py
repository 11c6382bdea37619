"""Exact bounds and gradients of programs with one latent, for the table of ``docs/pyro.md``.

Integrals are sums over a grid of the latent, whose masses are functions of the guide's parameters.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch

ELBO = "elbo", "analytic"
START = {"loc": 0.4, "slope": -0.4, "log_scale": 0.1}
NORMAL = torch.linspace(-9.0, 9.0, 361, dtype=torch.float64)
COIN = torch.tensor([0.0, 1.0], dtype=torch.float64)


def param(name):
    """Returns a parameter of Pyro's store."""
    return pyro.param(name, torch.tensor(START[name], dtype=torch.float64))


def prior():
    return dist.Normal(param("loc"), 1.0)


def posterior(x):
    return dist.Normal(param("slope") * x, param("log_scale").exp())


@dataclass
class Row:
    """Programs with their arguments, and what the table compares estimators with."""

    model: Any
    guide: Any
    args: tuple
    exact: Any
    """From a kind of bound and K to its value and to a scalar with its gradient, or None."""
    evidence: Any = None
    """log p(x), which no bound may exceed."""
    options: dict = field(default_factory=dict)
    around: Any = None
    """Handler that surrounds each call."""
    calls: int = 20
    """Factor of the number of calls for a batch of one sequence."""
    joint: bool = False
    """True if sequences share a latent, so that each has no bound of its own."""


def over_grid(x, prior, posterior, likelihood, grid=NORMAL, scale=1.0, weight=1.0, cost=None):
    """Returns the ``exact`` of sequences that each have one latent, and their log p(x).

    Args:
        x: Values of distinct sequences; each counts ``scale`` times, which may be a list.
        prior, posterior, likelihood: Distributions; the last two are functions of x and z.
        weight: Weight of the latent's densities, for annealing.
        cost: Function of z whose mean is added.
    """
    step = grid[1] - grid[0] if len(grid) > 2 else torch.tensor(1.0)
    scales = scale if isinstance(scale, list) else [scale] * len(x)

    def densities(x):
        log_q = posterior(x).log_prob(grid)
        mass = log_q.exp() * step
        return prior().log_prob(grid), log_q, likelihood(x, grid), mass

    def exact(kind, num_particles):
        if weight != 1 and kind not in ELBO:
            return None  # annealed weights are those of no bound
        value = surrogate = 0.0
        for x_i, scale_i in zip(x, scales):
            log_p, log_q, log_x, mass = densities(x_i)
            log_p, log_q = weight * log_p + log_x, weight * log_q
            bound, gradient = multi_sample(kind, num_particles, log_p, log_q, mass)
            if cost is not None:
                bound = bound + (mass * cost(grid)).sum()
                mass = mass.detach() if kind == "rws" else mass
                gradient = gradient + (mass * cost(grid)).sum()
            value, surrogate = value + scale_i * bound, surrogate + scale_i * gradient
        return value, surrogate

    def evidence():
        total = 0.0
        for x_i, scale_i in zip(x, scales):
            log_p, _, log_x, _ = densities(x_i)
            total = total + scale_i * ((log_p + log_x).logsumexp(0) + step.log())
        return total

    return exact, evidence


def multi_sample(kind, num_particles, log_p, log_q, mass):
    """Returns a bound over atoms of a guide, and a scalar with the estimator's gradient."""
    log_w = log_p - log_q
    if kind in ELBO or num_particles == 1:
        bound = (mass * log_w).sum()
        return bound, (mass.detach() * (log_p + log_q)).sum() if kind == "rws" else bound
    assert num_particles == 2, "integrals are over one latent of two particles"
    masses = mass[:, None] * mass
    power = 0.5 if kind == "renyi" else 1.0
    pairs = torch.logaddexp(power * log_w[:, None], power * log_w) - np.log(2)
    bound = (masses * pairs).sum() / power
    if kind != "rws":
        return bound, bound
    share = (log_w[:, None] - log_w).sigmoid()
    return bound, (2 * (masses * share).detach() * (log_p + log_q)[:, None]).sum()


def over_noise(x, transport, log_joint, num_nodes):
    """Returns the ``exact`` of all sequences together, by Gauss-Hermite quadrature.

    Args:
        x: Sequences.
        transport: From noise ``(nodes, dims)`` to latents, and the log of its Jacobian.
        log_joint: log p(x, z) of all latents, ``(nodes,)``.
    """
    nodes, weights = (torch.tensor(v) for v in np.polynomial.hermite_e.hermegauss(num_nodes))
    dims = 1 + len(x)
    noise = torch.cartesian_prod(*[nodes] * dims)
    mass = torch.cartesian_prod(*[weights / weights.sum()] * dims).prod(-1)

    def exact(kind, num_particles):
        z, log_jacobian = transport(noise)
        log_q = dist.Normal(0.0, 1.0).log_prob(noise).sum(-1) - log_jacobian
        if kind not in ELBO and len(x) > 1:
            return None
        bound, _ = multi_sample("iwae" if kind == "rws" else kind, num_particles,
                                log_joint(z), log_q, mass)  # fmt: skip
        return bound, None if kind == "rws" else bound

    return exact
