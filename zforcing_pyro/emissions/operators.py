"""Transition operators p_T(s' | s) of a walk: a vector and a temperature to the next vector."""

import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import softplus

from ..layers.blocks import MLP, concat, full_precision
from .base import Emission
from .normal import DiagonalNormal

FLIP = 2.0
"""Log-odds of a bit staying as it is before training, at temperature 1."""


class Operator(Emission):
    """A network from a vector s and a log-temperature to the distribution of the next vector.

    Args:
        x_dim: Size of s.
        hidden_dim, layers: Size and number of the hidden layers.
        reads_temperature: Lets the network read log T; else T enters through the noise alone.
        residual: Starts as a walk that stays about where it is.
    """

    has_rsample: bool = True
    """True if a draw has a gradient."""

    def __init__(
        self,
        x_dim: int,
        hidden_dim: int = 128,
        layers: int = 2,
        reads_temperature: bool = True,
        residual: bool = True,
    ):
        super().__init__()
        self.x_dim, self.reads_temperature, self.residual = x_dim, reads_temperature, residual
        self.mlp = MLP(x_dim + reads_temperature, [hidden_dim] * layers, self.out_dim)

    @property
    def out_dim(self) -> int:
        """Size of the network's output."""
        return self.x_dim

    def forward(self, s: Tensor, log_t: Tensor) -> dist.Distribution:  # type: ignore[override]
        raise NotImplementedError

    def marginal(self, mean: Tensor, variance: Tensor) -> dist.Distribution:
        """Returns the distribution of a vector of independent entries with these moments."""
        raise NotImplementedError

    def output(self, s: Tensor, log_t: Tensor) -> Tensor:
        """Returns the network's output for s, ``(..., x_dim)``; ``log_t`` broadcasts to rows."""
        return full_precision(
            self.mlp(concat(s, log_t[..., None]) if self.reads_temperature else s)
        )


class GaussianOperator(Operator):
    r"""Operator on real vectors.

    .. math:: p_T(s' \mid s) = \mathcal{N}(\alpha s + (1 - \alpha) F(s),\ T \sigma(s)^2), \qquad
        \sigma(s) = \sigma_0\, \mathrm{softplus}(G(s)) + \mathrm{floor}

    Args:
        sizes: Arguments of :class:`Operator`.
        alpha: Share of s in the mean, in [0, 1).
        sigma0, sigma_floor: Unit and floor of the scale at T = 1.
    """

    def __init__(
        self, *sizes: Any, alpha: float = 0.5, sigma0: float = 0.05, sigma_floor: float = 1e-3
    ):
        super().__init__(*sizes)
        self.alpha, self.sigma0, self.min_scale = alpha, sigma0, sigma_floor

    @property
    def out_dim(self) -> int:
        return 2 * self.x_dim

    def forward(self, s: Tensor, log_t: Tensor) -> dist.Distribution:  # type: ignore[override]
        shift, raw_scale = self.output(s, log_t).chunk(2, -1)
        mean = s + (1 - self.alpha) * (shift if self.residual else shift - s)
        scale = self.sigma0 * softplus(raw_scale) + self.min_scale
        return DiagonalNormal(mean, scale.log() + log_t[..., None] / 2)

    def marginal(self, mean: Tensor, variance: Tensor) -> dist.Distribution:
        return DiagonalNormal(mean, variance.log() / 2)


class BernoulliOperator(Operator):
    r"""Operator on bits: :math:`p_T(s' = 1 \mid s) = \mathrm{sigmoid}(\rho(s) / T)`."""

    support = constraints.boolean
    has_rsample = False

    def forward(self, s: Tensor, log_t: Tensor) -> dist.Distribution:  # type: ignore[override]
        signs = 2 * s - 1
        logits = self.output(signs, log_t) + FLIP * self.residual * signs
        return dist.Bernoulli(logits=logits * (-log_t[..., None]).exp()).to_event(1)

    def marginal(self, mean: Tensor, variance: Tensor) -> dist.Distribution:
        return dist.Bernoulli(probs=mean.clamp(1e-3, 1 - 1e-3)).to_event(1)


def log_temperatures(num: int, factor: float, num_cold: int) -> Tensor:
    """Returns log T of each step of a walk: 0 for the cold ones, then a rise by ``factor`` a step.

    Example:
        >>> log_temperatures(4, 2.0, 2).exp()
        tensor([1., 1., 1., 2.])
    """
    return (torch.arange(num) - num_cold).clamp(min=0) * math.log(factor)
