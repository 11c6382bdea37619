"""Sequences of a data set as a net takes them, without leaving a trace in net or random stream."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Series
from typing import NamedTuple

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


def batches(net: StochasticRNN, data: SequenceSet, size: int) -> Iterator[NetBatch]:
    """Batches of up to ``size`` sequences, in the data's order."""
    for first in range(0, len(data), size):
        yield batch(net, data, range(first, min(first + size, len(data))))


def batch(
    net: StochasticRNN, data: SequenceSet | Series[Sequence], indices: Series[int]
) -> NetBatch:
    """The sequences at ``indices``, on the net's device and in its dtype."""
    given = net.given_batch(collate([data[i] for i in indices]))
    return NetBatch(list(indices), given.x, given.lengths, given.state)


def repeated(state: State | None, num: int) -> State | None:
    """The state of ``num`` copies of a batch, one after the other."""
    if state is None:
        return None
    return {name: v.repeat(num, *[1] * (v.dim() - 1)) for name, v in state.items()}


def most_rows(net: StochasticRNN, num_steps: int, max_rows: int) -> int:
    """How many rows of ``num_steps`` steps a net is given at once: ``max_rows``, or fewer."""
    widest = max(net.emission.x_dim, *(4 * size for size in net.state_dims.values()))
    return max(1, min(max_rows, MAX_NUMBERS // (num_steps * widest)))
