"""VRNN (Chung et al., 2015): https://arxiv.org/abs/1506.02216."""

from typing import Literal

import pyro
import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import kl_divergence

from ..emissions import DiagNormal, StandardNormal
from ..estimators.terms import Terms
from ..layers.blocks import concat, embedding
from ..layers.lstm import LSTMCell
from .base import EmissionFactory, StochasticRNN
from .checks import check_choice, check_not_negative, check_positive
from .recurrence.recurrence import Backend, roll_out
from .steps import Context, State, StepTerms

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

    Raises:
        ValueError: If a size is out of its range, or an option unknown.
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
        check_positive(x_dim=x_dim, z_dim=z_dim, h_dim=h_dim, hidden_dim=hidden_dim)
        check_not_negative(embed_dim=embed_dim, clamp=clamp)
        check_choice(Prior, prior=prior)
        check_choice(Backend, backend=backend)
        self.backend = backend
        self.state_dims = {"h": h_dim, "c": h_dim, "z": z_dim}
        self.emission = emission(h_dim + z_dim, x_dim)
        self.embed = embedding(x_dim, embed_dim, self.emission.symbols)
        self.cell = LSTMCell(self.embed.out_dim, z_dim, h_dim)
        in_dim = h_dim + self.embed.out_dim
        if prior == "standard":
            self.prior = StandardNormal(z_dim)
        else:
            self.prior = DiagNormal(h_dim, z_dim, [hidden_dim], clamp=clamp)
        self.posterior = DiagNormal(in_dim, z_dim, [hidden_dim], clamp=clamp)

    def model(
        self,
        x: Tensor,
        lengths: Tensor,
        state: State | None = None,
        inputs: Tensor | None = None,
    ) -> State:
        x, mask = self.start(x, lengths)
        h, c, z, x_prev = self.begin(x, state, "h", "c", "z", "x_prev")
        inputs = None if inputs is None else self.without_padding(inputs, mask)
        with pyro.plate("sequences", len(x), dim=-1):
            for t in pyro.markov(range(x.shape[1])):
                h, c = self.cell(self.embed(x_prev), z, (h, c))
                with poutine.mask(mask=mask[:, t]):
                    z = pyro.sample(f"z_{t}", self.prior(h))
                    x_t = pyro.sample(f"x_{t}", self.emission(concat(h, z)), obs=x[:, t])
                x_prev = x_t if inputs is None else inputs[:, t]
        return {"h": h, "c": c, "z": z, "x_prev": x_t}

    def guide(
        self,
        x: Tensor,
        lengths: Tensor,
        state: State | None = None,
        inputs: Tensor | None = None,
    ) -> State:
        x, mask = self.start(x, lengths)
        h, c, z, x_prev = self.begin(x, state, "h", "c", "z", "x_prev")
        inputs = x if inputs is None else self.without_padding(inputs, mask)
        with pyro.plate("sequences", len(x), dim=-1):
            for t in pyro.markov(range(x.shape[1])):
                h, c = self.cell(self.embed(x_prev), z, (h, c))
                with poutine.mask(mask=mask[:, t]):
                    z = pyro.sample(f"z_{t}", self.posterior(concat(h, self.embed(x[:, t]))))
                x_prev = inputs[:, t]
        return {"h": h, "c": c, "z": z, "x_prev": x[:, -1]}

    def terms(
        self,
        x: Tensor,
        lengths: Tensor,
        num_particles: int = 1,
        latents: Tensor | None = None,
        state: State | None = None,
        inputs: Tensor | None = None,
    ) -> Terms:
        """Fast: the loop holds what is recurrent; every other product is one for all steps."""
        num_particles = num_particles if latents is None else len(latents)
        context, known = self.context(x, lengths, state, inputs)
        x, projected, present = context["x"], context["projected"], context["embedded"]
        h, c, z = self.particles(x, num_particles, state).values()
        state = self.cell.step(projected[:, 0], z, (h, c))
        path = roll_out(
            self.cell, self.posterior, projected[:, 1:], present, state, latents, self.backend
        )

        h, z, posterior = path.h_past, path.z, path.posterior
        prior, log_emission = self.prior(h), self.log_emission(concat(h, z), x)
        zero = torch.zeros_like(log_emission)
        return Terms(
            log_prior=prior.log_prob(z),
            log_posterior=posterior.log_prob(z),
            log_emission=log_emission,
            kl_per_latent=kl_divergence(posterior.base_dist, prior.base_dist),
            auxiliary=zero,
            reverse=zero,
            latents=z,
            posterior_mean=posterior.mean,
            prior_mean=prior.mean,
            state=known | {"h": h[..., -1, :], "c": path.c, "z": z[..., -1, :]},
        ).masked(context["mask"])

    def context(
        self,
        x: Tensor,
        lengths: Tensor,
        state: State | None = None,
        inputs: Tensor | None = None,
    ) -> tuple[Context, State]:
        x, mask = self.start(x, lengths)
        (x_prev,) = self.begin(x, state, "x_prev")
        embedded = self.embed(x)
        past = self.inputs_before(x_prev, embedded, inputs, mask)
        projected = self.cell.project(past)
        context = {"x": x, "mask": mask, "projected": projected, "embedded": embedded}
        return context, {"x_prev": x[:, -1]}

    def step(
        self, state: State, context: Context, z: Tensor | None = None
    ) -> tuple[State, StepTerms]:
        h, c = self.cell.step(context["projected"], state["z"], (state["h"], state["c"]))
        prior, posterior = self.prior(h), self.posterior(concat(h, context["embedded"]))
        z = posterior.rsample() if z is None else z
        return {"h": h, "c": c, "z": z}, StepTerms.at(
            context["mask"],
            latents=z,
            log_prior=prior.log_prob(z),
            log_posterior=posterior.log_prob(z),
            log_emission=self.emission(concat(h, z)).log_prob(context["x"]),
        )
