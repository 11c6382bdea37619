"""What an emission is."""

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ..layers.blocks import full_precision
from .normal import DiagonalNormal


class Emission(nn.Module):
    """A module whose :meth:`forward` returns the distribution of one step's observation.

    A class attribute ``symbols`` says whether an observation is an integer below ``x_dim``
    (shape ``()``) or a vector of ``x_dim`` numbers.
    """

    symbols = False
    missing: bool = False
    """Whether NaN in an observation is a value that is missing."""
    x_dim: int

    def forward(self, features: Tensor) -> dist.Distribution:
        raise NotImplementedError

    def template(self, num_sequences: int, num_steps: int, like: Tensor) -> Tensor:
        """Zeros shaped like observations, on the device of ``like``."""
        if self.symbols:
            return like.new_zeros(num_sequences, num_steps, dtype=torch.long)
        return like.new_zeros(num_sequences, num_steps, self.x_dim)


class StandardNormal(nn.Module):
    r"""Features to :math:`\mathcal{N}(0, I)`, whatever they are: a prior that has no past.

    Args:
        z_dim: Size of the vector; 0 is the empty vector, of probability 1.
    """

    def __init__(self, z_dim: int):
        super().__init__()
        self.z_dim = z_dim

    def forward(self, features: Tensor) -> dist.Distribution:
        zero = full_precision(features.new_zeros(*features.shape[:-1], self.z_dim))
        return DiagonalNormal(zero, zero)
