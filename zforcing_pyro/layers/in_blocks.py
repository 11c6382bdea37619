"""Heads in blocks of time steps, where all steps at once would need too much memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

LARGEST = 2**26
"""Numbers of a network's widest layer that are kept: 256 MB in float32."""


@contextmanager
def kept_at_most(megabytes: float) -> Iterator[None]:
    """Sets :data:`LARGEST` for a while, in megabytes of float32."""
    global LARGEST
    before, LARGEST = LARGEST, int(megabytes * 2**18)
    try:
        yield
    finally:
        LARGEST = before


def in_blocks(
    log_prob: Callable[..., Tensor], network: nn.Module, steps: int, *tensors: tuple[Tensor, int]
) -> Tensor:
    """Returns ``log_prob(*tensors)``, ``(..., time)``: at once if it fits, else by blocks of steps.

    Only the result of a block is kept, and its gradient computes the block again: the same numbers
    in the memory of a block. ``log_prob`` is a function of each step apart, draws nothing, and runs
    ``network`` on ``steps`` rows; each tensor comes with its dim of time.
    """
    width = max((len(p) for p in network.parameters() if p.dim()), default=1)
    (first, dim), *_ = tensors
    num_steps = first.shape[dim]
    size = max(1, num_steps * LARGEST // (steps * width))
    if size >= num_steps:
        return log_prob(*(tensor for tensor, _ in tensors))
    blocks = zip(*(tensor.split(size, dim) for tensor, dim in tensors))
    if not torch.is_grad_enabled():
        return torch.cat([log_prob(*block) for block in blocks], dim=-1)
    recomputed: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
    return torch.cat([checkpoint(log_prob, *block, **recomputed) for block in blocks], dim=-1)
