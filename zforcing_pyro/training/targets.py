"""How well the auxiliary network predicts its target b_t, a curve of validation."""

from __future__ import annotations

from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from ..layers.blocks import length_mask
from ..models import StochasticRNN


class TargetFit:
    """Context that watches a net compute terms: what its auxiliary network predicts, and of what.

    Args:
        net: The model; without an auxiliary network nothing is watched.
    """

    def __init__(self, net: StochasticRNN):
        self.net, self.hooks = net, []
        self.sums: Tensor | float = 0.0

    def __enter__(self) -> TargetFit:
        costs = self.net.costs
        if costs is not None and costs.auxiliary is not None:
            self.hooks.append(self.net.backward_rnn.register_forward_hook(self.see_target))
            self.hooks.append(costs.auxiliary.register_forward_hook(self.see_mean))
        return self

    def __exit__(self, *error) -> None:
        for hook in self.hooks:
            hook.remove()

    def see_target(self, module: nn.Module, args: tuple, b: Tensor) -> None:
        """Notes b, ``(batch, time, b_dim)``; ``args`` hold the lengths."""
        self.b, self.mask, self.num_seen = b, length_mask(args[1], b.shape[1]), 0

    def see_mean(self, module: nn.Module, args: tuple, output: Any) -> None:
        """Adds moments of b and of the error; ``output`` is that of the network."""
        costs = self.net.costs
        mean = (output.tanh() if costs.tanh_mean else output) if costs.kind == "l2" else output.mean
        if mean.dim() != 4:  # (particles, batch, time, b_dim), and not a step of a filter
            return
        block = slice(self.num_seen, self.num_seen + mean.shape[2])
        b, mask, self.num_seen = self.b[:, block], self.mask[:, block], block.stop
        error = (b - mean)[:, mask].square().mean(0).sum()
        b = b[mask].cpu().double()  # in this order: some devices have no float64
        moments = b.sum(0), b.square().sum(0), b.new_tensor([error, len(b)])
        self.sums = self.sums + torch.cat(moments)

    def row(self, fabric: Fabric) -> dict[str, float]:
        """Returns R2 and the variance of a dimension of b, over all processes; empty without b."""
        if not isinstance(self.sums, Tensor):
            return {}
        if fabric.world_size > 1:
            self.sums = fabric.all_reduce(self.sums.to(fabric.device), reduce_op="sum").cpu()
        moments, (error, num) = self.sums[:-2].view(2, -1), self.sums[-2:].tolist()
        mean, square = moments / num
        variance = (square - mean.square()).mean().item()
        r2 = 1 - error / num / len(mean) / max(variance, 1e-12)
        return {"valid_target_r2": r2, "valid_target_variance": variance}
