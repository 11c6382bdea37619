"""Building blocks that know no probability. Leading dims are free: (particles, batch, ...)."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import hardtanh_, leaky_relu

from .products import Linear, inverse, is_plain, linear, memory_order


def concat(*features: Tensor) -> Tensor:
    """Concatenates on the last dim, after broadcasting all others; keeps the order of memory."""
    shape = torch.broadcast_shapes(*(f.shape[:-1] for f in features))
    features = [f.expand(*shape, -1) for f in features]
    order = memory_order(features[0])
    return torch.cat([f.permute(order) for f in features], dim=-1).permute(inverse(order))


def full_precision(x: Tensor) -> Tensor:
    """Returns ``x`` in float32 if it has fewer bits, as under autocast, for densities."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def no_frame(x: Tensor, symbols: bool) -> Tensor:
    """Returns where a frame is marked as missing: all entries NaN, or a negative symbol.

    Shape ``(batch, 1)``, or that of the symbols.
    """
    return x < 0 if symbols else x.isnan().all(-1, keepdim=True)


def length_mask(lengths: Tensor, num_steps: int) -> Tensor:
    """Returns True where a step belongs to its sequence, ``(batch, time)``.

    Example:
        >>> length_mask(torch.tensor([3, 1]), 3).int().tolist()
        [[1, 1, 1], [1, 0, 0]]
    """
    return torch.arange(num_steps, device=lengths.device) < lengths[:, None]


def is_full(mask: Tensor) -> bool:
    """Returns whether a mask is true everywhere; False where asking would wait for a GPU."""
    return mask.device.type == "cpu" and is_plain(mask) and bool(mask.all())


def time_first(x: Tensor) -> Tensor:
    """Returns ``(batch, time, ...)`` with time first in memory, as a recurrence writes its steps.

    Operations between tensors of two orders are slow.
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
    flat = x.transpose(0, 1).flatten(0, 1).index_select(0, rows.flatten())
    return flat.unflatten(0, (num_steps, num_sequences)).transpose(0, 1)


def delayed(first: Tensor, x: Tensor) -> Tensor:
    """Returns ``(batch, time, ...)`` one step later, beginning with ``first``, ``(batch, ...)``.

    Example:
        >>> delayed(torch.tensor([7, 8]), torch.tensor([[1, 2, 3], [4, 5, 6]])).tolist()
        [[7, 1, 2], [8, 4, 5]]
    """
    return torch.cat([first[None], x.transpose(0, 1)[:-1]]).transpose(0, 1)


def clipped_leaky_relu(x: Tensor) -> Tensor:
    """Leaky ReLU of slope 1/3, clipped to [-3, 3] (Goyal et al., 2017, Sec. 4)."""
    return hardtanh_(leaky_relu(x, 1 / 3), -3.0, 3.0)


class MLP(nn.Module):
    """Linear layers with :func:`clipped_leaky_relu` between them; none hidden is an affine map.

    Args:
        in_dim, out_dim: Sizes of input and output.
        hidden_dims: Sizes of the hidden layers.
    """

    def __init__(self, in_dim: int, hidden_dims: Sequence[int], out_dim: int):
        super().__init__()
        if any(not 1 <= size <= 2**20 for size in hidden_dims):
            raise ValueError(f"'hidden_dims' must be sizes in 1..{2**20}, got {list(hidden_dims)}")
        dims = [in_dim, *hidden_dims, out_dim]
        self.layers = nn.ModuleList(Linear(i, o) for i, o in pairwise(dims))

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.layers[0](x))

    def tail(self, first: Tensor) -> Tensor:
        """Applies the rest of the network to the output of its first layer."""
        for layer in self.layers[1:]:
            first = layer(clipped_leaky_relu(first))
        return first


class VectorEmbedding(nn.Module):
    """Frames to features: a linear map, or the frames themselves where ``embed_dim`` is 0.

    Missing values, NaN, are read as 0, and so is the frame before a first step.
    """

    def __init__(self, x_dim: int, embed_dim: int):
        super().__init__()
        self.out_dim = embed_dim or x_dim
        self.linear = Linear(x_dim, embed_dim) if embed_dim else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.nan_to_num())

    def deferred(self, x: Tensor) -> tuple[Tensor, Linear | None]:
        """Returns the features of ``(batch, time, x_dim)`` and None, or ``x`` and a layer to apply.

        Where a frame is small, the layer is cheaper :func:`folded` into what reads the features: a
        product of two weights in place of one of every step.
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
        """Returns the start vectors of ``(batch, time, x_dim)``, ``(batch, x_dim)``."""
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
        """Returns features and None, see :class:`VectorEmbedding`."""
        return self.table(x), None

    def start(self, x: Tensor) -> Tensor:
        """Returns the start symbols of ``(batch, time)``, ``(batch,)``."""
        return torch.full_like(x[:, 0], self.num_symbols)


Embedding = VectorEmbedding | SymbolEmbedding


def folded(
    weight: Tensor, bias: Tensor | None, layer: Linear | None
) -> tuple[Tensor, Tensor | None]:
    """Returns weight and bias of a linear map after ``layer``; None leaves them as they are."""
    if layer is None:
        return weight, bias
    return linear(layer.weight.t(), weight).t(), linear(layer.bias, weight, bias)


def embedding(x_dim: int, embed_dim: int, symbols: bool) -> Embedding:
    """Returns a new embedding of observations.

    Raises ValueError if symbols are to be fed as they are.
    """
    if symbols and not embed_dim:
        raise ValueError("'embed_dim' must be positive for symbols, got 0")
    return (SymbolEmbedding if symbols else VectorEmbedding)(x_dim, embed_dim)
