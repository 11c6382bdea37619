"""STORN (Bayer & Osendorfer, 2014): https://arxiv.org/abs/1411.7610."""

import pyro
import torch
from pyro import poutine

from ..emissions import DiagNormal, StandardNormal
from ..layers.blocks import concat, embedding
from ..layers.lstm import ForwardLSTM
from .base import EmissionFactory, StochasticRNN
from .checks import check_sizes
from .steps import Path


class STORN(StochasticRNN):
    r"""A stochastic RNN whose latents are noise without a past.

    .. math::
        p(x, z) &= \prod_t \mathcal{N}(z_t; 0, I)\, p(x_t \mid h_t),
            & h_t &= \mathrm{LSTM}([e(x_{t-1}), z_t], h_{t-1})

        q(z \mid x) &= \prod_t q(z_t \mid r_t), & r_t &= \mathrm{LSTM}_r(e(x_t), r_{t-1})

    The recognition network has a recurrence of its own and sees neither h nor other latents. It
    filters: :math:`r_t` has read x_1, ..., x_t.

    Args:
        emission: Family of p(x_t | h_t), called as ``emission(in_dim, x_dim)``.
        x_dim: Size of a frame, or number of symbols.
        z_dim: Size of z_t.
        h_dim: Size of h_t and r_t.
        hidden_dim: Size of the hidden layer of the posterior network.
        embed_dim: Size of e(x_t); 0 feeds frames as they are, and is refused for symbols.
        clamp: Bound on absolute mean and log-scale of the posterior; 0 is none.
    """

    particle_state = ("h", "c")

    def __init__(
        self,
        emission: EmissionFactory,
        x_dim: int,
        z_dim: int = 64,
        h_dim: int = 256,
        hidden_dim: int = 256,
        embed_dim: int = 256,
        clamp: float = 8.0,
    ):
        super().__init__()
        check_sizes(embed_dim, clamp, x_dim=x_dim, z_dim=z_dim, h_dim=h_dim, hidden_dim=hidden_dim)
        self.state_dims = {"h": h_dim, "c": h_dim, "r": h_dim, "r_c": h_dim}
        self.emission = emission(h_dim, x_dim)
        self.embed = embedding(x_dim, embed_dim, self.emission.symbols)
        self.rnn = ForwardLSTM(self.embed.out_dim + z_dim, h_dim)
        self.recognition_rnn = ForwardLSTM(self.embed.out_dim, h_dim)
        self.prior = StandardNormal(z_dim)
        self.posterior = DiagNormal(h_dim, z_dim, [hidden_dim], clamp=clamp)

    def model(self, x, lengths=None, state=None, inputs=None):
        x, mask, state, inputs = self.batch(x, lengths, state, inputs)
        h, c, x_prev = self.begin(x, state, "h", "c", "x_prev")
        with pyro.plate("sequences", len(x), dim=-1):
            for t in pyro.markov(range(x.shape[1])):
                with poutine.mask(mask=mask[:, t]):
                    z = pyro.sample(f"z_{t}", self.prior(h))
                    h, c = self.rnn.step(concat(self.embed(x_prev), z), (h, c))
                    x_t = pyro.sample(f"x_{t}", self.emission(h), obs=x[:, t])
                x_prev = x_t if inputs is None else inputs[:, t]
        return {"h": h, "c": c, "x_prev": x_t}

    def guide(self, x, lengths=None, state=None, inputs=None):
        x, mask = self.start(x, lengths)
        r, (r_last, r_c) = self.recognition_rnn(self.embed(x), self.begin(x, state, "r", "r_c"))
        with pyro.plate("sequences", len(x), dim=-1):
            for t in pyro.markov(range(x.shape[1])):
                with poutine.mask(mask=mask[:, t]):
                    pyro.sample(f"z_{t}", self.posterior(r[:, t]))
        return {"r": r_last, "r_c": r_c}

    def step(self, x_prev, state):
        z = self.prior(state["h"])()
        h, c = self.rnn.step(concat(self.embed(x_prev), z), (state["h"], state["c"]))
        return z, h, {"h": h, "c": c}

    def context(self, batch):
        embedded, start = self.embed(batch.x), self.begin(batch.x, batch.state, "r", "r_c")
        r, (r_last, r_c) = self.recognition_rnn(embedded, start)
        return {"inputs": self.inputs_before(batch, embedded), "r": r}, {"r": r_last, "r_c": r_c}

    def path(self, context, state, latents):
        """Latents need no recurrence, so both LSTMs are one call each."""
        posterior = self.posterior(context["r"])
        if latents is None:
            mean, size = posterior.mean, (*state["h"].shape[:-1], self.prior.z_dim)
            noise = [mean.new_empty(size).normal_() for _ in range(mean.shape[-2])]
            latents = mean + posterior.stddev * torch.stack(noise, dim=-2)
        hs, (h, c) = self.rnn(concat(context["inputs"], latents), (state["h"], state["c"]))
        log_emission = self.log_emission(hs, context["x"])
        past = torch.cat([state["h"][..., None, :], hs[..., :-1, :]], -2)
        prior, last = self.prior(context["r"]), {"h": h, "c": c}
        return Path(latents, prior, posterior, log_emission, last, features=hs, past=past)
