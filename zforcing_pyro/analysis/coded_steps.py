"""Parameters of model and guide step by step, the same in encoding and in decoding."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyro
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import Distribution, Normal, constraints

from ..emissions import Emission
from ..emissions.mixtures import Grid
from ..models import StochasticRNN
from ..models.steps import steps

MOST_SYMBOLS = 2**14
"""Largest alphabet, as probabilities are multiples of 2**-24."""


class Guide:
    """Parameters of q(z_t | z before t, x), step by step, by the fast path.

    Args:
        net: The model.
        x, lengths: As in :meth:`StochasticRNN.terms`.
    """

    def __init__(self, net: StochasticRNN, x: Tensor, lengths: Tensor):
        batch = net.batch(x, lengths)
        self.net, self.contexts = net, steps(net.full_context(batch)[0])
        self.state, self.context = net.particles(batch, 1), next(self.contexts)

    def relative(self, loc: Tensor, unit: Tensor, active: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Returns mean and deviation of active rows, flat, in grid points of a prior."""
        q = self.net.path(self.context, self.state, torch.zeros_like(loc)[None, :, None]).posterior
        mean, deviation = (v.expand(1, len(loc), 1, -1)[0, :, 0] for v in moments(q))
        rows = ((mean - loc) / unit)[active], (deviation / unit)[active]
        return rows[0].flatten().numpy(), rows[1].flatten().numpy()

    def advance(self, z: Tensor) -> None:
        """Goes on to the next step from the latents of this one, ``(batch, z_dim)``."""
        self.state = self.net.path(self.context, self.state, z[None, :, None]).state
        self.context = next(self.contexts, self.context)


class CodedSites(Messenger):
    """A Pyro handler that gets values of sites from functions of their distributions.

    Args:
        values: The functions by the names of the sites.
    """

    def __init__(self, values: dict[str, Callable[[Distribution], Tensor]]):
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.values:
            msg["value"], msg["done"] = self.values[msg["name"]](msg["fn"]), True


def moments(normal: Distribution) -> tuple[Tensor, Tensor]:
    """Returns mean and standard deviation; ValueError unless a diagonal Gaussian has them."""
    if not isinstance(getattr(normal, "base_dist", normal), Normal):
        raise ValueError(f"'net' must have Gaussian latents, got {type(normal).__name__}")
    return normal.mean, normal.stddev


def alphabet(emission: Emission) -> tuple[float, float, int]:
    """Returns the first value of an observed number, the distance of values, and their count."""
    values = 0.0, 0.0, 0
    if isinstance(emission.support, Grid):
        values = -1.0, emission.support.width, round(2 / emission.support.width)
    elif emission.symbols:
        values = 0.0, 1.0, emission.x_dim
    elif emission.support is constraints.boolean:
        values = 0.0, 1.0, 2
    if not 2 <= values[2] <= MOST_SYMBOLS:
        rule = f"bernoulli, nade, categorical or logistics, of 2..{MOST_SYMBOLS} values"
        got = f"{type(emission).__name__} of {values[2] or 'real'} values"
        raise ValueError(f"'emission' must be {rule}, to be coded, got {got}")
    return values


@contextmanager
def exact() -> Iterator[None]:
    """Runs a block on one thread without gradients and checks, so that it can be repeated."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad(), pyro.validation_enabled(False):
            yield
    finally:
        torch.set_num_threads(threads)
