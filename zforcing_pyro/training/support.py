"""Checks that observations lie in the emission's support."""

import warnings

import torch
from torch.distributions import constraints

from ..data import SequenceSet
from ..models.base import StochasticRNN


def check_support(net: StochasticRNN, sequences: SequenceSet, suits: str = "") -> None:
    """Checks 256 sequences, spread over all; missing values are passed over.

    A warning says that a density is fitted to bits: its bound improves without end there. A value
    outside the support of the emission is a ValueError, which names the family that ``suits``.

    Example:
        >>> net = VRNN(Bernoulli, x_dim=1, z_dim=2, h_dim=4)
        >>> check_support(net, Sequences([torch.tensor([[0.5], [1.0]])]), "gaussian")
        Traceback (most recent call last):
        ValueError: 'emission' must suit the data: Bernoulli takes Boolean(), got 0.5 in sequence 0;
        'gaussian' suits them
    """
    family, support, bits = type(net.emission).__name__, net.emission.support, True
    index = torch.linspace(0, len(sequences) - 1, min(256, len(sequences))).long()
    for i in dict.fromkeys(index.tolist()):
        x = sequences[i].x.flatten()
        x = x[~x.isnan()]
        bad = x[~support.check(x)]
        if len(bad):
            got = f"got {bad[0].item():g} in sequence {i}" + (
                f"; '{suits}' suits them" * bool(suits)
            )
            raise ValueError(f"'emission' must suit the data: {family} takes {support}, {got}")
        bits = bits and bool(((x == 0) | (x == 1)).all())
    if bits and support is constraints.real:
        warnings.warn(
            f"{family} is a density, without an upper bound on data that are 0 or 1 everywhere: "
            "'bernoulli' suits them",
            stacklevel=2,
        )
