"""Stochastic recurrent networks as probabilistic programs, in Pyro."""

__version__ = "0.1.0"
