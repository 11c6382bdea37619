"""Weights that change with the number of updates; the training loop follows them."""

import math
from dataclasses import dataclass
from typing import Literal

Shape = Literal["linear", "cosine", "cyclical"]


@dataclass(frozen=True)
class Schedule:
    """A weight that goes from ``start`` to ``end``, rising or falling.

    Args:
        start: Value at update 0.
        end: Value after ``updates`` updates.
        updates: Updates that the change takes, or the period of a cycle; 0 is ``end`` at once.
        shape: A line, half a cosine, or cycles: a line in the first half of each period, then
            ``end`` (Fu et al., 2019, https://arxiv.org/abs/1903.10145).

    Example:
        >>> schedule = Schedule(0.0, 1.0, 10, "cyclical")
        >>> [schedule(update) for update in (0, 3, 5, 9, 10, 13)]
        [0.0, 0.6, 1.0, 1.0, 0.0, 0.6]
    """

    start: float
    end: float
    updates: int = 0
    shape: Shape = "linear"

    def __call__(self, update: int) -> float:
        """Returns the value at an update, of how many came before."""
        if self.shape == "cyclical" and self.updates:
            update = 2 * (update % self.updates)
        if update >= self.updates:
            return self.end
        done = update / self.updates
        if self.shape == "cosine":
            done = (1 - math.cos(math.pi * done)) / 2
        return self.start + (self.end - self.start) * done
