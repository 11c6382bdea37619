"""Batches of a net's sequences, or two programs with their arguments, as estimators take them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..data import SequenceSet, collate
from ..estimators.programs import ProgramPair
from ..estimators.terms import Given
from ..layers.blocks import length_mask
from ..models import StochasticRNN, evaluating

Source = StochasticRNN | Given | tuple[Callable, Callable, tuple]
"""A net; or any two Pyro programs with their arguments: ``(model, guide, args)``, or a
:class:`ProgramPair`, which also takes keyword arguments and the nesting of plates."""

MAX_ROWS, MAX_NUMBERS = 1_024, 4_000_000
"""Largest batch in rows, draws times sequences; and in rows x steps x width of a layer, which is
16 MB a layer in float32."""


def num_latents(net: StochasticRNN) -> int:
    """Returns the size of z_t; 0 for a model without latents."""
    with drawing(net, seed=0):
        return net.terms(net.emission.template(1, 1, next(net.parameters()))).latents.shape[-1]


def check_latents(net: Source, by_step: bool = True) -> int | None:
    """Returns the size of z_t; raises ValueError if it is 0. None for programs.

    With ``by_step``, also refuses latents that are not those of a sequence's steps.
    """
    if not isinstance(net, StochasticRNN):
        return None
    if by_step and net.of_vectors:
        raise ValueError(
            f"'net' must have a latent for each step of a sequence, got {type(net).__name__}, "
            "whose latents are a walk from one vector"
        )
    if not (size := num_latents(net)):
        raise ValueError(f"'net' must have latents, got {type(net).__name__}, which has none")
    return size


def row_limit(source: Source, data: SequenceSet | None) -> int:
    """Returns how many rows fit into one batch, fewer if sequences are long.

    Raises ValueError if a net comes without data, programs with data, or something is neither.
    """
    if not isinstance(source, StochasticRNN):
        is_triple = isinstance(source, tuple) and len(source) == 3
        if not (isinstance(source, Given) or (is_triple and isinstance(source[2], (tuple, list)))):
            rule = "must be a model of this package, or (model, guide, args) with a tuple of args"
            raise ValueError(f"'net' {rule}, got {source!r:.80}")
        if data is not None:
            raise ValueError("'data' must be None for programs, which come with their arguments")
        return MAX_ROWS
    if data is None:
        raise ValueError(f"'data' must be sequences for {type(source).__name__}, got None")
    widest = max([source.emission.x_dim, *(4 * size for size in source.state_dims.values())])
    return max(1, min(MAX_ROWS, MAX_NUMBERS // (int(data.lengths.max()) * widest)))


def batches(source: Source, data: SequenceSet | None, size: int) -> Iterator[Any]:
    """Yields a :class:`Given` per ``size`` sequences of a net, in their order; or the programs."""
    if isinstance(source, StochasticRNN):
        for index in torch.arange(len(data)).split(size):
            yield source.given_batch(collate([data[i] for i in index.tolist()]))
    else:
        yield source if isinstance(source, Given) else ProgramPair(*source[:2], *source[2])


@contextmanager
def drawing(source: Source, seed: int) -> Iterator[None]:
    """Runs a block in evaluation mode, without gradients, with noise that ``seed`` decides."""
    if isinstance(source, StochasticRNN):
        with evaluating(source, seed):
            yield
    else:
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(seed)
            yield


def with_nan(values: Tensor, lengths: Tensor, num_steps: int, dim: int = 1) -> Tensor:
    """Returns values on the CPU with ``num_steps`` steps, NaN past each sequence's length.

    Args:
        values: Floating, with sequences at ``dim - 1`` and at most ``num_steps`` steps at ``dim``.
        lengths: ``(batch,)``.
    """
    num_last = values.dim() - dim - 1
    mask = length_mask(lengths, values.shape[dim]).cpu()
    values = torch.where(mask.reshape(*mask.shape, *[1] * num_last), values.cpu(), torch.nan)
    padding = (*[0, 0] * num_last, 0, num_steps - values.shape[dim])
    return torch.nn.functional.pad(values, padding, value=torch.nan)
