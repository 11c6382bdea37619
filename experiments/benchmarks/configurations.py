"""Sizes of the measured training steps, and random weights and data for them."""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from zforcing_pyro.emissions import EMISSIONS
from zforcing_pyro.models import ZForcing


@dataclass(frozen=True)
class Configuration:
    """Sizes of a training step of Z-Forcing. Every network has one hidden layer, but the reverse.

    Args:
        name: As tables and files have it.
        batch_size, num_steps: Sequences, all of the same length.
        x_dim: Size of a frame, or number of symbols.
        embed_dim: Size of the embedding; 0 feeds frames as they are.
        h_dim: Size of forward and backward state.
        z_dim: Size of a latent.
        hidden_dim: Size of hidden layers, that of the emission too.
        emission: Key of ``EMISSIONS``.
        num_particles: Draws of the latents.
    """

    name: str
    batch_size: int
    num_steps: int
    x_dim: int
    embed_dim: int
    h_dim: int
    z_dim: int
    hidden_dim: int
    emission: str = "gaussian"
    num_particles: int = 1


CONFIGURATIONS = {
    c.name: c
    for c in (
        Configuration("SMALL", 32, 40, 200, 128, 128, 32, 128),
        Configuration("MUSIC", 16, 100, 88, 300, 300, 100, 300, "bernoulli"),
        Configuration("TIMIT", 32, 40, 200, 512, 1024, 256, 512),
        Configuration("TEXT", 32, 16, 16_000, 300, 500, 64, 500, "categorical"),
        Configuration("MNIST", 32, 784, 1, 0, 256, 32, 128, "bernoulli"),
    )
}


class Problem(NamedTuple):
    """A configuration with weights and data. Variants copy the net before they train it."""

    configuration: Configuration
    net: ZForcing
    x: Tensor
    """``(batch, time, x_dim)``, or ``(batch, time)`` for symbols."""
    lengths: Tensor
    """``(batch,)``."""


def problem(
    configuration: Configuration, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> Problem:
    """The same weights and data at every call, in any process."""
    c = configuration
    torch.manual_seed(0)
    emission = partial(EMISSIONS[c.emission], hidden_dims=[c.hidden_dim])
    net = ZForcing(emission, c.x_dim, c.z_dim, c.h_dim, c.hidden_dim, c.embed_dim)
    frames = c.batch_size, c.num_steps
    if c.emission == "categorical":
        x = torch.randint(0, c.x_dim, frames)
    elif c.emission == "bernoulli":
        x = (torch.rand(*frames, c.x_dim) < 0.3).to(dtype)
    else:
        x = torch.randn(*frames, c.x_dim).to(dtype)
    lengths = torch.full((c.batch_size,), c.num_steps)
    return Problem(c, net.to(device, dtype), x.to(device), lengths.to(device))
