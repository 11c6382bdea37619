"""Points in the plane, made by seed, with their exact density where it is known."""

import math
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Normal

from ..checks import check_choice
from ..corpus import Floor
from ..formats.floors import normal_floor
from ..sequences import Sequences
from .memory import Made, uniform

Kind = Literal["circle", "spiral", "rings", "mixture"]
RADII = {"circle": (1.0,), "rings": (0.5, 1.0)}
NOISE = {"circle": 0.02, "rings": 0.02, "spiral": 0.01, "mixture": 0.1}
NUM_MODES = 8


class Points(Made):
    """Points in the plane, each a sequence of one step.

    - ``circle``: angle uniform, radius 1 with deviation 0.02; ``rings``: radius 0.5 or 1.
    - ``spiral``: radius (2 u + 1) / 3 at the angle 2 pi u, with noise of deviation 0.01.
    - ``mixture``: eight Gaussians of deviation 0.1, evenly on the circle of radius 1.

    Args:
        kind: One of these.
    """

    title = "points"
    emission = "gaussian"
    x_dim = 2
    step = "point"
    view = "points"
    columns = ["x", "y"]

    def __init__(self, kind: Kind = "circle", **options: Any):
        super().__init__(**options)
        check_choice(Kind, kind=kind)
        self.kind, self.version = kind, f"{kind}, seed {self.seed}"

    def load(self, split: str) -> Sequences:
        num, stream = self.stream(split)
        u, choice = uniform(stream, num), uniform(stream, num)
        noise, angle = NOISE[self.kind] * normal(stream, num), 2 * math.pi * u
        if self.kind in RADII:
            radii = torch.tensor(RADII[self.kind])
            radius, noise = radii[(len(radii) * choice).long()] + noise[:, 0], 0 * noise
        elif self.kind == "mixture":
            angle, radius = angle.new_tensor(self.angles)[(NUM_MODES * choice).long()], 1.0
        else:
            radius = (2 * u + 1) / 3
        x = torch.stack([radius * angle.cos(), radius * angle.sin()], 1) + noise
        return Sequences.of(x, torch.ones(num, dtype=torch.int64))

    @property
    def angles(self) -> list[float]:
        """Angles of the Gaussians of ``mixture``."""
        return [2 * math.pi * k / NUM_MODES for k in range(NUM_MODES)]

    def log_prob(self, x: Tensor) -> Tensor | None:
        """Returns log p(x) in nats, ``(...)``, of points ``(..., 2)``; None for ``spiral``.

        A radius below 0, which the formula of ``circle`` and ``rings`` leaves out, is 25 deviations
        away.
        """
        scale = NOISE[self.kind]
        if self.kind in RADII:
            radius = x.norm(dim=-1)
            parts = [Normal(r, scale).log_prob(radius) for r in RADII[self.kind]]
            return torch.stack(parts).logsumexp(0) - (2 * math.pi * len(parts) * radius).log()
        if self.kind == "mixture":
            angles = x.new_tensor(self.angles)
            means = torch.stack([angles.cos(), angles.sin()], -1)
            parts = Normal(means, scale).log_prob(x[..., None, :]).sum(-1)
            return parts.logsumexp(-1) - math.log(NUM_MODES)
        return None

    def floor(self) -> Floor:
        train = torch.cat([x for x, *_ in self.split("train")]).double()
        return normal_floor(self.split("test"), train.mean(0), train.std(0), "coordinates")


def normal(stream: np.random.PCG64, num: int) -> Tensor:
    """Returns pairs of standard normal numbers, ``(num, 2)``, by the method of Box and Muller."""
    u, v = uniform(stream, 2, num)
    radius, angle = (-2 * (1 - u).log()).sqrt(), 2 * math.pi * v
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
