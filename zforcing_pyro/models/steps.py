"""A model one step at a time, for those who act between steps, such as particle filters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

State = dict[str, Tensor]
Context = dict[str, Tensor]


class StepTerms(NamedTuple):
    """What :class:`Terms` has of one step: in nats, ``(particles, batch)``, zero at padding."""

    log_prior: Tensor
    """log p(z_t | past)."""
    log_posterior: Tensor
    """log q(z_t | past, x)."""
    log_emission: Tensor
    """log p(x_t | z, past)."""
    latents: Tensor
    """z_t, ``(particles, batch, z_dim)``."""
    auxiliary: Tensor
    """log p(b_t | z_t), not weighted: part of a training objective, never of a bound."""
    reverse: Tensor
    """log p(x_{t-1} | b_t), not weighted: part of a training objective, never of a bound."""

    @property
    def log_weight(self) -> Tensor:
        """log p(x_t, z_t | past) - log q(z_t | past, x): a filter's incremental weight."""
        return self.log_emission + self.log_prior - self.log_posterior

    @classmethod
    def at(
        cls,
        mask: Tensor,
        latents: Tensor,
        log_prior: Tensor,
        log_posterior: Tensor,
        log_emission: Tensor,
        auxiliary: Tensor | float = 0.0,
        reverse: Tensor | float = 0.0,
    ) -> StepTerms:
        """The terms at the steps where ``mask``, of shape ``(batch,)``, is True."""
        logs = (log_prior, log_posterior, log_emission, auxiliary, reverse)
        shape, zero = latents.shape[:-1], torch.zeros_like(log_prior)
        logs = [torch.where(mask, value, zero).expand(shape) for value in logs]
        return cls(*logs[:3], latents, *logs[3:])


def steps(context: Context) -> Iterator[Context]:
    """Splits tensors of shape ``(batch, time, ...)`` into steps, ``(batch, ...)``."""
    for values in zip(*(value.unbind(1) for value in context.values())):
        yield dict(zip(context, values))


def descended(value: Tensor, ancestors: Tensor) -> Tensor:
    """An entry of the state, ``(particles, batch, size)``, of each particle's ancestor.

    Args:
        value: The entry.
        ancestors: Index of a particle for each, ``(particles, batch)``.
    """
    return value.gather(0, ancestors[..., None].expand_as(value))


def detached(state: State) -> State:
    """The state without its history, for back-propagation truncated between chunks.

    Chunks of a long sequence, in order, each from the state before, are one sequence to the model.
    Terms of chunks then add up to those of the whole for a guide that filters, q(z_t | x_{1:t}).
    For a guide with a backward state they cannot: within a chunk b_t has read the rest of the
    chunk only, so its posterior is another one. Its bounds are valid, and looser by what the
    future beyond the chunk would have told.

    A sequence that ends within a chunk leaves a state of no meaning: give its place in the batch
    to a new one, from :meth:`StochasticRNN.initial_state`.

    Example:
        >>> net, x, state = VRNN(Bernoulli, 3, z_dim=2, h_dim=4), torch.zeros(5, 6, 3), None
        >>> for chunk in x.split(2, dim=1):
        ...     terms = net.terms(chunk, torch.tensor([2] * 5), state=state)
        ...     state = detached(terms.state)
    """
    return {name: value.detach() for name, value in state.items()}
