"""KL and use of each latent, and paths of the posterior mean in few dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ...models.checks import check_choice
from ..evaluation import is_in_use

if TYPE_CHECKING:
    import xarray as xr

Method = Literal["pca", "tsne"]


@dataclass(frozen=True)
class LatentKL:
    """KL of posterior to prior in nats, and the latents in use."""

    by_step_and_latent: np.ndarray
    """Mean KL of the sequences that reach a step, ``(time, latent)``; ``(time, 1)`` where only the
    joint KL is known, as in :func:`latent_codes`."""
    by_step: np.ndarray
    """Its sum over latents, ``(time,)``."""
    by_latent: np.ndarray
    """Mean KL per step, over all steps of all sequences, ``(latent,)``."""
    per_sequence: np.ndarray
    """KL of each sequence, summed over its steps, ``(sequence,)``."""
    variance: np.ndarray
    """Variance of (posterior mean - prior mean) over all steps of all sequences, ``(latent,)``."""
    in_use: np.ndarray
    """True for latents in use, see :func:`.evaluation.is_in_use`; bool, ``(latent,)``."""
    is_estimate: bool
    """True if the KL is log q - log p at draws, because it has no closed form."""


def latent_kl(codes: xr.Dataset) -> LatentKL:
    """Returns the KL by step and by latent, and the latents in use, from :func:`latent_codes`.

    Padding enters no average. The KL of one sequence is ``codes.kl.sel(sequence=i)``.
    """
    kl = codes["kl"].values.astype(np.float64)
    shift = (codes["z_mean"] - codes["prior_mean"]).values.astype(np.float64)
    by_latent, by_step_and_latent = np.nanmean(kl, (0, 1)), np.nanmean(kl, 0)
    variance = np.nanvar(shift, (0, 1))
    return LatentKL(
        by_step_and_latent=by_step_and_latent,
        by_step=by_step_and_latent.sum(-1),
        by_latent=by_latent,
        per_sequence=np.nansum(kl, (1, 2)),
        variance=variance,
        in_use=is_in_use(by_latent, variance),
        is_estimate=bool(codes["kl"].attrs["is_estimate"]),
    )


def trajectories(
    codes: xr.Dataset, method: Method = "pca", num_components: int = 2, max_steps: int = 2_000
) -> xr.Dataset:
    """Returns paths of the posterior mean in few dimensions.

    Args:
        method: Principal components, or t-SNE (slow: takes only the first sequences, with
            ``max_steps`` steps together).
        num_components: Number of dimensions, at most that of z.
        max_steps: Largest number of steps for t-SNE.

    Returns:
        ``path``, ``(sequence, time, component)``, NaN past a length; for PCA ``explained``, each
        component's share of the variance, ``(component,)``.

    Raises:
        ValueError: If the method is unknown or z has fewer dimensions.
    """
    import xarray as xr

    check_choice(Method, method=method)
    if not 1 <= num_components <= codes.sizes["latent"]:
        raise ValueError(
            f"'num_components' must be in 1..{codes.sizes['latent']}, got {num_components}"
        )
    mean, variables = codes["z_mean"].values, {}
    if method == "tsne":
        fits = np.cumsum(codes["lengths"].values) <= max_steps
        mean = mean[: max(1, int(fits.sum()))]
    valid = ~np.isnan(mean).any(-1)
    path = np.full((*valid.shape, num_components), np.nan)
    if method == "pca":
        from sklearn.decomposition import PCA

        pca = PCA(num_components)
        path[valid] = pca.fit_transform(mean[valid])
        variables["explained"] = ("component", pca.explained_variance_ratio_)
    else:
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (valid.sum() - 1) / 3)
        tsne = TSNE(num_components, perplexity=perplexity, init="pca", random_state=0)
        path[valid] = tsne.fit_transform(mean[valid])
    variables["path"] = (("sequence", "time", "component"), path)
    return xr.Dataset(variables, coords={"sequence": codes["sequence"].values[: len(path)]})
