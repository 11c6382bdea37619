"""Whether data are what an emission is a distribution of."""

from __future__ import annotations

import warnings

import torch
from torch.distributions import constraints

from ..data import SequenceSet
from ..models.base import StochasticRNN

NUM_LOOKED_AT = 256
"""Sequences, spread over all: a wrong family shows in any of them."""


def check_support(net: StochasticRNN, sequences: SequenceSet, suits: str = "") -> None:
    """Refuses observations of probability 0, which training would not notice.

    256 sequences are looked at. A warning says that a density is fitted to bits: it has no upper
    bound there, and a model goes on improving without learning. Missing values are passed over.

    Args:
        net: The model.
        sequences: What it is to be trained on.
        suits: The family that the data's author named, for the error.

    Raises:
        ValueError: If a value is outside of the support of the model's emission; names both.

    Example:
        >>> net = VRNN(Bernoulli, x_dim=1, z_dim=2, h_dim=4)
        >>> check_support(net, Sequences([torch.tensor([[0.5], [1.0]])]), "gaussian")
        Traceback (most recent call last):
        ValueError: 'emission' must suit the data: Bernoulli takes Boolean(), got 0.5 in sequence 0;
        'gaussian' suits them
    """
    support = net.emission.support
    index = torch.linspace(0, len(sequences) - 1, min(NUM_LOOKED_AT, len(sequences))).long()
    bits = True
    for i in dict.fromkeys(index.tolist()):
        x = sequences[i].x.flatten()
        x = x[~x.isnan()]
        bad = x[~support.check(x)]
        if len(bad):
            raise ValueError(
                f"'emission' must suit the data: {type(net.emission).__name__} takes {support}, "
                f"got {bad[0].item():g} in sequence {i}"
                + (f"; '{suits}' suits them" if suits else "")
            )
        bits = bits and bool(((x == 0) | (x == 1)).all())
    if bits and support is constraints.real:
        warnings.warn(
            f"{type(net.emission).__name__} is a density, without an upper bound on data that are "
            "0 or 1 everywhere: 'bernoulli' suits them",
            stacklevel=2,
        )
