"""Log-densities at one draw of the latents, which models hand to estimators."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..layers.blocks import is_full

Resample = Callable[[Tensor, Tensor], "Tensor | None"]
"""Choice of ancestors after a filter's step. It takes the log-weights of the step, ``(particles,
batch)``, and True for sequences that go on, ``(batch,)``. It returns the ancestor of each particle,
``(particles, batch)``, or None to leave all as they are."""


BY_STEP = "log_prior", "log_posterior", "log_emission", "auxiliary", "reverse"
"""Fields of :class:`Terms` with a number for each step."""


@dataclass
class CostWeights:
    """Weights of the costs on a backward state; a schedule may set them.

    Args:
        aux: alpha, weight of log p(b_t | z_t).
        reverse: beta, weight of log p(x_{t-1} | b_t).
    """

    aux: float = 0.0
    reverse: float = 0.0


class Terms(NamedTuple):
    """Log-densities in nats, each of shape ``(particles, batch, time)``, zero at padding.

    For programs in general the last dim of each term counts its sites.
    """

    log_prior: Tensor
    """log p(z_t | past)."""
    log_posterior: Tensor
    """log q(z_t | past, x)."""
    log_emission: Tensor
    """log p(x_t | z, past)."""
    kl_per_latent: Tensor | None
    """KL(q(z_t | past, x) || p(z_t | past)) by dimension, ``(particles, batch, time, z_dim)``; None
    where a pair of distributions has no closed form."""
    auxiliary: Tensor
    """log p(b_t | z_t), not weighted: part of a training objective, never of a bound."""
    reverse: Tensor
    """log p(x_{t-1} | b_t), not weighted: part of a training objective, never of a bound."""
    latents: Any
    """The draw: ``(particles, batch, time, z_dim)``, or a dict from site to tensor."""
    posterior_mean: Any = None
    """Mean of q(z_t | past, x), shaped like ``latents``; None where it has no closed form."""
    prior_mean: Any = None
    """Mean of p(z_t | past), shaped like ``latents``; None where it has no closed form."""
    weights: CostWeights = CostWeights(1.0, 1.0)
    """Weights of ``auxiliary`` and ``reverse`` in an objective. Factors of two programs
    are weighted already: their weights are 1."""
    scale: float | Tensor = 1.0
    """Scale of a sequence's log-densities in the programs, such as a plate's size over its
    subsample's: not yet applied."""
    state: Any = None
    """Start of the next chunk of each sequence, as the programs return it."""
    states: Tensor | None = None
    """Features that the emission reads at each step, with gradient, without meaning at padding:
    ``(particles, batch, time, dim)``; None of programs in general."""
    mask: Tensor | None = None
    """True where a step is no padding: broadcasts to the terms, such as ``(batch, time)``."""
    kl_drawn: bool = False
    """True if the KL of a latent is log q - log p at the draw, or of all sequences together."""
    score: dict[str, Tensor] = {}
    """log q of latents without a reparameterised draw, by site, ``(particles, batch)``."""
    twist: Tensor | None = None
    """log r_t of a twisted filter, ``(particles, batch, time)``; None without."""
    score_by_plates: Tensor | None = None
    """Scalar with the score functions of the ELBO where sequences share latents; of one draw."""

    @property
    def kl(self) -> Tensor:
        """The analytic KL of each step, ``(particles, batch, time)``."""
        if self.kl_per_latent is None:
            raise NotImplementedError(
                "A latent's KL has no closed form; use the sampled one (analytic_kl=False)"
            )
        return self.kl_per_latent.sum(-1)

    @property
    def kl_or_estimate(self) -> Tensor:
        """The analytic KL where there is one, else log q - log p at the draw."""
        return self.log_posterior - self.log_prior if self.kl_per_latent is None else self.kl

    @property
    def log_joint(self) -> Tensor:
        """log p(x, z) of each particle and sequence, ``(particles, batch)``."""
        return self.log_emission.sum(-1) + self.log_prior.sum(-1)

    @property
    def log_weight(self) -> Tensor:
        """log p(x, z) - log q(z | x) of each particle and sequence, ``(particles, batch)``."""
        return self.log_emission.sum(-1) + (self.log_prior - self.log_posterior).sum(-1)

    @property
    def costs(self) -> Tensor:
        """Weighted auxiliary and reverse costs of each step, ``(particles, batch, time)``."""
        return self.weights.aux * self.auxiliary + self.weights.reverse * self.reverse

    def summed(self) -> "Terms":
        """Totals over time: each term ``(particles, batch, 1)``, and no latents.

        Estimators take them as they take :class:`Terms`, in the memory of one number each.
        """
        kl = self.kl_per_latent
        fields: dict[str, Any] = {n: getattr(self, n).sum(-1, keepdim=True) for n in BY_STEP}
        fields |= dict.fromkeys(
            ("latents", "posterior_mean", "prior_mean", "state", "states", "mask")
        )
        kl = None if kl is None else kl.sum((-2, -1))[..., None, None]
        return self._replace(**fields, kl_per_latent=kl)

    def masked(self, mask: Tensor) -> "Terms":
        """Zero log-densities where ``mask``, of shape ``(batch, time)``, is False."""
        if is_full(mask):
            return self._replace(mask=mask)
        masked: dict[str, Any] = {n: torch.where(mask, getattr(self, n), 0.0) for n in BY_STEP}
        kl = self.kl_per_latent
        kl = None if kl is None else torch.where(mask[..., None], kl, 0.0)
        return self._replace(**masked, kl_per_latent=kl, mask=mask)


class Given(ABC):
    """A model and a guide with a batch: what an estimator draws from.

    A model of this package has :meth:`StochasticRNN.given`; any two Pyro programs are a
    :class:`ProgramPair`.
    """

    sequence_dim: int | None = 1
    """Dim of latents that is that of sequences; the first is that of particles."""

    @abstractmethod
    def terms(self, num_particles: int = 1, latents: Any = None) -> Terms:
        """The terms at as many draws of the guide, or at given ``latents``.

        The batch is the same one at every call.
        """

    @abstractmethod
    def filtered(self, num_particles: int, resample: Resample, twisted: bool = False) -> Terms:
        """The terms of a particle filter, each step as it was before ``resample`` chose there.

        After each step the particles go on from the ancestors that ``resample`` tells. If it is
        ``twisted``, by a twist that there is, weights have the factor r_t / r_{t-1}.
        """

    def foretold(self, num_particles: int) -> tuple[Tensor, Tensor]:
        """Log r_t of draws of the guide, and the log-weight of each of their steps.

        Both are ``(particles, batch, time)``; log r_t has a gradient by the twist, at least.
        """
        terms = self.filtered(num_particles, lambda *_: None, twisted=True)
        assert terms.twist is not None, "there is a twist"
        return terms.twist, terms.log_emission + terms.log_prior - terms.log_posterior

    @abstractmethod
    def dream(self) -> tuple["Given", Any]:
        """A batch of the same sizes that the model draws, and the latents that it drew."""

    @abstractmethod
    def twist_parameters(self) -> list[Tensor]:
        """The parameters of the twist, none without one."""

    @abstractmethod
    def foreseen(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Log r_t of sequences that the model draws, with their own future, and with another's.

        Two more tensors say where the two futures are some. All are ``(batch, time)``.
        """
