r"""Lossless coding of sequences by a trained model, with bits back.

A sequence costs :math:`\log q(z \mid x) - \log p(x, z)` nats at latents that are read from the bits
of the sequences before it (Townsend et al., 2019, https://arxiv.org/abs/1901.04866).
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent
from torch.nn.utils.rnn import pad_sequence

from ..data.checks import check_range
from ..emissions import AutoregressiveBernoulli
from ..models import StochasticRNN
from ..models.steps import State
from .coded_steps import CodedSites, Guide, alphabet, exact, moments
from .stack import GRID, Stack, initial_words

Progress = Callable[[int], Any]


class Coded(NamedTuple):
    """Sequences as bits."""

    words: np.ndarray  # uint32, from the bottom of the stack
    initial: int  # words among them that the first latents were read from
    bits: int  # bits without initial words, and without rounding up to a word
    latents: list[Tensor]  # latents of each sequence, (time, z_dim)


class Coder:
    """Codes sequences by a copy of a net in float64, on one thread of the CPU.

    Encoding pops all latents of a sequence by q(z_t | z before t, x). Then it pushes x_t and z_t by
    p, from the last step to the first. Decoding pops z_t and x_t forward, since p depends on the
    past alone. With all of x it pushes the latents back by q, so q may see the future. Both run the
    same calls on arrays of the same shapes, so that parameters agree in every bit.

    Args:
        net: A model with Gaussian latents, or without latents, of discrete data.
        batch_size: Sequences coded side by side. More are faster and need more initial bits.

    Raises:
        ValueError: If the net has no fast path, is of vectors, or its emission is continuous.
    """

    grid = GRID

    def __init__(self, net: StochasticRNN, batch_size: int = 1):
        check_range(1, batch_size=batch_size)
        if net.of_vectors or not net.has_steps or not net.fixed_state:
            rule, name = "a fast path of steps with a state of fixed size", type(net).__name__
            raise ValueError(f"'net' must have {rule} to be coded, got {name}")
        self.first, self.width, self.size = alphabet(net.emission)
        self.net = copy.deepcopy(net).to("cpu", torch.float64).eval()
        self.batch_size = batch_size

    def encode(self, sequences: Sequence[Tensor], progress: Progress = lambda done: None) -> Coded:
        """Returns sequences, ``(time, x_dim)`` or ``(time,)``, as one stack of bits.

        Raises ValueError for a value that the emission does not have.
        """
        stack, latents = Stack(self.grid), []
        for begin in range(0, len(sequences), self.batch_size):
            group = list(sequences[begin : begin + self.batch_size])
            with exact():
                z = self.push(stack, group)
            latents += [z[i, : len(x)] for i, x in enumerate(group)]
            progress(begin + len(group))
        return Coded(stack.words(), stack.initial, stack.bits(), latents)

    def decode(
        self,
        words: np.ndarray,
        lengths: Sequence[int],
        stop: int | None = None,
        progress: Progress = lambda done: None,
    ) -> list[Tensor]:
        """Returns the sequences of :meth:`encode`, in their order.

        ``lengths`` are their steps; for sequences that end with the symbol ``stop``, upper bounds
        are enough. Raises ValueError if the bits do not end at the initial ones.
        """
        stack, sequences = Stack(self.grid, words), []
        for begin in reversed(range(0, len(lengths), self.batch_size)):
            group = torch.tensor(lengths[begin : begin + self.batch_size])
            with exact():
                sequences[:0] = self.pop(stack, group, stop)
            progress(len(sequences))
        if not np.array_equal(stack.words(), initial_words(len(stack.words()))):
            raise ValueError("bits must end at the initial ones, but they were decoded otherwise")
        return sequences

    def bound(self, sequences: Sequence[Tensor], latents: Sequence[Tensor]) -> Tensor:
        """Returns log p(x, z) - log q(z | x) of each sequence in nats, ``(num,)``.

        The numbers are those of :meth:`StochasticRNN.terms`, which takes no part in coding.
        """
        pairs = zip(sequences, latents)
        with torch.no_grad():
            terms = [self.net.terms(x[None], latents=z[None, None]) for x, z in pairs]
        return torch.stack([t.log_weight.sum() for t in terms])

    def push(self, stack: Stack, group: list[Tensor]) -> Tensor:
        """Adds sequences side by side, and returns their latents, ``(batch, time, z_dim)``."""
        lengths = torch.tensor([len(x) for x in group])
        x = self.net.observations(pad_sequence(group, batch_first=True))
        guide, pushes, zs = Guide(self.net, x, lengths), [], []

        def points(loc: Tensor, unit: Tensor, active: Tensor) -> np.ndarray:
            popped = stack.pop_gaussians(*guide.relative(loc, unit, active))
            pushes.append(partial(stack.push_prior, popped))
            return popped

        def symbols(table: Tensor, values: Tensor) -> Tensor:
            index = self.index(values)
            pushes.append(partial(stack.push, index.numpy(), table))
            return index

        for step in self.forward(lengths, points, symbols, x):
            guide.advance(step.z)
            zs.append(step.z)
        for push in reversed(pushes):
            push()
        return torch.stack(zs, 1)

    def pop(self, stack: Stack, lengths: Tensor, stop: int | None = None) -> list[Tensor]:
        """Removes sequences that :meth:`push` added, and returns them."""
        popped: list[np.ndarray] = []

        def points(loc: Tensor, unit: Tensor, active: Tensor) -> np.ndarray:
            popped.append(stack.pop_prior(int(active.sum()) * loc.shape[1]))
            return popped[-1]

        def symbols(table: Tensor, values: Tensor) -> Tensor:
            return torch.from_numpy(stack.pop(table)).long()

        path = list(self.forward(lengths, points, symbols, stop=stop))
        x, active = (torch.stack([getattr(s, n) for s in path], 1) for n in ("x", "active"))
        guide, relatives = Guide(self.net, x, active.sum(1)), []
        for step in path if popped else ():
            relatives.append(guide.relative(step.loc, step.unit, step.active))
            guide.advance(step.z)
        for row, relative in zip(reversed(popped), reversed(relatives)):
            stack.push_gaussians(row, *relative)
        return [row[real] for row, real in zip(x, active)]

    def forward(
        self,
        lengths: Tensor,
        points: Callable[[Tensor, Tensor, Tensor], np.ndarray],
        symbols: Callable[[Tensor, Tensor], Tensor],
        x: Tensor | None = None,
        stop: int | None = None,
    ) -> Iterator["Step"]:
        """Yields the steps of the generative program, with values from two functions.

        Args:
            lengths, stop: Steps of each sequence, ``(batch,)``, at most, and the symbol that ends.
            points: From mean and grid of a prior, and active rows, to grid points, flat.
            symbols: From tables ``(num, size)`` and observations ``(num,)`` to symbols, ``(num,)``.
            x: Observations, if there are.
        """
        like = self.net.emission.template(len(lengths), 1, next(self.net.parameters()))
        state, t = self.net.initial_state(len(lengths)), 0
        while (active := lengths > t).any():
            x_t = like[:, 0] if x is None else x[:, t].clone()
            state, step = self.step(state, like, active, x_t, points, symbols)
            yield step
            t += 1
            if stop is not None:
                lengths = torch.where(active & (step.x == stop), t, lengths)

    def step(
        self,
        state: State,
        like: Tensor,
        active: Tensor,
        x_t: Tensor,
        points: Callable[[Tensor, Tensor, Tensor], np.ndarray],
        symbols: Callable[[Tensor, Tensor], Tensor],
    ) -> tuple[State, "Step"]:
        """Runs the model's program for one step; see :meth:`forward`."""

        def latent(prior: Distribution) -> Tensor:
            loc, scale = moments(prior)
            unit, point = scale / self.grid, torch.zeros_like(loc)
            if point.numel():
                values = torch.from_numpy(points(loc, unit, active)).to(loc)
                point[active] = values.view(-1, loc.shape[1])
            drawn.update(loc=loc, unit=unit, z=loc + unit * point)
            return drawn["z"]

        def visit(table: Tensor, values: Tensor) -> Tensor:
            index = torch.zeros(table.shape[:-1], dtype=torch.long)
            rows = symbols(table[active].flatten(0, -2), values[active].flatten())
            index[active] = rows.view(-1, *index.shape[1:])
            return index

        def observation(p: Distribution) -> Tensor:
            value = self.observe(p, visit, x_t)
            drawn["x"] = torch.where(active.view(-1, *[1] * (value.dim() - 1)), value, 0)
            return drawn["x"]

        drawn = {"active": active}
        with CodedSites({"z_0": latent, "x_0": observation}):
            state = state | self.net.model(like, None, state)
        return state, Step(**drawn)

    def observe(self, p: Distribution, visit: Callable, x_t: Tensor) -> Tensor:
        """Returns an observation by its distribution; entries that depend on others one by one."""
        values = self.first + self.width * torch.arange(self.size, dtype=torch.float64)
        if isinstance(p, AutoregressiveBernoulli):
            x = torch.zeros_like(x_t)
            for i in range(x.shape[1]):
                one = p.conditional_logits(x)[:, i].sigmoid()
                x[:, i] = visit(torch.stack([1 - one, one], -1), x_t[:, i])
            return x
        base = p.base_dist if isinstance(p, Independent) else p
        table = base.log_prob(values.view(-1, *[1] * len(base.batch_shape))).exp().movedim(0, -1)
        return values[visit(table, x_t)].to(x_t.dtype)

    def index(self, x: Tensor) -> Tensor:
        """Returns observations as indices into the alphabet; ValueError if one is not in it."""
        index = ((x - self.first) / self.width).round()
        wrong = (index < 0) | (index >= self.size) | (self.first + self.width * index != x)
        if wrong.any():
            kind = f"{self.first:g}, {self.first + self.width:g}, ..."
            got = x[wrong][0].item()
            raise ValueError(f"'x' must be one of the {self.size} values {kind}, got {got:g}")
        return index.long()


class Step(NamedTuple):
    """A step of sequences side by side."""

    active: Tensor  # True where a sequence has this step, (batch,)
    x: Tensor  # observations, (batch, x_dim) or (batch,)
    loc: Tensor  # mean of the prior, (batch, z_dim)
    unit: Tensor  # distance of grid points, (batch, z_dim)
    z: Tensor  # latents, (batch, z_dim)
