"""Online inference: a particle filter that reads sequences step by step, in constant memory."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from ..data.checks import check_range
from ..emissions import Emission
from ..estimators.particle_filter import ParticleFilter, log_mean_exp, systematic
from .steps import State, scored, steps

LEAST = -1e30
"""Least log-weight of a particle, so that weights are numbers after an impossible observation."""


class StreamStep(NamedTuple):
    """One step of a stream, as far as the observations that have been pushed tell."""

    surprise: Tensor  # -log p(x_t | x before t), nats, (sequences,); 0 where nothing is observed
    by_feature: Tensor | None
    """The same of each number of x_t, ``(sequences, x_dim)``; None if numbers depend on others."""
    weight: Tensor  # of the particles, sums to 1, (particles, sequences)
    z: Tensor  # z_t, (particles, sequences, z_dim)
    x: Tensor  # x_t with draws where a value is missing, (particles, sequences, ...)

    @property
    def mean(self) -> Tensor:
        """The posterior mean of z_t, ``(sequences, z_dim)``."""
        return (self.weight[..., None] * self.z).sum(0)

    @property
    def std(self) -> Tensor:
        """The posterior standard deviation of z_t, ``(sequences, z_dim)``."""
        return (self.weight[..., None] * (self.z - self.mean).square()).sum(0).sqrt()


class Stream:
    """Sequences that come step by step; see :meth:`.StochasticRNN.stream`.

    Args:
        net: A net whose fast path has steps.
        num_particles: Number K of particles.
        num_sequences: Sequences that come in step.
        lag: Steps that weigh a latent before it is told: 0 filters, more smooths.
        ahead: Steps after x_t that the guide reads before it draws z_t.
        threshold: As for :class:`.TraceFIVO`.
        start: Frame before the first step, ``(sequences, x_dim)``.
        relative: True where the net reads and draws the change since the step before of what is
            pushed, ``(x_dim,)``; the first value is then read as missing.
    """

    def __init__(
        self,
        net: Any,
        num_particles: int = 64,
        num_sequences: int = 1,
        lag: int = 0,
        ahead: int = 0,
        threshold: float = 0.5,
        start: Tensor | None = None,
        relative: Tensor | None = None,
    ):
        check_range(1, num_sequences=num_sequences, num_particles=num_particles)
        check_range(0, lag=lag, ahead=ahead)
        if not net.has_steps or net.of_vectors:
            raise ValueError(f"'net' must have a fast path of steps, got {type(net).__name__}")
        self.net, self.size, self.lag, self.ahead = net, (num_particles, num_sequences), lag, ahead
        if ahead and relative is not None:
            raise ValueError(f"'ahead' must be 0 with 'relative', got {ahead}")
        self.particles, self.relative = ParticleFilter(threshold), relative
        start = None if start is None else self.rows(net.observations(start))
        self.state: State = net.initial_state(num_particles * num_sequences, start)
        if relative is not None:
            like = next(net.parameters())
            rows = num_particles * num_sequences
            self.state["level"] = like.new_full((rows, net.emission.x_dim), torch.nan)
        self.waiting: deque[Tensor] = deque()  # rows that the guide may read, not yet weighed
        self.held: deque[StreamStep] = deque()  # weighed, not yet told
        self.weight = torch.tensor(0.0)

    @torch.no_grad()
    def push(self, x: Any = None) -> StreamStep | None:
        """Reads the observations of a step.

        Args:
            x: ``(sequences, x_dim)``, ``(x_dim,)`` of a single sequence, or ``(particles,
                sequences, x_dim)``; symbols have no last dim. NaN is a missing value, which is
                drawn. None is a step without observations, as in a forecast.

        Returns:
            The step that lies ``ahead + lag`` before; None while there is none.
        """
        emission = self.net.emission
        if x is None:
            x = emission.template(self.size[1], 1, next(self.net.parameters()))[:, 0]
            x = x - 1 if emission.symbols else x + torch.nan
        self.waiting.append(self.rows(self.net.observations(x)))
        return self.weigh() if len(self.waiting) > self.ahead else None

    @torch.no_grad()
    def finish(self) -> list[StreamStep]:
        """Returns the steps after the last one that was told; no more may be pushed."""
        told = [self.weigh() for _ in range(len(self.waiting))]
        told += [step._replace(weight=self.weight) for step in self.held]
        self.held.clear()
        return [step for step in told if step is not None]

    def rows(self, x: Tensor) -> Tensor:
        """Returns values of sequences, or of each particle, with a row for each particle."""
        dims = x.dim() - (not self.net.emission.symbols)  # without that of a frame
        x = x[None] if dims == 0 else x
        return x.expand(*self.size, *x.shape[max(1, dims) :]).flatten(0, 1)

    def weigh(self) -> StreamStep | None:
        """Draws the latents of the first waiting step, weighs them and resamples the particles."""
        net = self.net
        if self.particles.log_weight is not None:
            nothing = missing(net.emission, self.waiting[0])[1].unflatten(0, self.size)[0]
            if nothing.any():  # so that draws are of equal weight, and each of its own
                index = torch.arange(self.size[0], device=nothing.device)[:, None]
                weight = self.particles.log_weight.softmax(0)
                ancestors = torch.where(nothing, systematic(weight), index)
                self.particles.log_weight.masked_fill_(nothing, 0.0)
                self.resample(ancestors)
        window, x = torch.stack([*self.waiting], 1), self.waiting.popleft()
        value = x
        if self.relative is not None:
            x = torch.where(self.relative, x - self.state["level"], x)
            window = x[:, None]
        absent, nothing = missing(net.emission, x)
        unseen = missing(net.emission, window)[1]
        window = torch.where(unseen if window.dim() == 2 else unseen[..., None], 0, window)
        batch = net.batch(window, None, self.state)
        context, last = net.full_context(batch)
        first, state = next(steps(context)), net.particles(batch, 1)
        with emitted(net.emission) as emissions:
            path = net.path(first, state, None)
            if nothing.any():  # the guide has nothing to read, so the prior proposes
                z = torch.where(nothing[:, None, None], path.prior.sample(), path.z)
                path = net.path(first, state, z)
        terms, emission = scored(path, first, closed_form=False), emissions[-1]
        log_ratio = (terms.log_prior - terms.log_posterior)[0, :, 0].masked_fill(nothing, 0.0)
        log_emission = terms.log_emission[0, :, 0].masked_fill(nothing, 0.0)
        log_features = log_of_features(emission, x, absent)
        if absent.any():
            x = torch.where(absent, emission.sample().reshape(x.shape), x)
        if absent.any() or self.waiting:  # the state has read this step and no more
            _, last = net.full_context(net.batch(x[:, None], None, self.state))
        self.state |= last | {name: entry[0] for name, entry in path.state.items()}
        if self.relative is not None:
            drawn = torch.where(value.isnan(), self.state["level"] + x, value)
            x = self.state["level"] = torch.where(self.relative, drawn, x)

        def by_particle(rows: Tensor) -> Tensor:
            return rows.unflatten(0, self.size)

        before = self.particles.log_weight
        log_ratio = by_particle(log_ratio) + (0.0 if before is None else before)
        log_weight = (log_ratio + by_particle(log_emission)).clamp(min=LEAST)
        evidence, by_feature = log_mean_exp(log_weight), None
        if log_features is not None:
            by_feature = -log_mean_exp(log_ratio[..., None] + by_particle(log_features))
            by_feature = by_feature.masked_fill(by_particle(absent)[0], 0.0)
        self.weight = log_weight.softmax(0)
        z = path.z[0, :, 0]
        self.held.append(
            StreamStep(-evidence, by_feature, self.weight, by_particle(z), by_particle(x))
        )
        told = None
        if len(self.held) > self.lag:
            told = self.held.popleft()._replace(weight=self.weight)
        # Weights keep the mean 1, so that a stream may go on without end.
        self.particles.log_weight = None
        ancestors = self.particles(log_weight - evidence, torch.ones_like(evidence).bool())
        if ancestors is not None:
            self.resample(ancestors)
        return told

    def resample(self, ancestors: Tensor) -> None:
        """Replaces particles by their ancestors, ``(particles, sequences)``."""

        def chosen(value: Tensor) -> Tensor:
            index = ancestors.reshape(*self.size, *[1] * (value.dim() - 2))
            return value.gather(0, index.expand_as(value))

        rows = {name: value.unflatten(0, self.size) for name, value in self.state.items()}
        self.state = {name: chosen(value).flatten(0, 1) for name, value in rows.items()}
        self.held = deque(step._replace(z=chosen(step.z), x=chosen(step.x)) for step in self.held)
        assert self.particles.log_weight is not None, "a step has been weighed"
        self.weight = self.particles.log_weight.softmax(0)


def missing(emission: Emission, x: Tensor) -> tuple[Tensor, Tensor]:
    """Returns where a number is missing, and where all of an observation that is scored is."""
    if emission.symbols:
        return x < 0, x < 0
    absent = x.isnan()
    return absent, absent[..., : emission.x_dim - emission.unscored].all(-1)


def log_of_features(emission: Distribution, x: Tensor, absent: Tensor) -> Tensor | None:
    """Returns log p of each number of x, ``(rows, x_dim)``, where numbers are independent."""
    x = x.masked_fill(absent, 0)[None, :, None]
    if hasattr(emission, "log_of_columns"):
        return emission.log_of_columns(x)[0, :, 0]
    return emission.base_dist.log_prob(x)[0, :, 0] if isinstance(emission, Independent) else None


@contextmanager
def emitted(emission: nn.Module) -> Iterator[list[Distribution]]:
    """Yields a list to which the distributions that an emission returns are added."""
    distributions: list[Distribution] = []
    hook = emission.register_forward_hook(lambda *call: distributions.append(call[2]))
    try:
        yield distributions
    finally:
        hook.remove()
