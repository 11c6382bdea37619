"""Matrix products by the best backend that computes the same numbers.

On AMD's CPUs the library behind ``torch.mm`` does not use its AVX-512 kernels; oneDNN is 1.5 to 2.5
times faster there, and it is what PyTorch's compiler itself calls for a linear layer. It computes
plain float32 here: precision is never lowered.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch._C._functorch import is_legacy_batchedtensor
from torch.autograd import forward_ad
from torch.nn import functional

SMALL = 5e6
"""Floating-point operations of a layer that is left to PyTorch: a gradient written by hand costs
more there than its products save."""


@cache
def has_onednn() -> bool:
    """Whether PyTorch has oneDNN's linear layer, tried on numbers."""
    try:
        # No random numbers: the stream is the caller's.
        numbers = torch.arange(56, dtype=torch.float32, device="cpu").sin()
        a, b = numbers[:35].view(5, 7), numbers[35:].view(3, 7)
        packed = torch.ops.mkldnn._reorder_linear_weight(b, 5)
        return torch.allclose(onednn(a, packed), a @ b.t(), atol=1e-5)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False


def onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias``; each operand is a contiguous matrix or the transpose of one."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def suits(*tensors: Tensor) -> bool:
    """Whether oneDNN takes them, and as plain float32: where PyTorch may use less, it decides."""
    return (
        all(t.device.type == "cpu" and t.dtype == torch.float32 and t.numel() for t in tensors)
        and torch.get_float32_matmul_precision() == "highest"
        and not torch.is_autocast_enabled("cpu")
        and not transformed()
        and has_onednn()
    )


def transformed() -> bool:
    """Whether a transform of ``torch.func``, or forward mode, is active.

    What is written by hand has no rules for them.
    """
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def by_formula(*gradients: Tensor) -> bool:
    """Whether a gradient must come of plain operations.

    It is differentiated in turn, or is many at once (``is_grads_batched``).
    """
    return torch.is_grad_enabled() or any(map(is_legacy_batchedtensor, gradients))


class Prepared:
    """``x -> x @ weight.T``, for many calls with the same number of rows.

    A call of oneDNN costs some ten microseconds, which is more than it saves where the product is
    a small one.

    Args:
        weight: ``(out_dim, in_dim)``, or the transpose of a contiguous matrix.
        rows: Rows of ``x``, a matrix.
    """

    small = 1.2e6  # floating-point operations

    def __init__(self, weight: Tensor, rows: int):
        self.packed, self.transposed = None, weight.t()
        if 2 * rows * weight.numel() > self.small and suits(weight):
            self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)

    def __call__(self, x: Tensor) -> Tensor:
        return x @ self.transposed if self.packed is None else onednn(x, self.packed)

    def add_to(self, total: Tensor, x: Tensor) -> Tensor:
        """``total += x @ weight.T``."""
        if self.packed is None:
            return total.addmm_(x, self.transposed)
        return total.add_(onednn(x, self.packed))


def stacked_product(a: Tensor, b: Tensor) -> Tensor:
    """``a.T @ b`` summed over all leading dims: the gradient of a weight over all steps.

    oneDNN wants the first of two matrices contiguous: see :func:`transposed_product`.
    """
    a, b = (v.flatten(0, -2).contiguous().t() for v in (a, b))
    return transposed_product(a, b) if suits(a, b) else a @ b.t()


def transposed_product(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b.T`` of transposes of contiguous matrices, which suit oneDNN.

    The first is copied, or the second if that is less by more than what the result takes: it is
    then a transpose itself, which is copied where it becomes the gradient of a weight.
    """
    rows, columns, inner = len(a), len(b), a.shape[1]
    if (rows - columns) * inner > rows * columns:
        return onednn(b, a).t()
    return onednn(a, b)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias``, as ``torch.nn.functional.linear``.

    Leading dims stay in the order that they have in memory: what a recurrence wrote with time
    first is not copied to be multiplied.
    """
    if x.is_contiguous():
        return product(x, weight, bias)
    order = memory_order(x)
    return product(x.permute(order).contiguous(), weight, bias).permute(inverse(order))


def memory_order(x: Tensor) -> list[int]:
    """The dims of ``x`` in the order that they have in memory, the last one last."""
    return [*sorted(range(x.dim() - 1), key=lambda dim: -x.stride(dim)), x.dim() - 1]


def inverse(order: list[int]) -> list[int]:
    """The permutation that undoes another."""
    return sorted(range(len(order)), key=order.__getitem__)


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """:func:`linear` of contiguous ``x``."""
    if 2 * x.numel() * len(weight) < SMALL or not suits(x, weight):
        return functional.linear(x, weight, bias)
    y = OneDNNLinear.apply(x.view(-1, x.shape[-1]), weight.contiguous(), bias)
    return y.view(*x.shape[:-1], -1)


class OneDNNLinear(torch.autograd.Function):
    """A linear layer whose three products are oneDNN's."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return onednn(x, weight, bias)

    @staticmethod
    def backward(ctx, d_y: Tensor):
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        if by_formula(d_y):
            d_x, d_weight = d_y @ weight, d_y.t() @ x
        else:
            d_y = d_y.contiguous()
            d_x = onednn(d_y, weight.t()) if needs_x else None
            d_weight = transposed_product(d_y.t(), x.t()) if needs_weight else None
        return d_x, d_weight, d_y.sum(0) if needs_bias else None


class Linear(nn.Linear):
    """``torch.nn.Linear`` by :func:`linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)
