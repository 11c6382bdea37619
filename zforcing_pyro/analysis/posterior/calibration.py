"""Simulation-based calibration of the guide (Talts et al., 2018): arxiv.org/abs/1804.06788."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, count

import numpy as np
import torch
from torch import Tensor

from ...data import SequenceSet
from ...estimators.terms import Given, Terms
from ...layers.blocks import length_mask
from ...models.checks import check_positive
from .batches import Source, batches, check_latents, drawing, row_limit

MAX_LATENTS = 16
"""Largest number of latents that are ranked, evenly spread."""


@dataclass(frozen=True)
class Calibration:
    """Ranks of the model's draws among draws of the guide."""

    ranks: np.ndarray
    """In 0..num_draws, uniform if the guide is the posterior; int, ``(quantity, simulation)``."""
    quantities: list[str]  # "mean of z_0", ..., "log p(x, z)"
    num_draws: int
    histograms: np.ndarray  # number of simulations by bin of ranks, (quantity, bin)
    expected: float  # number of simulations in a bin if ranks are uniform
    band: tuple[float, float]
    """Binomial interval of a bin's count with probability 1 - level, if ranks are uniform."""
    p_values: np.ndarray  # of a chi-square test of each histogram, (quantity,)
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

    Raises:
        ValueError: If the net has no latents, a number is out of its range, or programs take no
            ``observations``.
    """
    from scipy import stats

    check_positive(num_simulations=num_simulations, num_draws=num_draws, num_bins=num_bins)
    if (num_draws + 1) % num_bins or num_bins < 2:
        raise ValueError(
            f"'num_draws' + 1 must be a multiple of 'num_bins', 2 or more, got {num_draws} + 1 and "
            f"{num_bins}"
        )
    if not 0 < level < 1:
        raise ValueError(f"'level' must be between 0 and 1, got {level}")
    check_latents(net)
    size, parts = max(1, row_limit(net, data) // num_draws), []
    if data is not None:
        data = data.subset(torch.arange(num_simulations) % len(data))
    with drawing(net, seed):
        for given in chain.from_iterable(batches(net, data, size) for _ in count()):
            names, ranks = rank(given, num_draws)
            parts.append(ranks)
            if sum(part.shape[1] for part in parts) >= num_simulations:
                break
    ranks = torch.cat(parts, 1)[:, :num_simulations].numpy()
    bins = ranks * num_bins // (num_draws + 1)
    histograms = np.stack([np.bincount(row, minlength=num_bins) for row in bins])
    p_values = stats.chisquare(histograms, axis=1).pvalue
    low, high = stats.binom(num_simulations, 1 / num_bins).interval(1 - level)
    return Calibration(
        ranks=ranks,
        quantities=names,
        num_draws=num_draws,
        histograms=histograms,
        expected=num_simulations / num_bins,
        band=(float(low), float(high)),
        p_values=p_values,
        level=level,
        calibrated=bool(p_values.min() > level / len(p_values)),
    )


def rank(given: Given, num_draws: int) -> tuple[list[str], Tensor]:
    """Returns names, and ranks of a draw of the model for each sequence, ``(quantity, batch)``."""
    dreamt, latents = given.dream()
    names, truth = quantities(dreamt, dreamt.terms(latents=latents))
    _, drawn = quantities(dreamt, dreamt.terms(num_draws))
    tied = (drawn == truth).sum(1)  # such as a latent that cannot vary: broken at random
    return names, (drawn < truth).sum(1) + (torch.rand(tied.shape) * (tied + 1)).long()


def quantities(given: Given, terms: Terms) -> tuple[list[str], Tensor]:
    """Returns names and values, float64 on the CPU, ``(quantity, particles, batch)``."""
    dtype, shape = terms.log_prior.dtype, terms.log_prior.shape[:2]
    if isinstance(terms.latents, dict):  # programs: the mean of each site
        sites = {k: z.to(dtype).movedim(given.sequence_dim, 1) for k, z in terms.latents.items()}
        means = {f"mean of {k}": z.reshape(*shape, -1).mean(-1) for k, z in sites.items()}
    else:
        mask = length_mask(given.lengths, given.x.shape[1])
        weight = (mask / mask.sum(-1, keepdim=True))[..., None]
        columns = (terms.latents * weight).sum(-2).unbind(-1)
        means = {f"mean of z_{i}": column for i, column in enumerate(columns)}
    index = torch.linspace(0, len(means) - 1, min(len(means), MAX_LATENTS)).long().tolist()
    names = [list(means)[i] for i in index]
    log_joint = terms.log_prior.sum(-1) + terms.log_emission.sum(-1)
    values = torch.stack([*(means[name] for name in names), log_joint])
    return [*names, "log p(x, z)"], values.cpu().double()
