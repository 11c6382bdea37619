"""Costs of trivial models, in nats: a model that pays more has a bug. NaN is missing and free."""

import torch
from torch import Tensor
from torch import distributions as dist

from ..corpus import Floor
from ..sequences import SequenceSet


def bernoulli_floor(train: SequenceSet, test: SequenceSet, variables: int, name: str) -> Floor:
    """Returns the cost of independent bits, each on as often as in training; see :func:`means`.

    ``variables`` are the bits with a frequency of their own, ``x_dim`` or all of a sequence.
    """
    bits = dist.Bernoulli(means(train, variables), validate_args=False)
    return independent_floor(bits, test, f"{name} with the training frequencies")


def poisson_floor(train: SequenceSet, test: SequenceSet, x_dim: int, name: str) -> Floor:
    """Returns the cost of independent Poisson counts, each with its mean in training."""
    counts = dist.Poisson(means(train, x_dim), validate_args=False)
    return independent_floor(counts, test, f"Poisson {name} with the training means")


def normal_floor(test: SequenceSet, mean: Tensor, std: Tensor, name: str) -> Floor:
    """Returns the cost of independent normals with mean and deviation of training, ``(x_dim,)``."""
    normal = dist.Normal(mean, std, validate_args=False)
    return independent_floor(normal, test, f"normal {name} with the training mean and deviation")


def independent_floor(model: dist.Distribution, test: SequenceSet, name: str) -> Floor:
    """Returns the cost of rows under a model of independent variables, ``(variables,)``."""
    (size,) = model.batch_shape
    rows = (x.double().reshape(-1, size) for x, *_ in test)
    nats = -sum(model.log_prob(x).nansum().item() for x in rows)
    return floor(nats, test, f"independent {name}")


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


def floor(nats: float, test: SequenceSet, description: str) -> Floor:
    """Returns a total over the test split as per sequence and per step."""
    return Floor(nats / len(test), nats / test.lengths.sum().item(), description)
