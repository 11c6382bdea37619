"""Curves of training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from .axes import COLOURS, axes_or_new, quiet_frame

NAMES = {
    "bound": "bound, training",
    "valid_bound": "bound, validation",
    "kl": "KL, training",
    "valid_kl": "KL, validation",
}


def training_curves(
    runs: Mapping[str, Sequence[Mapping[str, str]]],
    names: Sequence[str] = ("bound", "valid_bound"),
    step: str = "step",
    axes: Axes | None = None,
) -> Axes:
    """Columns of ``metrics.csv`` against updates; of several runs, a colour each.

    What is seldom written, such as validation, has a mark at each value. The first twentieth of
    training, where bounds are far below what comes, does not set the scale.

    Args:
        runs: The rows of each run's ``metrics.csv``, by its name; an empty text is no value.
        names: Columns, in nats per step.
        step: What a step is.
        axes: Where to draw; None is a new figure.

    Raises:
        ValueError: If no row has such a column.
    """
    axes = axes_or_new(axes)
    shown = []
    for i, (run, rows) in enumerate(runs.items()):
        for j, name in enumerate(names):
            points = [(int(row["step"]), float(row[name])) for row in rows if row.get(name)]
            points = [(update, value) for update, value in points if math.isfinite(value)]
            if not points:
                continue
            updates, values = zip(*points)
            several = len(runs) > 1
            axes.plot(
                updates,
                values,
                color=COLOURS[(i if several else j) % len(COLOURS)],
                linestyle="-" if j == len(names) - 1 else "--",
                linewidth=1.4,
                marker="o" if len(points) <= 40 else None,
                markersize=3,
                label=f"{run}: {NAMES.get(name, name)}" if several else NAMES.get(name, name),
            )
            begin = updates[-1] / 20
            shown += [v for u, v in points if u >= begin or len(points) < 5]
    if not shown:
        raise ValueError(f"'runs' must have a column of {list(names)} with values, got none")
    low, high = min(shown), max(shown)
    margin = 0.05 * (high - low) or 0.1 * abs(high) or 1.0
    axes.set(ylim=(low - margin, high + margin), xlabel="updates", ylabel=f"nats per {step}")
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.legend(fontsize=8)
    quiet_frame(axes)
    return axes
