"""SRNN (Fraccaro et al., 2016): https://arxiv.org/abs/1605.07571."""

from typing import Any, Literal

import pyro
import pyro.distributions as dist
from pyro import poutine
from torch import Tensor

from ..emissions import DiagNormal
from ..emissions.normal import DiagonalNormal
from ..layers.blocks import MLP, concat, embedding
from ..layers.lstm import BackwardLSTM, ForwardLSTM
from .base import EmissionFactory, StochasticRNN
from .checks import check_no_costs, check_sizes
from .costs import FutureCosts
from .recurrence.recurrence import hoisted, roll_out_markov
from .steps import Path, SequenceBatch, State, frame_before

Posterior = Literal["smoothing", "filtering"]


class SRNN(StochasticRNN):
    r"""A state-space model of latents on top of a deterministic RNN.

    .. math::
        p(x, z) &= \prod_t p(z_t \mid z_{t-1}, d_t)\, p(x_t \mid d_t, z_t),
            & d_t &= \mathrm{LSTM}(e(x_{t-1}), d_{t-1})

        q(z \mid x) &= \prod_t q(z_t \mid z_{t-1}, a_t),
            & a_t &= \mathrm{LSTM}_a([d_t, e(x_t)], a_{t+1})

    With :math:`z_0 = 0`. A filtering posterior has :math:`a_t = f_a([d_t, e(x_t)])`. With ``resq``
    the posterior's mean is the prior's, :math:`\mu_p(z_{t-1}, d_t)`, plus what its network gives.
    The smoothing one can carry the costs of :class:`ZForcing` on its backward state a_t.

    Args:
        emission: Family of p(x_t | d_t, z_t), called as ``emission(in_dim, x_dim)``.
        x_dim: Size of a frame, or number of symbols.
        z_dim: Size of z_t.
        h_dim: Size of d_t and a_t.
        hidden_dim: Size of the hidden layer of the prior, posterior and auxiliary networks.
        embed_dim: Size of e(x_t); 0 feeds frames as they are, and is refused for symbols.
        posterior: Whether a_t has read all observations, or those up to t.
        resq: Whether the posterior's mean is a residual to the prior's.
        clamp: Bound on absolute mean and log-scale of prior, posterior (of the residual, with
            ``resq``) and auxiliary; 0 is none.
        costs: Options of :class:`.FutureCosts`, of which b_t is a_t here.
    """

    particle_state = ("z",)

    def __init__(
        self,
        emission: EmissionFactory,
        x_dim: int,
        z_dim: int = 64,
        h_dim: int = 256,
        hidden_dim: int = 256,
        embed_dim: int = 256,
        posterior: Posterior = "smoothing",
        resq: bool = True,
        clamp: float = 8.0,
        **costs: Any,
    ):
        super().__init__()
        check_sizes(embed_dim, clamp, x_dim=x_dim, z_dim=z_dim, h_dim=h_dim, hidden_dim=hidden_dim)
        self.smooths, self.resq = posterior == "smoothing", resq
        self.state_dims = {"d": h_dim, "c": h_dim, "z": z_dim}
        self.emission = emission(h_dim + z_dim, x_dim)
        self.embed = embedding(x_dim, embed_dim, self.emission.symbols)
        self.rnn = ForwardLSTM(self.embed.out_dim, h_dim)
        in_dim = h_dim + self.embed.out_dim
        if self.smooths:
            self.backward_rnn, self.backward_entry = BackwardLSTM(in_dim, h_dim), "a"
        else:
            self.filter = MLP(in_dim, [hidden_dim], h_dim)
        self.prior = DiagNormal(z_dim + h_dim, z_dim, [hidden_dim], clamp=clamp)
        self.posterior = DiagNormal(z_dim + h_dim, z_dim, [hidden_dim], clamp=clamp)
        self.costs = FutureCosts(
            emission, x_dim, z_dim, h_dim, hidden_dim, 0, h_dim, {"clamp": clamp}, **costs
        )
        self.weights = self.costs.first_weights
        if posterior == "filtering":
            check_no_costs("a filtering SRNN", self.costs)

    def model(self, x, lengths=None, state=None, inputs=None):
        x, mask, state, inputs = self.batch(x, lengths, state, inputs)
        d, c, z, x_prev = self.begin(x, state, "d", "c", "z", "x_prev")
        with pyro.plate("sequences", len(x), dim=-1):
            for t in pyro.markov(range(x.shape[1])):
                d, c = self.rnn.step(self.embed(x_prev), (d, c))
                with poutine.mask(mask=mask[:, t]):
                    z = pyro.sample(f"z_{t}", self.prior(concat(z, d)))
                    x_t = pyro.sample(f"x_{t}", self.emission(concat(d, z)), obs=x[:, t])
                x_prev = x_t if inputs is None else inputs[:, t]
        return {"d": d, "c": c, "z": z, "x_prev": x_t}

    def step(self, x_prev, state):
        d, c = self.rnn.step(self.embed(x_prev), (state["d"], state["c"]))
        z = self.prior(concat(state["z"], d))()
        return z, concat(d, z), {"d": d, "c": c, "z": z}

    def guide(self, x, lengths=None, state=None, inputs=None):
        batch = self.batch(x, lengths, state, inputs)
        x, mask, (z,), before = batch.x, batch.mask, self.begin(x, state, "z"), frame_before(state)
        ds, a, last = self.read(batch)
        with pyro.plate("sequences", len(x), dim=-1):
            for t in pyro.markov(range(x.shape[1])):
                with poutine.mask(mask=mask[:, t]):
                    z = pyro.sample(f"z_{t}", self.approximation(z, ds[:, t], a[:, t]))
                    self.costs.factors(t, self.weights, z, ds[:, t], a[:, t], before)
                before = x[:, t]
        return {"z": z, "x_prev": before} | last

    def read(self, batch: SequenceBatch) -> tuple[Tensor, Tensor, State]:
        """Returns d_t and a_t of all steps, each ``(batch, time, h_dim)``, and the last d and c."""
        embedded = self.embed(batch.x)
        past = self.inputs_before(batch, embedded)
        ds, (d, c) = self.rnn(past, self.begin(batch.x, batch.state, "d", "c"))
        features = concat(ds, embedded)
        a = self.backward_rnn(features, batch.lengths) if self.smooths else self.filter(features)
        return ds, a, {"d": d, "c": c}

    def approximation(self, z_past: Tensor, d: Tensor, a: Tensor) -> dist.Distribution:
        """Returns q(z_t | z_{t-1}, a_t) of one step or all."""
        posterior = self.posterior(concat(z_past, a))
        return moved(posterior, self.prior(concat(z_past, d)).mean) if self.resq else posterior

    def context(self, batch):
        d, a, last = self.read(batch)
        reverse = self.costs.log_reverse_of_steps(a, batch.x, frame_before(batch.state))
        return {"d": d, "a": a, "reverse": reverse}, last

    def path(self, context, state, latents):
        """d_t and a_t are one call each; the loop holds what z_{t-1} enters."""
        d, a = context["d"], context["a"]
        posterior_of, from_a = hoisted(self.posterior, a)
        prior_of, from_d = hoisted(self.prior, d)

        def conditionals(z_past: Tensor, from_a: Tensor, from_d: Tensor):
            posterior = posterior_of(z_past, from_a)
            if not self.resq:
                return (posterior,)
            prior = prior_of(z_past, from_d)
            return moved(posterior, prior.mean), prior

        features = from_a, from_d
        z_past, z, (posterior, *rest) = roll_out_markov(conditionals, features, state["z"], latents)
        prior = rest[0] if rest else prior_of(z_past, from_d)
        features, past = concat(d, z), concat(z_past, d)
        log_emission = self.log_emission(features, context["x"])
        auxiliary, last = self.costs.log_auxiliary(z, d, a), {"z": z[..., -1, :]}
        return Path(z, prior, posterior, log_emission, last, auxiliary, features, past)


def moved(normal: dist.Independent, by: Tensor) -> dist.Distribution:
    """Returns a diagonal Gaussian with ``by`` added to its mean."""
    return DiagonalNormal(normal.mean + by, normal.base_dist.log_scale)
