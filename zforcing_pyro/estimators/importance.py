"""Importance-weighted bounds, per sequence, and gradients of them."""

import math

import torch
from torch import Tensor

from ..data.checks import check_range
from .base import SequenceELBO, along_paths, leaves
from .terms import Given, Terms


class TraceIWAE(SequenceELBO):
    r"""The importance-weighted bound of Burda et al. (2016), https://arxiv.org/abs/1509.00519.

    .. math:: \mathcal{L}_K = \mathbb{E}_{z_1, \dots, z_K \sim q}
        \Big[\log \frac{1}{K} \sum_k w_k\Big] \le \log p(x), \qquad
        w_k = \frac{p(x, z_k)}{q(z_k \mid x)}

    Each sequence has a bound. A plate's scale multiplies the bound, and never a weight.
    """

    def bound(self, terms: Terms) -> Tensor:
        return self.log_weight(terms).logsumexp(0) - math.log(self.num_particles)


class TraceDReG(TraceIWAE):
    r"""The IWAE with the gradient of Tucker et al. (2019), https://arxiv.org/abs/1810.04152.

    With normalised weights :math:`\tilde w_k`, which are constants,

    .. math:: \sum_k \tilde w_k \frac{\partial \log p(x, z_k)}{\partial \theta}
        + \sum_k \tilde w_k^2 \frac{\partial \log w_k}{\partial z_k} \frac{d z_k}{d \phi}

    It has the IWAE's expectation, and a signal-to-noise ratio that rises with K where the IWAE's
    falls. Model and guide may share parameters: each has its part for each role that it plays,
    :math:`\theta` in a density of the model, :math:`\phi` in a draw of the guide.
    """

    takes_scores = False

    def surrogate(self, given: Given, terms: Terms) -> Tensor:
        weight = terms.log_weight.detach().softmax(0)
        fixed = leaves(terms.latents)
        scored = given.terms(self.num_particles, fixed)
        squared = weight.square() * scored.log_weight
        paths = along_paths(squared, fixed, terms.latents, given.sequence_dim)
        return (weight * scored.log_joint).sum(0) + paths


class TraceRenyi(SequenceELBO):
    r"""The variational Renyi bound of Li & Turner (2016), https://arxiv.org/abs/1602.02311.

    .. math:: \frac{1}{1 - \alpha} \log \frac{1}{K} \sum_k w_k^{1 - \alpha}

    It falls as :math:`\alpha` rises: 0 is the IWAE, and 1, as a limit, the ELBO.

    Args:
        num_particles: Number K of draws of the latents.
        alpha: alpha, not negative.
        options: As for :class:`SequenceELBO`.
    """

    evaluate_options = ("alpha",)

    def __init__(self, num_particles: int = 2, alpha: float = 0.5, **options):
        super().__init__(num_particles, **options)
        if not 0 <= alpha < math.inf:
            raise ValueError(
                "'alpha' must be 0 or more and finite: below 0 it is no lower bound on log p(x), "
                f"got {alpha}"
            )
        self.alpha = alpha

    @property
    def description(self) -> str:
        return f"alpha {self.alpha:g}"

    def bound(self, terms: Terms) -> Tensor:
        log_weight, power = self.log_weight(terms), 1 - self.alpha
        elbo = log_weight.mean(0)
        if power == 0:
            return elbo
        # From the mean on, since (1 - alpha) log w alone loses all digits near alpha = 1.
        away = power * (log_weight - elbo)
        near = away.detach().abs().amax(0) < 1
        small = torch.where(near, away, 0.0).expm1().mean(0).log1p()
        large = away.logsumexp(0) - math.log(len(away))
        return elbo + torch.where(near, small, large) / power


class TraceRWS(TraceIWAE):
    r"""Reweighted wake-sleep (Bornschein & Bengio, 2015): https://arxiv.org/abs/1406.2751.

    The model ascends the IWAE bound. The guide descends the divergence *from* the posterior, which
    needs no gradient of a draw, so latents may be discrete. With one set of normalised weights,

    .. math:: \sum_k \tilde w_k \frac{\partial \log p(x, z_k)}{\partial \theta}
        + (1 - s) \sum_k \tilde w_k \frac{\partial \log q(z_k \mid x)}{\partial \phi}
        + s\, \frac{\partial \log q(z' \mid x')}{\partial \phi}, \qquad x', z' \sim p

    Costs on a backward state train the networks behind them, and no draw.

    Args:
        num_particles: Number K of draws of the latents.
        sleep_phi: s, the share of dreams in what the guide learns from. Two programs must then
            take ``observations``, see :class:`ProgramPair`.
        options: As for :class:`SequenceELBO`.
    """

    draws_are_data = True

    def __init__(self, num_particles: int = 2, sleep_phi: float = 0.0, **options):
        super().__init__(num_particles, **options)
        check_range(0, 1, sleep_phi=sleep_phi)
        self.sleep_phi = sleep_phi

    def surrogate(self, given: Given, terms: Terms) -> Tensor:
        weight = terms.log_weight.detach().softmax(0)
        log_guide = terms.log_posterior.sum(-1) * weight
        surrogate = (weight * terms.log_joint + (1 - self.sleep_phi) * log_guide).sum(0)
        if self.sleep_phi:
            dreamt, latents = given.dream()
            log_guide = dreamt.terms(1, latents).log_posterior.sum((0, -1))
            surrogate = surrogate + self.sleep_phi * log_guide
        return surrogate
