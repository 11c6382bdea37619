"""Checks that all variants compute the same thing, before any of them is timed."""

from collections.abc import Mapping
from typing import NamedTuple

import torch

from .configurations import Problem
from .variants import Gradients, Naive, NaiveSampledKL, Variant


class Agreement(NamedTuple):
    """Agreement of one variant with the naive loop, at the same weights, data and noise."""

    loss: float
    """Loss in nats per sequence."""
    loss_error: float
    """Relative."""
    gradient_error: float
    """Norm of the difference of all gradients together, relative to the gradients' norm."""
    worst_gradient_error: float
    """The same of single parameters: the largest."""
    worst: str
    """The parameter that has it."""


def agreements(problem: Problem, variants: Mapping[str, Variant]) -> dict[str, Agreement]:
    """Each variant next to the naive loop with the same KL, analytic or at the draw.

    The noise of all of them is the same: that of one seed, drawn in the same order.
    """
    references, found = {}, {}
    for name, variant in variants.items():
        kind = NaiveSampledKL if variant.sampled_kl else Naive
        if kind not in references:
            references[kind] = kind(problem).loss_and_gradients(seed=1)
        found[name] = agreement(variant.loss_and_gradients(seed=1), references[kind])
    return found


def agreement(found: tuple[float, Gradients], expected: tuple[float, Gradients]) -> Agreement:
    (loss, gradients), (expected_loss, expected_gradients) = found, expected
    differences, norms = {}, {}
    for name, gradient in expected_gradients.items():
        gradient = gradient.cpu().double()
        differences[name] = (gradients[name].cpu().double() - gradient).norm()
        norms[name] = gradient.norm()
    size = total(norms)
    # A gradient that is zero but for rounding, as of an unused symbol, has no relative error.
    errors = {name: d / max(norms[name], 1e-6 * size) for name, d in differences.items()}
    worst = max(errors, key=errors.get)
    return Agreement(
        loss=loss,
        loss_error=abs(loss - expected_loss) / abs(expected_loss),
        gradient_error=(total(differences) / size).item(),
        worst_gradient_error=errors[worst].item(),
        worst=worst,
    )


def total(norms: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(norms.values())).norm()
