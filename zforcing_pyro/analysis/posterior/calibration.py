"""Simulation-based calibration of the guide (Talts et al., 2018): arxiv.org/abs/1804.06788."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...data import SequenceSet
from ...estimators.terms import Given, Terms
from ...layers.blocks import length_mask
from ...models import StochasticRNN
from ...models.checks import check_positive
from .batches import Source, drawing, given_batch, given_programs, most_rows
from .codes import check_latents


@dataclass(frozen=True)
class Calibration:
    """Ranks of the model's draws among draws of the guide."""

    ranks: np.ndarray
    """In 0..num_draws, uniform if the guide is the posterior; int, ``(quantity, simulation)``."""
    quantities: list[str]
    """Names of the ranked quantities: "mean of z_0", ..., "log p(x, z)"."""
    num_draws: int
    histograms: np.ndarray
    """Number of simulations by bin of ranks, ``(quantity, bin)``."""
    expected: float
    """Expected number of simulations in a bin if ranks are uniform."""
    band: tuple[float, float]
    """Binomial interval of a bin's count with probability 1 - level, if ranks are uniform."""
    p_values: np.ndarray
    """p-value of a chi-square test of each histogram, ``(quantity,)``."""
    level: float
    calibrated: bool
    """True if every p-value is above ``level`` / number of quantities (Bonferroni): a perfect
    guide fails with probability ``level`` or less."""


def calibration(
    net: Source,
    data: SequenceSet | None = None,
    num_simulations: int = 320,
    num_draws: int = 63,
    num_bins: int = 16,
    level: float = 0.01,
    max_quantities: int = 16,
    max_rows: int = 1_024,
    seed: int = 0,
) -> Calibration:
    """Tests whether the guide is the model's posterior, on data that the model generates.

    The model draws (z, x) and the guide draws from q(z | x). The rank of the former among the
    latter is uniform if q is the posterior. A U-shape means that the guide is too narrow, a hill
    that it is too wide, a slope that it is off to one side. Ranked are the mean over steps of each
    latent, and log p(x, z), which depends on all latents at once (Modrak et al., 2023,
    https://arxiv.org/abs/2211.02383).

    Args:
        net: A model with latents; or a :class:`ProgramPair` with the keyword ``observations``.
        data: Sequences whose lengths, and frames before the first step, are taken in turn; None
            for programs.
        num_simulations: Sequences that the model draws.
        num_draws: Draws of the guide for each; one less than a multiple of ``num_bins``.
        num_bins: Bins of a histogram.
        level: Level of the test of all quantities together.
        max_quantities: Largest number of latents ranked, evenly spread.
        max_rows: Draws times sequences in memory at once.

    Raises:
        ValueError: If the net has no latents, a number is out of its range, or programs take no
            ``observations``.
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
    check_latents(net)
    parts, num_left = [], num_simulations
    with drawing(net, seed):
        size = max(1, most_rows(net, data, max_rows) // num_draws)
        for given in simulated(net, data, num_simulations, size):
            names, ranks = rank(given, num_draws, max_quantities)
            parts.append(ranks[:, :num_left])
            if (num_left := num_left - ranks.shape[1]) <= 0:
                break
    ranks = torch.cat(parts, 1).numpy()
    bins = ranks * num_bins // (num_draws + 1)
    histograms = np.stack([np.bincount(row, minlength=num_bins) for row in bins])
    p_values = np.array([stats.chisquare(row).pvalue for row in histograms])
    low, high = stats.binom(num_simulations, 1 / num_bins).interval(1 - level)
    calibrated, band = bool(p_values.min() > level / len(p_values)), (float(low), float(high))
    counts = histograms, num_simulations / num_bins, band
    return Calibration(ranks, names, num_draws, *counts, p_values, level, calibrated)


def simulated(
    net: Source, data: SequenceSet | None, num_simulations: int, size: int
) -> Iterator[Given]:
    """Yields batches whose sizes the model shall draw; programs again and again."""
    if not isinstance(net, StochasticRNN):
        while True:
            yield given_programs(net, data)
    for turn in (torch.arange(num_simulations) % len(data)).split(size):
        yield given_batch(net, [data[i] for i in turn.tolist()])


def rank(given: Given, num_draws: int, max_quantities: int) -> tuple[list[str], Tensor]:
    """Returns names, and ranks of a draw of the model for each sequence, ``(quantity, batch)``."""
    dreamt, latents = given.dream()
    names, truth = quantities(dreamt, dreamt.terms(latents=latents), max_quantities)
    _, drawn = quantities(dreamt, dreamt.terms(num_draws), max_quantities)
    tied = (drawn == truth).sum(1)  # such as a latent that cannot vary: broken at random
    return names, (drawn < truth).sum(1) + (torch.rand(tied.shape) * (tied + 1)).long()


def quantities(given: Given, terms: Terms, max_quantities: int) -> tuple[list[str], Tensor]:
    """Returns names and values, float64 on the CPU, ``(quantity, particles, batch)``."""
    dtype, shape = terms.log_prior.dtype, terms.log_prior.shape[:2]
    if isinstance(terms.latents, dict):  # programs: the mean of each site
        means = {
            f"mean of {name}": z.to(dtype)
            .movedim(given.sequence_dim, 1)
            .reshape(*shape, -1)
            .mean(-1)
            for name, z in terms.latents.items()
        }
    else:
        mask, z = length_mask(given.lengths, given.x.shape[1]), terms.latents
        weight = (mask / mask.sum(-1, keepdim=True))[..., None]
        means = {f"mean of z_{i}": m for i, m in enumerate((z * weight).sum(-2).unbind(-1))}
    index = torch.linspace(0, len(means) - 1, min(len(means), max_quantities)).long().tolist()
    log_joint = terms.log_prior.sum(-1) + terms.log_emission.sum(-1)
    names = [list(means)[i] for i in index]
    values = torch.stack([*(means[name] for name in names), log_joint])
    return [*names, "log p(x, z)"], values.cpu().double()
