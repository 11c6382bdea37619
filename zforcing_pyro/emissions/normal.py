"""Diagonal Gaussians given by their log-scale, and vectors with missing values."""

import math
from collections.abc import Sequence

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution, constraints, register_kl
from torch.distributions.utils import broadcast_all, lazy_property

from ..layers.products import by_formula, is_plain

HALF_LOG_2PI = math.log(2 * math.pi) / 2


class LogScaleNormal(dist.Normal):
    """A Gaussian given by its log-scale, whose density takes no logarithm of an exponential."""

    arg_constraints = {"loc": constraints.real, "log_scale": constraints.real}

    def __init__(self, loc: Tensor, log_scale: Tensor, validate_args: bool | None = None):
        self.loc, self.log_scale = broadcast_all(loc, log_scale)
        Distribution.__init__(self, self.loc.shape, validate_args=validate_args)

    @lazy_property  # densities do not need the scale
    def scale(self) -> Tensor:
        return self.log_scale.exp()

    def expand(self, batch_shape: Sequence[int], _instance=None) -> "LogScaleNormal":
        loc, log_scale = (v.expand(batch_shape) for v in (self.loc, self.log_scale))
        return LogScaleNormal(loc, log_scale, validate_args=self._validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        u = (value - self.loc) * (-self.log_scale).exp()
        return -0.5 * u.square() - self.log_scale - HALF_LOG_2PI


class DiagonalNormal(dist.Independent):
    """A vector of independent :class:`LogScaleNormal` variables, ``(..., x_dim)``."""

    def __init__(self, loc: Tensor, log_scale: Tensor, validate_args: bool | None = None):
        base = LogScaleNormal(loc, log_scale, validate_args=validate_args)
        super().__init__(base, 1, validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance=None) -> "DiagonalNormal":
        base = self.base_dist
        loc, log_scale = (v.expand(*batch_shape, -1) for v in (base.loc, base.log_scale))
        return DiagonalNormal(loc, log_scale, validate_args=self._validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        loc, log_scale = self.base_dist.loc, self.base_dist.log_scale
        if not is_plain(value, loc, log_scale):
            return self.base_dist.log_prob(value).sum(-1)
        return LogDensity.apply(value, loc, log_scale)


class PartlyObserved(dist.Independent):
    """A vector of independent variables. NaN is a missing value, which is integrated out."""

    def __init__(self, base: Distribution, validate_args: bool | None = None):
        super().__init__(base, 1, validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance=None) -> "PartlyObserved":
        base = self.base_dist.expand((*batch_shape, *self.event_shape))
        return PartlyObserved(base, validate_args=self._validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        unseen = value.isnan()
        return self.base_dist.log_prob(value.nan_to_num()).masked_fill(unseen, 0.0).sum(-1)


class LogDensity(torch.autograd.Function):
    """log N(x; loc, exp(log_scale)^2), summed over the last dim, in few passes over memory."""

    @staticmethod
    def forward(ctx, x: Tensor, loc: Tensor, log_scale: Tensor) -> Tensor:
        precision = log_scale.neg().exp_()  # the root of the inverse variance
        u = (x - loc).mul_(precision)
        ctx.save_for_backward(x, loc, log_scale, u, precision)
        squares = u.square().sum(-1)  # vecdot would lower precision under autocast
        return squares.mul_(-0.5).sub_(log_scale.sum(-1)).sub_(u.shape[-1] * HALF_LOG_2PI)

    @staticmethod
    def backward(ctx, d_log_prob: Tensor):
        x, loc, log_scale, u, precision = ctx.saved_tensors
        d = d_log_prob[..., None]
        if by_formula(d_log_prob):
            precision = (-log_scale).exp()
            u = (x - loc) * precision
            d_loc, d_log_scale = d * u * precision, d * u * u - d
        else:
            d_loc, d_log_scale = torch.empty_like(u), torch.empty_like(u)
            weighted = d * u
            torch.mul(weighted, precision, out=d_loc)
            torch.addcmul(-d, weighted, u, out=d_log_scale)
        gradients = -d_loc if ctx.needs_input_grad[0] else None, d_loc, d_log_scale
        return tuple(
            None if g is None else g.sum_to_size(v.shape)
            for g, v in zip(gradients, (x, loc, log_scale))
        )


def floored(log_scale: Tensor, min_scale: float) -> Tensor:
    """Returns log(exp(log_scale) + min_scale)."""
    return (log_scale.exp() + min_scale).log() if min_scale else log_scale


@register_kl(LogScaleNormal, LogScaleNormal)
def kl_normal_normal(q: LogScaleNormal, p: LogScaleNormal) -> Tensor:
    """Returns KL(q || p) of each dimension, in nats."""
    shift = (q.loc - p.loc) * (-p.log_scale).exp()
    log_ratio = q.log_scale - p.log_scale
    return ((2 * log_ratio).expm1() + shift.square()) * 0.5 - log_ratio
