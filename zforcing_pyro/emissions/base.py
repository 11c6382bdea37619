"""Base class of observation distributions p(x_t | features)."""

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import constraints

from ..layers.blocks import full_precision
from .normal import DiagonalNormal


class Emission(nn.Module):
    """A module whose :meth:`forward` returns the distribution of one step's observation.

    Observations are vectors of ``x_dim`` numbers, or with ``symbols`` integers below ``x_dim``,
    of shape ``()``.
    """

    symbols: bool = False
    """True if an observation is a symbol."""
    missing: bool = False
    """True if NaN in an observation is a missing value."""
    support: constraints.Constraint = constraints.real
    """Values that one number of an observation, or one symbol, can have."""
    unscored: int = 0
    """Number of last entries of an observation that are read and given, not scored."""
    x_dim: int

    def forward(self, features: Tensor) -> dist.Distribution:
        raise NotImplementedError

    def raw(self, features: Tensor) -> Tensor | None:
        """Returns all parameters of p(x_t | features) as one tensor, ``(..., outputs)``.

        They are the network's output, as one tensor, from which the distribution is made; None
        where the emission has no ``mlp``.
        """
        mlp = getattr(self, "mlp", None)
        return None if mlp is None else full_precision(mlp(features))

    def template(self, num_sequences: int, num_steps: int, like: Tensor) -> Tensor:
        """Returns zeros shaped like observations, on the device of ``like``."""
        if self.symbols:
            return like.new_zeros(num_sequences, num_steps, dtype=torch.long)
        return like.new_zeros(num_sequences, num_steps, self.x_dim)


class StandardNormal(nn.Module):
    r"""Any features to :math:`\mathcal{N}(0, I)`: a prior without a past.

    Args:
        z_dim: Size of the vector; 0 is the empty vector, of probability 1.
    """

    def __init__(self, z_dim: int):
        super().__init__()
        self.z_dim = z_dim

    def forward(self, features: Tensor) -> dist.Distribution:
        zero = full_precision(features.new_zeros(*features.shape[:-1], self.z_dim))
        return DiagonalNormal(zero, zero)
