"""The tail of importance weights (Vehtari et al., 2024): https://arxiv.org/abs/1507.02646."""

import warnings

import torch
from torch import Tensor

MIN_PARTICLES = 25
"""Below, a tail is too few weights for an estimate."""

HIGH = 0.7
"""Above, an estimate from importance weights is not to be relied on, whatever their number."""


def pareto_k(log_weight: Tensor) -> Tensor:
    """Shape k-hat of the generalised Pareto distribution that fits the largest weights best.

    Moments of order 1 / k and more are infinite: a guide that leaves the tails of the posterior
    out is found here, before its bound shows it.

    Args:
        log_weight: ``(particles, batch)``, in float64 for a good fit.

    Returns:
        k-hat of each sequence, ``(batch,)``; minus infinity where weights do not vary.

    Raises:
        ValueError: If there are fewer than 25 particles.

    Example:
        >>> weight = torch.rand(4000, 1, generator=torch.Generator().manual_seed(0)) ** -0.9
        >>> bool(pareto_k(weight.log()) > 0.7)
        True
    """
    if len(log_weight) < MIN_PARTICLES:
        raise ValueError(
            f"'log_weight' must be of {MIN_PARTICLES} particles or more, got {len(log_weight)}"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a refactoring, at import
        import arviz
    rows = log_weight.T.double().cpu().numpy()
    # From 1.0 on the argument is minus the log-weights, as a leave-one-out likelihood is.
    is_old = arviz.__version__.startswith("0.")
    _, k = arviz.psislw(rows if is_old else -rows)
    varies = log_weight.amax(0) - log_weight.amin(0) > 1e-9
    k = torch.as_tensor(k, dtype=torch.float64)
    return torch.where(varies.cpu(), k, -torch.inf)
