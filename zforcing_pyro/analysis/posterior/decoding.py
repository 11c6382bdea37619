"""Observations decoded from latents: paths of posterior means, mixed, swapped or moved."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch import distributions as dist

from ...data import Sequence, collate
from ...data.checks import check_range
from ...emissions.mixtures import DiscretizedLogistic
from ...emissions.nade import AutoregressiveBernoulli
from ...models import StochasticRNN
from ...models.free_running import free_run
from ...models.steps import State
from ..batches import check_latents, drawing


def posterior_path(net: StochasticRNN, sequence: Sequence) -> Tensor:
    """Returns the path of posterior means, ``(time, z_dim)``: z_t of q(z_t | means before, x)."""
    check_latents(net)
    with drawing(net, seed=0):
        given = net.given_batch(collate([sequence]))
        guide = poutine.trace(Decoder(greedy=True)(net.guide))
        nodes = guide.get_trace(*given.args).nodes
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


@dataclass(frozen=True)
class Interpolation:
    """Decodings along the line between the latents of two sequences."""

    weights: np.ndarray  # weight of the second sequence, from 0 to 1, (points,)
    greedy: list[Tensor]  # decoding of each point by the emissions' modes, (time, ...) each
    sampled: list[list[Tensor]]  # sampled decodings of each point, (time, ...) each


def interpolation(
    net: StochasticRNN,
    first: Sequence,
    second: Sequence,
    num_points: int = 7,
    num_samples: int = 1,
    seed: int = 0,
) -> Interpolation:
    """Decodes latents between those of two sequences (Goyal et al., 2017, Table 3).

    At w, z_t = (1 - w) z_t^1 + w z_t^2, with paths of posterior means. Where lengths differ, there
    are (1 - w) T_1 + w T_2 steps, rounded, and past the shorter path z_t is the longer one's. The
    frame before the first step is the first sequence's for w < 1/2, else the second's. A text ends
    earlier where the model ends it.

    Args:
        num_points: Number of values of w, evenly from 0 to 1.
        num_samples: Number of sampled decodings at each w.
    """
    check_range(1, num_samples=num_samples)
    if num_points < 2:
        raise ValueError(f"'num_points' must be 2 or more, got {num_points}")
    paths = posterior_path(net, first), posterior_path(net, second)
    common, longer = min(map(len, paths)), max(*paths, key=len)
    weights, greedy, sampled = np.linspace(0, 1, num_points), [], []
    for i, weight in enumerate(weights):
        num_steps = round((1 - weight) * len(paths[0]) + weight * len(paths[1]))
        mixed = (1 - weight) * paths[0][:common] + weight * paths[1][:common]
        z = torch.cat([mixed, longer[common:]])[:num_steps]
        sequence = first if weight < 0.5 else second
        greedy.append(decoded(net, z[None], sequence)[0])
        rows, options = z.repeat(num_samples, 1, 1), {"sample": True, "seed": seed * 1_000_003 + i}
        sampled.append(list(decoded(net, rows, sequence, **options)))
    return Interpolation(weights, greedy, sampled)


def swap(
    net: StochasticRNN, first: Sequence, second: Sequence, begin: int = 0, end: int | None = None
) -> tuple[Tensor, Tensor]:
    """Returns greedy decodings of two sequences that have exchanged latents of some steps.

    Each keeps its number of steps and its start. Steps that the other lacks keep their latents.

    Args:
        begin, end: Steps ``begin..end - 1`` are exchanged; None is to the end.
    """
    paths = posterior_path(net, first), posterior_path(net, second)
    common = min(map(len, paths))
    end = common if end is None else end
    if not 0 <= begin < end:
        raise ValueError(f"'begin' must be in 0..{end - 1} and before 'end', got {begin}")
    exchanged = slice(begin, min(end, common))
    x, y = (path.clone()[None] for path in paths)
    x[0, exchanged], y[0, exchanged] = paths[1][exchanged], paths[0][exchanged]
    return decoded(net, x, first)[0], decoded(net, y, second)[0]


def traversal(
    net: StochasticRNN,
    sequence: Sequence,
    latent: int,
    offsets: Iterable[float] = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0),
) -> list[Tensor]:
    """Returns greedy decodings of a sequence with one dimension of z moved at every step.

    Args:
        latent: Index of the dimension.
        offsets: Numbers added to its posterior mean, in the latent's own unit.
    """
    size, offsets = check_latents(net), list(offsets)
    if not 0 <= latent < size or not offsets:
        raise ValueError(
            f"'latent' must be in 0..{size - 1} with one offset or more, got {latent} and {offsets}"
        )
    z = posterior_path(net, sequence).repeat(len(offsets), 1, 1)
    z[..., latent] += torch.tensor(offsets).to(z)[:, None]
    return list(decoded(net, z, sequence))


def decoded(net: StochasticRNN, z: Tensor, sequence: Sequence, **options) -> Tensor:
    """Returns decodings of paths, ``(rows, time, z_dim)``, from the start of ``sequence``."""
    start = sequence.start
    return decode(net, z, None if start is None else start.expand(len(z), *start.shape), **options)


def generated(
    net: StochasticRNN,
    lengths: Tensor,
    state: State | None,
    z: Tensor | None = None,
    greedy: bool = False,
) -> tuple[Tensor, Tensor]:
    """Runs the model's own program, fed with its own output; steps past a length mean nothing.

    Args:
        lengths: Numbers of steps, ``(rows,)``.
        z: Latents to use instead of the prior's, ``(rows, steps, z_dim)``; the prior's are used
            where ``z`` is NaN, and after its last step.

    Returns:
        Observations, ``(rows, time, ...)``, and latents, ``(rows, time, z_dim)``.
    """
    num_steps = int(lengths.max())
    x = net.emission.template(len(lengths), num_steps, next(net.parameters()))
    if z is None and not greedy:
        return free_run(net, x, state)[:2]
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
