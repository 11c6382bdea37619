"""Samples latents step by step; all that is not recurrent is computed before or after the loop."""

from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Literal, NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor

from ...data.checks import check_choice
from ...emissions import DiagNormal
from ...emissions.normal import DiagonalNormal
from ...layers.lstm import LSTMCell, LSTMState
from ...layers.products import Linear, linear
from .fused import fused, obstacle

Backend = Literal["auto", "reference", "fused"]


class Rollout(NamedTuple):
    """States and latents of all steps; leading dims are those of particles and batch."""

    h_past: Tensor  # h_{t-1}, (..., time, h_dim)
    h: Tensor  # h_t, (..., updates, h_dim)
    c: Tensor  # the cell's state after the last update, (..., h_dim)
    z: Tensor  # z_t, (..., time, z_dim)
    posterior: dist.Independent  # q(z_t | h_{t-1}, b_t) of all steps


def roll_out(
    cell: LSTMCell,
    posterior: DiagNormal,
    projected: Tensor,
    future: Tensor,
    state: LSTMState,
    latents: Tensor | None = None,
    backend: Backend = "auto",
    noise: Tensor | None = None,
) -> Rollout:
    """Draws z_t ~ q(z_t | h_{t-1}, b_t) step by step, or runs along given ``latents``.

    Hoisted out of the loop: what the cell makes of its inputs, and the half of the posterior's
    first layer that reads ``future``. The draw is one ``rsample`` a step, on any backend. Raises
    ValueError if ``backend`` is unknown, or names one that cannot be.

    Args:
        cell: The recurrence, h_t from input_t, z_t and h_{t-1}.
        posterior: Network that reads ``[h_{t-1}, future_t]``, with at least one hidden layer.
        projected: The cell's :meth:`~.LSTMCell.project` of its inputs,
            ``(batch, updates, 4 h_dim)``; with one update less than steps, nothing follows the last
            latent.
        future: ``(batch, time, b_dim)``.
        state: h_0 and c_0, each ``(particles, batch, h_dim)``.
        latents: ``(particles, batch, time, z_dim)``.
        backend: ``reference`` is a loop under autograd; ``fused`` computes its gradient by hand;
            ``auto`` is ``fused`` where it can be, else ``reference``. Along ``latents`` it is
            ``reference`` always.
        noise: Standard normal, like ``latents``: draws are a function of it. None draws it.
    """
    check_choice(Backend, backend=backend)
    weight_h, from_future = first_layer(posterior, future)
    reason = obstacle(cell, posterior, projected, state, noise)
    if backend == "fused" and reason and latents is None:
        raise ValueError(f"'backend' cannot be 'fused' here: {reason}")
    if backend == "reference" or reason or latents is not None:
        return reference(cell, posterior, projected, from_future, weight_h, state, latents, noise)
    hs, c, z, output = fused(cell, posterior, projected, from_future, weight_h, state, noise)
    hs, z, output = (v.movedim(0, -2) for v in (hs, z, output))
    h_past, h = hs[..., : future.shape[-2], :], hs[..., 1:, :]
    return Rollout(h_past, h, c, z, posterior.distribution(output))


def reference(cell, posterior, projected, from_future, weight_h, state, latents, noise) -> Rollout:
    """Runs :func:`roll_out` step by step under autograd: any cell, dtype and device."""
    (h, c), hs, zs, outputs = state, [state[0]], [], []
    scored = None if latents is None else latents.unbind(-2)
    steps = zip_longest(projected.unbind(-2), from_future.unbind(-2))
    for t, (projected_t, from_future_t) in enumerate(steps):
        if scored is None:
            outputs.append(posterior.mlp.tail(linear(h, weight_h) + from_future_t))
            q = posterior.distribution(outputs[-1])
            drawn = q.rsample() if noise is None else q.mean + q.base_dist.scale * noise[..., t, :]
            zs.append(drawn)
        if projected_t is not None:
            h, c = cell.step(projected_t, zs[-1] if scored is None else scored[t], (h, c))
            hs.append(h)
    hs = torch.stack(hs, dim=-2)
    h_past, h = hs[..., : from_future.shape[-2], :], hs[..., 1:, :]
    if scored is None:
        latents, output = torch.stack(zs, dim=-2), torch.stack(outputs, dim=-2)
    else:
        output = posterior.mlp.tail(linear(h_past, weight_h) + from_future)
    return Rollout(h_past, h, c, latents, posterior.distribution(output))


def first_layer(network: DiagNormal, other: Tensor) -> tuple[Tensor, Tensor]:
    """Splits the first layer of a network that reads ``[recurrent, other]``.

    Returns:
        Its weight on the recurrent features, and its output for the others, with the bias.
    """
    layer, size = network.mlp.layers[0], other.shape[-1]
    assert isinstance(layer, Linear)
    weight, weight_other = layer.weight.split([layer.in_features - size, size], dim=1)
    return weight, linear(other, weight_other, layer.bias)


def hoisted(
    network: DiagNormal, other: Tensor
) -> tuple[Callable[[Tensor, Tensor], dist.Independent], Tensor]:
    """Takes apart a network that reads ``[recurrent, other]``.

    Returns:
        A function of ``recurrent`` and ``read``, of any steps, to the network's distribution; and
        ``read`` of all steps, what the first layer makes of ``other``.
    """
    weight, read = first_layer(network, other)

    def conditional(recurrent: Tensor, read: Tensor) -> dist.Independent:
        return network.distribution(network.mlp.tail(linear(recurrent, weight) + read))

    return conditional, read


def roll_out_markov(
    conditionals: Callable[..., Sequence[dist.Independent]],
    features: Sequence[Tensor],
    z: Tensor,
    latents: Tensor | None = None,
) -> tuple[Tensor, Tensor, list[dist.Independent]]:
    """Draws z_t ~ q(z_t | z_{t-1}, features_t) step by step, or scores ``latents`` at once.

    Args:
        conditionals: From z_{t-1} and features_t, of one step or all, to q(z_t | .) and, after it,
            other Gaussians that were computed on the way.
        features: Tensors that depend on no latent, each ``(batch, time, ...)``.
        z: z_0, ``(particles, batch, z_dim)``.
        latents: ``(particles, batch, time, z_dim)``.

    Returns:
        z_{t-1} and z_t, each ``(particles, batch, time, z_dim)``, and conditionals of all steps.
    """
    if latents is not None:
        z_past = torch.cat([z.unsqueeze(-2), latents[..., :-1, :]], dim=-2)
        return z_past, latents, list(conditionals(z_past, *features))
    zs, steps = [z], []
    for features_t in zip(*(value.unbind(1) for value in features)):
        steps.append(conditionals(zs[-1], *features_t))
        zs.append(steps[-1][0].rsample())
    zs = torch.stack(zs, dim=-2)
    return zs[..., :-1, :], zs[..., 1:, :], [stacked(gaussians) for gaussians in zip(*steps)]


def stacked(gaussians: Sequence[dist.Independent]) -> DiagonalNormal:
    """Returns Gaussians of steps, each ``(particles, batch)``, as one of all steps."""
    loc, log_scale = (
        torch.stack([getattr(q.base_dist, name) for q in gaussians], dim=2)
        for name in ("loc", "log_scale")
    )
    return DiagonalNormal(loc, log_scale)
