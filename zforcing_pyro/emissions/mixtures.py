"""Mixtures: Gaussians over a frame, discretised logistics over each audio sample."""

import math
from collections.abc import Sequence

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.utils import broadcast_all
from torch.nn.functional import logsigmoid

from ..data.checks import MAX_SIZE, check_range
from ..layers.blocks import MLP, full_precision
from .base import Emission
from .normal import DiagonalNormal, floored


class GaussianMixture(Emission):
    r"""Features to a joint mixture of diagonal Gaussians over a vector (Chung et al., 2015).

    .. math:: p(x) = \sum_{k=1}^K \pi_k \prod_d \mathcal{N}(x_d; \mu_{kd}, \sigma_{kd}^2)

    One component is drawn for all numbers of a vector, so the numbers depend on each other.

    Args:
        in_dim, x_dim: Sizes of features and vector.
        hidden_dims: Sizes of hidden layers between features and vector.
        num_components: Number K of components of the mixture; with 1 it is one Gaussian.
        min_scale: Floor of sigma, added to it; see :class:`DiagNormal`.
        clamp: Bound on the absolute value of means and log-scales; 0 is none.
    """

    def __init__(
        self,
        in_dim: int,
        x_dim: int,
        hidden_dims: Sequence[int] = (),
        num_components: int = 20,
        min_scale: float = 0.0,
        clamp: float = 0.0,
    ):
        super().__init__()
        check_range(1, MAX_SIZE, num_components=num_components)
        check_range(0, min_scale=min_scale, clamp=clamp)
        self.x_dim, self.num_components = x_dim, num_components
        self.min_scale, self.clamp = min_scale, clamp
        self.mlp = MLP(in_dim, hidden_dims, num_components * (1 + 2 * x_dim))

    def forward(self, features: Tensor) -> dist.Distribution:
        output = full_precision(self.mlp(features))
        logits, output = output[..., : self.num_components], output[..., self.num_components :]
        if self.clamp:
            output = output.clamp(-self.clamp, self.clamp)
        loc, log_scale = output.unflatten(-1, (2, self.num_components, self.x_dim)).unbind(-3)
        component = DiagonalNormal(loc, floored(log_scale, self.min_scale))
        return dist.MixtureSameFamily(dist.Categorical(logits=logits), component)


class LogisticMixture(Emission):
    r"""Features to audio samples of 8 or 16 bits: a mixture of discretised logistics for each.

    .. math:: p(x_d) = \sum_{k=1}^K \pi_{dk}\, P(x_d; \mu_{dk}, s_{dk})

    (Salimans et al., 2017, https://arxiv.org/abs/1701.05517), with :math:`P` the mass of a bin
    under :class:`DiscretizedLogistic`. Samples of a frame are independent given the features.
    Observations are integers of ``bits`` bits divided by ``2**(bits - 1)``, from -1 to
    1 - 2**(1 - bits). Log-probabilities are of those integers: do not compare them with densities.

    Args:
        in_dim, x_dim: Sizes of features and frame.
        hidden_dims: Sizes of hidden layers between features and frame.
        num_components: Number K of components of each sample's mixture.
        bits: Bits of a sample, in 1..16.
    """

    def __init__(
        self,
        in_dim: int,
        x_dim: int,
        hidden_dims: Sequence[int] = (),
        num_components: int = 10,
        bits: int = 16,
    ):
        super().__init__()
        check_range(1, MAX_SIZE, num_components=num_components)
        check_range(1, 16, bits=bits)
        self.x_dim, self.num_components, self.bits = x_dim, num_components, bits
        self.support = Grid(2.0 ** (1 - bits))
        self.mlp = MLP(in_dim, hidden_dims, 3 * num_components * x_dim)

    def forward(self, features: Tensor) -> dist.Distribution:
        output = full_precision(self.mlp(features))
        output = output.unflatten(-1, (3, self.x_dim, self.num_components))
        logits, loc, log_scale = output.unbind(-3)
        component = DiscretizedLogistic(loc, log_scale, self.bits)
        mixture = dist.MixtureSameFamily(dist.Categorical(logits=logits), component)
        return mixture.to_event(1)


class DiscretizedLogistic(TorchDistribution):
    r"""A logistic distribution rounded to the grid of ``bits``-bit samples in [-1, 1).

    With :math:`F` its distribution function, :math:`w` the distance of grid points, and
    :math:`a, b = (x \pm w/2 - \mu) / s` the edges of the bin around :math:`x`,

    .. math:: P(x) = F(a) - F(b) = F(a)\, F(-b)\, (1 - e^{-w/s}),

    The first bin reaches down to :math:`-\infty`, with :math:`P = F(a)`, and the last one up to
    :math:`\infty`, with :math:`P = F(-b)`. The difference loses all digits in float32 in the tails;
    the product does not.

    Args:
        loc: mu. Shape ``(...)``.
        log_scale: log s, clamped from 5 below the log of a bin's width, where one bin holds all
            mass, to 5, where the two end bins hold nearly all.
        bits: Bits of a sample.
    """

    arg_constraints = {"loc": constraints.real, "log_scale": constraints.real}

    def __init__(self, loc: Tensor, log_scale: Tensor, bits: int, validate_args=None):
        self.loc, self.log_scale = broadcast_all(loc, log_scale)
        self.bits, self.width = bits, 2.0 ** (1 - bits)
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        return Grid(self.width)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        inverse_scale = (-self.bounded_log_scale()).exp()
        distance = value - self.loc
        log_below = logsigmoid((distance + self.width / 2) * inverse_scale)
        log_above = logsigmoid((self.width / 2 - distance) * inverse_scale)
        log_within = log_below + log_above + (-torch.expm1(-self.width * inverse_scale)).log()
        log_mass = torch.where(value <= -1, log_below, log_within)
        return torch.where(value >= 1 - self.width, log_above, log_mass)

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        uniform = torch.rand(shape, dtype=self.loc.dtype, device=self.loc.device)
        uniform = uniform.clamp(min=torch.finfo(uniform.dtype).tiny)
        logistic = self.loc + self.bounded_log_scale().exp() * (uniform.log() - (-uniform).log1p())
        return ((logistic / self.width).round() * self.width).clamp(-1, 1 - self.width)

    def bounded_log_scale(self) -> Tensor:
        return self.log_scale.clamp(math.log(self.width) - 5, 5.0)

    def expand(self, batch_shape: Sequence[int], _instance=None) -> "DiscretizedLogistic":
        loc, log_scale = (v.expand(batch_shape) for v in (self.loc, self.log_scale))
        return DiscretizedLogistic(loc, log_scale, self.bits, validate_args=self._validate_args)


class Grid(constraints.Constraint):
    """Multiples of ``width`` in [-1, 1)."""

    is_discrete = True

    def __init__(self, width: float):
        self.width = width

    def check(self, value: Tensor) -> Tensor:
        return (value >= -1) & (value < 1) & (value % self.width == 0)

    def __repr__(self) -> str:
        return f"Grid({self.width})"
