"""A model of this package with a batch, as estimators take it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..estimators.programs import ProgramPair
from ..estimators.terms import BY_STEP, Given, Resample, Terms
from ..layers.blocks import concat, length_mask
from .checks import as_lengths
from .free_running import free_run
from .steps import Context, Path, SequenceBatch, State, scored, steps
from .twist import another, goes_on


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

    def path(self, latents: Tensor) -> Path:
        """Returns the path along latents, ``(particles, batch, time, z_dim)``; of a fast path."""
        context, _ = self.net.full_context(self.batch)
        return self.net.path(context, self.net.particles(self.batch, len(latents)), latents)

    def only_scored(self, terms: Terms, steps: slice = slice(None)) -> Terms:
        """Returns terms of some steps with log p(x_t | .) zero where x_t is not scored."""
        if self.scored is None:
            return terms
        log_emission = torch.where(self.scored[:, steps], terms.log_emission, 0.0)
        return terms._replace(log_emission=log_emission)

    def filtered(self, num_particles: int, resample: Resample, twisted: bool = False) -> Terms:
        """Returns the terms of a particle filter, by steps or by the programs of the net.

        All particles share the backward state. A resampled particle takes over the recurrent state
        of its ancestor.
        """
        net, twisted = self.net, twisted and self.net.twist is not None
        if not net.has_steps:
            if self.scored is not None:
                raise ValueError(
                    f"'scored' must be None to filter by programs, and {type(net).__name__} has "
                    "no fast path"
                )
            pair = ProgramPair(net.model, net.guide, *self.args)
            pair.log_twist = self.log_twist if twisted else None
            terms = pair.filtered(num_particles, resample, twisted)
            return terms._replace(latents=torch.stack(list(terms.latents.values()), -2))
        batch = self.batch
        context, last = net.full_context(batch)
        state, parts, log_twists = net.particles(batch, num_particles), [], []
        future, log_twist = self.future(batch, context) if twisted else None, torch.tensor(0.0)
        ahead = goes_on(batch.mask).unbind(1)
        for t, (context_t, goes_on_t) in enumerate(zip(steps(context), ahead)):
            path = net.path(context_t, state, None)
            terms, state = scored(path, context_t, closed_form=False), path.state
            terms = self.only_scored(terms, slice(t, t + 1))
            parts.append(terms)
            log_weight = terms.log_weight
            if future is not None:
                before, log_twist = log_twist, self.log_twist_of(state, future[:, t])
                log_twist = torch.where(goes_on_t, log_twist, 0.0)
                log_weight = log_weight + log_twist - before
                log_twists.append(log_twist)
            ancestors = resample(log_weight, goes_on_t)
            if ancestors is not None:
                index = ancestors[..., None]
                state = {n: v.gather(0, index.expand_as(v)) for n, v in state.items()}
                log_twist = log_twist if future is None else log_twist.gather(0, ancestors)
        names = *BY_STEP, "latents"
        joined: dict[str, Any] = {n: torch.cat([getattr(p, n) for p in parts], 2) for n in names}
        joined["twist"] = torch.stack(log_twists, -1) if log_twists else None
        return parts[-1]._replace(
            **joined, weights=net.active_weights, state=last | state, states=None, mask=batch.mask
        )

    @torch.no_grad()
    def dream(self) -> tuple["GivenSequences", Tensor]:
        """Returns sequences of the same lengths that the model draws, and their latents."""
        x = self.net.emission.template(*self.x.shape[:2], next(self.net.parameters()))
        x, z, _ = free_run(self.net, x, self.state)
        return GivenSequences(self.net, x, self.lengths, self.state), z[None]

    def twist_parameters(self) -> list[Tensor]:
        """Returns the parameters of the net's twist."""
        return [] if self.net.twist is None else list(self.net.twist.parameters())

    def future(self, batch: SequenceBatch, context: Context | None = None) -> Tensor:
        """Returns what the twist reads of x_{t+1}, ..., x_T at all steps, ``(batch, time, dim)``.

        Args:
            batch: The batch.
            context: Of the net, as far as it has been computed.
        """
        net, b = self.net, None
        if net.backward_entry is not None:
            context = net.full_context(batch)[0] if context is None else context
            b = context[net.backward_entry]
        return net.twist.future(batch, b)

    def log_twist_of(self, state: State, future: Tensor) -> Tensor:
        """Returns log r_t of particles in a state, ``(particles, batch)``."""
        h = concat(*(state[name] for name in self.net.particle_names))
        return self.net.twist(h, future)

    def log_twist(self, latents: dict[str, Tensor]) -> Tensor:
        """Returns log r_t after the steps whose latents are given, ``(particles, batch)``.

        It runs those steps anew: for nets that are filtered by their programs.
        """
        num, z = len(latents), torch.stack(list(latents.values()), -2)
        inputs = None if self.inputs is None else self.inputs[:, :num]
        terms = self.net.terms(
            self.x[:, :num], self.lengths.clamp(max=num), len(z), z, self.state, inputs
        )
        log_twist = self.log_twist_of(terms.state, self.future(self.batch)[:, num - 1])
        return torch.where(self.lengths > num, log_twist, 0.0).expand(z.shape[:2])

    def foreseen(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns log r_t of a dream; see :meth:`Given.foreseen`.

        Raises:
            ValueError: If the net has no fast path.
        """
        net = self.net
        if not net.has_fast:
            raise ValueError(
                f"'learn' must be 'bound' for a {type(net).__name__} without a fast path"
            )
        given, z = self.dream()
        h, _, future = given.visited(1, z)
        h, ahead = h[0], goes_on(given.batch.mask)
        future_too, ahead_too = another(future, ahead)
        return net.twist(h, future), net.twist(h, future_too), ahead, ahead_too

    def foretold(self, num_particles: int) -> tuple[Tensor, Tensor]:
        """Returns log r_t and the log-weight of each step; see :meth:`Given.foretold`."""
        if not self.net.has_steps:
            return super().foretold(num_particles)
        h, log_weight, future = self.visited(num_particles)
        return torch.where(goes_on(self.batch.mask), self.net.twist(h, future), 0.0), log_weight

    def visited(
        self, num_particles: int, latents: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns states and log-weights of all steps of draws, and what the twist reads ahead.

        States are ``(particles, batch, time, dim)``, without gradient.
        """
        net, batch, hs, log_weights = self.net, self.batch, [], []
        with torch.no_grad():
            context, _ = net.full_context(batch)
            state = net.particles(batch, num_particles)
            for t, context_t in enumerate(steps(context)):
                z = None if latents is None else latents[:, :, t : t + 1]
                path = net.path(context_t, state, z)
                terms, state = scored(path, context_t, closed_form=False), path.state
                log_weights.append(self.only_scored(terms, slice(t, t + 1)).log_weight)
                hs.append(concat(*(state[name] for name in net.particle_names)))
        return torch.stack(hs, 2), torch.stack(log_weights, -1), self.future(batch, context)


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
