"""A model of this package with a batch, as estimators take it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from pyro import poutine
from torch import Tensor, nn
from torch.nn.functional import pad

from ..estimators.programs import ProgramPair
from ..estimators.terms import CostWeights, Given, Resample, Terms
from .steps import State, StepTerms, descended, steps

if TYPE_CHECKING:
    from .base import StochasticRNN


class GivenSequences(Given):
    """A net and a batch of sequences; see :meth:`StochasticRNN.given`.

    Args:
        net: The model.
        x, lengths, state, inputs: Arguments of its programs.
    """

    def __init__(
        self,
        net: StochasticRNN,
        x: Tensor,
        lengths: Tensor,
        state: State | None = None,
        inputs: Tensor | None = None,
    ):
        self.net, self.x, self.lengths, self.state, self.inputs = net, x, lengths, state, inputs

    def terms(self, num_particles: int = 1, latents: Tensor | None = None) -> Terms:
        return self.net.terms(self.x, self.lengths, num_particles, latents, self.state, self.inputs)

    def filtered(self, num_particles: int, resample: Resample) -> Terms:
        """Step by step, or by the programs of a model that has no steps.

        The backward state is common to all particles. Of the recurrence each resampled particle
        takes over its ancestor's whole state.
        """
        from .base import StochasticRNN  # which imports this module

        net, args = self.net, (self.x, self.lengths, self.state, self.inputs)
        if type(net).context is StochasticRNN.context:
            terms = ProgramPair(net.model, net.guide, *args).filtered(num_particles, resample)
            return terms._replace(latents=torch.stack(list(terms.latents.values()), -2))
        context, known = net.context(*args)
        state = net.particles(self.x, num_particles, self.state)
        mask, found = context["mask"], []
        goes_on = pad(mask[:, 1:], (0, 1)).unbind(1)
        for context_t, goes_on_t in zip(steps(context), goes_on):
            state, step = net.step(state, context_t)
            found.append(step)
            ancestors = resample(step.log_weight, goes_on_t)
            if ancestors is not None:
                state = {name: descended(value, ancestors) for name, value in state.items()}
        stacked = {f: torch.stack([getattr(s, f) for s in found], 2) for f in StepTerms._fields}
        weights = CostWeights() if net.costs is None else net.costs.active(net.weights)
        return Terms(**stacked, kl_per_latent=None, weights=weights, state=known | state, mask=mask)

    @torch.no_grad()
    def dream(self) -> tuple[GivenSequences, Tensor]:
        """Sequences of the same lengths from the same state, which its model generates."""
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
    net.eval()
    try:
        with (
            torch.no_grad(),
            torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        ):
            torch.manual_seed(seed)
            yield
    finally:
        net.train(was_training)
