"""KL and use of each latent, and paths of the posterior mean in few dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..evaluation import is_in_use

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class LatentKL:
    """KL of posterior to prior in nats, and the latents in use.

    Where only the joint KL has a closed form, as in :func:`latent_codes`, it counts as one latent.
    """

    by_step_and_latent: np.ndarray  # mean over sequences that reach a step, (time, latent)
    by_step: np.ndarray  # its sum over latents, (time,)
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


def trajectories(codes: xr.Dataset, num_components: int = 2) -> xr.Dataset:
    """Returns paths of the posterior mean along its principal components.

    Args:
        num_components: Number of components, at most the size of z.

    Returns:
        ``path``, ``(sequence, time, component)``, NaN past a length; and ``explained``, each
        component's share of the variance, ``(component,)``.

    Raises:
        ValueError: If z has fewer dimensions.
    """
    import xarray as xr
    from sklearn.decomposition import PCA

    if not 1 <= num_components <= (size := codes.sizes["latent"]):
        raise ValueError(f"'num_components' must be in 1..{size}, got {num_components}")
    mean, pca = codes["z_mean"].values, PCA(num_components)
    valid = ~np.isnan(mean).any(-1)
    path = np.full((*valid.shape, num_components), np.nan)
    path[valid] = pca.fit_transform(mean[valid])
    variables = {
        "path": (("sequence", "time", "component"), path),
        "explained": ("component", pca.explained_variance_ratio_),
    }
    return xr.Dataset(variables, coords={"sequence": codes["sequence"].values})
