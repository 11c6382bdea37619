"""Batches of a net's sequences, or two programs with their arguments, as estimators take them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Series
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor

from ...data import Sequence, SequenceSet, collate
from ...estimators.programs import ProgramPair
from ...estimators.terms import Given
from ...layers.blocks import length_mask
from ...models import StochasticRNN, evaluating
from ...models.given import GivenSequences

Source = StochasticRNN | Given | tuple[Callable, Callable, tuple]
"""A net; or any two Pyro programs with their arguments: ``(model, guide, args)``, or a
:class:`ProgramPair`, which also takes keyword arguments and the nesting of plates."""

MAX_NUMBERS = 4_000_000
"""Largest rows x steps x width of a layer in one batch: 16 MB a layer in float32."""


def given_batch(net: StochasticRNN, sequences: Series[Sequence]) -> GivenSequences:
    """Returns the net with a collated batch, on the net's device and in its dtype."""
    return net.given_batch(collate(sequences))


def batches(source: Source, data: SequenceSet | None, size: int) -> Iterator[Given]:
    """Yields a net's batches of up to ``size`` sequences in the data's order; or the programs."""
    if not isinstance(source, StochasticRNN):
        yield given_programs(source, data)
        return
    check_data(source, data)
    for first in range(0, len(data), size):
        yield given_batch(source, [data[i] for i in range(first, min(first + size, len(data)))])


def check_data(net: StochasticRNN, data: SequenceSet | None) -> None:
    """Raises ValueError if a net comes without data."""
    if data is None:
        raise ValueError(f"'data' must be sequences for {type(net).__name__}, got None")


def given_programs(source: Given | tuple, data: None = None) -> Given:
    """Returns the programs with their arguments; raises ValueError if ``data`` is not None."""
    if data is not None:
        raise ValueError("'data' must be None for programs, which come with their arguments")
    return source if isinstance(source, Given) else ProgramPair(*source[:2], *source[2])


def drawing(source: Source, seed: int) -> AbstractContextManager:
    """Runs a block in evaluation mode, without gradients, with noise that ``seed`` decides."""
    return evaluating(source, seed) if isinstance(source, StochasticRNN) else seeded(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Runs a block without gradients, with noise that ``seed`` decides."""
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def most_rows(source: Source, data: SequenceSet | None, max_rows: int) -> int:
    """Returns how many rows fit into one batch: ``max_rows``, or fewer if sequences are long."""
    if not isinstance(source, StochasticRNN) or data is None:
        return max_rows
    widest = max(source.emission.x_dim, *(4 * size for size in source.state_dims.values()))
    return max(1, min(max_rows, MAX_NUMBERS // (int(data.lengths.max()) * widest)))


def with_nan(values: Tensor, lengths: Tensor, num_steps: int, dim: int = 1) -> Tensor:
    """Returns values on the CPU with ``num_steps`` steps, NaN past each sequence's length.

    Args:
        values: Floating, with sequences at ``dim - 1`` and steps at ``dim``.
        lengths: ``(batch,)``.
        num_steps: As many steps as ``values`` have, or more.
        dim: Position of the steps.
    """
    num_last = values.dim() - dim - 1
    mask = length_mask(lengths, values.shape[dim]).cpu()
    values = torch.where(mask.reshape(*mask.shape, *[1] * num_last), values.cpu(), torch.nan)
    padding = (*[0, 0] * num_last, 0, num_steps - values.shape[dim])
    return torch.nn.functional.pad(values, padding, value=torch.nan)
