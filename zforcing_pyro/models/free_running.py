"""Draws of a model that reads its own observations, by its steps or by its program."""

from typing import Any, NamedTuple

import torch
from pyro import poutine
from torch import Tensor

from .checks import as_lengths
from .steps import State


class FreeRun(NamedTuple):
    """Sequences that a model drew."""

    x: Tensor  # (batch, time, x_dim), or (batch, time) for symbols
    z: Tensor  # (batch, time, z_dim)
    states: Tensor | None  # what the emission read, (batch, time, dim); None by programs


@torch.no_grad()
def free_run(net: Any, x: Tensor, state: State | None = None, own: Tensor | None = None) -> FreeRun:
    """Draws sequences of the model, by the same noise with and without steps.

    Args:
        net: The model.
        x: Data where steps are not the model's ``own``, and their shape and dtype.
        state: What to start from; None is the initial state.
        own: True where the recurrence reads, and the result has, a draw instead of x_t,
            ``(batch, time)``; None is everywhere.

    Raises:
        ValueError: If only some steps are drawn and the net has no ``step``.
    """
    if not net.draws_by_steps:
        if own is not None:
            raise ValueError(
                f"'scheduled_sampling' must be 0 for a {type(net).__name__} without 'step'"
            )
        program = poutine.trace(poutine.uncondition(net.model))
        nodes: Any = program.get_trace(x, as_lengths(None, x), state).nodes
        num_steps = range(x.shape[1])
        xs, zs = ([nodes[f"{site}_{t}"]["value"] for t in num_steps] for site in "xz")
        return FreeRun(torch.stack(xs, 1), torch.stack(zs, 1), None)
    (x_prev,), state = net.begin(x, state, "x_prev"), net.opened(x, state)
    steps: list[tuple[Tensor, ...]] = []
    for t in range(x.shape[1]):
        z, features, state = net.step(x_prev, state)
        x_prev = net.emission(features)()
        if own is not None:
            is_own = own[:, t] if net.emission.symbols else own[:, t, None]
            x_prev = torch.where(is_own, x_prev, x[:, t])
        steps.append((x_prev, z, features))
    return FreeRun(*(torch.stack(values, 1) for values in zip(*steps)))
