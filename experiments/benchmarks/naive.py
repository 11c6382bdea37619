"""Z-Forcing as its equations read: one loop, and every network in it.

Plain PyTorch, as one would write it for one model: of the package's net only the weights are used,
and layers that are PyTorch's own. Sequences are of one length, so there are no masks.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    leaky_relu,
    linear,
)

from zforcing_pyro.emissions import Bernoulli, Categorical, DiagNormal
from zforcing_pyro.layers.blocks import MLP
from zforcing_pyro.models import ZForcing

State = tuple[Tensor, Tensor]


class Weights(NamedTuple):
    """Those of the forward cell as ``torch.lstm_cell`` takes them."""

    of_input: Tensor
    of_state: Tensor
    bias: Tensor
    zero: Tensor
    """Its second bias, which this model has not."""


def naive_loss(
    net: ZForcing,
    x: Tensor,
    num_particles: int = 1,
    analytic_kl: bool = True,
    step: Callable[..., tuple[State, Tensor]] | None = None,
) -> Tensor:
    """Minus the ELBO and the costs, in nats per sequence; the noise is one draw a step.

    Args:
        net: Its weights are used.
        x: ``(batch, time, x_dim)``, or ``(batch, time)`` for symbols.
        num_particles: Draws, of which the loss is the mean.
        analytic_kl: Whether the KL is its closed form, or log q - log p at the draw.
        step: In place of :func:`naive_step`, such as a compiled one.
    """
    step, cell = step or naive_step, net.cell
    backward, _ = net.backward_rnn.lstm(embedding(net, x).flip(1))
    weight_x = torch.cat([cell.weight_x, cell.weight_z], dim=1)
    weights = Weights(weight_x, cell.weight_h, cell.bias, torch.zeros_like(cell.bias))
    rows, z_dim = num_particles * len(x), cell.weight_z.shape[1]
    h = c = backward.new_zeros(rows, cell.h_dim)
    x_prev, loss = None, 0.0
    # Unbound, since the gradient of `x[:, t]` is as large as `x`, at every step.
    for x_t, b in zip(x.unbind(1), backward.flip(1).unbind(1)):
        noise = torch.randn(rows, z_dim, dtype=h.dtype, device=h.device)
        (h, c), loss_t = step(net, weights, x_prev, x_t, b, noise, (h, c), analytic_kl)
        x_prev, loss = x_t, loss + loss_t
    return loss


def naive_step(
    net: ZForcing,
    weights: Weights,
    x_prev: Tensor | None,
    x: Tensor,
    b: Tensor,
    noise: Tensor,
    state: State,
    analytic_kl: bool,
) -> tuple[State, Tensor]:
    """One step of all sequences and particles: the next state, and its part of the loss."""
    (h, c), costs = state, net.costs
    num_particles = len(h) // len(x)

    def of_particles(v: Tensor) -> Tensor:
        return v if num_particles == 1 else v.repeat(num_particles, *[1] * (v.dim() - 1))

    b_ = of_particles(b)
    mu_p, log_sigma_p = clamped(network(net.prior.mlp, h))
    mu_q, log_sigma_q = clamped(network(net.posterior.mlp, torch.cat([h, b_], -1)))
    z = mu_q + log_sigma_q.exp() * noise
    if analytic_kl:
        variance_ratio = (2 * (log_sigma_q - log_sigma_p)).exp()
        shift = ((mu_q - mu_p) / log_sigma_p.exp()) ** 2
        kl = (log_sigma_p - log_sigma_q + (variance_ratio + shift - 1) / 2).sum()
    else:
        kl = log_normal(z, mu_q, log_sigma_q) - log_normal(z, mu_p, log_sigma_p)
    mu_a, log_sigma_a = clamped(network(costs.auxiliary.mlp, z))
    auxiliary = log_normal(b_.detach(), mu_a.tanh(), log_sigma_a)
    e = of_particles(embedding(net, net.embed.start(x[:, None]) if x_prev is None else x_prev))
    gates = weights.of_input, weights.of_state, weights.bias, weights.zero
    h, c = torch.lstm_cell(torch.cat([e, z], -1), (h, c), *gates)
    emission = log_emission(net.emission, h, of_particles(x))
    loss = (kl - emission - net.weights.aux * auxiliary) / len(h)
    if x_prev is not None:
        reverse = log_emission(costs.reverse, b, x_prev)
        loss = loss - net.weights.reverse * reverse / len(b)
    return (h, c), loss


def embedding(net: ZForcing, x: Tensor) -> Tensor:
    if net.emission.symbols:
        return net.embed.table(x)
    layer = net.embed.linear
    return x if isinstance(layer, nn.Identity) else linear(x, layer.weight, layer.bias)


def network(mlp: MLP, x: Tensor) -> Tensor:
    first, *others = mlp.layers
    x = linear(x, first.weight, first.bias)
    for layer in others:
        x = linear(leaky_relu(x, 1 / 3).clamp(-3, 3), layer.weight, layer.bias)
    return x


def clamped(output: Tensor) -> tuple[Tensor, Tensor]:
    mu, log_sigma = output.chunk(2, dim=-1)
    return mu.clamp(-8, 8), log_sigma.clamp(-8, 8)


def log_normal(x: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
    """Summed over everything."""
    u = (x - mu) / log_sigma.exp()
    return -(u**2 / 2 + log_sigma + math.log(2 * math.pi) / 2).sum()


def log_emission(
    emission: DiagNormal | Bernoulli | Categorical, features: Tensor, x: Tensor
) -> Tensor:
    """Summed over everything."""
    output = network(emission.mlp, features)
    if emission.symbols:
        return -cross_entropy(output, x, reduction="sum")
    if isinstance(emission, Bernoulli):
        return -binary_cross_entropy_with_logits(output, x, reduction="sum")
    return log_normal(x, *output.chunk(2, dim=-1))
