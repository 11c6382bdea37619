"""Matrix products by the best backend that computes the same numbers.

On AMD's CPUs the library behind ``torch.mm`` does not use its AVX-512 kernels: oneDNN is 1.5 to 2.5
times faster there. On Intel's a training step is 10 to 15 % faster without it. oneDNN computes
plain float32 here: precision is never lowered.
"""

import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional

SMALL = 5e6
"""Floating-point operations of a layer that is left to PyTorch: a gradient written by hand costs
more there than its products save."""
SMALL_STEP = 1.2e6
"""The same for a product in a loop: a call of oneDNN costs some ten microseconds."""


@cache
def is_intel() -> bool:
    """Returns whether the processor is Intel's, as far as the system tells."""
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return "Intel" in platform.processor()


@cache
def has_onednn() -> bool:
    """Returns whether PyTorch has oneDNN's linear layer, tried on numbers."""
    try:
        # No random numbers: the stream is the caller's.
        numbers = torch.arange(56, dtype=torch.float32, device="cpu").sin()
        a, b = numbers[:35].view(5, 7), numbers[35:].view(3, 7)
        packed = torch.ops.mkldnn._reorder_linear_weight(b, 5)
        return torch.allclose(onednn(a, packed), a @ b.t(), atol=1e-5)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False


def onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Returns ``x @ weight.T + bias``; operands are contiguous matrices or transposes of such."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def suits(*tensors: Tensor) -> bool:
    """Returns whether oneDNN takes the tensors, pays, and computes plain float32."""
    return (
        all(t.device.type == "cpu" and t.dtype == torch.float32 and t.numel() for t in tensors)
        and not is_intel()
        and torch.get_float32_matmul_precision() == "highest"
        and not torch.is_autocast_enabled("cpu")
        and is_plain(*tensors)
        and has_onednn()
    )


def is_plain(*tensors: Tensor) -> bool:
    """Returns whether tensors hold numbers, outside transforms and forward mode.

    A tensor that ``torch.func`` or ``is_grads_batched`` wraps has no memory of its own. Code
    written by hand, which has no rules for transforms, then leaves the work to plain operations.
    """
    try:
        for tensor in tensors:
            tensor.data_ptr()
    except RuntimeError:
        return False
    return all(forward_ad.unpack_dual(tensor).tangent is None for tensor in tensors)


def by_formula(*gradients: Tensor) -> bool:
    """Returns whether a gradient must come of plain operations.

    So it must where it is differentiated in turn, or is many at once (``is_grads_batched``).
    """
    return torch.is_grad_enabled() or not is_plain(*gradients)


def prepared(weight: Tensor, rows: int) -> Callable[..., Tensor]:
    """Returns ``(x, total=None) -> x @ weight.T``, for many calls; added in place to a ``total``.

    ``weight`` may be the transpose of a contiguous matrix; ``x`` is a matrix of so many ``rows``.
    """
    transposed, packed = weight.t(), None
    if 2 * rows * weight.numel() > SMALL_STEP and suits(weight):
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)

    def times(x: Tensor, total: Tensor | None = None) -> Tensor:
        if packed is None:
            return x @ transposed if total is None else total.addmm_(x, transposed)
        return onednn(x, packed) if total is None else total.add_(onednn(x, packed))

    return times


def stacked_product(a: Tensor, b: Tensor) -> Tensor:
    """Returns ``a.T @ b`` summed over all leading dims: the gradient of a weight over all steps."""
    a, b = (v.flatten(0, -2).contiguous().t() for v in (a, b))
    return transposed_product(a, b) if suits(a, b) else a @ b.t()


def transposed_product(a: Tensor, b: Tensor) -> Tensor:
    """Returns ``a @ b.T`` of transposes of contiguous matrices by oneDNN, which copies the first.

    The second is copied if that saves more than copying the result takes, which is then a transpose
    itself. Without the choice a training step took 4 to 10 % longer.
    """
    rows, columns, inner = len(a), len(b), a.shape[1]
    return onednn(b, a).t() if (rows - columns) * inner > rows * columns else onednn(a, b)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Returns ``x @ weight.T + bias``, as ``torch.nn.functional.linear``.

    Leading dims stay in the order that they have in memory: a sequence written with time first is
    not copied to be multiplied.
    """
    if x.is_contiguous():
        return product(x, weight, bias)
    order = memory_order(x)
    return product(x.permute(order).contiguous(), weight, bias).permute(inverse(order))


def memory_order(x: Tensor) -> list[int]:
    """Returns the dims of ``x`` in the order that they have in memory, the last one last."""
    strides = x.stride()
    return [*sorted(range(x.dim() - 1), key=lambda dim: -strides[dim]), x.dim() - 1]


def inverse(order: list[int]) -> list[int]:
    """Returns the permutation that undoes another."""
    return sorted(range(len(order)), key=order.__getitem__)


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Returns :func:`linear` of contiguous ``x``."""
    if 2 * x.numel() * len(weight) < SMALL or not suits(x, weight):
        return functional.linear(x, weight, bias)
    y = OneDNNLinear.apply(x.view(-1, x.shape[-1]), weight.contiguous(), bias)
    return y.view(*x.shape[:-1], -1)


class OneDNNLinear(torch.autograd.Function):
    """A linear layer whose three products are oneDNN's."""

    generate_vmap_rule = True  # asked for within a transform, also of tensors that it leaves alone

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return onednn(x, weight, bias)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(*inputs[:2])

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
