"""Whether draws of the guide stand for the posterior: importance weights."""

from __future__ import annotations

from collections.abc import Sequence as Series
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ...data import SequenceSet
from ...estimators.particle_filter import effective_sample_size, log_mean_exp
from ...models import StochasticRNN, evaluating
from ...models.checks import check_positive
from ..pareto import MIN_PARTICLES, pareto_k
from .batches import batches, most_rows
from .codes import check_latents

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Importance:
    """Log-weights log p(x, z) - log q(z | x) of draws of the guide, in nats, and what they tell."""

    log_weight: Tensor
    """float64, ``(particles, sequence)``."""
    pareto_k: np.ndarray | None
    """k-hat of each sequence, ``(sequence,)``: above 0.7 its estimates are not to be relied on;
    minus infinity where weights do not vary; None of fewer than 25 particles."""
    ess: np.ndarray
    """Effective sample size of each sequence, in 1..particles, ``(sequence,)``."""
    log_likelihood: np.ndarray
    """log of the mean weight, nats, ``(sequence,)``: the IWAE bound on log p(x)."""
    lengths: np.ndarray
    """Steps of each sequence, ``(sequence,)``."""


def importance(
    net: StochasticRNN,
    data: SequenceSet,
    num_particles: int = 1_000,
    max_rows: int = 1_024,
    seed: int = 0,
) -> Importance:
    """Importance weights of each sequence.

    Args:
        net: A model with latents.
        data: Sequences.
        num_particles: Draws of each.
        max_rows: Draws times sequences in memory at once, or fewer where they are long.
        seed: Of the draws.

    Raises:
        ValueError: If the net has no latents, or a number is not positive.
    """
    check_positive(num_particles=num_particles, max_rows=max_rows)
    check_latents(net)
    columns = []
    with evaluating(net, seed):
        rows = most_rows(net, int(data.lengths.max()), max_rows)
        for _, x, lengths, state in batches(net, data, min(64, rows)):
            parts, chunk = [], max(1, rows // len(x))
            for first in range(0, num_particles, chunk):
                terms = net.terms(x, lengths, min(chunk, num_particles - first), state=state)
                parts.append(terms.log_weight.double().cpu())
                del terms  # before the next chunk is drawn
            columns.append(torch.cat(parts))
    log_weight = torch.cat(columns, 1)
    return Importance(
        log_weight=log_weight,
        pareto_k=pareto_k(log_weight).numpy() if num_particles >= MIN_PARTICLES else None,
        ess=effective_sample_size(log_weight).numpy(),
        log_likelihood=log_mean_exp(log_weight).numpy(),
        lengths=data.lengths.numpy(),
    )


@dataclass(frozen=True)
class BoundCurve:
    """The importance-weighted bound by its number K of particles, nats per sequence."""

    num_particles: np.ndarray
    """K, increasing, ``(points,)``."""
    bound: np.ndarray
    """Mean over sequences, ``(points,)``; at K = 1 the ELBO."""
    standard_error: np.ndarray
    """Of what the draws leave open, not of the choice of sequences, ``(points,)``; NaN where there
    is a single group of draws."""
    gap: np.ndarray
    """What is left to the bound of the largest K, ``(points,)``; the last is 0."""


def bound_curve(log_weight: Tensor, counts: Series[int] | None = None) -> BoundCurve:
    """The bound against K, from disjoint groups of K particles each.

    Args:
        log_weight: As of :class:`Importance`, ``(particles, sequence)``.
        counts: Values of K; None is 1, 2, 5, 10, 20, ... up to all.

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
        variance = each.var(0).sum() / num_groups if num_groups > 1 else torch.tensor(torch.nan)
        errors.append(variance.sqrt().item() / each.shape[1])
    bound = np.array(bounds)
    return BoundCurve(np.array(counts), bound, np.array(errors), bound[-1] - bound)


def resampled(inference_data, num_draws: int | None = None, seed: int = 0) -> xr.Dataset:
    """Posterior draws chosen by their importance weights: sampling-importance-resampling.

    Each sequence resamples its own draws (Rubin, 1988); the more draws there were, the nearer the
    result is to the exact posterior. Of little use where k-hat is above 0.7.

    Args:
        inference_data: From :func:`to_inference_data`.
        num_draws: Of the result; None is as many as there are. Fewer than a tenth of those that
            there were leave few of them twice.
        seed: Of the choice.

    Returns:
        The group ``posterior`` with other draws: ``z`` of
        ``(chain, draw, sequence, time, latent)``. Draws of two sequences belong together no more
        than before.

    Raises:
        ValueError: If ``num_draws`` is not positive.
    """
    import xarray as xr

    z = inference_data["posterior"]["z"]
    num_draws = z.sizes["draw"] if num_draws is None else num_draws
    check_positive(num_draws=num_draws)
    log_weight = inference_data["sample_stats"]["log_weight"].transpose("sequence", "chain", "draw")
    weight = torch.as_tensor(np.asarray(log_weight.values)).flatten(1).softmax(-1)
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.multinomial(weight, num_draws, replacement=True, generator=generator)
    parts = []
    for i, index in enumerate(chosen.numpy()):  # a sequence at a time, where z is in a file
        draws = z.isel(sequence=i).transpose("chain", "draw", "time", "latent").values
        parts.append(draws.reshape(-1, *draws.shape[2:])[index])
    dims = ("chain", "draw", "sequence", "time", "latent")
    coords = {name: z.coords[name] for name in dims[2:]}
    values = np.stack(parts, 1)[None]
    return xr.Dataset(
        {"z": (dims, values)}, coords=coords | {"chain": [0], "draw": np.arange(num_draws)}
    )
