"""Stochastic recurrent networks as probabilistic programs, in Pyro.

``import zforcing_pyro as zf`` imports nothing heavy; each public name loads when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from . import data, emissions, estimators, models
    from .analysis import plots, posterior
    from .analysis.evaluation import evaluate
    from .app.experiment import load
    from .app.hub import push
    from .app.sequence_model import SequenceModel
    from .models import DKF, RNN, SRNN, STORN, VRNN, ZForcing
    from .training import TrainingOptions
    from .training.fit import fit

_MODULES = {
    "data": ".data",
    "emissions": ".emissions",
    "estimators": ".estimators",
    "models": ".models",
    "plots": ".analysis.plots",
    "posterior": ".analysis.posterior",
}
_OBJECTS = dict.fromkeys(("DKF", "RNN", "SRNN", "STORN", "VRNN", "ZForcing"), ".models") | {
    "SequenceModel": ".app.sequence_model",
    "TrainingOptions": ".training",
    "evaluate": ".analysis.evaluation",
    "fit": ".training.fit",
    "load": ".app.experiment",
    "push": ".app.hub",
}

__all__ = [
    "DKF",
    "RNN",
    "SRNN",
    "STORN",
    "VRNN",
    "SequenceModel",
    "TrainingOptions",
    "ZForcing",
    "__version__",
    "data",
    "emissions",
    "estimators",
    "evaluate",
    "fit",
    "load",
    "models",
    "plots",
    "posterior",
    "push",
]


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used."""
    if name in _MODULES:
        value = import_module(_MODULES[name], __name__)
    elif name in _OBJECTS:
        value = getattr(import_module(_OBJECTS[name], __name__), name)
    else:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
