"""The evidence lower bound: with a weight or a floor on its KL, and with another gradient."""

from __future__ import annotations

from typing import Literal

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
    t, or of each dimension of :math:`z_t`, is then :math:`\max(\lambda, \overline{\mathrm{KL}})`,
    where the mean is over the draws and over the sequences of the batch that have a step t.

    Args:
        num_particles: Number of draws that the expectation is a mean of.
        analytic_kl: Whether the KL of each step, given the sampled past, is its closed form, of
            lower variance, or log q - log p at the draw. It is an error where there is no closed
            form, as with the guides of ``pyro.infer.autoguide``.
        kl_weight: w; a schedule may set it.
        free_bits: lambda in nats; 0 is none.
        free_bits_per: Whether each step has them, or each dimension of the latents of a step.
        max_plate_nesting: Of two programs, see :class:`ProgramPair`.

    Raises:
        ValueError: If ``num_particles`` is not positive, or there are free bits of a sampled KL.
        NotImplementedError: At a batch, if ``analytic_kl`` and a latent's KL has no closed form.
    """

    def __init__(
        self,
        num_particles: int = 1,
        analytic_kl: bool = True,
        kl_weight: float = 1.0,
        free_bits: float = 0.0,
        free_bits_per: FreeBitsPer = "step",
        max_plate_nesting: int = 1,
    ):
        super().__init__(num_particles, max_plate_nesting)
        if free_bits < 0:
            raise ValueError(f"'free_bits' must not be negative, got {free_bits}")
        if free_bits and not analytic_kl:
            raise ValueError(
                "'free_bits' must be 0 with a sampled KL: single draws of it fall below any floor, "
                f"whatever the KL is, got {free_bits}"
            )
        if free_bits_per not in ("step", "latent"):
            raise ValueError(f"'free_bits_per' must be 'step' or 'latent', got '{free_bits_per}'")
        self.analytic_kl, self.kl_weight = analytic_kl, kl_weight
        self.free_bits, self.free_bits_per = free_bits, free_bits_per

    @property
    def description(self) -> str:
        return f"{'analytic' if self.analytic_kl else 'sampled'} KL"

    def unweighted(self) -> TraceELBO:
        options = {"max_plate_nesting": self.max_plate_nesting}
        return TraceELBO(self.num_particles, self.analytic_kl, **options)

    def bound(self, terms: Terms) -> Tensor:
        kl = terms.kl if self.analytic_kl else terms.log_posterior - terms.log_prior
        if self.free_bits:
            by_latent = self.free_bits_per == "latent"
            kl = floored(terms.kl_per_latent if by_latent else kl[..., None], self.free_bits, terms)
        return (terms.log_emission.sum(-1) - self.kl_weight * kl.sum(-1)).mean(0)


def floored(kl: Tensor, floor: float, terms: Terms) -> Tensor:
    """A KL ``(particles, batch, time, dim)`` whose batch mean, where it is less, is the floor.

    Each sequence has an equal part in a floor. Shape ``(particles, batch, time)``.
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
        max_plate_nesting: Of two programs, see :class:`ProgramPair`.
    """

    def __init__(self, num_particles: int = 1, kl_weight: float = 1.0, max_plate_nesting: int = 1):
        super().__init__(num_particles, max_plate_nesting)
        self.kl_weight = kl_weight

    def unweighted(self) -> TraceSTL:
        return TraceSTL(self.num_particles, max_plate_nesting=self.max_plate_nesting)

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
