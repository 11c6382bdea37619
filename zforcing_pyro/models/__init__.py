"""Stochastic recurrent networks; one file a model."""

from .base import StochasticRNN
from .dkf import DKF
from .files import MODELS
from .given import evaluating
from .rnn import RNN
from .sab import SAB
from .srnn import SRNN
from .storn import STORN
from .vrnn import VRNN
from .walkback import Walkback
from .zforcing import ZForcing

MODELS |= {
    "rnn": RNN,
    "sab": SAB,
    "storn": STORN,
    "vrnn": VRNN,
    "srnn": SRNN,
    "dkf": DKF,
    "zforcing": ZForcing,
    "walkback": Walkback,
}

__all__ = [
    "DKF",
    "MODELS",
    "RNN",
    "SAB",
    "SRNN",
    "STORN",
    "VRNN",
    "StochasticRNN",
    "Walkback",
    "ZForcing",
    "evaluating",
]
