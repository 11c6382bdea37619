"""Heads in blocks of time steps, where all steps at once would need too much memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

LARGEST = 2**26
"""Numbers of a network's widest layer that are kept: 256 MB in float32."""


@contextmanager
def kept_at_most(megabytes: float) -> Iterator[None]:
    """Another :data:`LARGEST` for a while, given as megabytes of float32."""
    global LARGEST
    before, LARGEST = LARGEST, int(megabytes * 2**18)
    try:
        yield
    finally:
        LARGEST = before


def in_blocks(
    log_prob: Callable[..., Tensor], network: nn.Module, steps: int, *tensors: tuple[Tensor, int]
) -> Tensor:
    """``log_prob(*tensors)`` of all steps, ``(..., time)``: at once if it fits, else by blocks.

    Of a block nothing is kept but its result; its gradient computes it again. So memory is bound by
    a block, whatever the number of particles or symbols, and the numbers are the same.

    Args:
        log_prob: A function of each step apart, that draws nothing.
        network: What it runs.
        steps: Rows of all steps, over particles and batch.
        tensors: Each with its dim of time; all of one number of steps there.
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
    recomputed = {"use_reentrant": False, "preserve_rng_state": False}
    return torch.cat([checkpoint(log_prob, *block, **recomputed) for block in blocks], dim=-1)
