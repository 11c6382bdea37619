"""Simulation-based calibration of the guide (Talts et al., 2018): arxiv.org/abs/1804.06788."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...data import SequenceSet
from ...estimators.terms import Terms
from ...layers.blocks import length_mask
from ...models import StochasticRNN, evaluating
from ...models.checks import check_positive
from .batches import batch, most_rows
from .codes import check_latents


@dataclass(frozen=True)
class Calibration:
    """Ranks of what the model drew among draws of the guide."""

    ranks: np.ndarray
    """In 0..num_draws, uniform if the guide is the posterior; int, ``(quantity, simulation)``."""
    quantities: list[str]
    """What was ranked: "mean of z_0", ..., "log p(x, z)"."""
    num_draws: int
    histograms: np.ndarray
    """Simulations by bin of rank, ``(quantity, bin)``."""
    expected: float
    """Simulations in a bin, if uniform."""
    band: tuple[float, float]
    """Where a bin is with probability 1 - level, if uniform: a binomial interval."""
    p_values: np.ndarray
    """Of a chi-square test of each histogram, ``(quantity,)``."""
    level: float
    calibrated: bool
    """Whether none is rejected: every p-value is above ``level`` by the number of quantities, so
    that a perfect guide fails in a share ``level`` of cases, or less (Bonferroni)."""


def calibration(
    net: StochasticRNN,
    data: SequenceSet,
    num_simulations: int = 320,
    num_draws: int = 63,
    num_bins: int = 16,
    level: float = 0.01,
    max_quantities: int = 16,
    max_rows: int = 1_024,
    seed: int = 0,
) -> Calibration:
    """Whether the guide is the model's posterior, on data that the model generates.

    The model draws (z, x), the guide draws from q(z | x), and the rank of the former among the
    latter is uniform if q is the posterior. A U-shape says that the guide is too narrow, a hill
    that it is too wide, a slope that it is off to one side.

    Ranked are the mean over steps of each latent, and log p(x, z), which looks at all of them at
    once (Modrak et al., 2023, https://arxiv.org/abs/2211.02383).

    Args:
        net: A model with latents.
        data: Lengths, and frames before the first step, are those of its sequences in turn.
        num_simulations: Sequences that the model draws.
        num_draws: Draws of the guide for each, one less than a multiple of ``num_bins``.
        num_bins: Of a histogram.
        level: Of the test of all quantities together.
        max_quantities: Latents ranked at most, evenly spread.
        max_rows: Draws times sequences in memory at once.
        seed: Of all draws.

    Raises:
        ValueError: If the net has no latents, a number is not positive or not as said, or
            ``level`` not between 0 and 1.
    """
    from scipy import stats

    sizes = {"num_simulations": num_simulations, "num_bins": num_bins, "max_rows": max_rows}
    check_positive(num_draws=num_draws, max_quantities=max_quantities, **sizes)
    if (num_draws + 1) % num_bins or num_bins < 2:
        raise ValueError(
            f"'num_draws' + 1 must be a multiple of 'num_bins', 2 or more, got {num_draws} + 1 and "
            f"{num_bins}"
        )
    if not 0 < level < 1:
        raise ValueError(f"'level' must be between 0 and 1, got {level}")
    z_dim = check_latents(net)
    latents = torch.linspace(0, z_dim - 1, min(z_dim, max_quantities)).long()
    with evaluating(net, seed):
        size = max(1, most_rows(net, int(data.lengths.max()), max_rows) // num_draws)
        turns = (torch.arange(num_simulations) % len(data)).split(size)
        parts = [ranks_of(net, data, part, num_draws, latents) for part in turns]
    ranks = torch.cat(parts, 1).numpy()
    bins = ranks * num_bins // (num_draws + 1)
    histograms = np.stack([np.bincount(row, minlength=num_bins) for row in bins])
    p_values = np.array([stats.chisquare(row).pvalue for row in histograms])
    low, high = stats.binom(num_simulations, 1 / num_bins).interval(1 - level)
    return Calibration(
        ranks=ranks,
        quantities=[*(f"mean of z_{i}" for i in latents.tolist()), "log p(x, z)"],
        num_draws=num_draws,
        histograms=histograms,
        expected=num_simulations / num_bins,
        band=(float(low), float(high)),
        p_values=p_values,
        level=level,
        calibrated=bool(p_values.min() > level / len(p_values)),
    )


def ranks_of(
    net: StochasticRNN, data: SequenceSet, indices: Tensor, num_draws: int, latents: Tensor
) -> Tensor:
    """Ranks of one draw of the model for each of the sequences, ``(quantity, sequence)``."""
    given = batch(net, data, indices.tolist())
    dreamt, z = net.given(given.x, given.lengths, given.state).dream()
    mask = length_mask(given.lengths, given.x.shape[1])
    truth = quantities(dreamt.terms(latents=z), mask, latents)
    drawn = quantities(dreamt.terms(num_draws), mask, latents)
    # Ties, as of a latent that cannot vary, are broken at random, or they would be no rank.
    tied = (drawn == truth).sum(1)
    return (drawn < truth).sum(1) + (torch.rand(tied.shape) * (tied + 1)).long()


def quantities(terms: Terms, mask: Tensor, latents: Tensor) -> Tensor:
    """What is ranked, float64 on the CPU, ``(quantity, particles, batch)``."""
    weight = (mask / mask.sum(-1, keepdim=True))[..., None]
    z = terms.latents[..., latents.to(mask.device)]
    log_joint = (terms.log_prior + terms.log_emission).sum(-1)
    means = (z * weight).sum(-2).permute(2, 0, 1)
    return torch.cat([means, log_joint[None]]).double().cpu()
