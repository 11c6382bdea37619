"""Families of independent variables: Gaussian, Bernoulli, counts; and the categorical one."""

from collections.abc import Sequence
from typing import Literal

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.utils import lazy_property
from torch.nn.functional import softplus

from ..data.checks import check_choice, check_range
from ..layers.blocks import MLP, full_precision
from ..layers.products import inverse, memory_order
from .base import Emission
from .normal import DiagonalNormal, PartlyObserved, floored

Scale = Literal["log_scale", "log_variance"]


class DiagNormal(Emission):
    r"""Features to :math:`\mathcal{N}(\mu, \operatorname{diag} \sigma^2)` over a vector.

    Args:
        in_dim, x_dim: Sizes of features and vector.
        hidden_dims: Sizes of hidden layers between features and vector.
        min_scale: Floor, added to sigma. The paper has none: densities of silent frames are
            unbounded, so never compare runs with different floors.
        clamp: Bound on the absolute value of mean and log-scale; 0 is none.
        scale: Whether the network gives log sigma or log sigma^2.
        tanh_mean: Whether the mean is squashed to (-1, 1).
        missing: Whether NaN in a vector is a missing value, see :class:`PartlyObserved`.
    """

    def __init__(
        self,
        in_dim: int,
        x_dim: int,
        hidden_dims: Sequence[int] = (),
        min_scale: float = 0.0,
        clamp: float = 0.0,
        scale: Scale = "log_scale",
        tanh_mean: bool = False,
        missing: bool = False,
    ):
        super().__init__()
        check_range(0, min_scale=min_scale, clamp=clamp)
        self.x_dim, self.min_scale, self.clamp, self.missing = x_dim, min_scale, clamp, missing
        self.exponent = 0.5 if scale == "log_variance" else 1.0
        self.tanh_mean = tanh_mean
        self.mlp = MLP(in_dim, hidden_dims, 2 * x_dim)

    def forward(self, features: Tensor) -> dist.Independent:
        return self.distribution(self.mlp(features))

    def distribution(self, output: Tensor) -> dist.Independent:
        """Returns the distribution for a network's output, ``(..., 2 x_dim)``."""
        output = full_precision(output)
        if self.clamp:
            output = output.clamp(-self.clamp, self.clamp)
        loc, log_scale = output.chunk(2, dim=-1)
        if self.tanh_mean:
            loc = loc.tanh()
        if self.exponent != 1:
            log_scale = self.exponent * log_scale
        normal = DiagonalNormal(loc, floored(log_scale, self.min_scale))
        return PartlyObserved(normal.base_dist) if self.missing else normal


class Bernoulli(Emission):
    """Features to independent Bernoulli variables over a binary vector.

    Args:
        in_dim, x_dim: Sizes of features and vector.
        hidden_dims: Sizes of hidden layers between features and vector.
        missing: Whether NaN in a vector is a missing value, see :class:`PartlyObserved`.
    """

    support = constraints.boolean

    def __init__(
        self, in_dim: int, x_dim: int, hidden_dims: Sequence[int] = (), missing: bool = False
    ):
        super().__init__()
        self.x_dim, self.missing = x_dim, missing
        self.mlp = MLP(in_dim, hidden_dims, x_dim)

    def forward(self, features: Tensor) -> dist.Distribution:
        bits = dist.Bernoulli(logits=full_precision(self.mlp(features)))
        return PartlyObserved(bits) if self.missing else bits.to_event(1)


class Categorical(Emission):
    """Features to one symbol out of ``x_dim``.

    Args:
        in_dim: Size of features.
        x_dim: Number of symbols.
        hidden_dims: Sizes of hidden layers between features and symbol.
    """

    symbols = True

    def __init__(self, in_dim: int, x_dim: int, hidden_dims: Sequence[int] = ()):
        super().__init__()
        self.x_dim, self.support = x_dim, constraints.integer_interval(0, x_dim - 1)
        self.mlp = MLP(in_dim, hidden_dims, x_dim)

    def forward(self, features: Tensor) -> dist.Distribution:
        return LogitsCategorical(full_precision(self.mlp(features)))


class LogitsCategorical(dist.Categorical):
    """A categorical variable given by its scores, which are normalised when first needed."""

    def __init__(self, scores: Tensor, validate_args: bool | None = None):
        self.scores = self._param = scores
        self._num_events = scores.shape[-1]
        Distribution.__init__(self, scores.shape[:-1], validate_args=validate_args)

    @lazy_property
    def logits(self) -> Tensor:
        order = memory_order(self.scores)
        ordered = self.scores.permute(order)  # softmax copies a tensor that is not contiguous
        return ordered.log_softmax(-1).permute(inverse(order))

    def expand(self, batch_shape: Sequence[int], _instance=None) -> "LogitsCategorical":
        scores = self.scores.expand(*batch_shape, -1)
        return LogitsCategorical(scores, validate_args=self._validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        if hasattr(value, "_pyro_categorical_support"):
            return super().log_prob(value)
        if self._validate_args:
            self._validate_sample(value)
        shape = torch.broadcast_shapes(value.shape, self.scores.shape[:-1])
        logits, symbols = self.logits.expand(*shape, -1), value.expand(shape)
        return logits.gather(-1, symbols.long()[..., None]).squeeze(-1)


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
