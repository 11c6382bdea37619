"""Stochastic recurrent networks as probabilistic programs, in Pyro."""

__version__ = "0.1.0"
__all__ = ["load"]


def __getattr__(name: str):
    """``load``, without making every import of the package one of all it can do."""
    if name == "load":
        from .experiment import load

        return load
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
