"""The matrix products that a training step cannot do without, and nothing else."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from .configurations import Configuration, Problem


class Product(NamedTuple):
    """Product of a matrix ``(rows, inner)`` and one ``(inner, columns)``."""

    rows: int
    inner: int
    columns: int

    @property
    def flops(self) -> int:
        return 2 * self.rows * self.inner * self.columns


class Floor:
    """Every product at the best rate that this machine has for its shape, one after the other.

    What depends on the step before is one product a step, with the rows of a batch; what does not
    is one for all steps. Nothing is computed twice, and no pointwise operation at all.
    """

    keeps_memory = True

    def __init__(self, problem: Problem):
        c = problem.configuration
        self.num_steps = c.num_steps
        self.recurrent = [fastest(p, packed=True) for p in recurrent_products(c)]
        self.stacked = [fastest(p, packed=False) for p in stacked_products(c)]

    def step(self) -> None:
        for _ in range(self.num_steps):
            for product in self.recurrent:
                product()
        for product in self.stacked:
            product()


def flops(c: Configuration) -> int:
    """Floating-point operations of the floor."""
    recurrent = sum(p.flops for p in recurrent_products(c))
    return recurrent * c.num_steps + sum(p.flops for p in stacked_products(c))


def recurrent_products(c: Configuration) -> list[Product]:
    """Forward and backward products of one step of the two recurrences."""
    rows, gates = c.batch_size * c.num_particles, 4 * c.h_dim
    layers = [
        (c.batch_size, c.h_dim, gates),  # of the backward state
        (rows, c.h_dim, gates + c.hidden_dim),  # h_{t-1}, in the cell and in the posterior
        (rows, c.hidden_dim, 2 * c.z_dim),  # the posterior's second layer
        (rows, c.z_dim, gates),  # z_t, in the cell
    ]
    return [p for r, i, o in layers for p in (Product(r, i, o), Product(r, o, i))]


def stacked_products(c: Configuration) -> list[Product]:
    """Products for all steps at once: the other layers, and every gradient of a weight."""
    frames, gates = c.num_steps * c.batch_size, 4 * c.h_dim
    draws = frames * c.num_particles
    read = c.embed_dim or c.x_dim
    out_dim = 2 * c.x_dim if c.emission == "gaussian" else c.x_dim
    layers = [  # rows, input, output, and whether what comes before is trained
        (frames, read, gates, c.embed_dim > 0),  # the backward state reads e(x_t)
        (frames, read, gates, c.embed_dim > 0),  # the cell reads e(x_{t-1})
        (frames, c.h_dim, c.hidden_dim, True),  # the posterior reads b_t
        (draws, c.h_dim, c.hidden_dim, True),  # prior
        (draws, c.hidden_dim, 2 * c.z_dim, True),
        (draws, c.z_dim, c.hidden_dim, True),  # auxiliary
        (draws, c.hidden_dim, 2 * c.h_dim, True),
        (draws, c.h_dim, c.hidden_dim, True),  # emission
        (draws, c.hidden_dim, out_dim, True),
        (frames, c.h_dim, out_dim, True),  # reverse
    ]
    if c.embed_dim and c.emission != "categorical":
        layers.append((frames, c.x_dim, c.embed_dim, False))
    products = []
    for rows, in_dim, out_dim, trained in layers:
        products += [Product(rows, in_dim, out_dim), Product(out_dim, rows, in_dim)]
        products += [Product(rows, out_dim, in_dim)] if trained else []
    return [
        *products,
        Product(gates, frames, c.h_dim),
        Product(gates + c.hidden_dim, draws, c.h_dim),
        Product(2 * c.z_dim, draws, c.hidden_dim),
        Product(gates, draws, c.z_dim),
    ]


def fastest(product: Product, packed: bool) -> Callable[[], torch.Tensor]:
    """The fastest of PyTorch's ways to this product.

    Args:
        product: Its sizes.
        packed: Whether the second matrix may be reordered beforehand: it serves many steps.
    """
    ways = implementations(product, packed)
    if len(ways) == 1:
        return ways[0]
    times = {}
    for way in ways:
        way(), way()
        times[way] = statistics.median(cpu_time(way) for _ in range(7))
    return min(times, key=times.get)


def implementations(product: Product, packed: bool) -> list[Callable[[], torch.Tensor]]:
    rows, inner, columns = product
    a = torch.randn(rows, inner, dtype=torch.float32)
    weight = torch.randn(columns, inner, dtype=torch.float32)
    transposed, out = weight.t().contiguous(), a.new_empty(rows, columns)
    ways = [lambda: torch.mm(a, weight.t(), out=out), lambda: torch.mm(a, transposed, out=out)]
    try:
        linear = torch.ops.mkldnn._linear_pointwise
        reordered = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
    except (AttributeError, RuntimeError, NotImplementedError):
        return ways
    ways.append(lambda: linear(a, weight, None, "none", [], ""))
    ways.append(lambda: linear(a, transposed.t(), None, "none", [], ""))
    if packed:
        ways.append(lambda: linear(a, reordered, None, "none", [], ""))
    return ways


def cpu_time(function: Callable[[], object]) -> float:
    """Seconds of process time of one call."""
    start = time.process_time()
    function()
    return time.process_time() - start
