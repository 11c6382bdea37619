"""Bits as a stack of symbols: an asymmetric numeral system of the package ``constriction``."""

import functools
from typing import Any

import numpy as np
from scipy.special import ndtr
from torch import Tensor

GRID = 32
"""Points that a latent may have, in a standard deviation of its prior."""
RANGE = 16
"""Standard deviations of the prior on either side of its mean that have points."""
REACH = 8
"""Standard deviations of the posterior on either side of its mean that are coded."""


class Stack:
    """A stack of bits that symbols are pushed to and popped from.

    Args:
        grid: Points in a standard deviation of the prior.
        words: Content from the bottom, uint32; None is a few initial words.
    """

    def __init__(self, grid: int = GRID, words: np.ndarray | None = None):
        self.library = load_constriction().stream
        self.initial, self.half, self.rings = 2, RANGE * grid, rings(grid)
        self.ans = self.library.stack.AnsCoder(initial_words(2) if words is None else words)
        self.family = self.library.model.Categorical(perfect=False)

    def words(self) -> np.ndarray:
        """Returns the content from the bottom, uint32."""
        return self.ans.get_compressed()

    def bits(self) -> int:
        """Returns the size without initial words, in bits."""
        return self.ans.num_valid_bits() - 32 * self.initial

    def pop(self, tables: Tensor) -> np.ndarray:
        """Returns a symbol for each row of probabilities, ``(num, size)``."""
        # The library does not look at strides.
        return self.ans.decode(self.family, np.ascontiguousarray(tables.numpy()))

    def push(self, symbols: np.ndarray, tables: Tensor) -> None:
        """Adds symbols, so that :meth:`pop` returns the same array."""
        tables = np.ascontiguousarray(tables.numpy())
        self.ans.encode_reverse(symbols.astype(np.int32), self.family, tables)

    def pop_prior(self, num: int) -> np.ndarray:
        """Returns grid points by a standard Gaussian, int64, ``(num,)``."""
        points, rest = np.zeros(num, np.int64), np.arange(num)
        for ring, table in self.rings:
            symbols = self.ans.decode(self.fixed(table), len(rest))
            inside = symbols < len(ring)
            points[rest[inside]], rest = ring[symbols[inside]], rest[~inside]
            if not len(rest):
                break
        return points

    def push_prior(self, points: np.ndarray) -> None:
        """Adds grid points, so that :meth:`pop_prior` returns the same array."""
        layers = []
        for ring, table in self.rings:
            if not len(points):
                break
            inside = np.isin(points, ring)
            symbols = np.where(inside, np.searchsorted(ring, points), len(ring))
            layers.append((symbols.astype(np.int32), self.fixed(table)))
            points = points[~inside]
        for symbols, model in reversed(layers):
            self.ans.encode_reverse(symbols, model)

    def fixed(self, probabilities: np.ndarray) -> Any:
        """Returns a model of one distribution."""
        return self.library.model.Categorical(probabilities, perfect=False)

    def pop_gaussians(self, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Returns grid points by Gaussians, int64, ``(num,)``; adds initial words as needed."""
        missing = len(mean) + 4 - self.ans.num_words()
        if missing > 0:
            self.initial += missing
            words = np.concatenate([initial_words(self.initial)[:missing], self.words()])
            self.ans = self.library.stack.AnsCoder(words)
        return np.array([self.ans.decode(model) for model in self.gaussians(mean, scale)], np.int64)

    def push_gaussians(self, points: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> None:
        """Adds grid points, so that :meth:`pop_gaussians` returns the same array."""
        models = self.gaussians(mean, scale)
        for point, model in zip(points[::-1].tolist(), reversed(models)):
            self.ans.encode_reverse(point, model)

    def gaussians(self, mean: np.ndarray, scale: np.ndarray) -> list[Any]:
        """Returns Gaussians over grid points near their means, which are in grid points.

        Raises ValueError if a parameter is not finite.
        """
        if not (np.isfinite(mean).all() and np.isfinite(scale).all()):
            raise ValueError("'net' must give finite latents, got others: it has diverged")
        half = self.half
        mean, scale = np.clip(mean, -2 * half, 2 * half), np.clip(scale, 0.01, 2 * half)
        low = np.clip(np.floor(mean - REACH * scale), -half, half - 1).astype(int)
        high = np.clip(np.ceil(mean + REACH * scale), low + 1, half).astype(int)
        rows = zip(low.tolist(), high.tolist(), mean.tolist(), scale.tolist())
        return [self.library.model.QuantizedGaussian(*row) for row in rows]


@functools.cache
def rings(grid: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns the standard Gaussian on a grid as nested distributions.

    Each ring has grid points with their probabilities, and last the probability of points farther
    out, about 2**-12. So no point is too improbable for probabilities of 24 bits.
    """
    points = np.arange(-RANGE * grid, RANGE * grid + 1)
    inner, outer = ndtr((0.5 - np.abs(points)) / grid), ndtr((-0.5 - np.abs(points)) / grid)
    mass, level = inner - outer, np.floor(-np.log2(2 * outer) / 12).astype(int)
    parts = [np.append(mass[level == i], mass[level > i].sum()) for i in range(level.max() + 1)]
    return [(points[level == i], part / part.sum()) for i, part in enumerate(parts)]


def initial_words(num: int) -> np.ndarray:
    """Returns initial bits, uint32, ``(num,)``, the same everywhere; fewer are the end of more."""
    return (np.random.PCG64(0).random_raw(num)[::-1] >> np.uint64(32)).astype(np.uint32)


def load_constriction() -> Any:
    """Returns the entropy coder; ValueError with the way to install it if it is missing."""
    try:
        import constriction
    except ImportError as error:
        raise ValueError(
            f"coding needs constriction: pip install 'zforcing_pyro[compress]' ({error})"
        ) from error
    return constriction
