"""Batches, states and paths, between a model's fast path and the terms of a bound."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, kl_divergence

from ..estimators.terms import Terms

State = dict[str, Tensor]
Context = dict[str, Tensor]


class SequenceBatch(NamedTuple):
    """A checked batch without its padding, from :meth:`StochasticRNN.batch`."""

    x: Tensor  # observations, (batch, time, x_dim), or (batch, time) for symbols; 0 at padding
    mask: Tensor  # True at real steps, (batch, time)
    state: State | None  # None starts from StochasticRNN.initial_state
    inputs: Tensor | None  # what the generative recurrence reads in place of x, if not None

    @property
    def lengths(self) -> Tensor:
        """Steps of each sequence, ``(batch,)``."""
        return self.mask.sum(1)


class Path(NamedTuple):
    """Latents of some steps, and what belongs to them."""

    z: Tensor  # z_t, (particles, batch, time, z_dim)
    prior: Distribution  # p(z_t | past); broadcasts to z, as the posterior does
    posterior: Distribution  # q(z_t | past, x)
    log_emission: Tensor  # log p(x_t | z, past) in nats; broadcasts to (particles, batch, time)
    state: State  # of the particles after the last step
    auxiliary: Tensor | None = None  # log p(b_t | z_t) in nats, not weighted; None is no cost
    features: Tensor | None = None  # what the emission reads, (particles, batch, time, dim)
    past: Tensor | None = None  # what p(z_t | past) depends on, or h_{t-1}; like features


def scored(path: Path, context: Context, closed_form: bool = True) -> Terms:
    """Returns the terms of a path and its context, zero at padding, without state and weights.

    Without ``closed_form`` the terms lack means and the analytic KL.
    """
    z, prior, posterior, shape = path.z, path.prior, path.posterior, path.z.shape[:-1]
    log_emission = path.log_emission.expand(shape)
    zero = torch.zeros_like(log_emission)
    terms = Terms(
        log_prior=prior.log_prob(z),
        log_posterior=posterior.log_prob(z),
        log_emission=log_emission,
        kl_per_latent=None,
        auxiliary=zero if path.auxiliary is None else path.auxiliary,
        reverse=context["reverse"].expand(shape) if "reverse" in context else zero,
        latents=z,
        states=None if path.features is None else path.features.expand(*shape, -1),
    )
    if closed_form:
        independent = isinstance(posterior, Independent)
        bases = (d.base_dist if isinstance(d, Independent) else d for d in (posterior, prior))
        kl = kl_divergence(*bases)
        terms = terms._replace(
            kl_per_latent=kl.expand(z.shape) if independent else kl[..., None],
            posterior_mean=posterior.mean.expand(z.shape),
            prior_mean=prior.mean.expand(z.shape),
        )
    return terms.masked(context["mask"])


def steps(context: Context) -> Iterator[Context]:
    """Yields the context of each step, tensors of shape ``(batch, 1, ...)``."""
    for values in zip(*(value.split(1, dim=1) for value in context.values())):
        yield dict(zip(context, values))


def detached(state: State) -> State:
    """Returns the state without its history, to truncate back-propagation between chunks.

    Chunks of a long sequence, each from the state before, are one sequence to the model. Their
    terms add up to those of the sequence if the guide filters; a backward state reads no further
    than the end of a chunk, so bounds are looser then. A sequence that ends within a chunk leaves a
    state without meaning: give its place to a new one, from :meth:`StochasticRNN.initial_state`.

    Example:
        >>> net, x, state = VRNN(Bernoulli, 3, z_dim=2, h_dim=4), torch.zeros(5, 6, 3), None
        >>> for chunk in x.split(2, dim=1):
        ...     terms = net.terms(chunk, state=state)
        ...     state = detached(terms.state)
    """
    return {name: value.detach() for name, value in state.items()}


def frame_before(state: State | None) -> Tensor | None:
    """Returns the frame that precedes the first step; None where there is a start symbol instead.

    Where only some sequences have one, rows of the others are marked: see :func:`no_frame`.
    """
    return None if state is None else state.get("x_prev")
