"""Deep Kalman filter, or deep Markov model (Krishnan et al., 2017): https://arxiv.org/abs/1609.09869."""

from typing import Any, Literal

import pyro
import pyro.distributions as dist
from pyro import poutine
from torch import Tensor, nn

from ..emissions import DiagNormal
from ..emissions.normal import DiagonalNormal
from ..layers.blocks import MLP, clipped_leaky_relu, embedding, full_precision
from ..layers.lstm import BackwardLSTM, ForwardLSTM
from .base import EmissionFactory, StochasticRNN
from .checks import check_no_costs, check_sizes
from .costs import FutureCosts
from .recurrence.recurrence import roll_out_markov
from .steps import Path, SequenceBatch, State, frame_before

Inference = Literal["left", "right", "both"]


class DKF(StochasticRNN):
    r"""A Markov chain of latents, with a gated transition; no RNN in the model.

    .. math::
        p(x, z) &= \prod_t p(z_t \mid z_{t-1})\, p(x_t \mid z_t)

        q(z \mid x) &= \prod_t q(z_t \mid s_t), & s_t &= \tfrac{1}{2} (\tanh(W z_{t-1} + c) + b_t)
            && \text{right}

        & & s_t &= \tfrac{1}{2} (\tanh(W z_{t-1} + c) + l_t) && \text{left}

        & & s_t &= \tfrac{1}{3} (\tanh(W z_{t-1} + c) + l_t + b_t) && \text{both}

    (the paper's ST-R, ST-L, ST-LR), where :math:`l_t` is the state of an LSTM that has read
    x_1, ..., x_t, and :math:`b_t` of one that has read x_T, ..., x_t; :math:`z_0 = 0`. Observations
    are no input of the model, which therefore ignores ``inputs`` and a frame before the first.
    With :math:`b_t` it can carry the costs of :class:`ZForcing`.

    Args:
        emission: Family of p(x_t | z_t), called as ``emission(in_dim, x_dim)``. With no
            RNN to do the work, it wants a hidden layer of its own.
        x_dim: Size of a frame, or number of symbols.
        z_dim: Size of z_t.
        h_dim: Size of l_t, b_t and s_t.
        hidden_dim: Size of the hidden layers of transition and auxiliary networks.
        embed_dim: Size of what the LSTMs read of x_t; 0 feeds frames as they are, and is refused
            for symbols.
        inference: Which observations the posterior of a step sees, beside z_{t-1}.
        clamp: Bound on absolute mean and log-scale of posterior and auxiliary, and on the
            transition's log-scale; 0 is none.
        costs: Options of :class:`.FutureCosts`.
    """

    particle_state = ("z",)
    reads_inputs = False

    def __init__(
        self,
        emission: EmissionFactory,
        x_dim: int,
        z_dim: int = 64,
        h_dim: int = 256,
        hidden_dim: int = 256,
        embed_dim: int = 256,
        inference: Inference = "right",
        clamp: float = 8.0,
        **costs: Any,
    ):
        super().__init__()
        check_sizes(embed_dim, clamp, x_dim=x_dim, z_dim=z_dim, h_dim=h_dim, hidden_dim=hidden_dim)
        self.state_dims = {"z": z_dim}
        self.emission = emission(z_dim, x_dim)
        self.embed = embedding(x_dim, embed_dim, self.emission.symbols)
        self.transition = GatedTransition(z_dim, hidden_dim, clamp)
        self.left_rnn = self.backward_rnn = None
        if inference != "right":
            self.left_rnn = ForwardLSTM(self.embed.out_dim, h_dim)
            self.state_dims |= {"l": h_dim, "l_c": h_dim}
        if inference != "left":
            self.backward_rnn, self.backward_entry = BackwardLSTM(self.embed.out_dim, h_dim), "b"
        self.num_summands = 3 if inference == "both" else 2
        self.combiner = nn.Linear(z_dim, h_dim)
        self.posterior = DiagNormal(h_dim, z_dim, clamp=clamp)
        self.costs = FutureCosts(
            emission, x_dim, z_dim, h_dim, hidden_dim, 0, h_dim, {"clamp": clamp}, **costs
        )
        self.weights = self.costs.first_weights
        if inference == "left":
            check_no_costs("a DKF inferring from the left", self.costs)

    def model(self, x, lengths=None, state=None, inputs=None):
        x, mask = self.start(x, lengths)
        (z,) = self.begin(x, state, "z")
        with pyro.plate("sequences", len(x), dim=-1):
            for t in pyro.markov(range(x.shape[1])):
                with poutine.mask(mask=mask[:, t]):
                    z = pyro.sample(f"z_{t}", self.transition(z))
                    x_t = pyro.sample(f"x_{t}", self.emission(z), obs=x[:, t])
        return {"z": z, "x_prev": x_t}

    def guide(self, x, lengths=None, state=None, inputs=None):
        batch = self.batch(x, lengths, state)
        x, mask, (z,), before = batch.x, batch.mask, self.begin(x, state, "z"), frame_before(state)
        summary, b, last = self.read(batch)
        with pyro.plate("sequences", len(x), dim=-1):
            for t in pyro.markov(range(x.shape[1])):
                with poutine.mask(mask=mask[:, t]):
                    z_past = z
                    z = pyro.sample(f"z_{t}", self.approximation(z_past, summary[:, t]))
                    self.costs.factors(t, self.weights, z, z_past, b[:, t], before)
                before = x[:, t]
        return {"z": z, "x_prev": before} | last

    def read(self, batch: SequenceBatch) -> tuple[Tensor, Tensor, State]:
        """Reads the data for the posterior.

        Returns:
            l_t + b_t, or the one of them that there is, ``(batch, time, h_dim)``; b_t, or l_t in
            its place; and the last state of l.
        """
        embedded, last = self.embed(batch.x), {}
        if self.left_rnn is not None:
            start = self.begin(batch.x, batch.state, "l", "l_c")
            left, (h, c) = self.left_rnn(embedded, start)
            last = {"l": h, "l_c": c}
        if self.backward_rnn is None:
            return left, left, last
        b = self.backward_rnn(embedded, batch.lengths)
        return (b if self.left_rnn is None else left + b), b, last

    def approximation(self, z_past: Tensor, summary: Tensor) -> dist.Distribution:
        """Returns q(z_t | z_{t-1}, x) of one step or all."""
        return self.posterior((self.combiner(z_past).tanh() + summary) / self.num_summands)

    def step(self, x_prev, state):
        z = self.transition(state["z"])()
        return z, z, {"z": z}

    def context(self, batch):
        summary, b, last = self.read(batch)
        reverse = self.costs.log_reverse_of_steps(b, batch.x, frame_before(batch.state))
        return {"summary": summary, "b": b, "reverse": reverse}, last

    def path(self, context, state, latents):
        """The loop holds what z_{t-1} enters; transition and emission are one call each."""

        def conditionals(z_past: Tensor, summary: Tensor) -> tuple[dist.Distribution]:
            return (self.approximation(z_past, summary),)

        features = (context["summary"],)
        z_past, z, (posterior,) = roll_out_markov(conditionals, features, state["z"], latents)
        log_emission = self.log_emission(z, context["x"])
        auxiliary = self.costs.log_auxiliary(z, z_past, context["b"])
        last = {"z": z[..., -1, :]}
        prior = self.transition(z_past)
        return Path(z, prior, posterior, log_emission, last, auxiliary, features=z, past=z_past)


class GatedTransition(nn.Module):
    r"""A Gaussian whose mean is gated between a linear and a nonlinear function.

    .. math::
        p(z_t \mid z_{t-1}) &= \mathcal{N}(\mu, \operatorname{diag} \sigma^2),
            & \mu &= (1 - g) \odot (W z_{t-1} + c) + g \odot f

        g &= \sigma(f_g(z_{t-1})), \quad f = f_h(z_{t-1}),
            & \log \sigma &= W_s\, a(f) + c_s

    W starts as the identity and c as 0. As everywhere in this package, a is a leaky ReLU and a
    scale an exponential, where the paper has a ReLU, and a softplus for :math:`\sigma^2`.

    Args:
        z_dim: Size of z_t.
        hidden_dim: Size of the hidden layer of f_g and f_h.
        clamp: Bound on the absolute log-scale; 0 is none.
    """

    def __init__(self, z_dim: int, hidden_dim: int, clamp: float):
        super().__init__()
        self.clamp = clamp
        self.gate = MLP(z_dim, [hidden_dim], z_dim)
        self.proposal = MLP(z_dim, [hidden_dim], z_dim)
        self.linear = nn.Linear(z_dim, z_dim)
        self.log_scale = nn.Linear(z_dim, z_dim)
        nn.init.eye_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, z: Tensor) -> dist.Distribution:
        gate, proposal = self.gate(z).sigmoid(), self.proposal(z)
        loc = full_precision((1 - gate) * self.linear(z) + gate * proposal)
        log_scale = full_precision(self.log_scale(clipped_leaky_relu(proposal)))
        if self.clamp:
            log_scale = log_scale.clamp(-self.clamp, self.clamp)
        return DiagonalNormal(loc, log_scale)
