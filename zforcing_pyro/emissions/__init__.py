"""Conditional distributions: modules from ``(..., in_dim)`` features to a Pyro distribution."""

from .base import Emission, StandardNormal
from .mixtures import DiscretizedLogistic, GaussianMixture, LogisticMixture
from .nade import NADE, AutoregressiveBernoulli
from .simple import Bernoulli, Categorical, DiagNormal, NegativeBinomial, Poisson, Scale

EMISSIONS = {
    "gaussian": DiagNormal,
    "gmm": GaussianMixture,
    "bernoulli": Bernoulli,
    "categorical": Categorical,
    "logistics": LogisticMixture,
    "nade": NADE,
    "poisson": Poisson,
    "negative_binomial": NegativeBinomial,
}

__all__ = [
    "EMISSIONS",
    "NADE",
    "AutoregressiveBernoulli",
    "Bernoulli",
    "Categorical",
    "DiagNormal",
    "DiscretizedLogistic",
    "Emission",
    "GaussianMixture",
    "LogisticMixture",
    "NegativeBinomial",
    "Poisson",
    "Scale",
    "StandardNormal",
]
