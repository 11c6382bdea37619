"""VRNN (Chung et al., 2015): https://arxiv.org/abs/1506.02216."""

from typing import Literal

import pyro
from pyro import poutine
from torch import nn

from ..emissions import DiagNormal, StandardNormal
from ..layers.blocks import concat, embedding
from ..layers.lstm import LSTMCell
from .base import EmissionFactory, StochasticRNN
from .checks import check_sizes
from .recurrence.recurrence import Backend, roll_out
from .steps import Path

Prior = Literal["learned", "standard"]


class VRNN(StochasticRNN):
    r"""A stochastic RNN with a filtering posterior, whose latents enter the emission too.

    .. math::
        p(x, z) &= \prod_t p(z_t \mid h_t)\, p(x_t \mid h_t, z_t),
            & h_t &= \mathrm{LSTM}([e(x_{t-1}), z_{t-1}], h_{t-1})

        q(z \mid x) &= \prod_t q(z_t \mid h_t, e(x_t))

    The paper's :math:`h_{t-1}`, which has read x_{t-1} and z_{t-1}, is :math:`h_t` here, and
    :math:`z_0 = 0`. VRNN-I, of independent latents, is ``prior="standard"``.

    Args:
        emission: Family of p(x_t | h_t, z_t), called as ``emission(in_dim, x_dim)``.
        x_dim: Size of a frame, or number of symbols.
        z_dim: Size of z_t.
        h_dim: Size of h_t.
        hidden_dim: Size of the hidden layer of the prior and posterior networks.
        embed_dim: Size of e(x_t); 0 feeds frames as they are, and is refused for symbols.
        prior: A network of h_t, or N(0, I).
        clamp: Bound on absolute mean and log-scale of prior and posterior; 0 is none.
        backend: Of the fast path, see :func:`.recurrence.roll_out`: the numbers are the same.
    """

    def __init__(
        self,
        emission: EmissionFactory,
        x_dim: int,
        z_dim: int = 64,
        h_dim: int = 256,
        hidden_dim: int = 256,
        embed_dim: int = 256,
        prior: Prior = "learned",
        clamp: float = 8.0,
        backend: Backend = "auto",
    ):
        super().__init__()
        check_sizes(embed_dim, clamp, x_dim=x_dim, z_dim=z_dim, h_dim=h_dim, hidden_dim=hidden_dim)
        self.backend = backend
        self.state_dims = {"h": h_dim, "c": h_dim, "z": z_dim}
        self.emission = emission(h_dim + z_dim, x_dim)
        self.embed = embedding(x_dim, embed_dim, self.emission.symbols)
        self.cell = LSTMCell(self.embed.out_dim, z_dim, h_dim)
        in_dim = h_dim + self.embed.out_dim
        if prior == "standard":
            self.prior: nn.Module = StandardNormal(z_dim)
        else:
            self.prior = DiagNormal(h_dim, z_dim, [hidden_dim], clamp=clamp)
        self.posterior = DiagNormal(in_dim, z_dim, [hidden_dim], clamp=clamp)

    def model(self, x, lengths=None, state=None, inputs=None):
        x, mask, state, inputs = self.batch(x, lengths, state, inputs)
        h, c, z, x_prev = self.begin(x, state, "h", "c", "z", "x_prev")
        with pyro.plate("sequences", len(x), dim=-1):
            for t in pyro.markov(range(x.shape[1])):
                h, c = self.cell(self.embed(x_prev), z, (h, c))
                with poutine.mask(mask=mask[:, t]):
                    z = pyro.sample(f"z_{t}", self.prior(h))
                    x_t = pyro.sample(f"x_{t}", self.emission(concat(h, z)), obs=x[:, t])
                x_prev = x_t if inputs is None else inputs[:, t]
        return {"h": h, "c": c, "z": z, "x_prev": x_t}

    def guide(self, x, lengths=None, state=None, inputs=None):
        x, mask, state, inputs = self.batch(x, lengths, state, inputs)
        h, c, z, x_prev = self.begin(x, state, "h", "c", "z", "x_prev")
        with pyro.plate("sequences", len(x), dim=-1):
            for t in pyro.markov(range(x.shape[1])):
                h, c = self.cell(self.embed(x_prev), z, (h, c))
                with poutine.mask(mask=mask[:, t]):
                    z = pyro.sample(f"z_{t}", self.posterior(concat(h, self.embed(x[:, t]))))
                x_prev = x[:, t] if inputs is None else inputs[:, t]
        return {"h": h, "c": c, "z": z, "x_prev": x[:, -1]}

    def step(self, x_prev, state):
        h, c = self.cell(self.embed(x_prev), state["z"], (state["h"], state["c"]))
        z = self.prior(h)()
        return z, concat(h, z), {"h": h, "c": c, "z": z}

    def context(self, batch):
        embedded = self.embed(batch.x)
        projected = self.cell.project(self.inputs_before(batch, embedded))
        return {"projected": projected, "embedded": embedded}, {}

    def path(self, context, state, latents):
        """The loop holds what is recurrent; every other product is one for all steps."""
        projected = context["projected"]
        start = self.cell.step(projected[:, 0], state["z"], (state["h"], state["c"]))
        rolled = roll_out(
            self.cell,
            self.posterior,
            projected[:, 1:],
            context["embedded"],
            start,
            latents,
            self.backend,
        )
        h, z = rolled.h_past, rolled.z
        features = concat(h, z)
        log_emission = self.log_emission(features, context["x"])
        last = {"h": h[..., -1, :], "c": rolled.c, "z": z[..., -1, :]}
        conditionals = self.prior(h), rolled.posterior
        return Path(z, *conditionals, log_emission, last, features=features, past=h)
