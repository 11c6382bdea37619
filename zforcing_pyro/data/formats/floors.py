"""What trivial models pay, in nats: a model that pays more has a bug."""

import math

import torch
from torch import Tensor

from ..corpus import Floor
from ..sequences import SequenceSet


def bernoulli_floor(train: SequenceSet, test: SequenceSet, variables: int, name: str) -> Floor:
    """The cost of independent bits, each on as often as in training.

    Frequencies are (count + 1/2) / (rows + 1), the Krichevsky-Trofimov estimate: a bit that is
    never on in training must not cost infinity. NaN is a missing value, and costs nothing.

    Args:
        train: Sequences of 0 and 1 that give the frequencies.
        test: Sequences of 0 and 1 that are paid for.
        variables: Bits in a row, ``x_dim`` or all of a sequence: each has its own frequency.
        name: What these are called.
    """

    def count(data: SequenceSet) -> tuple[Tensor, Tensor]:
        on, rows = torch.zeros(2, variables, dtype=torch.float64)
        for x, _ in data:
            x = x.reshape(-1, variables)
            on += x.nansum(0)
            rows += (~x.isnan()).sum(0)
        return on, rows

    (train_on, train_rows), (on, rows) = count(train), count(test)
    frequency = (train_on + 0.5) / (train_rows + 1)
    nats = -(on * frequency.log() + (rows - on) * (-frequency).log1p()).sum().item()
    return floor(nats, test, f"independent {name} with the training frequencies")


def normal_floor(test: SequenceSet, mean: Tensor, std: Tensor, name: str) -> Floor:
    """The cost of independent normals, each with the mean and deviation of training.

    NaN is a missing value, and costs nothing.

    Args:
        test: Sequences that are paid for.
        mean, std: Of each column in training. Shapes ``(x_dim,)``.
        name: What the columns are called.
    """
    nats = 0.0
    for x, _ in test:
        score = (x.double() - mean) / std
        cost = 0.5 * score.square() + std.log() + 0.5 * math.log(2 * math.pi)
        nats += cost.nansum().item()
    return floor(nats, test, f"independent normal {name} with the training mean and deviation")


def unigram_floor(train: SequenceSet, test: SequenceSet, num_symbols: int, name: str) -> Floor:
    """The cost of independent symbols, each as often as in training.

    Frequencies are (count + 1/2) / (all + num_symbols / 2).

    Args:
        train: Sequences of symbols that give the frequencies.
        test: Sequences of symbols that are paid for.
        num_symbols: Symbols there are.
        name: What these are called.
    """

    def count(data: SequenceSet) -> Tensor:
        return sum(x.bincount(minlength=num_symbols).double() for x, _ in data)

    frequency = count(train) + 0.5
    nats = -(count(test) * (frequency / frequency.sum()).log()).sum().item()
    return floor(nats, test, f"independent {name} with the training frequencies")


def floor(nats: float, test: SequenceSet, description: str) -> Floor:
    """A total over the test split, per sequence and per step."""
    return Floor(nats / len(test), nats / test.lengths.sum().item(), description)


def poisson_floor(train: SequenceSet, test: SequenceSet, x_dim: int, name: str) -> Floor:
    """Returns the cost of independent Poisson counts, each with its mean in training.

    Means are (count + 1/2) / (rows + 1). NaN is a missing value, and costs nothing.

    Args:
        train: Sequences of counts that give the means.
        test: Sequences of counts that are paid for.
        x_dim: Columns, each with its own mean.
        name: What the columns are called.
    """
    total, rows = torch.full((2, x_dim), 0.5, dtype=torch.float64)
    for x, _ in train:
        total, rows = total + x.double().nansum(0), rows + (~x.isnan()).sum(0)
    mean, nats = total / (rows + 0.5), 0.0
    for x, _ in test:
        cost = mean - x * mean.log() + (x.double() + 1).lgamma()
        nats += cost.nansum().item()
    return floor(nats, test, f"independent Poisson {name} with the training means")
