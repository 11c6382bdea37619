"""Sequences between two sequences, and what one latent does (Goyal et al., 2017, Table 3)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...data import Sequence
from ...models import StochasticRNN
from .codes import check_latents
from .decoding import decode, posterior_path


@dataclass(frozen=True)
class Interpolation:
    """Decodings along the line between the latents of two sequences."""

    weights: np.ndarray
    """Of the second sequence, from 0 to 1, ``(points,)``."""
    greedy: list[Tensor]
    """The decoding of each point by the emissions' modes (argmax), ``(time, ...)`` each."""
    sampled: list[list[Tensor]]
    """Of each point the sampled decodings, ``(time, ...)`` each."""


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
    (1 - w) T_1 + w T_2 steps, rounded, and where the shorter path has ended z_t is the longer
    one's; at 0 and 1 the result is the greedy decoding of each. A text ends before that where the
    model says so. The frame before the first step is the first sequence's for w < 1/2, else the
    second's.

    Args:
        net: A model with latents.
        first, second: Items of a :class:`SequenceSet`.
        num_points: Values of w, evenly from 0 to 1.
        num_samples: Sampled decodings of each.
        seed: Of the samples.

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
    weights, greedy, sampled = np.linspace(0, 1, num_points), [], []
    for i, weight in enumerate(weights):
        z = between(*paths, weight)[None]
        start = row((first if weight < 0.5 else second).start)
        greedy.append(decode(net, z, start)[0])
        draws = range(i * num_samples, (i + 1) * num_samples)
        seeds = [seed * 1_000_003 + k for k in draws]
        sampled.append([decode(net, z, start, sample=True, seed=s)[0] for s in seeds])
    return Interpolation(weights, greedy, sampled)


def swap(
    net: StochasticRNN, first: Sequence, second: Sequence, begin: int = 0, end: int | None = None
) -> tuple[Tensor, Tensor]:
    """Greedy decodings of two sequences that have exchanged their latents of some steps.

    Each keeps its number of steps and its start; latents of steps that the other lacks stay.

    Args:
        net: A model with latents.
        first, second: Items of a :class:`SequenceSet`.
        begin, end: Steps ``begin..end - 1`` are exchanged; None is to the end.

    Returns:
        The first with latents of the second, and the second with latents of the first, each
        ``(time, ...)``.

    Raises:
        ValueError: If the net has no latents, or the steps are no range.
    """
    paths = posterior_path(net, first), posterior_path(net, second)
    common = min(map(len, paths))
    end = common if end is None else end
    if not 0 <= begin < end:
        raise ValueError(f"'begin' must be in 0..{end - 1} and before 'end', got {begin}")
    exchanged = slice(begin, min(end, common))
    swapped = [path.clone() for path in paths]
    for path, other in zip(swapped, reversed(paths)):
        path[exchanged] = other[exchanged]
    x, y = (
        decode(net, path[None], row(sequence.start))[0]
        for path, sequence in zip(swapped, (first, second))
    )
    return x, y


def traversal(
    net: StochasticRNN,
    sequence: Sequence,
    latent: int,
    offsets: Iterable[float] = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0),
) -> list[Tensor]:
    """Greedy decodings of a sequence with one dimension of z moved at every step.

    Args:
        net: A model with latents.
        sequence: An item of a :class:`SequenceSet`.
        latent: Which dimension.
        offsets: What is added to its posterior mean, in the latent's own unit; standard deviations
            of the prior where that is N(0, I).

    Returns:
        A decoding of each offset, ``(time, ...)``; that of 0 is the sequence's greedy decoding.

    Raises:
        ValueError: If the net has no such latent, or there are no offsets.
    """
    size, offsets = check_latents(net), list(offsets)
    if not 0 <= latent < size or not offsets:
        raise ValueError(
            f"'latent' must be in 0..{size - 1} with one offset or more, got {latent} and {offsets}"
        )
    z = posterior_path(net, sequence).expand(len(offsets), -1, -1).clone()
    z[..., latent] += torch.tensor(offsets).to(z)[:, None]
    start = sequence.start
    if start is not None:
        start = start.expand(len(offsets), *start.shape)
    return list(decode(net, z, start))


def between(first: Tensor, second: Tensor, weight: float) -> Tensor:
    """The path at ``weight`` between two, ``(time, z_dim)``; see :func:`interpolation`."""
    num_steps = round((1 - weight) * len(first) + weight * len(second))
    common, longer = min(len(first), len(second)), max(first, second, key=len)
    mixed = (1 - weight) * first[:common] + weight * second[:common]
    return torch.cat([mixed, longer[common:]])[:num_steps]


def row(start: Tensor | None) -> Tensor | None:
    """A sequence's start as that of a batch of one."""
    return None if start is None else start[None]
