"""Costs of trivial models, in nats: a model that pays more has a bug. NaN is missing and free."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..corpus import Floor
from ..sequences import SequenceSet


def bernoulli_floor(train: SequenceSet, test: SequenceSet, variables: int, name: str) -> Floor:
    """Returns the cost of independent bits, each on as often as in training; see :func:`means`.

    ``variables`` are the bits with a frequency of their own, ``x_dim`` or all of a sequence.
    """
    mean = means(train, variables)
    nats = total(test, variables, lambda x: -x * mean.log() - (1 - x) * (-mean).log1p())
    return floor(nats, test, f"independent {name} with the training frequencies")


def poisson_floor(train: SequenceSet, test: SequenceSet, x_dim: int, name: str) -> Floor:
    """Returns the cost of independent Poisson counts, each with its mean in training."""
    mean = means(train, x_dim)
    nats = total(test, x_dim, lambda x: mean - x * mean.log() + (x + 1).lgamma())
    return floor(nats, test, f"independent Poisson {name} with the training means")


def normal_floor(test: SequenceSet, mean: Tensor, std: Tensor, name: str) -> Floor:
    """Returns the cost of independent normals with mean and deviation of training, ``(x_dim,)``."""
    constant = std.log() + 0.5 * math.log(2 * math.pi)
    nats = total(test, len(mean), lambda x: 0.5 * ((x - mean) / std).square() + constant)
    return floor(nats, test, f"independent normal {name} with the training mean and deviation")


def unigram_floor(train: SequenceSet, test: SequenceSet, num_symbols: int, name: str) -> Floor:
    """Returns the cost of independent symbols, each as often as in training, count + 1/2."""

    def count(data: SequenceSet) -> Tensor:
        return sum(x.bincount(minlength=num_symbols).double() for x, *_ in data)

    frequency = count(train) + 0.5
    nats = -(count(test) * (frequency / frequency.sum()).log()).sum().item()
    return floor(nats, test, f"independent {name} with the training frequencies")


def means(train: SequenceSet, variables: int) -> Tensor:
    """Returns (sum + 1/2) / (rows + 1) of each variable, the Krichevsky-Trofimov estimate.

    A bit that is never on in training must not cost infinity.
    """
    sums, rows = torch.zeros(2, variables, dtype=torch.float64)
    for x, *_ in train:
        x = x.reshape(-1, variables)
        sums += x.nansum(0)
        rows += (~x.isnan()).sum(0)
    return (sums + 0.5) / (rows + 1)


def total(test: SequenceSet, variables: int, cost: Callable[[Tensor], Tensor]) -> float:
    """Returns the sum of the cost of rows ``(rows, variables)`` over all sequences."""
    return sum(cost(x.double().reshape(-1, variables)).nansum().item() for x, *_ in test)


def floor(nats: float, test: SequenceSet, description: str) -> Floor:
    """Returns a total over the test split as per sequence and per step."""
    return Floor(nats / len(test), nats / test.lengths.sum().item(), description)
