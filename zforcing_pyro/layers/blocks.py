"""Building blocks that know no probability. Leading dims are free: (particles, batch, ...)."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import hardtanh, hardtanh_, leaky_relu

from .products import Linear, by_formula, inverse, linear, memory_order, transformed


def concat(*features: Tensor) -> Tensor:
    """Concatenates on the last dim, after broadcasting all others."""
    shape = torch.broadcast_shapes(*(f.shape[:-1] for f in features))
    features = [f.expand(*shape, -1) for f in features]
    order = memory_order(features[0])
    return torch.cat([f.permute(order) for f in features], dim=-1).permute(inverse(order))


def halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """The two halves of the last dim, as ``x.chunk(2, -1)``.

    The gradient keeps the order of memory, and copies nothing where it comes as two halves.
    """
    return x.chunk(2, dim=-1) if transformed() else Halves.apply(x)


class Halves(torch.autograd.Function):
    """:func:`halves`."""

    @staticmethod
    def forward(ctx, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.chunk(2, dim=-1)

    @staticmethod
    def backward(ctx, d_first: Tensor, d_second: Tensor) -> Tensor:
        if by_formula(d_first, d_second):
            return torch.cat([d_first, d_second], dim=-1)
        whole = whole_of(d_first, d_second)
        return concat(d_first, d_second) if whole is None else whole


def empty_halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """Two tensors like ``x``, halves of one whose order of memory is that of ``x``."""
    order = memory_order(x)
    shape = [x.shape[dim] for dim in order]
    whole = x.new_empty(*shape[:-1], 2 * shape[-1]).permute(inverse(order))
    return whole.chunk(2, dim=-1)


def whole_of(first: Tensor, second: Tensor) -> Tensor | None:
    """The tensor whose halves these are, if they are."""
    size, strides = first.shape[-1], first.stride()
    together = (
        first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()
        and first.storage_offset() + size == second.storage_offset()
        and (first.shape, strides) == (second.shape, second.stride())
        and strides[-1] == 1
        and all(stride >= 2 * size or n == 1 for n, stride in zip(first.shape[:-1], strides))
    )
    return first.as_strided((*first.shape[:-1], 2 * size), strides) if together else None


def full_precision(x: Tensor) -> Tensor:
    """``x`` in float32 if it has fewer bits, as under autocast; densities are computed of that."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def no_frame(x: Tensor, symbols: bool) -> Tensor:
    """Where a frame is a mark that there is none: NaN in all its entries, or a negative symbol.

    Shape of ``(batch, x_dim)``, with 1 for its last dim, or of the symbols.
    """
    return x < 0 if symbols else x.isnan().all(-1, keepdim=True)


def length_mask(lengths: Tensor, num_steps: int) -> Tensor:
    """True where a step belongs to its sequence. Shape ``(batch, time)``.

    Example:
        >>> length_mask(torch.tensor([3, 1]), 3).int().tolist()
        [[1, 1, 1], [1, 0, 0]]
    """
    return torch.arange(num_steps, device=lengths.device) < lengths[:, None]


def is_full(mask: Tensor) -> bool:
    """Whether a mask is true everywhere, where asking costs nothing: not of a GPU, say."""
    return mask.device.type == "cpu" and not transformed() and bool(mask.all())


def time_first(x: Tensor) -> Tensor:
    """``x`` of ``(batch, time, ...)`` with time first in memory: a step's rows lie together.

    So does what is computed of it: a recurrence writes its steps one after the other, and
    operations between tensors of two orders are slow.
    """
    return x.transpose(0, 1).contiguous().transpose(0, 1)


def reverse_padded(x: Tensor, lengths: Tensor) -> Tensor:
    """Reverses each sequence of ``(batch, time, ...)`` within its length; padding stays in place.

    Example:
        >>> reverse_padded(torch.tensor([[1, 2, 3], [1, 0, 0]]), torch.tensor([3, 1])).tolist()
        [[3, 2, 1], [1, 0, 0]]
    """
    num_sequences, num_steps = x.shape[:2]
    t = torch.arange(num_steps, device=x.device)[:, None]
    mirrored = torch.where(t < lengths, lengths - 1 - t, t)
    rows = mirrored * num_sequences + torch.arange(num_sequences, device=x.device)
    flat = exchanged(x.transpose(0, 1).flatten(0, 1), rows.flatten())
    return flat.unflatten(0, (num_steps, num_sequences)).transpose(0, 1)


def exchanged(x: Tensor, rows: Tensor) -> Tensor:
    """Rows in another order, one that is its own inverse: so its gradient is itself."""
    return x.index_select(0, rows) if transformed() else Exchanged.apply(x, rows)


class Exchanged(torch.autograd.Function):
    """:func:`exchanged`."""

    @staticmethod
    def forward(ctx, x: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        return x.index_select(0, rows)

    @staticmethod
    def backward(ctx, d_y: Tensor) -> tuple[Tensor, None]:
        return exchanged(d_y, *ctx.saved_tensors), None


def delayed(first: Tensor, x: Tensor) -> Tensor:
    """``x`` of ``(batch, time, ...)`` one step later, beginning with ``first``, ``(batch, ...)``.

    Example:
        >>> delayed(torch.tensor([7, 8]), torch.tensor([[1, 2, 3], [4, 5, 6]])).tolist()
        [[7, 1, 2], [8, 4, 5]]
    """
    return torch.cat([first[None], x.transpose(0, 1)[:-1]]).transpose(0, 1)


def clipped_leaky_relu(x: Tensor) -> Tensor:
    """Leaky ReLU of slope 1/3, clipped to [-3, 3] (Goyal et al., 2017, Sec. 4)."""
    return clipped(x, 3.0, slope=1 / 3)


def clipped(x: Tensor, bound: float, slope: float = 1.0) -> Tensor:
    """A leaky ReLU, or the identity for a slope of 1, clipped to [-bound, bound].

    Of what it is computed from it keeps nothing: its gradient, 0 at the bounds, is read off its
    own values, which whatever comes next keeps anyway.
    """
    if transformed():
        return hardtanh(leaky_relu(x, slope), -bound, bound)
    return Clipped.apply(x, bound, slope)


class Clipped(torch.autograd.Function):
    """:func:`clipped`."""

    @staticmethod
    def forward(ctx, x: Tensor, bound: float, slope: float) -> Tensor:
        if slope == 1:
            y = hardtanh(x, -bound, bound)
        else:
            y = hardtanh_(leaky_relu(x, slope), -bound, bound)
        ctx.save_for_backward(y)
        ctx.bound, ctx.slope = bound, slope
        return y

    @staticmethod
    def backward(ctx, d_y: Tensor) -> tuple[Tensor, None, None]:
        (y,) = ctx.saved_tensors
        d_x = torch.ops.aten.hardtanh_backward(d_y, y, -ctx.bound, ctx.bound)
        if ctx.slope != 1:
            d_x = torch.ops.aten.leaky_relu_backward(d_x, y, ctx.slope, True)
        return d_x, None, None


def squashed(x: Tensor) -> Tensor:
    """tanh x, in a fifth of the time of ``torch.tanh`` on a CPU; there to rounding of 1."""
    return x.tanh() if transformed() or x.device.type != "cpu" else Squashed.apply(x)


class Squashed(torch.autograd.Function):
    """:func:`squashed`: 2 sigmoid(2 x) - 1."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        y = torch.add(x, x).sigmoid_()
        y = torch.add(y.new_full((), -1), y, alpha=2)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, d_y: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return torch.ops.aten.tanh_backward(d_y, y)


class MLP(nn.Module):
    """Linear layers with :func:`clipped_leaky_relu` between them; none hidden is an affine map.

    Args:
        in_dim, out_dim: Sizes of input and output.
        hidden_dims: Sizes of the hidden layers.
    """

    def __init__(self, in_dim: int, hidden_dims: Sequence[int], out_dim: int):
        super().__init__()
        dims = [in_dim, *hidden_dims, out_dim]
        self.layers = nn.ModuleList(Linear(i, o) for i, o in pairwise(dims))

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.layers[0](x))

    def tail(self, first: Tensor) -> Tensor:
        """The rest of the network, given the output of its first layer."""
        for layer in self.layers[1:]:
            first = layer(clipped_leaky_relu(first))
        return first


class VectorEmbedding(nn.Module):
    """Frames to features: a linear map, or the frames themselves where ``embed_dim`` is 0.

    The input of a first step without a predecessor is the zero vector, and so is that of a value
    that is missing, NaN.
    """

    def __init__(self, x_dim: int, embed_dim: int):
        super().__init__()
        self.out_dim = embed_dim or x_dim
        self.linear = Linear(x_dim, embed_dim) if embed_dim else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.nan_to_num())

    def deferred(self, x: Tensor) -> tuple[Tensor, Linear | None]:
        """Features of ``(batch, time, x_dim)`` and None, or ``x`` and the layer not yet applied.

        The latter where a frame is small: :func:`folded` into what reads the features, the layer
        costs a product of two weights and not one of every step.
        """
        x = x.nan_to_num()
        if isinstance(self.linear, nn.Identity):
            return x, None
        rows, (out_dim, x_dim) = x[..., 0].numel(), self.linear.weight.shape
        # Products of forward and backward together, over the size of what reads the features.
        is_cheap = 2 * rows * x_dim + 3 * x_dim * out_dim < 3 * rows * out_dim
        return (x, self.linear) if is_cheap else (self.linear(x), None)

    @staticmethod
    def start(x: Tensor) -> Tensor:
        """The start vector of each sequence of ``(batch, time, x_dim)``: ``(batch, x_dim)``."""
        return torch.zeros_like(x[:, 0])


class SymbolEmbedding(nn.Module):
    """Symbols ``0 .. num_symbols - 1`` to features; one more row is the start symbol."""

    def __init__(self, num_symbols: int, embed_dim: int):
        super().__init__()
        self.num_symbols, self.out_dim = num_symbols, embed_dim
        self.table = nn.Embedding(num_symbols + 1, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.table(x)

    def deferred(self, x: Tensor) -> tuple[Tensor, None]:
        """As that of :class:`VectorEmbedding`: always features."""
        return self.table(x), None

    def start(self, x: Tensor) -> Tensor:
        """The start symbol of each sequence of ``(batch, time)``: ``(batch,)``."""
        return torch.full_like(x[:, 0], self.num_symbols)


def folded(
    weight: Tensor, bias: Tensor | None, layer: Linear | None
) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a linear map after ``layer``, as one; None leaves them as they are."""
    if layer is None:
        return weight, bias
    return linear(layer.weight.t(), weight).t(), linear(layer.bias, weight, bias)


def embedding(x_dim: int, embed_dim: int, symbols: bool) -> VectorEmbedding | SymbolEmbedding:
    """The embedding of observations of either kind.

    Raises:
        ValueError: If symbols are to be fed as they are.
    """
    if symbols and not embed_dim:
        raise ValueError("'embed_dim' must be positive for symbols, got 0")
    return (SymbolEmbedding if symbols else VectorEmbedding)(x_dim, embed_dim)
