"""The evidence lower bound: with a weight or a floor on its KL, and with another gradient."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from .base import SequenceELBO, along_paths, leaves
from .terms import Given, Terms

FreeBitsPer = Literal["step", "latent"]


class TraceELBO(SequenceELBO):
    r"""The evidence lower bound, with a weight on the latents for annealing.

    .. math:: \mathbb{E}_q \sum_t \log p(x_t \mid \cdot)
        - w \sum_t \mathrm{KL}(q(z_t \mid \cdot) \,\|\, p(z_t \mid \cdot))

    With :math:`w < 1` it is an objective, and no bound (Bowman et al., 2016). So it is with free
    bits :math:`\lambda`, below which a KL costs nothing more (Kingma et al., 2016): the KL of step
    t, or of each dimension of :math:`z_t`, is then :math:`\max(\lambda, \overline{\mathrm{KL}})`.
    The mean is over draws and over the sequences of the batch that have a step t.

    A latent has a closed-form KL if the distributions have one and the guide has drawn before it
    all that the model draws before it. The KL of other latents is log q - log p at the draw.

    Args:
        num_particles: Number of draws that the expectation is a mean of.
        analytic_kl: Uses closed forms of the KL given the sampled past, of lower variance.
        kl_weight: w; a schedule may set it.
        free_bits: lambda in nats; 0 is none.
        free_bits_per: Floors the KL of each step, or of each dimension of a step's latents.
        options: As for :class:`SequenceELBO`.
    """

    per_sequence = False
    evaluate_options = ("analytic_kl",)
    training_options = {"kl_weight": 1.0, "free_bits": 0.0}

    def __init__(
        self,
        num_particles: int = 1,
        analytic_kl: bool = True,
        kl_weight: float = 1.0,
        free_bits: float = 0.0,
        free_bits_per: FreeBitsPer = "step",
        **options,
    ):
        super().__init__(num_particles, **options)
        check_weight(kl_weight=kl_weight, free_bits=free_bits)
        if free_bits and not analytic_kl:
            raise ValueError(f"'free_bits' must be 0 with a drawn KL, {DRAWN}, got {free_bits}")
        if free_bits_per not in get_args(FreeBitsPer):
            raise ValueError(f"'free_bits_per' must be 'step' or 'latent', got '{free_bits_per}'")
        self.analytic_kl, self.kl_weight = analytic_kl, kl_weight
        self.free_bits, self.free_bits_per = free_bits, free_bits_per

    @property
    def linear_in_time(self) -> bool:
        return not self.free_bits

    @property
    def description(self) -> str:
        return f"{'analytic' if self.analytic_kl else 'sampled'} KL"

    def bound(self, terms: Terms) -> Tensor:
        kl = terms.kl if self.analytic_kl else terms.log_posterior - terms.log_prior
        if self.free_bits:
            if terms.kl_drawn or terms.kl_per_latent is None:
                raise ValueError(
                    "'free_bits' must be 0 where the KL of a latent has no closed form, "
                    f"{DRAWN}, or sequences share latents, got {self.free_bits}"
                )
            by_latent = self.free_bits_per == "latent"
            kl = floored(terms.kl_per_latent if by_latent else kl[..., None], self.free_bits, terms)
        return (terms.log_emission.sum(-1) - self.kl_weight * kl.sum(-1)).mean(0)

    def score_function(self, terms: Terms, value: Tensor) -> Tensor:
        by_plates, is_bound = terms.score_by_plates, not self.analytic_kl and self.kl_weight == 1
        if by_plates is not None and is_bound and self.num_particles == 1:
            return by_plates[None]
        surrogate = super().score_function(terms, value)
        if not self.analytic_kl:  # log q within the ELBO has a gradient of mean zero
            score = sum(terms.score.values(), torch.zeros(()))
            surrogate = surrogate + self.kl_weight * score.mean(0)
        return surrogate


DRAWN = "single draws of which fall below any floor"


def check_weight(**weights: float) -> None:
    """Raises ValueError for a weight that is negative, infinite or NaN, by its name."""
    for name, weight in weights.items():
        if not 0 <= weight < math.inf:
            raise ValueError(f"'{name}' must be 0 or more and finite, got {weight}")


def floored(kl: Tensor, floor: float, terms: Terms) -> Tensor:
    """Returns a KL with the floor in place of batch means below it, ``(particles, batch, time)``.

    Each sequence has an equal part in a floor; ``kl`` is ``(particles, batch, time, dim)``.
    """
    mask = terms.mask if terms.mask is not None else torch.ones((), dtype=torch.bool).to(kl.device)
    mask = mask.expand(kl.shape[:-1])[..., None]
    mean = kl.sum((0, 1)) / mask.sum((0, 1)).clamp(min=1)
    return torch.where(mask & (mean < floor), floor, kl).sum(-1)


class TraceSTL(SequenceELBO):
    r"""The ELBO with the gradient of Roeder et al. (2017), https://arxiv.org/abs/1703.09194.

    The score of the guide at its own draw is zero on average, and left out:

    .. math:: \frac{\partial \log p(x, z)}{\partial \theta}
        + \frac{\partial}{\partial z} \log \frac{p(x, z)}{q(z \mid x)} \frac{d z}{d \phi}

    At the exact posterior the second part vanishes, draw by draw. Model and guide may share
    parameters: each has its part for each role that it plays.

    Args:
        num_particles: Number of draws that the expectation is a mean of.
        kl_weight: Weight of log q - log p(z); a schedule may set it.
        options: As for :class:`SequenceELBO`.
    """

    per_sequence = takes_scores = False
    training_options = {"kl_weight": 1.0}

    def __init__(self, num_particles: int = 1, kl_weight: float = 1.0, **options):
        super().__init__(num_particles, **options)
        check_weight(kl_weight=kl_weight)
        self.kl_weight = kl_weight

    def bound(self, terms: Terms) -> Tensor:
        log_ratio = terms.log_prior - terms.log_posterior
        return (terms.log_emission.sum(-1) + self.kl_weight * log_ratio.sum(-1)).mean(0)

    def surrogate(self, given: Given, terms: Terms) -> Tensor:
        fixed = leaves(terms.latents)
        scored = given.terms(self.num_particles, fixed)
        log_joint = scored.log_emission.sum(-1) + self.kl_weight * scored.log_prior.sum(-1)
        log_weight = log_joint - self.kl_weight * scored.log_posterior.sum(-1)
        paths = along_paths(log_weight / len(log_weight), fixed, terms.latents, given.sequence_dim)
        return log_joint.mean(0) + paths
