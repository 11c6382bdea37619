"""Sequential Monte Carlo: a filter that weighs particles at every step and may resample them."""

import math
from typing import Literal

import torch
from torch import Tensor

from ..data.checks import check_choice, check_range

Resampling = Literal["systematic", "multinomial"]


class ParticleFilter:
    r"""State of an adaptive particle filter; a ``Resample`` for :meth:`Given.filtered`.

    The evidence estimate of a sequence is a product over the stretches between its resamplings,
    :math:`\prod_s \frac{1}{K} \sum_k w_k^{(s)}`, with the weights accumulated within a stretch. It
    is unbiased for p(x). Each sequence resamples by itself: after a step, if more follow, when its
    effective sample size is at most ``threshold`` times K.

    Args:
        threshold: 0 never resamples; 1 resamples after every step but the last.
        resampling: How ancestors are drawn: systematically, of least noise, or independently.
    """

    def __init__(self, threshold: float = 0.5, resampling: Resampling = "systematic"):
        check_range(0, 1, threshold=threshold)
        check_choice(Resampling, resampling=resampling)
        self.threshold, self.draw = threshold, RESAMPLING[resampling]
        self.log_weight: Tensor | None = None
        self.log_finished: Tensor | float = 0.0
        self.num_resampled: Tensor | int = 0
        self.choices: list[tuple[Tensor, Tensor]] = []

    def __call__(self, log_weight: Tensor, goes_on: Tensor) -> Tensor | None:
        """Weighs the particles of a step, and returns their ancestors, ``(particles, batch)``.

        A particle of a sequence that does not resample is its own; None if no sequence resamples.
        ``goes_on`` is True where a sequence has a next step, ``(batch,)``.
        """
        if self.log_weight is not None:
            log_weight = self.log_weight + log_weight
        self.log_weight, num_particles = log_weight, len(log_weight)
        detached = log_weight.detach()
        ess = effective_sample_size(detached)
        resamples = goes_on & (ess <= self.threshold * num_particles)
        if not resamples.any():
            return None
        self.num_resampled = self.num_resampled + resamples.long()
        mean = log_mean_exp(log_weight)
        self.log_finished = self.log_finished + torch.where(resamples, mean, 0.0)
        self.log_weight = torch.where(resamples, 0.0, log_weight)
        itself = torch.arange(num_particles, device=ess.device)[:, None]
        ancestors = torch.where(resamples, self.draw(detached.softmax(0)), itself)
        if log_weight.requires_grad:
            score = log_weight.log_softmax(0).gather(0, ancestors).sum(0)
            self.choices.append((torch.where(resamples, score, 0.0), self.log_finished.detach()))
        return ancestors

    def log_evidence(self) -> Tensor:
        """Returns the log of the evidence estimate of each sequence, in nats, ``(batch,)``."""
        assert self.log_weight is not None, "no step was weighed"
        return self.log_finished + log_mean_exp(self.log_weight)

    def score(self) -> Tensor:
        """Returns scalars whose gradient is that of the choice of ancestors, ``(batch,)``.

        It is the score function of each independent choice times what the evidence estimate still
        gains after it, with the mean of other sequences as baseline.
        """
        evidence = self.log_evidence().detach()
        total, others = torch.zeros_like(evidence), max(1, len(evidence) - 1)
        for score, finished in self.choices:
            gain = evidence - finished
            total = total + score * (gain - (gain.sum() - gain) / others)
        return total


def log_mean_exp(log_weight: Tensor) -> Tensor:
    """Returns the log of the mean weight over particles, the first dim."""
    return log_weight.logsumexp(0) - math.log(len(log_weight))


def effective_sample_size(log_weight: Tensor) -> Tensor:
    r"""Returns the effective sample size :math:`1 / \sum_k \tilde w_k^2`, in 1..K.

    Args:
        log_weight: ``(particles, ...)``.

    Example:
        >>> effective_sample_size(torch.tensor([0.0, 0.0, -100.0, -100.0])).item()
        2.0
    """
    return (1 / log_weight.softmax(0).square().sum(0)).clamp(max=len(log_weight))


def systematic(weight: Tensor) -> Tensor:
    """Draws ancestors at equal distances: each particle has K w offspring, up to less than one.

    Weights are normalised over particles; weights and ancestors are ``(particles, batch)``.
    """
    num_particles, num_sequences = weight.shape
    start = torch.rand(num_sequences, 1, dtype=weight.dtype, device=weight.device)
    steps = torch.arange(num_particles, dtype=weight.dtype, device=weight.device)
    edges = weight.cumsum(0).T.contiguous()
    # Rounding must not reach the last edge: the last particle may have weight 0.
    places = ((start + steps) / num_particles).clamp(max=1 - torch.finfo(weight.dtype).eps)
    return torch.searchsorted(edges / edges[:, -1:], places, right=True).T


def multinomial(weight: Tensor) -> Tensor:
    """Draws ancestors independently; arguments and result as of :func:`systematic`."""
    return torch.multinomial(weight.T, len(weight), replacement=True).T


RESAMPLING = {"systematic": systematic, "multinomial": multinomial}
