"""A model of one Gaussian latent whose model and guide share a parameter; all of it is known."""

import pyro
import pyro.distributions as dist
import torch

from zforcing_pyro.estimators.terms import Terms

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


def gradients(estimator, given, p):
    """Of each sequence's objective, by each of its own copies of the parameters: ``(3, num)``."""
    value = estimator.objective(given).value
    grads = torch.autograd.grad(value.sum(), [p[n] for n in NAMES], materialize_grads=True)
    return torch.stack(grads)


def random_terms(num_particles=7):
    """Terms of 3 sequences of 4 steps, of no model."""
    log_prior, log_posterior, log_emission, auxiliary, reverse = torch.randn(5, num_particles, 3, 4)
    kl_per_latent = torch.rand(num_particles, 3, 4, 2)
    latents = torch.randn(num_particles, 3, 4, 2, requires_grad=True)
    logs = log_prior, log_posterior, log_emission
    return Terms(*logs, kl_per_latent, auxiliary, reverse, latents)
