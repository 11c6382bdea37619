"""Variational objectives as Pyro ELBOs: one class a bound or a gradient of it."""

from .base import Objective, SequenceELBO
from .elbo import TraceELBO, TraceSTL
from .fivo import TraceFIVO
from .importance import TraceDReG, TraceIWAE, TraceRenyi, TraceRWS
from .stepwise import Steps
from .twisted import TraceTwisted
from .walkback import TraceWalkback

ESTIMATORS = {
    "elbo": TraceELBO,
    "stl": TraceSTL,
    "iwae": TraceIWAE,
    "dreg": TraceDReG,
    "renyi": TraceRenyi,
    "rws": TraceRWS,
    "fivo": TraceFIVO,
    "twisted": TraceTwisted,
    "walkback": TraceWalkback,
}

__all__ = [
    "ESTIMATORS",
    "Objective",
    "SequenceELBO",
    "Steps",
    "TraceDReG",
    "TraceELBO",
    "TraceFIVO",
    "TraceIWAE",
    "TraceRWS",
    "TraceRenyi",
    "TraceSTL",
    "TraceTwisted",
    "TraceWalkback",
]
