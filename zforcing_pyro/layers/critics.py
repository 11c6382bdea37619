"""Critics: networks from behaviours to one logit."""

import torch
from torch import Tensor, nn

from .blocks import MLP, reverse_padded


class TrajectoryCritic(nn.Module):
    """A GRU in each direction of time; then, on their mean over time or on each step, an MLP."""

    def __init__(self, in_dim: int, dim: int, by_step: bool):
        super().__init__()
        self.forth, self.back = (nn.GRU(in_dim, dim, batch_first=True) for _ in range(2))
        self.head, self.by_step = head(2 * dim, dim), by_step

    def forward(self, behaviour: Tensor, mask: Tensor) -> Tensor:
        """Returns logits, ``(batch,)`` or ``(batch, time)``, of ``(batch, time, in_dim)``."""
        behaviour, lengths = torch.where(mask[..., None], behaviour, 0), mask.sum(1)
        back = reverse_padded(self.back(reverse_padded(behaviour, lengths))[0], lengths)
        features = torch.cat([self.forth(behaviour)[0], back], -1)
        if not self.by_step:
            features = torch.where(mask[..., None], features, 0).sum(1) / lengths[:, None]
        return self.head(features)[..., 0]


class StepCritic(nn.Module):
    """An MLP that reads each step alone."""

    def __init__(self, in_dim: int, dim: int):
        super().__init__()
        self.head = head(in_dim, dim)

    def forward(self, behaviour: Tensor, mask: Tensor) -> Tensor:
        """Returns logits, ``(..., batch, time)``, of ``(..., batch, time, in_dim)``."""
        return self.head(behaviour)[..., 0]


def head(in_dim: int, dim: int) -> MLP:
    """Returns an MLP of two hidden layers that is 0 until it is trained."""
    mlp = MLP(in_dim, [dim, dim], 1)
    for parameter in mlp.layers[-1].parameters():
        nn.init.zeros_(parameter)
    return mlp
