"""The contract of a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import torch
from pyro import poutine
from pyro.infer.util import is_validation_enabled
from pyro.poutine.runtime import am_i_wrapped, effectful
from torch import Tensor, nn

from ..data import Batch
from ..emissions import Emission
from ..estimators.programs import ProgramPair
from ..estimators.terms import CostWeights, Terms
from ..layers.blocks import delayed, is_full, length_mask, no_frame, time_first
from ..layers.in_blocks import in_blocks
from ..layers.products import Linear
from .checks import check_positive, check_sequences
from .costs import FutureCosts
from .files import save_net
from .given import GivenSequences
from .recurrence.recurrence import Backend
from .steps import Context, State, StepTerms

EmissionFactory = Callable[..., Emission]


class StochasticRNN(nn.Module, ABC):
    """A pair of Pyro programs over latents ``z_0 .. z_{T-1}``, for sequences padded on the right.

    Both take ``x``, of shape ``(batch, time, x_dim)``, or ``(batch, time)`` for symbols;
    ``lengths``, of shape ``(batch,)``; optionally the ``state`` to start from, see
    :meth:`initial_state`; and optionally the ``inputs`` that the generative recurrence reads in
    place of ``x``, such as ``x`` with frames dropped. Each returns what it knows of the state that
    the next chunk of each sequence starts from, see :func:`detached`; together they know all of it.
    Steps past a length are masked, and what stands there is never read.

    Parameters live in the module, and not in Pyro's store. The programs announce them to handlers
    under a name of this instance, so that ``pyro.infer.SVI`` trains them and no two nets share any.
    Pyro's optimisers look names up in the store, though, hence cannot save their state or take
    options by name: use torch's on an estimator's ``differentiable_loss`` for that.
    """

    backend: Backend = "auto"
    """Of the fast path where latents drive an LSTM, see :func:`.recurrence.roll_out`."""
    emission: Emission
    embed: nn.Module
    """Features of observations, where a recurrence reads them."""
    costs: FutureCosts | None
    weights: CostWeights
    """Weights of the costs, read by the guide's factors and by the fast path."""
    state_dims: dict[str, int]
    """Sizes of the entries of the state; set by a constructor."""
    reads_inputs: bool = True
    """Whether the generative recurrence reads observations, so that ``inputs`` have an effect."""
    particle_state: tuple[str, ...] | None = None
    """Those of them that depend on latents, hence differ between particles; None is all."""

    def __new__(cls, *args, **options):
        net = super().__new__(cls)
        # What it is built from, for :meth:`save`; a copy takes over its original's.
        net.__dict__.update(given_args=args, given_options=options)
        return net

    def __init__(self):
        super().__init__()
        self.costs, self.weights = None, CostWeights()

    def save(self, path: str | Path) -> None:
        """Writes the net to one file, for ``zforcing_pyro.load``; see :func:`.files.save_net`.

        Raises:
            ValueError: If model or emission is in no registry, or an option is no plain value.
        """
        save_net(self, path)

    @abstractmethod
    def model(
        self,
        x: Tensor,
        lengths: Tensor,
        state: State | None = None,
        inputs: Tensor | None = None,
    ) -> State:
        """The program of p(x, z). Under ``poutine.uncondition`` it generates."""

    @abstractmethod
    def guide(
        self,
        x: Tensor,
        lengths: Tensor,
        state: State | None = None,
        inputs: Tensor | None = None,
    ) -> State:
        """The program of q(z | x). A ``pyro.factor`` in it is a cost, and no part of q."""

    def initial_state(self, num_sequences: int, x_prev: Tensor | None = None) -> State:
        """The state before a sequence: zeros, and the frame before it where there is one.

        Args:
            num_sequences: Batch size.
            x_prev: Input of the first step, in protocols that condition on an unscored frame. Shape
                ``(batch, x_dim)``, or ``(batch,)`` for symbols. A row of NaN, or -1 for symbols,
                is that of a sequence without such a frame.
        """
        like = next(self.parameters())
        state = {name: like.new_zeros(num_sequences, n) for name, n in self.state_dims.items()}
        return state | ({} if x_prev is None else {"x_prev": x_prev})

    def begin(self, x: Tensor, state: State | None, *names: str) -> tuple[Tensor, ...]:
        """Entries of the state before the first step, with a start symbol where nothing precedes.

        Args:
            x: ``(batch, time, ...)``.
            state: The programs' argument; None is :meth:`initial_state`.
            names: The entries asked for.
        """
        state = self.initial_state(len(x)) if state is None else state
        if "x_prev" in names:
            start, before = self.embed.start(x), frame_before(state)
            if before is not None:
                none = no_frame(before, self.emission.symbols)
                start = torch.where(none, start, before)
            state = state | {"x_prev": start}
        return tuple(state[name] for name in names)

    def inputs_before(
        self,
        x_prev: Tensor,
        features: Tensor,
        inputs: Tensor | None,
        mask: Tensor,
        layer: Linear | None = None,
    ) -> Tensor:
        """e(x_{t-1}) of all steps, as the recurrence reads them: ``(batch, time, embed_dim)``.

        Args:
            x_prev: From :meth:`begin`.
            features: e(x_t), read where the programs' ``inputs`` are None.
            inputs, mask: As in the programs, and from :meth:`start`.
            layer: Where ``features`` are frames that it is yet to be applied to, so is the result.
        """
        embed = self.embed if layer is None else torch.nan_to_num  # as an embedding reads them
        if inputs is not None:
            features = embed(self.without_padding(inputs, mask))
        return delayed(embed(x_prev), features)

    def context(
        self,
        x: Tensor,
        lengths: Tensor,
        state: State | None = None,
        inputs: Tensor | None = None,
    ) -> tuple[Context, State]:
        """All that :meth:`step` reads and that depends on no latent. Arguments are the programs'.

        Returns:
            Tensors of shape ``(batch, time, ...)``, which :func:`steps` splits; and those entries
            of the next chunk's state that depend on no latent either.
        """
        raise NotImplementedError(f"{type(self).__name__} has no steps, only programs")

    def particles(self, x: Tensor, num_particles: int, state: State | None = None) -> State:
        """The state before the first step of each particle: ``(particles, batch, ...)``.

        Whatever is done with an entry, such as ``gather`` along the particles, done with all of
        them it gives a state that :meth:`step` goes on from.
        """
        names = self.state_dims if self.particle_state is None else self.particle_state
        entries = self.begin(x, state, *names)
        return {n: v.expand(num_particles, len(x), -1) for n, v in zip(names, entries)}

    def step(
        self, state: State, context: Context, z: Tensor | None = None
    ) -> tuple[State, StepTerms]:
        """One step of guide and model together. All steps give what :meth:`terms` gives.

        Args:
            state: Of the particles, from :meth:`particles` or the step before.
            context: This step's part of :meth:`context`.
            z: Latent to score, ``(particles, batch, z_dim)``; None draws it from the guide.
        """
        raise NotImplementedError(f"{type(self).__name__} has no steps, only programs")

    def terms(
        self,
        x: Tensor,
        lengths: Tensor,
        num_particles: int = 1,
        latents: Tensor | None = None,
        state: State | None = None,
        inputs: Tensor | None = None,
    ) -> Terms:
        """The terms of the two programs at a draw of the guide, or at given ``latents``.

        Override with a fast path; a test compares them. ``latents`` and the result's: shape
        ``(particles, batch, time, z_dim)``; given ones set the number of particles.
        """
        given = None
        if latents is not None:
            num_particles = len(latents)
            given = {f"z_{t}": z for t, z in enumerate(latents.unbind(-2))}
        pair = ProgramPair(self.model, self.guide, x, lengths, state, inputs)
        terms = pair.terms(num_particles, given)
        steps = [f"z_{t}" for t in range(x.shape[1])]
        means, prior_means = terms.posterior_mean, terms.prior_mean
        return terms._replace(
            auxiliary=terms.auxiliary.expand(terms.log_emission.shape),
            reverse=terms.reverse.expand(terms.log_emission.shape),
            latents=torch.stack([terms.latents[z] for z in steps], -2),
            posterior_mean=means and torch.stack([means[z] for z in steps], -2),
            prior_mean=prior_means and torch.stack([prior_means[z] for z in steps], -2),
        )

    def log_emission(self, features: Tensor, x: Tensor) -> Tensor:
        """log p(x_t | .) of all steps, in nats: ``(particles, batch, time)``.

        Args:
            features: What the emission reads, ``(particles, batch, time, ...)``.
            x: ``(batch, time, ...)``.
        """
        rows = features[..., 0].numel()
        return in_blocks(self._log_prob, self.emission, rows, (features, -2), (x, 1))

    def _log_prob(self, features: Tensor, x: Tensor) -> Tensor:
        return self.emission(features).log_prob(x)

    def given(
        self,
        x: Tensor,
        lengths: Tensor,
        state: State | None = None,
        inputs: Tensor | None = None,
    ) -> GivenSequences:
        """This model with a batch, as an estimator's ``objective`` takes it."""
        return GivenSequences(self, x, lengths, state, inputs)

    def given_batch(self, batch: Batch, state: State | None = None) -> GivenSequences:
        """This model with a collated batch, on the net's device and in its dtype.

        Args:
            batch: Of :func:`~zforcing_pyro.data.collate`, on any device.
            state: What the batch starts from; None starts from ``batch.start``, if there is one.
        """
        like = next(self.parameters())
        x, lengths, start = batch
        if x.is_floating_point():  # before it moves: not every device has every dtype
            x, start = x.to(like.dtype), None if start is None else start.to(like.dtype)
        x, lengths, start = Batch(x, lengths, start).to(like.device)
        if state is None and start is not None:
            state = self.initial_state(len(x), start)
        return self.given(x, lengths, state)

    def programs(self) -> tuple[Program, Program]:
        """Model and guide as modules, for ``elbo(*net.programs())``, Pyro's ``ELBOModule``."""
        return Program(self, "model"), Program(self, "guide")

    def start(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """What both programs begin with: the data without its padding, and the mask of real steps.

        Announces the parameters. Checks its input if Pyro's validation is on, as by default.

        Raises:
            ValueError: If shapes, dtypes, lengths or values are not those of sequences.
        """
        if is_validation_enabled():
            check_sequences(x, lengths, self.emission)
        if am_i_wrapped():
            instance = f"{type(self).__name__.lower()}_{id(self)}"  # another one in a copy, too
            for name, parameter in self.named_parameters():
                announce(parameter, name=f"{instance}${name}")
        mask = length_mask(lengths, x.shape[1])
        return self.without_padding(x, mask), mask

    def without_padding(self, x: Tensor, mask: Tensor) -> Tensor:
        """``x`` with zeros past the lengths, whatever stood there; time is first in memory."""
        if not is_full(mask):
            x = torch.where(mask if self.emission.symbols else mask[..., None], x, 0)
        return time_first(x)

    def drop_frames(self, x: Tensor, dropped: Tensor) -> Tensor:
        """``x`` with start frames or symbols in place of those ``dropped``, ``(batch, time)``."""
        start = self.embed.start(x)[:, None]
        return torch.where(dropped if self.emission.symbols else dropped[..., None], start, x)

    @torch.no_grad()
    def generate(self, num_sequences: int, num_steps: int, prefix: Tensor | None = None) -> Tensor:
        """Draws sequences from the model, by its own program unconditioned.

        Args:
            num_sequences: Number of draws.
            num_steps: Steps of each, the prefix included.
            prefix: What the draws continue: ``(num_sequences, prefix_steps, x_dim)``. Its latents
                come from the guide, which has read the prefix alone.

        Returns:
            Observations, ``(num_sequences, num_steps, x_dim)``, without the last dim for symbols.

        Raises:
            ValueError: If a number is not positive, or the prefix does not fit.
        """
        check_positive(num_sequences=num_sequences, num_steps=num_steps)
        like = next(self.parameters())
        x = self.emission.template(num_sequences, num_steps, like)
        lengths = torch.full((num_sequences,), num_steps, device=like.device)
        given = {}
        if prefix is not None:
            size = prefix.shape[1] if prefix.dim() > 1 else 0
            if len(prefix) != num_sequences or not 1 <= size <= num_steps:
                raise ValueError(
                    f"'prefix' must be of {num_sequences} sequences of 1..{num_steps} steps, got "
                    f"shape {tuple(prefix.shape)}"
                )
            prefix_lengths = torch.full_like(lengths, size)
            # Here, since what goes wrong within a trace is told together with its shapes.
            check_sequences(prefix, prefix_lengths, self.emission, "prefix")
            guide = poutine.trace(self.guide).get_trace(prefix, prefix_lengths)
            given = {f"z_{t}": guide.nodes[f"z_{t}"]["value"] for t in range(size)}
            given |= {f"x_{t}": prefix[:, t] for t in range(size)}
        program = poutine.condition(poutine.uncondition(self.model), given)
        trace = poutine.trace(program).get_trace(x, lengths)
        return torch.stack([trace.nodes[f"x_{t}"]["value"] for t in range(num_steps)], dim=1)


class Program(nn.Module):
    """One of a net's programs; its parameters are all of the net's."""

    def __init__(self, net: StochasticRNN, name: str):
        super().__init__()
        self.net, self.name = net, name

    def forward(self, *args, **kwargs) -> State:
        return getattr(self.net, self.name)(*args, **kwargs)


@effectful(type="param")
def announce(parameter: nn.Parameter) -> Tensor:
    """Tells Pyro's handlers, such as those of ``SVI``, of a parameter that its module owns."""
    alias = parameter.detach()  # since an attribute on the parameter itself would not be pickled
    alias.unconstrained = lambda: parameter
    return alias


def frame_before(state: State | None) -> Tensor | None:
    """The frame that precedes the first step; None where there is a start symbol instead.

    Where only some sequences have one, rows of the others are marked: see :func:`no_frame`.
    """
    return None if state is None else state.get("x_prev")
