"""From latents to observations, and from observations to the path of posterior means."""

from __future__ import annotations

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
from .batches import check_latents, drawing, given_batch


def posterior_path(net: StochasticRNN, sequence: Sequence) -> Tensor:
    """Returns the path of posterior means, ``(time, z_dim)``.

    Each z_t is the mean of q(z_t | means before, x).

    Raises:
        ValueError: If the net has no latents.
    """
    check_latents(net)
    with drawing(net, seed=0):
        given = given_batch(net, [sequence])
        guide = poutine.trace(Decoder(greedy=True)(net.guide))
        nodes = guide.get_trace(given.x, given.lengths, given.state).nodes
    return torch.stack([nodes[f"z_{t}"]["value"][0] for t in range(given.x.shape[1])])


def decode(
    net: StochasticRNN, z: Tensor, start: Tensor | None = None, sample: bool = False, seed: int = 0
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
        ValueError: If the net has no latents, or ``z`` another shape or NaN.

    Example:
        >>> net = ZForcing(Bernoulli, x_dim=1, z_dim=2, h_dim=4)
        >>> decode(net, torch.zeros(3, 5, 2)).shape
        torch.Size([3, 5, 1])
    """
    size = check_latents(net)
    if z.dim() != 3 or z.shape[-1] != size or 0 in z.shape:
        raise ValueError(f"'z' must have shape (rows, time, {size}), got {tuple(z.shape)}")
    if z.isnan().any():
        raise ValueError("'z' must be finite, got NaN")
    like, state = next(net.parameters()), None
    z = z.to(like)
    with drawing(net, seed):
        if start is not None:
            start = start.to(like) if start.is_floating_point() else start.to(like.device)
            state = net.initial_state(len(z), start)
        lengths = torch.full((len(z),), z.shape[1], device=like.device)
        return generated(net, lengths, state, z, greedy=not sample)[0]


def generated(
    net: StochasticRNN,
    lengths: Tensor,
    state: State | None,
    z: Tensor | None = None,
    greedy: bool = False,
) -> tuple[Tensor, Tensor]:
    """Runs the model's own program, fed with its own output; steps past a length mean nothing.

    Args:
        net: Any model.
        lengths: Numbers of steps, ``(rows,)``.
        state: State before the first step, of as many rows.
        z: Latents to use instead of the prior's, ``(rows, steps, z_dim)``; the prior's are used
            where ``z`` is NaN, and after its last step.
        greedy: Takes modes instead of draws.

    Returns:
        Observations, ``(rows, time, ...)``, and latents, ``(rows, time, z_dim)``.
    """
    num_steps = int(lengths.max())
    x = net.emission.template(len(lengths), num_steps, next(net.parameters()))
    program = Decoder(z, greedy)(poutine.uncondition(net.model))
    nodes = poutine.trace(program).get_trace(x, lengths, state).nodes
    x, z = ([nodes[f"{site}_{t}"]["value"] for t in range(num_steps)] for site in "xz")
    return torch.stack(x, 1), torch.stack(z, 1)


class Decoder(Messenger):
    """Handler that sets the latents ``z`` where they are not NaN, and other sites to modes."""

    def __init__(self, z: Tensor | None = None, greedy: bool = False):
        super().__init__()
        self.values = {} if z is None else {f"z_{t}": v for t, v in enumerate(z.unbind(1))}
        self.greedy = greedy

    def _pyro_sample(self, msg: dict) -> None:
        if msg["is_observed"] or site_is_subsample(msg):
            return
        value = self.values.get(msg["name"])
        if value is None or value.isnan().any():
            drawn = mode(msg["fn"]) if self.greedy else msg["fn"].sample()
            value = drawn if value is None else torch.where(value.isnan(), drawn, value)
        msg["value"], msg["done"] = value, True


def mode(distribution: dist.Distribution) -> Tensor:
    """Returns the most probable value; :func:`decode` names the approximations."""
    match distribution:
        case dist.Independent():
            return mode(distribution.base_dist)
        case dist.Bernoulli():
            return (distribution.logits > 0).to(distribution.logits)  # torch's is NaN at 1/2
        case dist.MixtureSameFamily():
            likeliest = distribution.mixture_distribution.logits.argmax(-1, keepdim=True)
            values, dim = mode(distribution.component_distribution), likeliest.dim() - 1
            index = likeliest.reshape(likeliest.shape + (1,) * (values.dim() - dim - 1))
            return values.take_along_dim(index, dim).squeeze(dim)
        case DiscretizedLogistic(loc=loc, width=width):
            near = ((loc / width).round() * width).clamp(-1, 1 - width)
            # The first and the last bin hold everything beyond them.
            values = torch.stack(
                [near, torch.full_like(near, -1), torch.full_like(near, 1 - width)]
            )
            return values.gather(0, distribution.log_prob(values).argmax(0, keepdim=True))[0]
        case AutoregressiveBernoulli():
            entries = torch.zeros_like(distribution.bias_out)
            # An entry depends on those before it: each round gets one more right, and often all.
            while (changed := distribution.conditional_logits(entries) > 0).ne(entries).any():
                entries = changed.to(entries)
            return entries
    return distribution.mode
