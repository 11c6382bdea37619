"""A pair of programs small enough to add up by hand, and a model with an exact likelihood."""

import pyro
import pyro.distributions as dist
import torch

from zforcing_pyro.estimators import ESTIMATORS
from zforcing_pyro.estimators.programs import ProgramPair
from zforcing_pyro.estimators.terms import Terms
from zforcing_pyro.models.lgssm import LGSSM

LENGTHS = torch.tensor([5, 1, 4])
X = torch.tensor([-1.0, 0.0, 2.5], dtype=torch.float64)


def trace_terms(*programs_and_args, num_particles=1, latents=None, **options):
    return ProgramPair(*programs_and_args, **options).terms(num_particles, latents)


def program_loss(estimator, model, guide, *args, **kwargs):
    """The loss of two programs, never of their net's fast path."""
    value, _, terms = estimator.objective(ProgramPair(model, guide, *args, **kwargs))
    return -(terms.scale * value).sum()


def make_estimator(name, num_particles=3, **options):
    """The estimator with the first number of particles from ``num_particles`` on that it takes."""
    for num in range(num_particles, num_particles + 9):
        try:
            return ESTIMATORS[name](num, **options)
        except ValueError as error:
            if "'num_particles'" not in str(error):
                raise
    raise AssertionError(f"'{name}' takes no number of particles near {num_particles}")


def model(x):
    with pyro.plate("sequences", len(x), dim=-1):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 2.0), obs=x)
    return "state"


def guide(x):
    with pyro.plate("sequences", len(x), dim=-1):
        pyro.sample("z", dist.Normal(x / 2, 0.5))


def linear_gaussian(guide_sees="future", shift=0.0, spread=1.0):
    """A linear-Gaussian model, whose guide is exact without shift and spread, and data."""
    net = LGSSM(3, 2, guide_sees, shift, spread)
    torch.nn.init.constant_(net.emission.log_scale, 0.2)
    return net, torch.randn(3, 5, 3)


def log_ratios(net, x, lengths, estimator, num, by_programs=False):
    """Many draws of the bound minus log p(x), ``(num, batch)``."""
    args = x.repeat(num, 1, 1), lengths.repeat(num)
    given = ProgramPair(net.model, net.guide, *args) if by_programs else net.given(*args)
    with torch.no_grad():
        bound = estimator.objective(given).bound.view(num, -1)
    return bound - net.log_likelihood(x, lengths)


def gaps(net, x, lengths, estimator, num=4_000, by_programs=False):
    """log p(x) minus the bound: mean and standard error of many draws, each ``(batch,)``."""
    gap = -log_ratios(net, x, lengths, estimator, num, by_programs)
    return gap.mean(0), gap.std(0) / num**0.5


def random_terms(num_particles=7):
    """Terms of 3 sequences of 4 steps, of no model."""
    log_prior, log_posterior, log_emission, auxiliary, reverse = torch.randn(5, num_particles, 3, 4)
    kl_per_latent = torch.rand(num_particles, 3, 4, 2)
    latents = torch.randn(num_particles, 3, 4, 2, requires_grad=True)
    logs = log_prior, log_posterior, log_emission
    return Terms(*logs, kl_per_latent, auxiliary, reverse, latents)
