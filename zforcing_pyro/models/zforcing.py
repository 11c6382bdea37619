"""Z-Forcing (Goyal et al., 2017): https://arxiv.org/abs/1711.05411."""

from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor

from ..data.checks import check_range
from ..emissions import DiagNormal, Scale
from ..layers.blocks import concat, embedding
from ..layers.lstm import BackwardLSTM, ConditionalLayerNormLSTMCell, LSTMCell
from .base import EmissionFactory, StochasticRNN
from .checks import check_sizes
from .committed import BoundedNormal, largest_log_scale
from .costs import AuxInput, AuxKind, AuxReaches, FutureCosts, ReverseUnit, bag_of_future
from .recurrence.recurrence import Backend, roll_out
from .steps import Path, frame_before

Injection = Literal["concat", "layer_norm"]
Target = Literal["raw", "standardised", "bag"]

OFFICIAL_CODE = {"aux_input": "h_z", "reverse_needs_aux": True, "scale": "log_variance"}
"""The switches in which the paper's published code departs from the paper."""


class ZForcing(StochasticRNN):
    r"""A stochastic RNN whose latents are asked to foresee the future.

    .. math::
        p(x, z) &= \prod_t p(z_t \mid h_{t-1})\, p(x_t \mid h_t),
            & h_t &= \mathrm{LSTM}([e(x_{t-1}), z_t], h_{t-1}) && \text{(4, 5)}

        q(z \mid x) &= \prod_t q(z_t \mid h_{t-1}, b_t),
            & b_t &= \mathrm{LSTM}_b(e(x_t), b_{t+1}) && \text{(6, 7)}

    The guide also carries :math:`\alpha \log p(b_t \mid z_t) + \beta \log p(x_{t-1} \mid b_t)`
    (Eqs. 8, 10): costs of training, which no bound on log p(x) contains. The defaults are the
    paper's; ``ZForcing(..., **OFFICIAL_CODE)`` has the switches of its published code.

    Args:
        emission: Family of p(x_t | h_t), such as a class of ``EMISSIONS``: called as
            ``emission(in_dim, x_dim)``, and with ``hidden_dims=()`` too for the reverse cost.
        x_dim: Size of a frame, or number of symbols.
        z_dim: Size of z_t.
        h_dim: Size of h_t and b_t.
        hidden_dim: Size of the hidden layer of the prior, posterior and auxiliary networks.
        embed_dim: Size of e(x_t); 0 feeds frames as they are, and is refused for symbols.
        aux_weight: Weight alpha of the auxiliary cost.
        reverse_weight: Weight beta of the reverse cost.
        aux_network, reverse_network: Whether the cost's network is built, whatever its weight.
        injection: How z enters the recurrence: beside its input, or as gains and biases of
            layer normalisation of both gate pre-activations.
        aux_kind: Gaussian log-density, or L2: minus the squared error.
        aux_input: Whether the auxiliary network reads z_t, or h_{t-1} and z_t.
        aux_tanh: Whether the auxiliary mean is squashed to (-1, 1), the range of b_t.
        aux_target: Auxiliary target: b_t and a cost summed over its dimensions, as published;
            b_t standardised by running moments and a mean, see :class:`.FutureCosts`; or in place
            of b_t a bag of the future, see :func:`.bag_of_future`.
        aux_reaches: Parameters that the auxiliary cost trains through z_t: all of the guide, as
            in the published code; all but the backward network, as in the paper's Sec. 3.4, at
            the cost of a second recurrence; or only the last network of the posterior.
        reverse_needs_aux: Whether the reverse cost is off while the auxiliary weight is 0.
        reverse_unit: Unit of the reverse cost: nats, or its own root mean square nats per frame.
        last_frames: Number of frames before x_t that the model sees: its recurrence then reads
            latents alone, and its emission also reads e(x_{t-1}), ... (Chen et al., 2017,
            https://arxiv.org/abs/1611.02731); 0 is all, through the recurrence.
        committed_rate: Nats of KL a step that no posterior can fall below, see
            :mod:`.committed`; 0 is none.
        clamp: Bound on absolute mean and log-scale of prior, posterior and auxiliary; 0 is none.
        scale: Whether their networks give (and the clamp bounds) log-scale or log-variance.
        backend: Of the fast path, see :func:`.recurrence.roll_out`: the numbers are the same.

    Example:
        >>> net = ZForcing(Bernoulli, x_dim=88, z_dim=16, h_dim=32)
        >>> x, lengths = torch.zeros(2, 5, 88), torch.tensor([5, 3])
        >>> TraceELBO().loss(net.model, net.guide, x, lengths) > 0
        True
    """

    backward_entry = "b"

    def __init__(
        self,
        emission: EmissionFactory,
        x_dim: int,
        z_dim: int = 64,
        h_dim: int = 256,
        hidden_dim: int = 256,
        embed_dim: int = 256,
        aux_weight: float = 0.005,
        reverse_weight: float = 0.005,
        aux_network: bool = True,
        reverse_network: bool = True,
        injection: Injection = "concat",
        aux_kind: AuxKind = "gaussian",
        aux_input: AuxInput = "z",
        aux_tanh: bool = True,
        aux_target: Target = "raw",
        aux_reaches: AuxReaches = "guide",
        reverse_needs_aux: bool = False,
        reverse_unit: ReverseUnit = "nats",
        last_frames: int = 0,
        committed_rate: float = 0.0,
        clamp: float = 8.0,
        scale: Scale = "log_scale",
        backend: Backend = "auto",
    ):
        super().__init__()
        check_sizes(embed_dim, clamp, x_dim=x_dim, z_dim=z_dim, h_dim=h_dim, hidden_dim=hidden_dim)
        check_range(0, committed_rate=committed_rate, last_frames=last_frames)
        self.backend, self.aux_reaches = backend, aux_reaches
        self.has_bag = aux_target == "bag"
        self.emission = emission(h_dim, x_dim)
        self.state_dims = {"h": h_dim, "c": h_dim}
        self.embed = embedding(x_dim, embed_dim, self.emission.symbols)
        in_dim, self.last_frames = self.embed.out_dim, last_frames
        if last_frames:
            self.state_dims["seen"], self.particle_state = last_frames * in_dim, ("h", "c")
            self.emission = emission(h_dim + last_frames * in_dim, x_dim)
        gaussian: dict[str, Any] = {"clamp": clamp, "scale": scale}
        if injection == "layer_norm":
            self.cell: LSTMCell = ConditionalLayerNormLSTMCell(in_dim, z_dim, h_dim, hidden_dim)
        else:
            self.cell = LSTMCell(in_dim, z_dim, h_dim)
        self.backward_rnn = BackwardLSTM(in_dim, h_dim)
        self.prior = DiagNormal(h_dim, z_dim, [hidden_dim], **gaussian)
        self.posterior = DiagNormal(2 * h_dim, z_dim, [hidden_dim], **gaussian)
        if committed_rate:
            most = largest_log_scale(committed_rate / z_dim)
            self.prior = BoundedNormal(h_dim, z_dim, [hidden_dim], least=0.0, **gaussian)
            self.posterior = BoundedNormal(2 * h_dim, z_dim, [hidden_dim], most=most, **gaussian)
        past_dim = h_dim if aux_input == "h_z" else 0
        sizes = x_dim, z_dim, h_dim, hidden_dim, past_dim, in_dim if self.has_bag else h_dim
        self.costs = FutureCosts(
            emission,
            *sizes,
            gaussian,
            aux_weight,
            reverse_weight,
            aux_network,
            reverse_network,
            aux_kind,
            aux_target="standardised" if aux_target == "standardised" else "raw",
            reverse_unit=reverse_unit,
            aux_tanh=aux_tanh and not self.has_bag,
            reverse_needs_aux=reverse_needs_aux,
        )
        self.weights = self.costs.first_weights

    def model(self, x, lengths=None, state=None, inputs=None):
        x, mask, state, inputs = self.batch(x, lengths, state, inputs)
        h, c, *seen, x_prev = self.begin(x, state, *self.state_dims, "x_prev")
        with pyro.plate("sequences", len(x), dim=-1):
            for t in pyro.markov(range(x.shape[1])):
                with poutine.mask(mask=mask[:, t]):
                    z = pyro.sample(f"z_{t}", self.prior(h))
                    read, *seen = self.read(x_prev, *seen)
                    h, c = self.cell(read, z, (h, c))
                    x_t = pyro.sample(f"x_{t}", self.emission(concat(h, *seen)), obs=x[:, t])
                x_prev = x_t if inputs is None else inputs[:, t]
        return {"h": h, "c": c, "x_prev": x_t} | dict(zip(["seen"], seen))

    def guide(self, x, lengths=None, state=None, inputs=None):
        x, mask, state, inputs = self.batch(x, lengths, state, inputs)
        h, c, *seen, x_prev = self.begin(x, state, *self.state_dims, "x_prev")
        b, before = self.backward_rnn(self.embed(x), mask.sum(1)), frame_before(state)
        target = bag_of_future(self.embed(x), mask) if self.has_bag else b
        twin = h, c  # the recurrence as the auxiliary cost sees it
        with pyro.plate("sequences", len(x), dim=-1):
            for t in pyro.markov(range(x.shape[1])):
                with poutine.mask(mask=mask[:, t]):
                    q = self.posterior(concat(h, b[:, t]))
                    z = pyro.sample(f"z_{t}", q)
                    z_aux, h_aux = self.reached(z, q, h, twin[0], b[:, t])
                    terms = z_aux, h_aux, b[:, t], before, target[:, t]
                    self.costs.factors(t, self.weights, *terms)
                read, *seen = self.read(x_prev, *seen)
                if self.aux_reaches == "all_but_backward":
                    twin = self.cell(read, z_aux, twin)
                h, c = self.cell(read, z, (h, c))
                before = x[:, t]
                x_prev = before if inputs is None else inputs[:, t]
        return {"h": h, "c": c, "x_prev": before} | dict(zip(["seen"], seen))

    def read(self, x_prev: Tensor, seen: Tensor | None = None) -> tuple[Tensor, ...]:
        """Returns what the recurrence reads of x_{t-1}, and with ``last_frames`` the emission's.

        That is e(x_{t-n}), ..., e(x_{t-1}) beside each other; ``seen`` is so one step before.
        """
        features = self.embed(x_prev)
        if seen is None:
            return (features,)
        return torch.zeros_like(features), concat(seen[..., features.shape[-1] :], features)

    def reached(
        self, z: Tensor, q: dist.Independent, h_past: Tensor, h_twin: Tensor, b: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns z_t and h_{t-1} as the auxiliary cost sees them: equal values, fewer gradients.

        Args:
            z, q: The latent, and the posterior that it is a draw of.
            h_past: h_{t-1}.
            h_twin: h_{t-1} of a recurrence that no backward state reaches.
            b: b_t.
        """
        if self.aux_reaches == "guide" or not z.requires_grad:
            return z, h_past
        noise = ((z - q.mean) / q.base_dist.scale).detach()
        h = h_past.detach() if self.aux_reaches == "heads" else h_twin
        q = self.posterior(concat(h, b.detach()))
        return q.mean + q.base_dist.scale * noise, h

    def step(self, x_prev, state):
        z = self.prior(state["h"])()
        read, *seen = self.read(x_prev, *(state[name] for name in ("seen",) if name in state))
        h, c = self.cell(read, z, (state["h"], state["c"]))
        return z, concat(h, *seen), {"h": h, "c": c} | dict(zip(["seen"], seen))

    @property
    def has_steps(self):
        return self.has_fast and self.aux_reaches != "all_but_backward"  # a second recurrence

    def context(self, batch):
        features, layer = self.embed.deferred(batch.x)
        b = self.backward_rnn(features, batch.lengths, layer)
        reverse = self.costs.log_reverse_of_steps(b, batch.x, frame_before(batch.state))
        context = {"b": b, "reverse": reverse}
        if self.has_bag:
            context["target"] = bag_of_future(self.embed(batch.x), batch.mask)
        if not self.last_frames:
            past = self.inputs_before(batch, features, layer)
            return context | {"projected": self.cell.project(past, layer)}, {}
        past = self.inputs_before(batch, self.embed(batch.x))
        (seen,) = self.begin(batch.x, batch.state, "seen")
        frames = torch.cat([seen.unflatten(1, (self.last_frames, -1)), past], 1)
        seen = frames.unfold(1, self.last_frames, 1)[:, 1:].mT.flatten(2)
        projected = self.cell.project(torch.zeros_like(past))
        return context | {"projected": projected, "seen": seen}, {"seen": seen[:, -1]}

    def path(self, context, state, latents):
        """The loop holds what is recurrent; every other product is one for all steps."""
        b, start, projected = context["b"], (state["h"], state["c"]), context["projected"]
        rolled = roll_out(self.cell, self.posterior, projected, b, start, latents, self.backend)
        h_past, z, q = rolled.h_past, rolled.z, rolled.posterior
        features = concat(rolled.h, context["seen"]) if self.last_frames else rolled.h
        log_emission = self.log_emission(features, context["x"])
        h_twin = h_past
        if self.aux_reaches == "all_but_backward" and z.requires_grad:
            noise = ((z - q.mean) / q.base_dist.scale).detach()
            h_twin = roll_out(
                self.cell, self.posterior, projected, b.detach(), start, None, self.backend, noise
            ).h_past
        target = context.get("target", b)
        auxiliary = self.costs.log_auxiliary(*self.reached(z, q, h_past, h_twin, b), target)
        last = {"h": rolled.h[..., -1, :], "c": rolled.c}
        prior = self.prior(h_past)
        return Path(z, prior, q, log_emission, last, auxiliary, features, h_past)
