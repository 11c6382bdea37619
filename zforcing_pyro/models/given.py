"""A model of this package with a batch, as estimators take it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from pyro import poutine
from torch import Tensor, nn
from torch.nn.functional import pad

from ..estimators.programs import ProgramPair
from ..estimators.terms import Given, Resample, Terms
from ..layers.blocks import length_mask
from .checks import as_lengths
from .steps import SequenceBatch, State, scored, steps


class GivenSequences(Given):
    """A net and a batch of sequences; see :meth:`StochasticRNN.given`.

    Args:
        net: The model, a :class:`StochasticRNN`.
        x, lengths, state, inputs: Arguments of its programs.
        scored: True where an observation counts in the likelihood, ``(batch, time)``; None is
            everywhere. Elsewhere p(x_t | .) is 1, while the KL of z_t counts: what is bounded is
            the density of the scored observations, given the inputs.
    """

    def __init__(
        self,
        net: Any,
        x: Tensor,
        lengths: Tensor | Sequence[int] | None = None,
        state: State | None = None,
        inputs: Tensor | None = None,
        scored: Tensor | None = None,
    ):
        self.net, self.x, self.state, self.inputs = net, net.observations(x), state, inputs
        self.lengths, self.scored = as_lengths(lengths, self.x), scored

    @property
    def args(self) -> tuple[Tensor, Tensor, State | None, Tensor | None]:
        """The arguments of the programs."""
        return self.x, self.lengths, self.state, self.inputs

    @property
    def batch(self) -> SequenceBatch:
        """The batch as the net's fast path reads it."""
        return self.net.batch(*self.args)

    @property
    def counted(self) -> Tensor:
        """True at steps whose observation is scored, ``(batch, time)``."""
        mask = length_mask(self.lengths, self.x.shape[1])
        return mask if self.scored is None else mask & self.scored

    def terms(self, num_particles: int = 1, latents: Tensor | None = None) -> Terms:
        """Returns :meth:`StochasticRNN.terms` of the batch."""
        args = self.x, self.lengths, num_particles, latents, self.state, self.inputs
        return self.only_scored(self.net.terms(*args))

    def only_scored(self, terms: Terms, steps: slice = slice(None)) -> Terms:
        """Returns terms of some steps with log p(x_t | .) zero where x_t is not scored."""
        if self.scored is None:
            return terms
        log_emission = torch.where(self.scored[:, steps], terms.log_emission, 0.0)
        return terms._replace(log_emission=log_emission)

    def filtered(self, num_particles: int, resample: Resample) -> Terms:
        """Returns the terms of a particle filter, by steps or by the programs of the net.

        All particles share the backward state. A resampled particle takes over the recurrent state
        of its ancestor.
        """
        net = self.net
        if not net.has_steps:
            if self.scored is not None:
                raise ValueError(
                    f"'scored' must be None to filter by programs, and {type(net).__name__} has "
                    "no fast path"
                )
            pair = ProgramPair(net.model, net.guide, *self.args)
            terms = pair.filtered(num_particles, resample)
            return terms._replace(latents=torch.stack(list(terms.latents.values()), -2))
        batch = self.batch
        context, last = net.full_context(batch)
        state, parts = net.particles(batch, num_particles), []
        goes_on = pad(batch.mask[:, 1:], (0, 1)).unbind(1)
        for t, (context_t, goes_on_t) in enumerate(zip(steps(context), goes_on)):
            path = net.path(context_t, state, None)
            terms, state = scored(path, context_t, closed_form=False), path.state
            terms = self.only_scored(terms, slice(t, t + 1))
            parts.append(terms)
            ancestors = resample(terms.log_weight, goes_on_t)
            if ancestors is not None:
                index = ancestors[..., None]
                state = {n: v.gather(0, index.expand_as(v)) for n, v in state.items()}
        names = ("log_prior", "log_posterior", "log_emission", "auxiliary", "reverse", "latents")
        joined: dict[str, Any] = {n: torch.cat([getattr(p, n) for p in parts], 2) for n in names}
        return parts[-1]._replace(
            **joined, weights=net.active_weights, state=last | state, mask=batch.mask
        )

    @torch.no_grad()
    def dream(self) -> tuple["GivenSequences", Tensor]:
        """Returns sequences of the same lengths that the model draws, and their latents."""
        x = self.net.emission.template(*self.x.shape[:2], next(self.net.parameters()))
        program = poutine.uncondition(self.net.model)
        nodes = poutine.trace(program).get_trace(x, self.lengths, self.state).nodes
        x, z = (
            torch.stack([nodes[f"{site}_{t}"]["value"] for t in range(x.shape[1])], 1)
            for site in "xz"
        )
        return GivenSequences(self.net, x, self.lengths, self.state), z[None]


@contextmanager
def evaluating(net: nn.Module, seed: int) -> Iterator[None]:
    """Runs a block in evaluation mode without gradients, with noise that ``seed`` alone decides.

    The net's mode and the random state are restored after the block, also if it raises.
    """
    device, was_training = next(net.parameters()).device, net.training
    devices = [device] if device.type == "cuda" else []
    net.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            yield
    finally:
        net.train(was_training)
