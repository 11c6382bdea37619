"""Errors at the boundary: options of a constructor, and a batch."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..data.checks import MAX_SIZE, check_range
from ..emissions import Emission
from ..layers.blocks import length_mask
from .costs import FutureCosts


def check_sizes(embed_dim: int = 0, clamp: float = 0.0, **sizes: int) -> None:
    """Raises ValueError for a size or a clamp out of range, by its name."""
    check_range(1, MAX_SIZE, **sizes)
    check_range(0, embed_dim=embed_dim, clamp=clamp)
    if embed_dim:
        check_range(1, MAX_SIZE, embed_dim=embed_dim)


def check_no_costs(net: str, costs: FutureCosts) -> None:
    """Raises ValueError for a cost's network, by its option, where there is no backward state."""
    for name, network in {"aux_network": costs.auxiliary, "reverse_network": costs.reverse}.items():
        if network is not None:
            raise ValueError(f"'{name}' must be False for {net}: it has no backward state")


def as_tensor(values: Any, name: str, like: Tensor) -> Tensor:
    """Returns a tensor as it is, and an array or nested list as a tensor on the device of ``like``.

    Raises ValueError if the values are not numbers of one shape, by the argument's name.
    """
    if isinstance(values, Tensor):
        return values
    try:
        return torch.as_tensor(values, device=like.device)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"'{name}' must be a tensor or array of numbers: {reason}") from error


def as_lengths(lengths: Tensor | Sequence[int] | None, x: Tensor) -> Tensor:
    """Returns the steps of each sequence of ``x``, ``(batch,)``; None is all of them."""
    if lengths is None:
        return torch.full(x.shape[:1], x.shape[1] if x.dim() > 1 else 0, device=x.device)
    return as_tensor(lengths, "lengths", x)


def check_sequences(x: Tensor, lengths: Tensor, emission: Emission, name: str = "x") -> None:
    """Checks a batch at the boundary.

    Raises:
        ValueError: If shape, dtype, lengths or values are not those of sequences, by the argument.
    """
    dims, shape = (2, "(batch, time)") if emission.symbols else (3, "(batch, time, x_dim)")
    if x.dim() != dims or 0 in x.shape:
        raise ValueError(f"'{name}' must have shape {shape} and not be empty, got {tuple(x.shape)}")
    if emission.symbols and x.dtype != torch.long:
        raise ValueError(f"'{name}' must hold symbols of dtype torch.int64, got {x.dtype}")
    if not emission.symbols:
        if not x.is_floating_point():
            raise ValueError(f"'{name}' must be of a floating dtype, got {x.dtype}")
        if x.shape[-1] != emission.x_dim:
            raise ValueError(f"'{name}' must have x_dim {emission.x_dim}, got {x.shape[-1]}")
    is_integer = not (lengths.is_floating_point() or lengths.is_complex())
    if lengths.shape != x.shape[:1] or not is_integer or lengths.dtype == torch.bool:
        raise ValueError(
            f"'lengths' must be {len(x)} integers, got {lengths.dtype} of shape "
            f"{tuple(lengths.shape)}"
        )
    if x.is_meta:
        return
    if lengths.min() < 1 or lengths.max() > x.shape[1]:
        raise ValueError(f"'lengths' must be in 1..{x.shape[1]}, got {lengths.tolist()}")
    valid = x[length_mask(lengths, x.shape[1])]
    if emission.symbols:
        if valid.min() < 0 or valid.max() >= emission.x_dim:
            got = f"{valid.min()}..{valid.max()}"
            raise ValueError(f"'{name}' must hold symbols in 0..{emission.x_dim - 1}, got {got}")
    elif emission.missing and valid.isinf().any():
        raise ValueError(f"'{name}' must be finite or NaN in valid steps, got infinity")
    elif not emission.missing and not valid.isfinite().all():
        advice = "an emission with missing=True reads NaN as a missing value"
        raise ValueError(f"'{name}' must be finite in valid steps, got NaN or infinity; {advice}")


def check_prefix(prefix: Tensor, num_sequences: int, num_steps: int, emission: Emission) -> None:
    """Raises ValueError unless sequences of ``num_steps`` can begin with ``prefix``."""
    size = prefix.shape[1] if prefix.dim() > 1 else 0
    if len(prefix) != num_sequences or not 1 <= size <= num_steps:
        raise ValueError(
            f"'prefix' must be of {num_sequences} sequences of 1..{num_steps} steps, got "
            f"shape {tuple(prefix.shape)}"
        )
    check_sequences(prefix, as_lengths(None, prefix), emission, "prefix")
