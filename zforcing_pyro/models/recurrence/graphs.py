"""The recurrence by hand captured in CUDA graphs: one launch in place of some forty a step.

Never run on a GPU so far: ``auto`` does not choose it. What is tested is what a CPU can show, with
a stand-in for the capture that has its static buffers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Function = Callable[..., tuple[Tensor, ...]]
Capture = Callable[[Function, tuple[Tensor, ...]], Function]


class Graphs:
    """Captures of a function of tensors, one for each set of shapes that it is called with.

    What a capture takes and gives lies in buffers of its own, which the next call overwrites. So
    results and gradients are copied: a caller may keep them, and gradients may be accumulated.

    Args:
        function: Of tensors, and of hashable options behind them; a tuple of tensors.
        capture: Captures a function at samples of its arguments, gradient included.
        largest: Captures that are kept; each has the memory of a training step. The oldest goes.
    """

    def __init__(
        self,
        function: Function,
        capture: Capture = torch.cuda.make_graphed_callables,
        largest: int = 8,
    ):
        self.function, self.capture, self.largest = function, capture, largest
        self.captured: dict[tuple, Function] = {}

    def __call__(self, *tensors: Tensor, options: tuple = ()) -> tuple[Tensor, ...]:
        key = options, *((t.shape, t.stride(), t.dtype, t.device, t.requires_grad) for t in tensors)
        if key not in self.captured:
            if len(self.captured) == self.largest:
                del self.captured[next(iter(self.captured))]
            samples = tuple(t.detach().clone().requires_grad_(t.requires_grad) for t in tensors)
            self.captured[key] = self.capture(lambda *t: self.function(*t, *options), samples)
        results = self.captured[key](*(Kept.apply(t) for t in tensors))
        return tuple(result.clone() for result in results)


class Kept(torch.autograd.Function):
    """The identity, whose gradient is a copy of what comes."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx, d_x: Tensor) -> Tensor:
        return d_x.clone()
