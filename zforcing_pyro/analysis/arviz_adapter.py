"""Pareto k-hat, and an adapter for arviz 0.2x and 1.x: no other file depends on its version."""

import os
import tempfile
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

MIN_PARTICLES = 25
"""Fewer particles leave too few weights in the tail for an estimate."""

HIGH = 0.7
"""Above this k-hat, estimates from importance weights are unreliable for any number of them."""


def imported_arviz() -> Any:
    """Returns the module arviz, imported without the warning about its refactoring."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import arviz
        except OSError:  # arviz notes the day of its last warning in a cache folder
            os.environ["XDG_CACHE_HOME"] = tempfile.gettempdir()
            import arviz
    return arviz


def pareto_shapes(log_weight: np.ndarray) -> np.ndarray:
    """Returns k-hat of each row of log-weights, ``(rows, particles)`` to ``(rows,)``."""
    if (arviz := imported_arviz()).__version__.startswith("0."):
        return np.asarray(arviz.psislw(log_weight)[1])
    from arviz_stats.base import array_stats

    return np.asarray(array_stats.psislw(-log_weight)[1])  # takes minus the log-weights


def to_arviz(tree: Any) -> Any:
    """Returns the tree as arviz's functions take it: ``InferenceData`` before 1.0, then itself."""
    arviz = imported_arviz()
    is_old = arviz.__version__.startswith("0.")
    return arviz.InferenceData.from_datatree(tree) if is_old else tree


def pareto_k(log_weight: Tensor) -> Tensor:
    """Returns the shape k-hat of a generalised Pareto distribution fitted to the largest weights.

    Moments of order 1 / k and above are infinite. A guide that misses the tails of the posterior
    shows here before it shows in the bound. Log-weights are in nats, ``(particles, batch)``, of 25
    particles or more; k-hat is float64 on the CPU, ``(batch,)``, and minus infinity where weights
    do not vary.
    """
    if (num := len(log_weight)) < MIN_PARTICLES:
        raise ValueError(f"'log_weight' must have {MIN_PARTICLES} particles or more, got {num}")
    log_weight = log_weight.detach().cpu().double()
    varies = log_weight.amax(0) - log_weight.amin(0) > 1e-9
    k = torch.full(varies.shape, -torch.inf, dtype=torch.float64)
    if varies.any():
        k[varies] = torch.as_tensor(pareto_shapes(log_weight.T[varies].numpy()), dtype=k.dtype)
    return k
