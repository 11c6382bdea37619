"""Is the guide close to the posterior? Importance weights, and simulation-based calibration."""

from dataclasses import dataclass
from itertools import chain, repeat

import numpy as np
import torch
import xarray as xr
from scipy import stats
from torch import Tensor

from ...data import SequenceSet
from ...data.checks import check_range
from ...estimators.particle_filter import effective_sample_size, log_mean_exp
from ...estimators.terms import Given, Terms
from ...layers.blocks import length_mask
from ..arviz_adapter import MIN_PARTICLES, pareto_k
from ..batches import Source, batches, check_latents, drawing, row_limit

MAX_LATENTS = 16  # that are ranked, evenly spread


@dataclass(frozen=True)
class Importance:
    """Log-weights log p(x, z) - log q(z | x) of the guide's draws in nats, and diagnostics."""

    log_weight: Tensor  # float64 on the CPU, (particles, sequence)
    pareto_k: np.ndarray | None  # unreliable above 0.7, (sequence,); None below 25 particles
    ess: np.ndarray  # effective sample size, in 1..particles, (sequence,)
    log_likelihood: np.ndarray  # log of the mean weight: the IWAE bound on log p(x), (sequence,)


def importance(
    net: Source, data: SequenceSet | None = None, num_particles: int = 1_000, seed: int = 0
) -> Importance:
    """Returns the importance weights of each sequence, and their diagnostics.

    Args:
        net: A model with latents; or programs with their arguments, ``(model, guide, args)``.
        data: The net's sequences; None for programs.
        num_particles: Draws of the guide per sequence.
    """
    check_range(1, num_particles=num_particles)
    check_latents(net, by_step=False)
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
    )


@dataclass(frozen=True)
class BoundCurve:
    """The importance-weighted bound by its number K of particles, nats per sequence."""

    num_particles: np.ndarray  # K, increasing, (points,)
    bound: np.ndarray  # mean over sequences, (points,); at K = 1 the ELBO
    standard_error: np.ndarray  # over draws, (points,); NaN where all draws are one group


def bound_curve(log_weight: Tensor) -> BoundCurve:
    """Returns the bound at K = 1, 2, 5, 10, ... and all particles, from disjoint groups of K each.

    Args:
        log_weight: From :class:`Importance`, ``(particles, sequence)``.

    Example:
        >>> curve = bound_curve(torch.tensor([[0.0], [1.0], [0.0], [1.0]]))
        >>> curve.num_particles.tolist(), curve.bound.round(3).tolist()
        ([1, 2, 4], [0.5, 0.62, 0.62])
    """
    most, bounds, errors = len(log_weight), [], []
    powers = [factor * 10**k for k in range(len(str(most))) for factor in (1, 2, 5)]
    counts = [*(k for k in powers if k < most), most]
    for count in counts:
        num_groups = most // count
        groups = log_weight.double()[: num_groups * count].unflatten(0, (num_groups, count))
        each = log_mean_exp(groups.transpose(0, 1))  # (groups, sequence)
        bounds.append(each.mean().item())
        error = (each.var(0).sum() / num_groups).sqrt().item() if num_groups > 1 else np.nan
        errors.append(error / each.shape[1])
    return BoundCurve(np.array(counts), np.array(bounds), np.array(errors))


def resampled(inference_data, num_draws: int | None = None, seed: int = 0) -> xr.Dataset:
    """Returns posterior draws chosen by their importance weights (Rubin, 1988).

    Each sequence resamples its own draws, so draws of two sequences do not belong together. The
    result nears the exact posterior with the number of draws, if k-hat is below 0.7.

    Args:
        inference_data: From :func:`to_inference_data`.
        num_draws: Size of the result; None takes as many as there are. A tenth of the draws or
            fewer has few duplicates.

    Returns:
        ``z``, ``(chain, draw, sequence, time, latent)``, with one chain.
    """
    z = inference_data["posterior"]["z"]
    num_draws = z.sizes["draw"] if num_draws is None else num_draws
    check_range(1, num_draws=num_draws)
    log_weight = inference_data["log_likelihood"]["log_weight"].transpose("sequence", ...)
    weight = torch.as_tensor(log_weight.values).flatten(1).softmax(-1)
    generator = torch.Generator().manual_seed(seed)
    index = torch.multinomial(weight, num_draws, replacement=True, generator=generator)
    stacked = z.stack(flat=("chain", "draw")).transpose("sequence", "flat", ...).values
    chosen = np.take_along_axis(stacked, index.numpy()[..., None, None], 1).swapaxes(0, 1)
    sample = z.isel(chain=[0], draw=np.zeros(num_draws, dtype=int)).copy(data=chosen[None])
    return sample.assign_coords(draw=np.arange(num_draws)).to_dataset(name="z")


@dataclass(frozen=True)
class Calibration:
    """Ranks of the model's draws among draws of the guide."""

    ranks: np.ndarray  # in 0..num_draws, uniform if the guide is exact; (quantity, simulation)
    quantities: list[str]  # "mean of z_0", ..., "log p(x, z)"
    num_draws: int
    histograms: np.ndarray  # number of simulations by bin of ranks, (quantity, bin)
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
    latter is uniform if q is the posterior (Talts et al., 2018, https://arxiv.org/abs/1804.06788).
    A U-shape means that the guide is too narrow, a hill that it is too wide, a slope that it is off
    to one side. Ranked are the mean over steps of each latent, and log p(x, z), which depends on
    all latents at once (Modrak et al., 2023, https://arxiv.org/abs/2211.02383).

    Args:
        net: A model with latents; or a :class:`ProgramPair` with the keyword ``observations``.
        data: Sequences whose lengths and starts are taken in turn; None for programs.
        num_draws: Draws of the guide for each sequence; one less than a multiple of ``num_bins``.
        level: Level of the test of all quantities together.
    """
    check_range(1, num_simulations=num_simulations, num_draws=num_draws, num_bins=num_bins)
    if (num_draws + 1) % num_bins or num_bins < 2:
        got = f"{num_draws} + 1 and {num_bins}"
        raise ValueError(f"'num_draws' + 1 must be a multiple of 'num_bins', 2 or more, got {got}")
    if not 0 < level < 1:
        raise ValueError(f"'level' must be between 0 and 1, got {level}")
    check_latents(net)
    size, parts = max(1, row_limit(net, data) // num_draws), []
    if data is not None:
        data = data.subset(torch.arange(num_simulations) % len(data))
    with drawing(net, seed):
        for given in chain.from_iterable(batches(net, data, size) for _ in repeat(None)):
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
    values = torch.stack([*(means[name] for name in names), terms.log_joint])
    return [*names, "log p(x, z)"], values.cpu().double()
