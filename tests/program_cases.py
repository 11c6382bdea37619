"""A pair of programs small enough to add up by hand, and its terms."""

import pyro
import pyro.distributions as dist
import torch

from zforcing_pyro.estimators.programs import ProgramPair

X = torch.tensor([-1.0, 0.0, 2.5], dtype=torch.float64)


def trace_terms(*programs_and_args, num_particles=1, latents=None, **options):
    return ProgramPair(*programs_and_args, **options).terms(num_particles, latents)


def program_loss(estimator, model, guide, *args, **kwargs):
    """The loss of two programs, never of their net's fast path."""
    value, _, terms = estimator.objective(ProgramPair(model, guide, *args, **kwargs))
    return -(terms.scale * value).sum()


def model(x):
    with pyro.plate("sequences", len(x), dim=-1):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 2.0), obs=x)
    return "state"


def guide(x):
    with pyro.plate("sequences", len(x), dim=-1):
        pyro.sample("z", dist.Normal(x / 2, 0.5))
