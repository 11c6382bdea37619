"""An RNN without latents: the baseline that every stochastic one must beat."""

import pyro
import torch
from pyro import poutine
from torch import Tensor

from ..emissions import StandardNormal
from ..estimators.terms import Terms
from ..layers.blocks import embedding
from ..layers.lstm import ForwardLSTM
from .base import EmissionFactory, StochasticRNN
from .checks import check_not_negative, check_positive
from .steps import Context, State, StepTerms


class RNN(StochasticRNN):
    r"""An LSTM that predicts each observation from those before it.

    .. math:: p(x) = \prod_t p(x_t \mid h_t), \qquad h_t = \mathrm{LSTM}(e(x_{t-1}), h_{t-1})

    Its latents are the empty vector, prior and posterior are 1, and so every bound is exact:
    log p(x) itself. ``RNN-Gauss``, ``RNN-GMM`` and RNN-NADE are this with another emission.

    Args:
        emission: Family of p(x_t | h_t), called as ``emission(in_dim, x_dim)``.
        x_dim: Size of a frame, or number of symbols.
        h_dim: Size of h_t.
        embed_dim: Size of e(x_t); 0 feeds frames as they are, and is refused for symbols.

    Raises:
        ValueError: If a size is out of its range.
    """

    particle_state = ("z",)

    def __init__(
        self, emission: EmissionFactory, x_dim: int, h_dim: int = 256, embed_dim: int = 256
    ):
        super().__init__()
        check_positive(x_dim=x_dim, h_dim=h_dim)
        check_not_negative(embed_dim=embed_dim)
        self.state_dims = {"h": h_dim, "c": h_dim, "z": 0}
        self.emission = emission(h_dim, x_dim)
        self.embed = embedding(x_dim, embed_dim, self.emission.symbols)
        self.rnn = ForwardLSTM(self.embed.out_dim, h_dim)
        self.nothing = StandardNormal(0)

    def model(
        self,
        x: Tensor,
        lengths: Tensor,
        state: State | None = None,
        inputs: Tensor | None = None,
    ) -> State:
        x, mask = self.start(x, lengths)
        h, c, x_prev = self.begin(x, state, "h", "c", "x_prev")
        inputs = None if inputs is None else self.without_padding(inputs, mask)
        with pyro.plate("sequences", len(x), dim=-1):
            for t in pyro.markov(range(x.shape[1])):
                with poutine.mask(mask=mask[:, t]):
                    z = pyro.sample(f"z_{t}", self.nothing(h))
                    h, c = self.rnn.step(self.embed(x_prev), (h, c))
                    x_t = pyro.sample(f"x_{t}", self.emission(h), obs=x[:, t])
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
        (h,) = self.begin(x, state, "h")
        with pyro.plate("sequences", len(x), dim=-1):
            for t in pyro.markov(range(x.shape[1])):
                with poutine.mask(mask=mask[:, t]):
                    z = pyro.sample(f"z_{t}", self.nothing(h))
        return {"z": z}

    def terms(
        self,
        x: Tensor,
        lengths: Tensor,
        num_particles: int = 1,
        latents: Tensor | None = None,
        state: State | None = None,
        inputs: Tensor | None = None,
    ) -> Terms:
        """Fast: one call of the LSTM and one of the emission, for any number of particles."""
        num_particles = num_particles if latents is None else len(latents)
        context, known = self.context(x, lengths, state, inputs)
        mask, (z,) = context["mask"], self.particles(x, num_particles, state).values()
        log_emission = self.log_emission(context["h"], context["x"])
        log_emission = log_emission.expand(num_particles, *mask.shape)
        zero, nothing = torch.zeros_like(log_emission), z.new_zeros(num_particles, *mask.shape, 0)
        return Terms(
            log_prior=zero,
            log_posterior=zero,
            log_emission=log_emission,
            kl_per_latent=nothing,
            auxiliary=zero,
            reverse=zero,
            latents=nothing,
            posterior_mean=nothing,
            prior_mean=nothing,
            state=known | {"z": z},
        ).masked(mask)

    def context(
        self,
        x: Tensor,
        lengths: Tensor,
        state: State | None = None,
        inputs: Tensor | None = None,
    ) -> tuple[Context, State]:
        x, mask = self.start(x, lengths)
        h, c, x_prev = self.begin(x, state, "h", "c", "x_prev")
        hs, (h, c) = self.rnn(self.inputs_before(x_prev, self.embed(x), inputs, mask), (h, c))
        return {"x": x, "mask": mask, "h": hs}, {"h": h, "c": c, "x_prev": x[:, -1]}

    def step(
        self, state: State, context: Context, z: Tensor | None = None
    ) -> tuple[State, StepTerms]:
        log_emission, z = self.emission(context["h"]).log_prob(context["x"]), state["z"]
        zero = torch.zeros_like(log_emission)
        return state, StepTerms.at(context["mask"], z, zero, zero, log_emission)
