"""Sequences between two sequences, and the effect of one latent (Goyal et al., 2017, Table 3)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...data import Sequence
from ...models import StochasticRNN
from .batches import check_latents
from .decoding import decode, posterior_path


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
    """Decodes latents between those of two sequences, z_t = (1 - w) z_t^1 + w z_t^2.

    The latents are the paths of posterior means. Where lengths differ, the decoding at w has
    (1 - w) T_1 + w T_2 steps, rounded, and past the shorter path z_t is the longer one's. At 0 and
    1 the result is the greedy decoding of each sequence. A text ends earlier where the model ends
    it. The frame before the first step is the first sequence's for w < 1/2, else the second's.

    Args:
        num_points: Number of values of w, evenly from 0 to 1.
        num_samples: Number of sampled decodings at each w.

    Raises:
        ValueError: If the net has no latents, there are fewer than 2 points, or ``num_samples`` is
            negative.
    """
    if num_points < 2 or num_samples < 0:
        raise ValueError(
            "'num_points' must be 2 or more and 'num_samples' not negative, got "
            f"{num_points} and {num_samples}"
        )
    paths = posterior_path(net, first), posterior_path(net, second)
    common, longer = min(map(len, paths)), max(*paths, key=len)
    weights, greedy, sampled = np.linspace(0, 1, num_points), [], []
    for i, weight in enumerate(weights):
        num_steps = round((1 - weight) * len(paths[0]) + weight * len(paths[1]))
        mixed = (1 - weight) * paths[0][:common] + weight * paths[1][:common]
        z = torch.cat([mixed, longer[common:]])[:num_steps]
        sequence = first if weight < 0.5 else second
        greedy.append(decoded(net, z[None], sequence)[0])
        seeds = [seed * 1_000_003 + i * num_samples + k for k in range(num_samples)]
        sampled.append([decoded(net, z[None], sequence, sample=True, seed=s)[0] for s in seeds])
    return Interpolation(weights, greedy, sampled)


def swap(
    net: StochasticRNN, first: Sequence, second: Sequence, begin: int = 0, end: int | None = None
) -> tuple[Tensor, Tensor]:
    """Returns greedy decodings of two sequences that have exchanged latents of some steps.

    Each keeps its number of steps and its start. Steps that the other lacks keep their latents.

    Args:
        begin, end: Steps ``begin..end - 1`` are exchanged; None is to the end.

    Returns:
        The first with latents of the second, and the second with latents of the first, each
        ``(time, ...)``.

    Raises:
        ValueError: If the net has no latents, or the range of steps is empty.
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

    Returns:
        A decoding for each offset, ``(time, ...)``; at 0 the sequence's greedy decoding.

    Raises:
        ValueError: If the net has no such latent, or there are no offsets.
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
