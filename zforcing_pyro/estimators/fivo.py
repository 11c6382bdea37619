"""Filtering variational objectives (Maddison et al., 2017): https://arxiv.org/abs/1705.09279."""

from torch import Tensor

from .base import Objective, SequenceELBO, costs
from .particle_filter import ParticleFilter, Resampling
from .terms import Given, Terms


class TraceFIVO(SequenceELBO):
    r"""The log of a particle filter's evidence estimate, Maddison et al. (2017).

    .. math:: \mathbb{E} \Big[\sum_s \log \frac{1}{K} \sum_k w_k^{(s)}\Big] \le \log p(x)

    where s counts the stretches between resamplings, see :class:`ParticleFilter`. The gap of FIVO
    grows with the length of a sequence much slower than the gap of the IWAE, which never
    resamples. FIVO suits a guide that filters, q(z_t | z_{<t}, x_{1:t}): resampling discards early
    what a guide that foresees the future has put into its weights.

    The gradient is pathwise through the weights. The contribution of the choice of ancestors is
    left out, as by the authors: it has far greater variance, and without it the gradient is
    slightly biased. Where nothing resamples, bound and gradient are those of the IWAE.

    A model of this package is filtered step by step, and so are two :class:`Steps`. Other programs
    must have one latent and one observation a step. They run once more for each step at which a
    sequence resamples, a cost that grows with the square of the length.

    Args:
        num_particles: Number K of particles.
        threshold: A sequence resamples when its effective sample size is at most this share of K.
        resampling: How ancestors are drawn.
        options: As for :class:`SequenceELBO`.
    """

    linear_in_time = chunked = takes_scores = False
    evaluate_options = ("threshold", "resampling")

    def __init__(
        self,
        num_particles: int = 4,
        threshold: float = 0.5,
        resampling: Resampling = "systematic",
        **options,
    ):
        super().__init__(num_particles, **options)
        self.threshold, self.resampling = threshold, resampling
        ParticleFilter(threshold, resampling)  # checks the options now, not at a first batch

    @property
    def description(self) -> str:
        return f"threshold {self.threshold:g}, {self.resampling} resampling"

    def bound(self, terms: Terms) -> Tensor:
        raise NotImplementedError(
            "FIVO is not a function of the terms of one draw: use 'objective', which resamples"
        )

    def objective(self, given: Given) -> Objective:
        particles = ParticleFilter(self.threshold, self.resampling)
        terms = given.filtered(self.num_particles, particles)
        self.check_draws(terms)
        bound = particles.log_evidence()
        return Objective(bound + costs(terms), bound, terms)
