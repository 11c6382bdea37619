"""Weights that the training loop sets: functions of the update, or steered by the KL."""

import math
from dataclasses import dataclass
from typing import Literal

Shape = Literal["linear", "cosine", "cyclical"]
STEER, LEAST = 0.1, 0.001
"""Largest change of a steered weight's logarithm in one step, and least steered weight."""


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


def steered(weight: float, kl: float, target: float) -> float:
    """Returns the next multiplier of the KL's weight: it falls while the KL is too low.

    The multiplier of GECO (Rezende & Viola, 2018, https://arxiv.org/abs/1810.00597), here of a
    rate instead of a reconstruction, and at most 1, so that a larger KL than the target costs what
    it costs in the bound. ``kl`` and ``target`` are nats a step. Training steps it with each row of
    the curves, by the mean KL of that row.

    Example:
        >>> [round(steered(weight, kl, 2.0), 4) for weight, kl in ((0.5, 1.0), (0.5, 9.0), (1, 9))]
        [0.4756, 0.5526, 1.0]
    """
    excess = max(-1.0, min(1.0, kl / target - 1))
    return min(1.0, max(LEAST, weight * math.exp(STEER * excess)))
