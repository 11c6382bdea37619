"""Variational objectives as Pyro ELBOs: one class a bound."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from pyro.infer import Trace_ELBO
from pyro.util import warn_if_nan
from torch import Tensor

from .terms import Terms, trace_terms

Draw = Callable[..., Terms]


class Objective(NamedTuple):
    """What a training step maximises."""

    value: Tensor
    """Bound plus costs of each sequence, in nats, ``(batch,)``; differentiable."""
    bound: Tensor
    """The bound alone, ``(batch,)``."""
    terms: Terms
    """The terms at the draw."""


class SequenceELBO(Trace_ELBO):
    """A Pyro ELBO that is a function of :class:`Terms`. Subclasses write :meth:`bound` only.

    Pyro calls :meth:`loss_and_grads` with two programs; training calls :meth:`objective` with a
    model's own terms. Auxiliary and reverse costs are added here, outside any bound, and the scale
    of a subsampled plate is applied here, outside any logarithm.

    Args:
        num_particles: Number :math:`K` of draws of the latents, vectorised.

    Raises:
        ValueError: If ``num_particles`` is not positive.
    """

    def __init__(self, num_particles: int = 1):
        if num_particles < 1:
            raise ValueError(f"'num_particles' must be positive, got {num_particles}")
        super().__init__(num_particles=num_particles, max_plate_nesting=1)

    def bound(self, terms: Terms) -> Tensor:
        """Lower bound on log p(x) of each sequence, in nats. Shape ``(batch,)``."""
        raise NotImplementedError

    def unweighted(self) -> SequenceELBO:
        """The estimator whose :meth:`bound` is a bound, for validation: without annealing."""
        return self

    def objective(self, draw: Draw) -> Objective:
        """The objective of each sequence.

        Args:
            draw: Function of ``num_particles`` to the terms of that many draws, such as
                ``partial(net.terms, x, lengths)``.
        """
        terms = draw(num_particles=self.num_particles)
        bound = self.bound(terms)
        return Objective(bound + costs(terms), bound, terms)

    def differentiable_loss(self, model, guide, *args, **kwargs) -> Tensor:
        """Minus the objective, summed over sequences, in nats."""
        value, _, terms = self.objective(partial(trace_terms, model, guide, *args, **kwargs))
        loss = -(terms.scale * value).sum()
        warn_if_nan(loss, "loss")
        return loss

    def loss(self, model, guide, *args, **kwargs) -> float:
        with torch.no_grad():
            return self.differentiable_loss(model, guide, *args, **kwargs).item()

    def loss_and_grads(self, model, guide, *args, **kwargs) -> float:
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        if loss.requires_grad:
            loss.backward()
        return loss.item()


def costs(terms: Terms) -> Tensor:
    """Auxiliary and reverse costs of each sequence, mean over particles. Shape ``(batch,)``."""
    return (terms.auxiliary.sum(-1) + terms.reverse.sum(-1)).mean(0)


class TraceELBO(SequenceELBO):
    r"""The evidence lower bound, with a weight on the latents for annealing.

    .. math:: \mathbb{E}_q \sum_t \log p(x_t \mid \cdot)
        - w \sum_t \mathrm{KL}(q(z_t \mid \cdot) \,\|\, p(z_t \mid \cdot))

    With :math:`w < 1` it is an objective, and no bound (Bowman et al., 2016).

    Args:
        num_particles: Number of draws that the expectation is a mean of.
        analytic_kl: Whether the KL of each step, given the sampled past, is its closed form, of
            lower variance, or :math:`\log q - \log p` at the draw.
        kl_weight: :math:`w`; a schedule may set it.
    """

    def __init__(self, num_particles: int = 1, analytic_kl: bool = True, kl_weight: float = 1.0):
        super().__init__(num_particles)
        self.analytic_kl, self.kl_weight = analytic_kl, kl_weight

    def unweighted(self) -> TraceELBO:
        return TraceELBO(self.num_particles, self.analytic_kl)

    def bound(self, terms: Terms) -> Tensor:
        kl = terms.kl if self.analytic_kl else terms.log_posterior - terms.log_prior
        return (terms.log_emission.sum(-1) - self.kl_weight * kl.sum(-1)).mean(0)


class TraceIWAE(SequenceELBO):
    r"""The importance-weighted bound of Burda et al. (2016), https://arxiv.org/abs/1509.00519.

    .. math:: \mathcal{L}_K = \mathbb{E}_{z_1, \dots, z_K \sim q}
        \Big[\log \frac{1}{K} \sum_k \frac{p(x, z_k)}{q(z_k \mid x)}\Big] \le \log p(x)

    It is per sequence, also under subsampling: a plate's scale multiplies the bound, and never
    a weight.
    """

    def bound(self, terms: Terms) -> Tensor:
        log_weight = terms.log_weight
        return log_weight.logsumexp(0) - math.log(len(log_weight))


ESTIMATORS = {"elbo": TraceELBO, "iwae": TraceIWAE}
