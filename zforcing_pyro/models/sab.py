"""Sparse Attentive Backtracking (Ke et al., 2018): https://arxiv.org/abs/1809.03702."""

from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor
from torch.nn.functional import pad

from ..emissions import StandardNormal
from ..layers.attention import Memory, SparseAttentiveLSTM
from ..layers.blocks import embedding
from .base import EmissionFactory, StochasticRNN
from .checks import check_sizes
from .rnn import RNN
from .steps import State


class SAB(StochasticRNN):
    r"""An LSTM that attends to its own past states, through which credit reaches far back.

    .. math:: p(x) = \prod_t p(x_t \mid h_t, s_t), \qquad
        h_t, s_t = \mathrm{SAB}(e(x_{t-1}), h_{t-1}, \{m_i\})

    The recurrence is :class:`.SparseAttentiveLSTM`. Its gradient is cut every ``k_trunc`` steps,
    but flows on through the few memories that a step reads. Credit paths get short; memory is not
    saved, since all states are kept. Like an RNN it has no latents, and every bound is log p(x).

    Args:
        emission: Family of p(x_t | h_t, s_t), called as ``emission(in_dim, x_dim)``.
        x_dim: Size of a frame, or number of symbols.
        h_dim: Size of h_t.
        embed_dim: Size of e(x_t); 0 feeds frames as they are, and is refused for symbols.
        options: As for :class:`.SparseAttentiveLSTM`.
    """

    particle_state = ("z",)

    def __init__(
        self,
        emission: EmissionFactory,
        x_dim: int,
        h_dim: int = 256,
        embed_dim: int = 256,
        **options: Any,
    ):
        super().__init__()
        check_sizes(x_dim=x_dim, h_dim=h_dim, embed_dim=embed_dim)
        self.emission = emission(2 * h_dim, x_dim)
        self.embed = embedding(x_dim, embed_dim, self.emission.symbols)
        self.rnn = SparseAttentiveLSTM(self.embed.out_dim, h_dim, **options)
        self.state_dims = self.rnn.state_dims | {"z": 0}
        self.fixed_state = bool(self.rnn.max_memory)
        self.nothing = StandardNormal(0)

    def model(self, x, lengths=None, state=None, inputs=None):
        x, mask, state, inputs = self.batch(x, lengths, state, inputs)
        memory, x_prev = self.memory(x, state), self.begin(x, state, "x_prev")[0]
        with pyro.plate("sequences", len(x), dim=-1):
            for t in pyro.markov(range(x.shape[1])):
                with poutine.mask(mask=mask[:, t]):
                    z = pyro.sample(f"z_{t}", self.nothing(memory.h))
                    features, _, memory = self.rnn.step(self.embed(x_prev), memory)
                    x_t = pyro.sample(f"x_{t}", self.emission(features), obs=x[:, t])
                x_prev = x_t if inputs is None else inputs[:, t]
        return {"z": z, "x_prev": x_t, **self.rnn.close(memory)}

    def memory(self, x: Tensor, state: State | None) -> Memory:
        """Returns the recurrence's state before the first step."""
        names = list(self.rnn.state_dims)
        return self.rnn.open(dict(zip(names, self.begin(x, state, *names))))

    def opened(self, x, state):
        return self.memory(x, state)

    def step(self, x_prev, state):
        z = self.nothing(state.h)()
        features, _, state = self.rnn.step(self.embed(x_prev), state)
        return z, features, state

    def context(self, batch):
        past = self.inputs_before(batch, self.embed(batch.x))
        features, memory = self.rnn(past, self.memory(batch.x, batch.state))
        return {"h": features}, self.rnn.close(memory)

    guide, path = RNN.guide, RNN.path

    @torch.no_grad()
    def attention(self, x, lengths=None, state=None, inputs=None) -> Tensor:
        """Returns the weight of each memory at each step, ``(batch, time, memories)``.

        The first memory is what a sequence starts from, the zero state; memory i is h of step
        ``i k_att - 1``, counted from 0. Weights of memories not yet written are 0.

        Args:
            x, lengths, state, inputs: As in :meth:`model`.
        """
        batch = self.batch(x, lengths, state, inputs)
        memory, rows = self.memory(batch.x, batch.state), []
        for x_t in self.inputs_before(batch, self.embed(batch.x)).unbind(1):
            _, weights, memory = self.rnn.step(x_t, memory)
            rows.append(weights)
        num = rows[-1].shape[1]
        return torch.stack([pad(row, (0, num - row.shape[1])) for row in rows], 1)
