"""Sequences of a data set as a net takes them, without leaving a trace in net or random stream."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Series
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from ...data import Sequence, SequenceSet, collate
from ...models import StochasticRNN
from ...models.steps import State

MAX_NUMBERS = 4_000_000
"""Rows times steps times the widest layer that a net is given at once: 16 MB a layer in float32."""


class NetBatch(NamedTuple):
    """Sequences on the net's device and in its dtype."""

    indices: list[int]  # where they are in the data
    x: Tensor  # (batch, time, x_dim), or (batch, time) for symbols
    lengths: Tensor  # (batch,)
    state: State | None


@contextmanager
def drawing(net: StochasticRNN, seed: int) -> Iterator[None]:
    """Within, no gradient is kept and draws are a function of ``seed``; after, all is as before."""
    device, was_training = next(net.parameters()).device, net.training
    net.eval()
    try:
        with (
            torch.no_grad(),
            torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        ):
            torch.manual_seed(seed)
            yield
    finally:
        net.train(was_training)


def batches(net: StochasticRNN, data: SequenceSet, size: int) -> Iterator[NetBatch]:
    """Batches of up to ``size`` sequences, in the data's order."""
    for first in range(0, len(data), size):
        yield batch(net, data, range(first, min(first + size, len(data))))


def batch(
    net: StochasticRNN, data: SequenceSet | Series[Sequence], indices: Series[int]
) -> NetBatch:
    """The sequences at ``indices``, on the net's device and in its dtype."""
    like = next(net.parameters())
    x, lengths, start = collate([data[i] for i in indices]).to(like.device)
    if x.is_floating_point():
        x, start = x.to(like.dtype), None if start is None else start.to(like.dtype)
    state = None if start is None else net.initial_state(len(x), start)
    return NetBatch(list(indices), x, lengths, state)


def repeated(state: State | None, num: int) -> State | None:
    """The state of ``num`` copies of a batch, one after the other."""
    if state is None:
        return None
    return {name: v.repeat(num, *[1] * (v.dim() - 1)) for name, v in state.items()}


def most_rows(net: StochasticRNN, num_steps: int, max_rows: int) -> int:
    """How many rows of ``num_steps`` steps a net is given at once: ``max_rows``, or fewer."""
    widest = max(net.emission.x_dim, *(4 * size for size in net.state_dims.values()))
    return max(1, min(max_rows, MAX_NUMBERS // (num_steps * widest)))
