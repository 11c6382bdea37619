"""Latents and recurrent states of every step of a data set, their KL and their paths."""

from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from sklearn.decomposition import PCA
from torch import Tensor

from ...data import SequenceSet
from ...data.checks import check_range
from ...estimators.terms import Terms
from ...models import StochasticRNN
from ...models.given import GivenSequences
from ...models.steps import steps
from ..batches import batches, check_latents, drawing, row_limit, with_nan
from ..evaluation import is_in_use


def latent_codes(
    net: StochasticRNN, data: SequenceSet, num_draws: int = 8, seed: int = 0
) -> xr.Dataset:
    """Returns latents, KL and recurrent states at each step; NaN past a length.

    Args:
        data: Sequences, such as a hundred or two of a split: ``data.subset(range(200))``.
        num_draws: Draws of the guide behind the means.

    Returns:
        Variables, float32, with coordinates ``sequence`` (index in ``data``), ``time``, ``latent``:

        - ``z``: one draw of q(z | x), ``(sequence, time, latent)``;
        - ``z_mean``: mean of q(z_t | past, x) over draws of the past, ``(sequence, time, latent)``;
        - ``prior_mean``: mean of p(z_t | past) over the same draws, ``(sequence, time, latent)``; 0
          without a closed form;
        - ``kl``: mean KL(q(z_t | past, x) || p(z_t | past)) in nats, ``(sequence, time, latent)``;
          ``(..., all_latents)`` of size 1 where only the joint KL has a closed form. Without any,
          it is log q - log p at the draws, and the attribute ``is_estimate`` is 1;
        - ``h``: mean state of the generative recurrence before z_t, ``(sequence, time, hidden)``:
          h_{t-1}, and z_{t-1} where the state has it (SRNN: d_t and z_{t-1}). None for programs;
        - ``b``: the guide's summary of x_t, ..., x_T (x_1, ..., x_t if it filters), where it has
          one, ``(sequence, time, backward)``;
        - ``lengths``: ``(sequence,)``.
    """
    check_range(1, num_draws=num_draws)
    check_latents(net)
    size, num_steps, parts = row_limit(net, data) // num_draws, int(data.lengths.max()), []
    with drawing(net, seed):
        for given in batches(net, data, max(1, size)):
            terms = given.terms(num_draws)
            codes = latent_means(terms) | state_means(given, terms)
            parts.append(
                {k: with_nan(v.float(), given.lengths, num_steps) for k, v in codes.items()}
            )
    arrays = {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}
    last = {"h": "hidden", "b": "backward"}
    if arrays["kl"].shape != arrays["z"].shape:
        last["kl"] = "all_latents"
    dims = ("sequence", "time", "latent")
    dataset = xr.Dataset(
        {name: ((*dims[:2], last.get(name, "latent")), v) for name, v in arrays.items()},
        coords={name: range(n) for name, n in zip(dims, arrays["z"].shape)},
    )
    dataset["lengths"] = ("sequence", data.lengths.numpy())
    dataset["kl"].attrs = {"units": "nats", "is_estimate": int(terms.kl_per_latent is None)}
    return dataset


def latent_means(terms: Terms) -> dict[str, Tensor]:
    """Returns a draw, and means over draws of the mean and the KL, ``(batch, time, ...)`` each."""
    z_mean = terms.latents if terms.posterior_mean is None else terms.posterior_mean
    prior_mean = torch.zeros_like(z_mean) if terms.prior_mean is None else terms.prior_mean
    kl = terms.kl_per_latent
    kl = terms.kl_or_estimate[..., None] if kl is None else kl
    means = {"z_mean": z_mean.mean(0), "prior_mean": prior_mean.mean(0), "kl": kl.mean(0)}
    return {"z": terms.latents[0]} | means


def state_means(given: GivenSequences, terms: Terms) -> dict[str, Tensor]:
    """Returns mean states before each latent and backward states; none for programs only."""
    net, batch = given.net, given.batch
    if not net.has_steps:
        return {}
    context, _ = net.full_context(batch)
    state, states = net.particles(batch, len(terms.latents)), []
    for context_t, z in zip(steps(context), terms.latents.unbind(2)):
        # An LSTM's cell c is no feature of the past; d is the SRNN's deterministic state.
        past = [state[name].mean(0) for name in ("h", "z") if name in state]
        past += [context_t["d"][:, 0]] if "d" in context_t else []
        states.append(torch.cat(past, -1))
        state = net.path(context_t, state, z[:, :, None]).state
    backward = [context[name] for name in ("b", "a") if name in context]
    return {"h": torch.stack(states, 1)} | ({"b": backward[0]} if backward else {})


@dataclass(frozen=True)
class LatentKL:
    """KL of posterior to prior in nats, and the latents in use.

    Where only the joint KL has a closed form, as in :func:`latent_codes`, it counts as one latent.
    """

    by_step: np.ndarray  # mean over sequences that reach a step, (time,)
    by_latent: np.ndarray  # mean per step, over all steps of all sequences, (latent,)
    per_sequence: np.ndarray  # KL of each sequence, summed over its steps, (sequence,)
    variance: np.ndarray
    """Variance of (posterior mean - prior mean) over all steps of all sequences, ``(latent,)``."""
    in_use: np.ndarray  # see evaluation.is_in_use; bool, (latent,)
    is_estimate: bool  # the KL is log q - log p at draws, because it has no closed form


def latent_kl(codes: xr.Dataset) -> LatentKL:
    """Returns the KL by step and by latent, and the latents in use, from :func:`latent_codes`.

    Padding enters no average. The KL of one sequence is ``codes.kl.sel(sequence=i)``.
    """
    kl = codes["kl"].values.astype(np.float64)
    shift = (codes["z_mean"] - codes["prior_mean"]).values.astype(np.float64)
    by_latent, variance = np.nanmean(kl, (0, 1)), np.nanvar(shift, (0, 1))
    return LatentKL(
        by_step=np.nanmean(kl, 0).sum(-1),
        by_latent=by_latent,
        per_sequence=np.nansum(kl, (1, 2)),
        variance=variance,
        in_use=is_in_use(by_latent, variance),
        is_estimate=bool(codes["kl"].attrs["is_estimate"]),
    )


def trajectories(codes: xr.Dataset) -> xr.Dataset:
    """Returns paths of the posterior mean in the plane of its first two principal components.

    Returns:
        ``path``, ``(sequence, time, component)``, NaN past a length; and ``explained``, each
        component's share of the variance, ``(component,)``. A single latent has one component.
    """
    mean = codes["z_mean"].values
    pca, valid = PCA(min(2, mean.shape[-1])), ~np.isnan(mean).any(-1)
    path = np.full((*valid.shape, pca.n_components), np.nan)
    path[valid] = pca.fit_transform(mean[valid])
    variables = {
        "path": (("sequence", "time", "component"), path),
        "explained": ("component", pca.explained_variance_ratio_),
    }
    return xr.Dataset(variables, coords={"sequence": codes["sequence"].values})
