"""Two Pyro programs for sequences that are padded on the right."""

from abc import ABC, abstractmethod
from collections import Counter
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import pyro
import torch
from pyro.infer.util import is_validation_enabled
from pyro.poutine.runtime import _PYRO_STACK, am_i_wrapped, effectful
from torch import Tensor, nn
from torch.distributions import constraints

from ..data.checks import check_range
from ..emissions import Emission
from ..layers.blocks import Embedding, is_full, length_mask, no_frame, time_first
from .checks import as_lengths, as_tensor, check_prefix, check_sequences
from .free_running import free_run
from .steps import State, frame_before

MaybeTensor = TypeVar("MaybeTensor", Tensor, None)


class SequencePrograms(nn.Module, ABC):
    """A model and a guide over latents ``z_0 .. z_{T-1}``, and what both programs begin with.

    Parameters live in the module. The programs announce them to handlers under a name of this
    instance, so that ``pyro.infer.SVI`` trains them and no two nets share any. SVI keeps them in
    Pyro's store too, which can save them, and its optimiser's state. Another process loads both
    for the net of the same number in its class: ``vrnn$...`` is the first, ``vrnn_2$...`` follows.
    """

    emission: Emission
    embed: Embedding
    """Features of observations, where a recurrence reads them."""
    state_dims: dict[str, int]
    """Sizes of the entries of the state; set by a constructor."""

    @abstractmethod
    def model(self, x, lengths=None, state=None, inputs=None) -> State:
        """The program of p(x, z); under ``poutine.uncondition`` it generates.

        Steps past a length are masked, and what stands there is never read.

        Args:
            x: ``(batch, time, x_dim)``, or ``(batch, time)`` for symbols; a tensor or an array.
            lengths: Steps of each sequence, ``(batch,)``; None is all of them.
            state: What to start from; None is :meth:`initial_state`.
            inputs: What the generative recurrence reads in place of ``x``, such as ``x`` with
                frames dropped; None is ``x``.

        Returns:
            The entries that the program has of the state that the next chunk of each sequence
            starts from, see :func:`detached`; both programs together have all.
        """

    @abstractmethod
    def guide(self, x, lengths=None, state=None, inputs=None) -> State:
        """The program of q(z | x), with arguments and result as in :meth:`model`.

        A ``pyro.factor`` of it is minus a cost, and no part of q.
        """

    def initial_state(self, num_sequences: int, x_prev: Tensor | None = None) -> State:
        """Returns the state before a sequence: zeros, and the frame before it if there is one.

        ``x_prev`` is the input of the first step, in protocols that condition on an unscored frame:
        ``(batch, x_dim)`` or ``(batch,)``. A row of NaN, or -1, marks a sequence without.
        """
        like = next(self.parameters())
        state = {name: like.new_zeros(num_sequences, n) for name, n in self.state_dims.items()}
        return state | ({} if x_prev is None else {"x_prev": x_prev})

    def begin(self, x: Tensor, state: State | None, *names: str) -> tuple[Tensor, ...]:
        """Returns entries of the state before the first step, in the order of ``names``.

        Without a ``state`` they are those of :meth:`initial_state`; ``x_prev`` is a start symbol
        where nothing precedes.
        """
        state = self.initial_state(len(x)) if state is None else state
        if "x_prev" in names:
            start, before = self.embed.start(x), frame_before(state)
            if before is not None:
                none = no_frame(before, self.emission.symbols)
                start = torch.where(none, start, before)
            state = state | {"x_prev": start}
        return tuple(state[name] for name in names)

    def start(self, x, lengths=None) -> tuple[Tensor, Tensor]:
        """Begins a program: announces the parameters, and checks the data if Pyro validates.

        Returns the data without padding, and the mask of real steps, ``(batch, time)``.
        """
        x = self.observations(x)
        lengths = as_lengths(lengths, x)
        if is_validation_enabled():
            check_sequences(x, lengths, self.emission)
        if am_i_wrapped():
            instance = instance_name(self)
            for name, parameter in self.named_parameters():
                key = f"{instance}${name}"
                announce(parameter, key, name=key, constraint=constraints.real)
        mask = length_mask(lengths, x.shape[1])
        return self.without_padding(x, mask), mask

    def observations(self, x: Any) -> Tensor:
        """Returns ``x`` as a tensor; floating numbers, but for symbols, have the net's dtype."""
        like = next(self.parameters())
        x = as_tensor(x, "x", like)
        return x.to(like.dtype) if x.is_floating_point() and not self.emission.symbols else x

    def without_padding(self, x: MaybeTensor, mask: Tensor) -> MaybeTensor:
        """Returns ``x`` with zeros past the lengths, time first in memory; None stays None."""
        if x is None:
            return None
        x = self.observations(x)
        if not is_full(mask):
            x = torch.where(mask if self.emission.symbols else mask[..., None], x, 0)
        return time_first(x)

    def programs(self) -> tuple["Program", "Program"]:
        """Returns model and guide as modules, for ``elbo(*net.programs())``."""
        return Program(self, "model"), Program(self, "guide")

    def opened(self, x: Tensor, state: State | None) -> Any:
        """Returns what :meth:`step` takes before the first step of data shaped like ``x``."""
        return dict(zip(self.state_dims, self.begin(x, state, *self.state_dims)))

    def step(self, x_prev: Tensor, state: Any) -> tuple[Tensor, Tensor, Any]:
        """Draws one step of the model, without its program: part of the fast path.

        Args:
            x_prev: x_{t-1}, ``(batch, x_dim)`` or ``(batch,)``.
            state: Of the step before, or of :meth:`opened`.

        Returns:
            z_t, what the emission reads at t, both ``(batch, dim)``, and the state after.
        """
        raise NotImplementedError(f"{type(self).__name__} has no steps, only a program")

    @property
    def draws_by_steps(self: Any) -> bool:
        """True if :meth:`step` is there, and is that of this net's model."""
        mro = type(self).__mro__
        step, model = (
            next(i for i, cls in enumerate(mro) if n in vars(cls)) for n in ("step", "model")
        )
        return self.has_fast and step <= model and mro[step] is not SequencePrograms

    @torch.no_grad()
    def generate(
        self: Any, num_sequences: int, num_steps: int, prefix: Tensor | None = None
    ) -> Tensor:
        """Returns draws of the model's program, ``(num_sequences, num_steps, x_dim)``.

        Draws go on from a ``prefix``, ``(num_sequences, prefix_steps, x_dim)``, which counts among
        the steps; its latents come from the guide, which has read the prefix alone. Symbols have no
        last dim. A prefix or number that does not fit is a ValueError.
        """
        check_range(1, num_sequences=num_sequences, num_steps=num_steps)
        x = self.emission.template(num_sequences, num_steps, next(self.parameters()))
        if prefix is None:
            return free_run(self, x).x
        prefix = self.observations(prefix)
        check_prefix(prefix, num_sequences, num_steps, self.emission)
        state: State = self.terms(prefix).state
        state = {k: v[0] if v.dim() == 3 and k != "x_prev" else v for k, v in state.items()}
        rest = x[:, prefix.shape[1] :]
        return torch.cat([prefix, free_run(self, rest, state).x], 1) if rest.shape[1] else prefix


class Program(nn.Module):
    """One of a net's programs as a module, whose parameters are all of the net's."""

    def __init__(self, net: SequencePrograms, name: str):
        super().__init__()
        self.net, self.name = net, name

    def forward(self, *args, **kwargs) -> State:
        return getattr(self.net, self.name)(*args, **kwargs)


_names: WeakKeyDictionary[SequencePrograms, str] = WeakKeyDictionary()
_counts: Counter[str] = Counter()


def instance_name(net: SequencePrograms) -> str:
    """Returns a net's name in Pyro's store, which no other net of the process ever has."""
    if net not in _names:
        kind = type(net).__name__.lower()
        _counts[kind] += 1
        _names[net] = f"{kind}_{_counts[kind]}" if _counts[kind] > 1 else kind
    return _names[net]


@effectful(type="param")
def announce(parameter: nn.Parameter, key: str, constraint: Any) -> Tensor:
    """Tells Pyro's handlers of a parameter; under ``SVI`` also enters it into Pyro's store.

    Pyro's tools that draw programs read the ``constraint``. A value that the store already holds
    can only have been loaded, and becomes the parameter's. Raises ValueError if that value has
    another shape.
    """
    store = pyro.get_param_store()
    training = any(getattr(handler, "param_only", False) for handler in _PYRO_STACK)
    if training and parameter.requires_grad and store._params.get(key) is not parameter:
        if key in store:
            if store[key].shape != parameter.shape:
                raise ValueError(
                    f"'{key}' of Pyro's store must have shape {tuple(parameter.shape)}, got "
                    f"{tuple(store[key].shape)}; pyro.clear_param_store() forgets it"
                )
            with torch.no_grad():
                parameter.copy_(store[key])
            del store[key]
        store[key] = parameter
    alias = parameter.detach()  # since an attribute on the parameter itself would not be pickled
    alias.unconstrained = lambda: parameter  # type: ignore[attr-defined]
    return alias
