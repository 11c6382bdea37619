"""Stochastic recurrent networks as probabilistic programs, in Pyro."""

from ._version import __version__

__all__ = ["__version__", "load"]


def __getattr__(name: str):
    """``load``, without making every import of the package one of all it can do."""
    if name == "load":
        from .app.experiment import load

        return load
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
