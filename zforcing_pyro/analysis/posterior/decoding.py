"""From latents to observations, and from observations to the path of posterior means."""

from __future__ import annotations

from functools import singledispatch

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch import distributions as dist

from ...data import Sequence
from ...emissions.mixtures import DiscretizedLogistic
from ...emissions.nade import AutoregressiveBernoulli
from ...models import StochasticRNN
from ...models.steps import State
from .batches import drawing, given_batch
from .codes import check_latents


def posterior_path(net: StochasticRNN, sequence: Sequence) -> Tensor:
    """Returns the path of posterior means, ``(time, z_dim)``.

    Each z_t is the mean of q(z_t | means before, x).

    Raises:
        ValueError: If the net has no latents.
    """
    check_latents(net)
    with drawing(net, seed=0):
        given = given_batch(net, [sequence])
        guide = poutine.trace(Modes()(net.guide))
        nodes = guide.get_trace(given.x, given.lengths, given.state).nodes
    return torch.stack([nodes[f"z_{t}"]["value"][0] for t in range(given.x.shape[1])])


def decode(
    net: StochasticRNN,
    z: Tensor,
    start: Tensor | None = None,
    sample: bool = False,
    seed: int = 0,
) -> Tensor:
    """Returns the model's observations for given latents, each step fed with its own output.

    Args:
        z: ``(rows, time, z_dim)``.
        start: Frame before the first step, as data have it: ``(rows, x_dim)`` or ``(rows,)``.
        sample: Draws from the emission instead of taking its mode (greedy, or argmax, decoding).
            The mode of a mixture is that of its likeliest component; of NADE, it is key by key.

    Returns:
        ``(rows, time, x_dim)``, or ``(rows, time)`` for symbols.

    Raises:
        ValueError: If the net has no latents, or ``z`` another shape.

    Example:
        >>> net = ZForcing(Bernoulli, x_dim=1, z_dim=2, h_dim=4)
        >>> decode(net, torch.zeros(3, 5, 2)).shape
        torch.Size([3, 5, 1])
    """
    size = check_latents(net)
    if z.dim() != 3 or z.shape[-1] != size or 0 in z.shape:
        raise ValueError(f"'z' must have shape (rows, time, {size}), got {tuple(z.shape)}")
    like = next(net.parameters())
    z = z.to(like)
    if start is not None:
        start = start.to(like) if start.is_floating_point() else start.to(like.device)
    with drawing(net, seed):
        state = None if start is None else net.initial_state(len(z), start)
        lengths = torch.full((len(z),), z.shape[1], device=like.device)
        return generated(net, lengths, state, z=z, greedy=not sample)[0]


def generated(
    net: StochasticRNN,
    lengths: Tensor,
    state: State | None,
    z: Tensor | None = None,
    ends: Tensor | None = None,
    greedy: bool = False,
) -> tuple[Tensor, Tensor]:
    """Runs the model's own program, fed with its own output; steps past a length mean nothing.

    Args:
        net: Any model.
        lengths: Numbers of steps, ``(rows,)``.
        state: State before the first step, of as many rows.
        z: Latents to use instead of the prior's, ``(rows, steps, z_dim)``.
        ends: Numbers of steps for which ``z`` is used; the prior's follow. None is all of ``z``.
            Shape ``(rows,)``.
        greedy: Takes modes instead of draws.

    Returns:
        Observations, ``(rows, time, ...)``, and latents, ``(rows, time, z_dim)``.
    """
    num_steps = int(lengths.max())
    x = net.emission.template(len(lengths), num_steps, next(net.parameters()))
    program = poutine.uncondition(net.model)
    if z is not None:
        ends = torch.full_like(lengths, z.shape[1]) if ends is None else ends
        program = Latents(z, ends)(program)
    program = Modes()(program) if greedy else program
    nodes = poutine.trace(program).get_trace(x, lengths, state).nodes
    x, z = ([nodes[f"{site}_{t}"]["value"] for t in range(num_steps)] for site in "xz")
    return torch.stack(x, 1), torch.stack(z, 1)


class Latents(Messenger):
    """Handler that sets latents, ``(rows, steps, z_dim)``, up to each row's end, ``(rows,)``."""

    def __init__(self, z: Tensor, ends: Tensor):
        super().__init__()
        self.values = {f"z_{t}": (value, t < ends) for t, value in enumerate(z.unbind(1))}

    def _pyro_sample(self, msg: dict) -> None:
        if msg["name"] not in self.values:
            return
        value, is_set = self.values[msg["name"]]
        if not is_set.all():
            value = torch.where(is_set[:, None], value, msg["fn"].sample())
        msg["value"], msg["done"] = value, True


class Modes(Messenger):
    """Handler that sets each site that is not observed to its distribution's mode."""

    def _pyro_sample(self, msg: dict) -> None:
        if not (msg["is_observed"] or msg["done"] or site_is_subsample(msg)):
            msg["value"], msg["done"] = mode(msg["fn"]), True


@singledispatch
def mode(distribution: dist.Distribution) -> Tensor:
    """Returns the most probable value; :func:`decode` names the approximations."""
    return distribution.mode


@mode.register
def _(distribution: dist.Independent) -> Tensor:
    return mode(distribution.base_dist)


@mode.register
def _(distribution: dist.Bernoulli) -> Tensor:
    return (distribution.logits > 0).to(distribution.logits)  # torch's mode is NaN at 1/2


@mode.register
def _(distribution: dist.MixtureSameFamily) -> Tensor:
    likeliest = distribution.mixture_distribution.logits.argmax(-1, keepdim=True)
    values = mode(distribution.component_distribution)
    dim, event = likeliest.dim() - 1, values.shape[likeliest.dim() :]
    index = likeliest.reshape(*likeliest.shape, *[1] * len(event))
    return values.gather(dim, index.expand(*likeliest.shape, *event)).squeeze(dim)


@mode.register
def _(distribution: DiscretizedLogistic) -> Tensor:
    width = distribution.width
    near = ((distribution.loc / width).round() * width).clamp(-1, 1 - width)
    # The first and the last bin hold everything beyond them.
    values = torch.stack([near, torch.full_like(near, -1), torch.full_like(near, 1 - width)])
    return values.gather(0, distribution.log_prob(values).argmax(0, keepdim=True))[0]


@mode.register
def _(distribution: AutoregressiveBernoulli) -> Tensor:
    before, entries = distribution.bias_in, []
    for bias, weight_in, weight_out in zip(
        distribution.bias_out.unbind(-1), distribution.weight_in, distribution.weight_out
    ):
        logit = bias + (before.sigmoid() * weight_out).sum(-1)
        entries.append((logit > 0).to(logit))
        before = before + entries[-1][..., None] * weight_in
    return torch.stack(entries, dim=-1)
