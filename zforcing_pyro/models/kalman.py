"""What is known in closed form of a linear-Gaussian state-space model (Kalman, 1960)."""

from typing import NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor


class LinearGaussian(NamedTuple):
    """z_t = A z_{t-1} + noise of covariance Q, x_t = C z_t + noise of covariance R."""

    A: Tensor
    Q: Tensor
    C: Tensor
    R: Tensor


def filtered(system: LinearGaussian, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The filter's predictions from z_0 = ``z``, ``(batch, z_dim)``.

    Returns:
        Mean ``(batch, time, z_dim)`` and covariance ``(time, z_dim, z_dim)`` of
        p(z_t | x_{1:t-1}), and log p(x_t | x_{1:t-1}) in nats, ``(batch, time)``.
    """
    A, Q, C, R = system
    mean, covariance, predictions = z, torch.zeros_like(Q), []
    for x_t in x.unbind(1):
        mean, covariance = mean @ A.T, A @ covariance @ A.T + Q
        expected, spread = mean @ C.T, C @ covariance @ C.T + R
        log_prob = dist.MultivariateNormal(expected, spread).log_prob(x_t)
        predictions.append((mean, covariance, log_prob))
        gain = torch.linalg.solve(spread, C @ covariance).T
        mean = mean + (x_t - expected) @ gain.T
        covariance = covariance - gain @ C @ covariance
        covariance = (covariance + covariance.T) / 2
    means, covariances, log_probs = zip(*predictions)
    return torch.stack(means, 1), torch.stack(covariances), torch.stack(log_probs, 1)


def present(system: LinearGaussian, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    r"""p(x_t | z_t) as a function of z_t: its precision and its precision times mean.

    That is :math:`\Lambda_t` and :math:`\eta_t` of
    :math:`\exp(\eta_t^\top z_t - \tfrac{1}{2} z_t^\top \Lambda_t z_t)`, shapes
    ``(batch, time, z_dim, z_dim)`` and ``(batch, time, z_dim)``; zero at padding, which says
    nothing.
    """
    weight = torch.linalg.solve(system.R, system.C).T
    precision = (weight @ system.C).expand(*x.shape[:2], -1, -1)
    return torch.where(mask[..., None, None], precision, 0.0), mask[..., None] * (x @ weight.T)


def future(system: LinearGaussian, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    r"""p(x_t, ..., x_T | z_t) as a function of z_t, as :func:`present` gives it of x_t alone.

    The message from t + 1, integrated over z_{t+1}, has the precision
    :math:`A^\top (I + \Lambda Q)^{-1} \Lambda A` and :math:`A^\top (I + \Lambda Q)^{-1} \eta`.
    """
    A, Q, _, _ = system
    eye, steps = torch.eye(len(A), dtype=A.dtype, device=A.device), []
    precision, information = 0 * eye, torch.zeros_like(x[:, 0, :1] * A[0])
    for now in reversed(list(zip(*(value.unbind(1) for value in present(system, x, mask))))):
        both = torch.cat([precision.expand_as(now[0]), information[..., None]], dim=-1)
        both = A.T @ torch.linalg.solve(eye + precision @ Q, both)
        precision = now[0] + both[..., :-1] @ A
        precision = (precision + precision.mT) / 2
        information = now[1] + both[..., -1]
        steps.append((precision, information))
    precisions, informations = zip(*reversed(steps))
    return torch.stack(precisions, 1), torch.stack(informations, 1)


def conditioned(
    covariance: Tensor, mean: Tensor, precision: Tensor, information: Tensor
) -> tuple[Tensor, Tensor]:
    r"""The Gaussian of given covariance and mean, times a factor as in :func:`present`.

    Returns:
        Mean and covariance of what is proportional to the product. Shapes broadcast.
    """
    prior_precision = torch.linalg.inv(covariance)
    new = torch.linalg.inv(prior_precision + precision)
    new = (new + new.mT) / 2
    total = (prior_precision @ mean[..., None])[..., 0] + information
    return (new @ total[..., None])[..., 0], new
