"""Filtering variational objectives (Maddison et al., 2017): https://arxiv.org/abs/1705.09279."""

from __future__ import annotations

from torch import Tensor

from .base import Objective, SequenceELBO, costs
from .particle_filter import ParticleFilter, Resampling
from .terms import Given, Terms


class TraceFIVO(SequenceELBO):
    r"""The log of a particle filter's evidence estimate, Maddison et al. (2017).

    .. math:: \mathbb{E} \Big[\sum_s \log \frac{1}{K} \sum_k w_k^{(s)}\Big] \le \log p(x)

    where s counts the stretches between resamplings, see :class:`ParticleFilter`. Its gap grows
    with the length of a sequence as the steps' own gaps do; that of the IWAE, whose particles are
    never resampled, grows much faster. It rewards a guide that filters, q(z_t | z_{<t}, x_{1:t}):
    the weight of a guide that foresees the future is early lost to resampling.

    The gradient is pathwise through the weights. What the choice of ancestors contributes to it is
    left out, as by its authors: it is of far greater variance, and without it the gradient is
    slightly biased. Where nothing resamples it is that of the IWAE.

    A model of this package is filtered step by step; two programs run once more for each step at
    which a sequence resamples, with one latent and one observation a step.

    Args:
        num_particles: Number K of particles.
        threshold: A sequence resamples when its effective sample size is at most this share of K.
        resampling: How ancestors are drawn.
        max_plate_nesting: Of two programs, see :class:`ProgramPair`.

    Raises:
        ValueError: If an option is out of its range.
    """

    chunked = False

    def __init__(
        self,
        num_particles: int = 4,
        threshold: float = 0.5,
        resampling: Resampling = "systematic",
        max_plate_nesting: int = 1,
    ):
        super().__init__(num_particles, max_plate_nesting)
        self.threshold, self.resampling = threshold, resampling
        ParticleFilter(threshold, resampling)  # the options are checked now, not at a first batch

    @property
    def description(self) -> str:
        return f"threshold {self.threshold:g}, {self.resampling} resampling"

    def bound(self, terms: Terms) -> Tensor:
        raise NotImplementedError(
            "FIVO is no function of a draw's terms, since particles are resampled on the way: use "
            "'objective'"
        )

    def objective(self, given: Given) -> Objective:
        particles = ParticleFilter(self.threshold, self.resampling)
        terms = given.filtered(self.num_particles, particles)
        bound = particles.log_evidence()
        return Objective(bound + costs(terms), bound, terms)
