"""Importance weights of the guide's draws: is the guide close to the posterior?"""

from __future__ import annotations

from collections.abc import Sequence as Series
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ...data import SequenceSet
from ...estimators.particle_filter import effective_sample_size, log_mean_exp
from ...models.checks import check_positive
from ..pareto import MIN_PARTICLES, pareto_k
from .batches import Source, batches, check_latents, drawing, row_limit

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Importance:
    """Log-weights log p(x, z) - log q(z | x) of the guide's draws in nats, and diagnostics."""

    log_weight: Tensor  # float64 on the CPU, (particles, sequence)
    pareto_k: np.ndarray | None
    """k-hat, ``(sequence,)``: estimates above 0.7 are unreliable; minus infinity where weights do
    not vary. None below 25 particles."""
    ess: np.ndarray  # effective sample size, in 1..particles, (sequence,)
    log_likelihood: np.ndarray  # log of the mean weight: the IWAE bound on log p(x), (sequence,)
    lengths: np.ndarray | None  # steps of each sequence, (sequence,); None for programs


def importance(
    net: Source,
    data: SequenceSet | None = None,
    num_particles: int = 1_000,
    seed: int = 0,
) -> Importance:
    """Returns the importance weights of each sequence, and their diagnostics.

    Args:
        net: A model with latents; or programs with their arguments, ``(model, guide, args)``.
        data: The net's sequences; None for programs.
        num_particles: Draws of the guide per sequence.

    Raises:
        ValueError: If the net has no latents, or a number is not positive.

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> def model(x):
        ...     with pyro.plate("sequences", len(x)):
        ...         z = pyro.sample("z", dist.Normal(0.0, 1.0))
        ...         pyro.sample("x", dist.Normal(z, 1.0), obs=x)
        >>> def guide(x):
        ...     with pyro.plate("sequences", len(x)):
        ...         pyro.sample("z", dist.Normal(x / 2, 0.75))
        >>> importance((model, guide, (torch.zeros(3),))).ess.shape
        (3,)
    """
    check_positive(num_particles=num_particles)
    check_latents(net)
    columns, rows = [], row_limit(net, data)
    with drawing(net, seed):
        for given in batches(net, data, min(64, rows)):
            parts = [given.terms().log_weight]  # the first draw tells the batch's size
            chunk = max(1, rows // parts[0].shape[1])
            for first in range(1, num_particles, chunk):
                parts.append(given.terms(min(chunk, num_particles - first)).log_weight)
            columns.append(torch.cat(parts).cpu().double())
    log_weight = torch.cat(columns, 1)
    return Importance(
        log_weight=log_weight,
        pareto_k=pareto_k(log_weight).numpy() if num_particles >= MIN_PARTICLES else None,
        ess=effective_sample_size(log_weight).numpy(),
        log_likelihood=log_mean_exp(log_weight).numpy(),
        lengths=None if data is None else data.lengths.numpy(),
    )


@dataclass(frozen=True)
class BoundCurve:
    """The importance-weighted bound by its number K of particles, nats per sequence."""

    num_particles: np.ndarray  # K, increasing, (points,)
    bound: np.ndarray  # mean over sequences, (points,); at K = 1 the ELBO
    standard_error: np.ndarray  # over draws, (points,); NaN where all draws are one group
    gap: np.ndarray  # distance to the bound of the largest K, (points,); the last is 0


def bound_curve(log_weight: Tensor, counts: Series[int] | None = None) -> BoundCurve:
    """Returns the bound against K, from disjoint groups of K particles each.

    Args:
        log_weight: From :class:`Importance`, ``(particles, sequence)``.
        counts: Values of K; None takes 1, 2, 5, 10, 20, ... up to all particles.

    Raises:
        ValueError: If a count is not in 1..particles.

    Example:
        >>> curve = bound_curve(torch.tensor([[0.0], [1.0], [0.0], [1.0]]))
        >>> curve.num_particles.tolist(), curve.bound.round(3).tolist()
        ([1, 2, 4], [0.5, 0.62, 0.62])
    """
    most = len(log_weight)
    if counts is None:
        powers = [factor * 10**k for k in range(len(str(most))) for factor in (1, 2, 5)]
        counts = [*(k for k in powers if k < most), most]
    counts = sorted(set(counts))
    if not counts or counts[0] < 1 or counts[-1] > most:
        raise ValueError(f"'counts' must be in 1..{most}, got {counts}")
    bounds, errors = [], []
    for count in counts:
        num_groups = most // count
        groups = log_weight.double()[: num_groups * count].unflatten(0, (num_groups, count))
        each = log_mean_exp(groups.transpose(0, 1))  # (groups, sequence)
        bounds.append(each.mean().item())
        error = (each.var(0).sum() / num_groups).sqrt().item() if num_groups > 1 else np.nan
        errors.append(error / each.shape[1])
    bound = np.array(bounds)
    return BoundCurve(np.array(counts), bound, np.array(errors), bound[-1] - bound)


def resampled(inference_data, num_draws: int | None = None, seed: int = 0) -> xr.Dataset:
    """Returns posterior draws chosen by their importance weights (Rubin, 1988).

    Each sequence resamples its own draws, so draws of two sequences do not belong together. The
    result nears the exact posterior with the number of draws, if k-hat is below 0.7.

    Args:
        inference_data: From :func:`to_inference_data`.
        num_draws: Size of the result; None takes as many as there are. A tenth of the draws or
            fewer has few duplicates.

    Returns:
        The group ``posterior`` with other draws: ``z``, ``(chain, draw, sequence, time, latent)``.

    Raises:
        ValueError: If ``num_draws`` is not positive.
    """
    z = inference_data["posterior"]["z"]
    num_draws = z.sizes["draw"] if num_draws is None else num_draws
    check_positive(num_draws=num_draws)
    log_weight = inference_data["log_likelihood"]["log_weight"].transpose("sequence", ...)
    weight = torch.as_tensor(log_weight.values).flatten(1).softmax(-1)
    generator = torch.Generator().manual_seed(seed)
    index = torch.multinomial(weight, num_draws, replacement=True, generator=generator)
    stacked = z.stack(flat=("chain", "draw")).transpose("sequence", "flat", ...).values
    chosen = np.take_along_axis(stacked, index.numpy()[..., None, None], 1).swapaxes(0, 1)
    sample = z.isel(chain=[0], draw=np.zeros(num_draws, dtype=int)).copy(data=chosen[None])
    return sample.assign_coords(draw=np.arange(num_draws)).to_dataset(name="z")
