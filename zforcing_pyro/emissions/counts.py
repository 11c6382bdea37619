"""Families of counts: Poisson and negative binomial."""

from collections.abc import Sequence
from typing import Literal

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import softplus

from ..data.checks import check_choice
from ..layers.blocks import MLP, full_precision
from .base import Emission
from .normal import PartlyObserved

Link = Literal["softplus", "exp"]
MAX_LOG_RATE = 30.0
"""Bound on the log of a rate, so that no rate overflows."""


class Poisson(Emission):
    """Features to independent Poisson variables over a vector of counts.

    Args:
        in_dim, x_dim: Sizes of features and vector.
        hidden_dims: Sizes of hidden layers between features and vector.
        link: Function from the network's output to the rate.
        missing: Whether NaN in a vector is a missing value, see :class:`PartlyObserved`.
    """

    support = constraints.nonnegative_integer
    num_outputs = 1
    """Outputs of the network for each count."""

    def __init__(
        self,
        in_dim: int,
        x_dim: int,
        hidden_dims: Sequence[int] = (),
        link: Link = "softplus",
        missing: bool = False,
    ):
        super().__init__()
        check_choice(Link, link=link)
        self.x_dim, self.link, self.missing = x_dim, link, missing
        self.mlp = MLP(in_dim, hidden_dims, self.num_outputs * x_dim)

    def forward(self, features: Tensor) -> dist.Distribution:
        x = full_precision(self.mlp(features))
        rate = softplus(x) if self.link == "softplus" else x.clamp(max=MAX_LOG_RATE).exp()
        counts = self.counts(rate + torch.finfo(x.dtype).eps)  # log 0 has no gradient
        return PartlyObserved(counts) if self.missing else counts.to_event(1)

    def counts(self, rate: Tensor) -> dist.Poisson | dist.NegativeBinomial:
        """Returns the distribution of the counts, ``(..., x_dim)``, for the network's output."""
        return dist.Poisson(rate)


class NegativeBinomial(Poisson):
    r"""Features to independent negative binomial variables over a vector of counts.

    With mean :math:`\mu` and ``total_count`` :math:`r`, two outputs of the network for each count,
    the variance is :math:`\mu + \mu^2 / r`. The Poisson family is the limit for large r.
    """

    num_outputs = 2

    def counts(self, rate: Tensor) -> dist.NegativeBinomial:
        mean, total_count = rate.chunk(2, -1)
        return dist.NegativeBinomial(total_count, logits=mean.log() - total_count.log())
