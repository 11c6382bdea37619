"""Conditional distributions: modules from ``(..., in_dim)`` features to a Pyro distribution."""

from .base import Emission, StandardNormal
from .columns import Beta, Columns, StudentT
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
    "student_t": StudentT,
    "beta": Beta,
    "columns": Columns,
}

__all__ = [
    "EMISSIONS",
    "NADE",
    "AutoregressiveBernoulli",
    "Bernoulli",
    "Beta",
    "Categorical",
    "Columns",
    "DiagNormal",
    "DiscretizedLogistic",
    "Emission",
    "GaussianMixture",
    "LogisticMixture",
    "NegativeBinomial",
    "Poisson",
    "Scale",
    "StandardNormal",
    "StudentT",
]
