"""Pareto k-hat of importance weights (Vehtari et al., 2024): https://arxiv.org/abs/1507.02646."""

import torch
from torch import Tensor

from .arviz_adapter import pareto_shapes

MIN_PARTICLES = 25
"""Fewer particles leave too few weights in the tail for an estimate."""

HIGH = 0.7
"""Above this k-hat, estimates from importance weights are unreliable for any number of them."""


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
