"""What all variational objectives have in common."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from pyro.infer import Trace_ELBO
from pyro.util import warn_if_nan
from torch import Tensor

from .programs import ProgramPair
from .terms import Given, Terms


class Objective(NamedTuple):
    """What a training step maximises."""

    value: Tensor
    """Bound plus costs of each sequence, in nats, ``(batch,)``; its gradient is the estimator's."""
    bound: Tensor
    """The bound alone, ``(batch,)``."""
    terms: Terms
    """The terms at the draw."""


class SequenceELBO(Trace_ELBO):
    """A Pyro ELBO that is a function of :class:`Terms`. Subclasses write :meth:`bound`.

    Pyro calls :meth:`loss_and_grads` with two programs; training calls :meth:`objective` with a
    model and a batch. Auxiliary and reverse costs are added here, outside any bound, and the scale
    of a subsampled plate is applied here, outside any logarithm. Estimators whose gradient is not
    that of their bound write :meth:`surrogate` too.

    Args:
        num_particles: Number K of draws of the latents, vectorised.
        max_plate_nesting: Of two programs, see :class:`ProgramPair`.

    Raises:
        ValueError: If ``num_particles`` is not positive.
    """

    chunked = True
    """Whether the bound of many particles can be taken from terms of some of them at a time."""

    def __init__(self, num_particles: int = 1, max_plate_nesting: int = 1):
        if num_particles < 1:
            raise ValueError(f"'num_particles' must be positive, got {num_particles}")
        super().__init__(num_particles=num_particles, max_plate_nesting=max_plate_nesting)

    description = ""
    """Options of the bound beside the number of particles, for the protocol of a number."""

    def bound(self, terms: Terms) -> Tensor:
        """Lower bound on log p(x) of each sequence, in nats. Shape ``(batch,)``."""
        raise NotImplementedError

    def log_weight(self, terms: Terms) -> Tensor:
        """Of as many particles as the estimator has, ``(particles, batch)``.

        Raises:
            ValueError: If ``terms`` have another number of them, which would be another bound.
        """
        log_weight = terms.log_weight
        if len(log_weight) != self.num_particles:
            raise ValueError(
                f"'terms' must have num_particles {self.num_particles} as the estimator, got "
                f"{len(log_weight)}"
            )
        return log_weight

    def unweighted(self) -> SequenceELBO:
        """The estimator whose :meth:`bound` is a bound, for validation: without annealing."""
        return self

    def objective(self, given: Given) -> Objective:
        """The objective of each sequence.

        Args:
            given: Model and guide with a batch, such as ``net.given(x, lengths)``.
        """
        terms = given.terms(self.num_particles)
        bound = self.bound(terms)
        value = bound
        if torch.is_grad_enabled():
            surrogate = self.surrogate(given, terms)
            if surrogate is not None:
                value = bound.detach() + surrogate - surrogate.detach()
        return Objective(value + costs(terms), bound, terms)

    def surrogate(self, given: Given, terms: Terms) -> Tensor | None:
        """What has the estimator's gradient, ``(batch,)``; None where the bound has."""
        return None

    def differentiable_loss(self, model, guide, *args, **kwargs) -> Tensor:
        """Minus the objective, summed over sequences, in nats."""
        nesting = self.max_plate_nesting
        given = ProgramPair(model, guide, *args, max_plate_nesting=nesting, **kwargs)
        value, _, terms = self.objective(given)
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
    """Returns the weighted costs of each sequence, mean over particles, in nats: ``(batch,)``."""
    # Summed over time first: programs may have several auxiliary factors a step and one reverse.
    auxiliary, reverse = terms.auxiliary.sum(-1), terms.reverse.sum(-1)
    return (terms.weights.aux * auxiliary + terms.weights.reverse * reverse).mean(0)


def leaves(latents: Any) -> Any:
    """The same values as variables that nothing led to: a tensor, or a dict of tensors."""
    if isinstance(latents, dict):
        return {name: leaves(z) for name, z in latents.items()}
    return latents.detach().requires_grad_()


def along_paths(log_weight: Tensor, fixed: Any, drawn: Any, sequence_dim: int) -> Tensor:
    r"""What has the gradient :math:`\frac{\partial \ell}{\partial z} \frac{d z}{d \phi}`.

    Args:
        log_weight: ell, a function of ``fixed``; sequences do not share latents.
        fixed: The :func:`leaves` of ``drawn``.
        drawn: Latents as the guide drew them, functions of its parameters.
        sequence_dim: Their dim of sequences.

    Returns:
        The inner product of each sequence, ``(batch,)``.
    """
    if not isinstance(drawn, dict):
        fixed, drawn = {"z": fixed}, {"z": drawn}
    total = torch.zeros_like(log_weight.detach().sum(0))
    if not drawn:
        return total
    slopes = torch.autograd.grad(
        log_weight.sum(), list(fixed.values()), retain_graph=True, materialize_grads=True
    )
    for slope, z in zip(slopes, drawn.values()):
        product = (slope * z).movedim(sequence_dim, 0)
        total = total + product.reshape(len(product), -1).sum(-1)
    return total
