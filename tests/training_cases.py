"""A net that is trained in a moment."""

import torch

from zforcing_pyro.emissions import Bernoulli
from zforcing_pyro.models import ZForcing


def small_net(model=ZForcing, emission=Bernoulli, x_dim=1, **options):
    torch.manual_seed(0)
    sizes = {"z_dim": 2, "h_dim": 4, "hidden_dim": 4, "embed_dim": 0}
    return model(emission, x_dim=x_dim, **sizes | options)
