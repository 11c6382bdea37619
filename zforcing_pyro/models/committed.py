r"""A prior and a posterior that cannot be equal: the committed rate of the delta-VAE.

Razavi et al. (2019, https://arxiv.org/abs/1901.03416) take a family of posteriors that excludes a
fixed prior. Here the prior is learned at each step. Latents have no unit of their own, so the
prior's scale may be at least 1, and the posterior's at most some r < 1: then no means make the KL
smaller than :math:`-\log r + (r^2 - 1) / 2` nats.
"""

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ..emissions import DiagNormal
from ..emissions.normal import DiagonalNormal


class BoundedNormal(DiagNormal):
    """A :class:`DiagNormal` with smooth bounds on its log-scale; no fused loop knows it.

    Args:
        least, most: The bounds; one of them is infinite.
        options: As for :class:`DiagNormal`.
    """

    def __init__(self, *sizes: Any, least: float = -math.inf, most: float = math.inf, **options):
        super().__init__(*sizes, **options)
        self.least, self.most = least, most

    def distribution(self, output: Tensor) -> DiagonalNormal:
        base = super().distribution(output).base_dist
        log_scale = base.log_scale
        if self.least > -math.inf:
            log_scale = self.least + F.softplus(log_scale - self.least)
        if self.most < math.inf:
            log_scale = self.most - F.softplus(self.most - log_scale)
        return DiagonalNormal(base.loc, log_scale)


def largest_log_scale(rate: float) -> float:
    """Returns log r of the KL at equal means: the root of rate = -log r + (r^2 - 1) / 2.

    Example:
        >>> log_scale = largest_log_scale(0.5)
        >>> round(-log_scale + math.expm1(2 * log_scale) / 2, 6)
        0.5
    """
    from scipy.special import lambertw

    return math.log(-lambertw(-math.exp(-1 - 2 * rate)).real) / 2
