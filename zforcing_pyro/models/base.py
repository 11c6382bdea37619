"""Base class of all models."""

from collections.abc import Callable, Sequence
from inspect import signature
from pathlib import Path as FilePath
from typing import Any, Literal, get_origin

import torch
from torch import Tensor, nn

from ..data import Batch
from ..data.checks import check_choice
from ..emissions import Emission
from ..estimators.programs import ProgramPair
from ..estimators.terms import CostWeights, Terms
from ..layers.blocks import delayed
from ..layers.in_blocks import in_blocks
from ..layers.products import Linear
from .costs import FutureCosts
from .files import save_net
from .given import GivenSequences
from .recurrence.recurrence import Backend
from .sequence_programs import SequencePrograms
from .steps import Context, Path, SequenceBatch, State, scored
from .stream import Stream
from .twist import Form, Twist

EmissionFactory = Callable[..., Emission]
FAST = ("context", "path")
"""Methods of the fast path."""


class StochasticRNN(SequencePrograms):
    """A pair of Pyro programs over latents ``z_0 .. z_{T-1}``, for sequences padded on the right.

    A subclass writes :meth:`model` and :meth:`guide`. For speed it may also write a fast path of
    the same terms from the same noise, :meth:`context` and :meth:`path`. A class that overrides a
    program of the class that wrote the fast path runs by its programs. An option of a ``Literal``
    type is checked before the constructor runs.
    """

    backend: Backend = "auto"
    """Loops of the fast path where latents drive an LSTM, see :func:`.recurrence.roll_out`."""
    posterior: nn.Module
    backward_rnn: Any
    costs: FutureCosts | None
    weights: CostWeights
    """Weights of the costs, read by the guide's factors and by the fast path."""
    reads_inputs: bool = True
    """True if the generative recurrence reads observations, so that ``inputs`` have an effect."""
    particle_state: tuple[str, ...] | None = None
    """State entries that differ between particles; None means all."""
    backward_entry: str | None = None
    """Entry of the context that has read x_t, ..., x_T; None is no backward state."""
    twist: nn.Module | None
    """A :class:`.Twist`, or a module with its ``future`` and ``forward``; None twists nothing."""
    of_vectors: bool = False
    """True if a sequence is one vector, and its latents a walk from it instead of one a step."""
    fixed_state: bool = True
    """True if the entries of the state have the same sizes after any number of steps."""

    def __new__(cls, *args, **options):
        net, parameters = super().__new__(cls), signature(cls).parameters
        # Kept for :meth:`save`; a copy takes over its original's.
        given = net.__dict__["given_options"] = dict(zip(parameters, args)) | options
        for name in given.keys() & parameters.keys():
            if get_origin(kind := parameters[name].annotation) is Literal:
                check_choice(kind, **{name: given[name]})
        return net

    def __init__(self):
        super().__init__()
        self.costs, self.weights, self.twist = None, CostWeights(), None

    def save(self, path: str | FilePath) -> None:
        """Writes the net to one file, for ``zforcing_pyro.load``; see :func:`.files.save_net`.

        Raises ValueError if model or emission is in no registry, or an option is no plain value.
        """
        save_net(self, path)

    def context(self, batch: SequenceBatch) -> tuple[Context, State]:
        """Computes what depends on no latent.

        Returns:
            Tensors ``(batch, time, ...)`` that :meth:`path` reads, ``reverse`` is the reverse cost;
            and the last entries of the state that depend on no latent.
        """
        raise NotImplementedError(f"{type(self).__name__} has no fast path, only programs")

    def path(self, context: Context, state: State, latents: Tensor | None) -> Path:
        """Draws the latents of all steps, one ``rsample`` a step, or takes ``latents`` as they are.

        ``context`` is of :meth:`full_context`, or some steps of it; ``state`` is of each particle
        before the first step; latents are ``(particles, batch, time, z_dim)``.
        """
        raise NotImplementedError(f"{type(self).__name__} has no fast path, only programs")

    @property
    def has_fast(self) -> bool:
        """True if the fast path is that of this net's programs.

        A class below the one that wrote the fast path, or the net itself, may override a program or
        a method that programs call: then the net runs by its programs.
        """
        mro, base = type(self).__mro__, StochasticRNN
        if any(getattr(type(self), name) is getattr(base, name) for name in FAST):
            return False
        writer = next(i for i, cls in enumerate(mro) if "path" in vars(cls))
        models = [cls for cls in mro[writer:] if issubclass(cls, base)]
        methods = {n for cls in models[:-1] for n, v in vars(cls).items() if callable(v)}
        methods = {n for n in methods if n not in (*FAST, "step") and not n.startswith("__")}
        below = {n for cls in mro[:writer] for n in vars(cls)} | vars(self).keys()
        return not below & (methods | {"model", "guide"})

    @property
    def has_steps(self) -> bool:
        """True if the fast path may go on from the state after any step, as a filter does."""
        return self.has_fast

    @property
    def active_weights(self) -> CostWeights:
        """The weights of the costs as they are now; none where there are no costs."""
        return CostWeights() if self.costs is None else self.costs.active(self.weights)

    def inputs_before(
        self, batch: SequenceBatch, features: Tensor, layer: Linear | None = None
    ) -> Tensor:
        """Returns e(x_{t-1}) of all steps, or e of the batch's inputs: ``(batch, time, dim)``.

        A ``layer`` is yet to be applied to ``features``, e(x_t), as to the result.
        """
        embed = self.embed if layer is None else torch.nan_to_num  # as an embedding reads them
        (x_prev,) = self.begin(batch.x, batch.state, "x_prev")
        features = features if batch.inputs is None else embed(batch.inputs)
        return delayed(embed(x_prev), features)

    def full_context(self, batch: SequenceBatch) -> tuple[Context, State]:
        """Returns :meth:`context` with ``x`` and ``mask``, and all last entries without latents."""
        context, last = self.context(batch)
        context = {"x": batch.x, "mask": batch.mask} | context
        return context, last | {"x_prev": batch.x[:, -1]}

    def add_twist(self, form: Form = "mlp", hidden_dim: int = 64) -> None:
        """Gives the net a new :class:`.Twist`, for ``TraceTwisted``."""
        self.twist = Twist(self, form, hidden_dim).to(next(self.parameters()))

    @property
    def particle_names(self) -> tuple[str, ...]:
        """Names of the entries of the state that differ between particles."""
        return tuple(self.state_dims) if self.particle_state is None else self.particle_state

    def particles(self, batch: SequenceBatch, num_particles: int) -> State:
        """Returns the state of each particle before the first step, ``(particles, batch, ...)``."""
        names = self.particle_names
        entries = self.begin(batch.x, batch.state, *names)
        return {n: v.expand(num_particles, len(batch.x), -1) for n, v in zip(names, entries)}

    def terms(
        self,
        x: Tensor,
        lengths: Tensor | Sequence[int] | None = None,
        num_particles: int = 1,
        latents: Tensor | None = None,
        state: State | None = None,
        inputs: Tensor | None = None,
    ) -> Terms:
        """Returns the terms of the two programs at a draw of the guide, or at ``latents``.

        Args:
            x, lengths, state, inputs: As in :meth:`model`.
            num_particles: Draws; ``latents`` set their number.
            latents: ``(particles, batch, time, z_dim)``, as those of the result.
        """
        if not self.has_fast:
            return self.program_terms(x, lengths, num_particles, latents, state, inputs)
        batch = self.batch(x, lengths, state, inputs)
        context, last = self.full_context(batch)
        start = self.particles(batch, num_particles if latents is None else len(latents))
        path = self.path(context, start, latents)
        return scored(path, context)._replace(state=last | path.state, weights=self.active_weights)

    def forward(self, *args, **options) -> Terms:
        """Returns :meth:`terms`: ``net(x)`` are the terms at a draw of the guide."""
        return self.terms(*args, **options)

    def program_terms(
        self, x, lengths=None, num_particles=1, latents=None, state=None, inputs=None
    ) -> Terms:
        """Returns :meth:`terms` by traces of the programs; weights are 1, as costs are weighted."""
        values = None
        if isinstance(latents, Tensor):  # without latents it is an empty dict
            num_particles = len(latents)
            values = {f"z_{t}": z for t, z in enumerate(latents.unbind(-2))}
        pair = ProgramPair(self.model, self.guide, x, lengths, state, inputs)
        read: list[Tensor] = []
        hook = self.emission.register_forward_pre_hook(lambda _, args: read.append(args[0]))
        with hook:
            terms = pair.terms(num_particles, values)
        sites = [f"z_{t}" for t in range(len(terms.latents))]
        states = None if self.of_vectors else torch.stack(read[-len(sites) :], -2)

        def stacked(values: Any) -> Any:
            return values and torch.stack([values[z] for z in sites], -2)

        shape, by_site = terms.log_emission.shape, ("latents", "posterior_mean", "prior_mean")
        fields = {name: stacked(getattr(terms, name)) for name in by_site}
        fields |= {name: getattr(terms, name).expand(shape) for name in ("auxiliary", "reverse")}
        states = None if states is None else states.expand(*shape, -1)
        return terms._replace(**fields, states=states)

    def stream(self, *args: Any, **options: Any) -> Stream:
        """Returns a particle filter that reads sequences step by step, in constant memory.

        Missing values are drawn, so a stream forecasts and imputes as well. The arguments are those
        of :class:`.Stream` after its net.

        Raises ValueError if a number is out of range, or the net has no fast path of steps.

        Example:
            >>> net, x = VRNN(Bernoulli, 3, z_dim=2, h_dim=4), torch.zeros(6, 3)
            >>> stream = net.stream()
            >>> nats = [stream.push(x_t).surprise.item() for x_t in x]
            >>> forecasts = [stream.push().x for _ in range(4)]  # (particles, 1, 3) each
        """
        return Stream(self, *args, **options)

    def observe(self, terms: Terms) -> None:
        """Learns from the terms of a training batch what no gradient teaches, such as moments."""

    def log_emission(self, features: Tensor, x: Tensor) -> Tensor:
        """Returns log p(x_t | .) of all steps in nats, ``(particles, batch, time)``.

        Args:
            features: What the emission reads, ``(particles, batch, time, ...)``.
            x: ``(batch, time, ...)``.
        """
        rows = features[..., 0].numel()
        return in_blocks(self._log_prob, self.emission, rows, (features, -2), (x, 1))

    def _log_prob(self, features: Tensor, x: Tensor) -> Tensor:
        return self.emission(features).log_prob(x)

    def given(self, x, lengths=None, state=None, inputs=None, scored=None) -> GivenSequences:
        """Returns this model with a batch, as an estimator's ``objective`` takes it."""
        return GivenSequences(self, x, lengths, state, inputs, scored)

    def given_batch(self, batch: Batch, state: State | None = None) -> GivenSequences:
        """Returns this model with a collated batch, on the net's device and in its dtype.

        Args:
            batch: Of :func:`~zforcing_pyro.data.collate`, on any device.
            state: What the batch starts from; None starts from ``batch.start``, if there is one.
        """
        like = next(self.parameters())
        if batch.x.is_floating_point():  # before it moves: not every device has every dtype
            floats = {k: getattr(batch, k) for k in ("x", "start", "inputs")}
            floats = {k: v.to(like.dtype) for k, v in floats.items() if v is not None}
            batch = batch._replace(**floats)
        x, lengths, start, inputs, scored = batch.to(like.device)
        if state is None and start is not None:
            state = self.initial_state(len(x), start)
        return self.given(x, lengths, state, inputs, scored)

    def batch(self, x, lengths=None, state=None, inputs=None) -> SequenceBatch:
        """Returns the arguments of a program, checked and without padding."""
        x, mask = self.start(x, lengths)
        return SequenceBatch(x, mask, state, self.without_padding(inputs, mask))

    def drop_frames(self, x: Tensor, dropped: Tensor) -> Tensor:
        """Returns ``x`` with start frames or symbols where ``dropped``, ``(batch, time)``."""
        start = self.embed.start(x)[:, None]
        return torch.where(dropped if self.emission.symbols else dropped[..., None], start, x)
