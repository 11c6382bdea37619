"""From latents to observations, and from observations to the most probable latents."""

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
from ...models import StochasticRNN, evaluating
from ...models.steps import State
from .batches import batch
from .codes import check_latents


def posterior_path(net: StochasticRNN, sequence: Sequence) -> Tensor:
    """The path of posterior means: each z_t is the mean of q(z_t | means before, x).

    Args:
        net: A model with latents.
        sequence: An item of a :class:`SequenceSet`.

    Returns:
        ``(time, z_dim)``.

    Raises:
        ValueError: If the net has no latents.
    """
    check_latents(net)
    with evaluating(net, seed=0):
        _, x, lengths, state = batch(net, [sequence], [0])
        trace = poutine.trace(Modes()(net.guide)).get_trace(x, lengths, state)
    return torch.stack([trace.nodes[f"z_{t}"]["value"][0] for t in range(x.shape[1])])


def decode(
    net: StochasticRNN,
    z: Tensor,
    start: Tensor | None = None,
    sample: bool = False,
    seed: int = 0,
) -> Tensor:
    """Observations that the model makes of given latents, each step fed with its own output.

    Args:
        net: A model with latents.
        z: ``(rows, time, z_dim)``.
        start: Frame before the first step, ``(rows, x_dim)`` or ``(rows,)``; as data have it.
        sample: Draws from the emission, in place of its mode (the greedy, or argmax, decoding).
            Of a mixture that is the mode of its most probable component; of NADE, key after key.
        seed: Of the draws.

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
    with evaluating(net, seed):
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
    """What the model's own program makes, fed with its own output; of no meaning past a length.

    Args:
        net: Any model.
        lengths: How many steps, ``(rows,)``.
        state: Before the first step, of the same rows.
        z: Latents, ``(rows, steps, z_dim)``.
        ends: Where those end that are given; the prior's follow. None is at ``steps``. ``(rows,)``.
        greedy: Takes modes in place of draws.

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
    found = [[nodes[f"{site}_{t}"]["value"] for t in range(num_steps)] for site in "xz"]
    return torch.stack(found[0], 1), torch.stack(found[1], 1)


class Latents(Messenger):
    """A handler: latents have given values, ``(rows, steps, z_dim)``, up to ``ends``, ``(rows,)``.

    Unlike ``poutine.condition``, it leaves to each row how many.
    """

    def __init__(self, z: Tensor, ends: Tensor):
        super().__init__()
        self.given = {f"z_{t}": (value, t < ends) for t, value in enumerate(z.unbind(1))}

    def _pyro_sample(self, msg: dict) -> None:
        if msg["name"] not in self.given:
            return
        value, is_given = self.given[msg["name"]]
        if not is_given.all():
            value = torch.where(is_given[:, None], value, msg["fn"].sample())
        msg["value"], msg["done"] = value, True


class Modes(Messenger):
    """A handler: each site that is not observed is its distribution's mode."""

    def _pyro_sample(self, msg: dict) -> None:
        if not (msg["is_observed"] or msg["done"] or site_is_subsample(msg)):
            msg["value"], msg["done"] = mode(msg["fn"]), True


@singledispatch
def mode(distribution: dist.Distribution) -> Tensor:
    """The most probable value; :func:`decode` says what stands in where that is not known."""
    return distribution.mode


@mode.register
def _(distribution: dist.Independent) -> Tensor:
    return mode(distribution.base_dist)


@mode.register
def _(distribution: dist.Bernoulli) -> Tensor:
    return (distribution.logits > 0).to(distribution.logits)  # torch's has NaN at 1/2


@mode.register
def _(distribution: dist.MixtureSameFamily) -> Tensor:
    most = distribution.mixture_distribution.logits.argmax(-1)
    values = mode(distribution.component_distribution)
    event = values.dim() - most.dim() - 1
    index = most.reshape(*most.shape, 1, *[1] * event)
    index = index.expand(*most.shape, 1, *values.shape[values.dim() - event :])
    return values.gather(most.dim(), index).squeeze(most.dim())


@mode.register
def _(distribution: DiscretizedLogistic) -> Tensor:
    width = distribution.width
    near = ((distribution.loc / width).round() * width).clamp(-1, 1 - width)
    # The first and the last bin hold all that is beyond them.
    values = torch.stack([near, torch.full_like(near, -1), torch.full_like(near, 1 - width)])
    best = distribution.log_prob(values).argmax(0, keepdim=True)
    return values.gather(0, best)[0]


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
