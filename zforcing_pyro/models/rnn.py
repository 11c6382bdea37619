"""An RNN without latents: the baseline that every stochastic one must beat."""

import pyro
from pyro import poutine

from ..emissions import StandardNormal
from ..layers.blocks import embedding
from ..layers.lstm import ForwardLSTM
from .base import EmissionFactory, StochasticRNN
from .checks import check_sizes
from .steps import Path


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
    """

    particle_state = ("z",)

    def __init__(
        self, emission: EmissionFactory, x_dim: int, h_dim: int = 256, embed_dim: int = 256
    ):
        super().__init__()
        check_sizes(x_dim=x_dim, h_dim=h_dim, embed_dim=embed_dim)
        self.state_dims = {"h": h_dim, "c": h_dim, "z": 0}
        self.emission = emission(h_dim, x_dim)
        self.embed = embedding(x_dim, embed_dim, self.emission.symbols)
        self.rnn = ForwardLSTM(self.embed.out_dim, h_dim)
        self.nothing = StandardNormal(0)

    def model(self, x, lengths=None, state=None, inputs=None):
        x, mask, state, inputs = self.batch(x, lengths, state, inputs)
        h, c, x_prev = self.begin(x, state, "h", "c", "x_prev")
        with pyro.plate("sequences", len(x), dim=-1):
            for t in pyro.markov(range(x.shape[1])):
                with poutine.mask(mask=mask[:, t]):
                    z = pyro.sample(f"z_{t}", self.nothing(h))
                    h, c = self.rnn.step(self.embed(x_prev), (h, c))
                    x_t = pyro.sample(f"x_{t}", self.emission(h), obs=x[:, t])
                x_prev = x_t if inputs is None else inputs[:, t]
        return {"h": h, "c": c, "z": z, "x_prev": x_t}

    def guide(self, x, lengths=None, state=None, inputs=None):
        x, mask = self.start(x, lengths)
        (h,) = self.begin(x, state, "h")
        with pyro.plate("sequences", len(x), dim=-1):
            for t in pyro.markov(range(x.shape[1])):
                with poutine.mask(mask=mask[:, t]):
                    z = pyro.sample(f"z_{t}", self.nothing(h))
        return {"z": z}

    def step(self, x_prev, state):
        z = self.nothing(state["h"])()
        h, c = self.rnn.step(self.embed(x_prev), (state["h"], state["c"]))
        return z, h, {"h": h, "c": c}

    def context(self, batch):
        past = self.inputs_before(batch, self.embed(batch.x))
        hs, (h, c) = self.rnn(past, self.begin(batch.x, batch.state, "h", "c"))
        return {"h": hs}, {"h": h, "c": c}

    def path(self, context, state, latents):
        """One call of the LSTM and one of the emission, for any number of particles."""
        x, z = context["x"], state["z"]
        nothing = z.new_zeros(*z.shape[:2], x.shape[1], 0)
        h = context["h"]
        log_emission, one = self.log_emission(h, x), self.nothing(nothing)
        return Path(nothing, one, one, log_emission, state, features=h)
