"""Curves of training, and intervals."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from .axes import COLOURS, axes_or_new, plain, quiet_frame

NAMES = {"bound": "bound, training", "valid_bound": "bound, validation"}
NAMES |= {"kl": "KL, training", "valid_kl": "KL, validation", "critic_accuracy": "accuracy"}
NAMES |= {"critic_cost": "critic's cost - 2 log 2", "adversary": "adversarial cost - log 2"}


def training_curves(
    runs: Mapping[str, Sequence[Mapping[str, str]]],
    names: Sequence[str] = ("bound", "valid_bound"),
    step: str = "step",
    axes: Axes | None = None,
) -> Axes:
    """Draws columns of ``metrics.csv`` against updates; several runs have a colour each.

    The first twentieth of training does not set the scale, because bounds begin far below.
    ``runs`` holds the rows by the run's name; an empty text is no value.
    """
    axes, shown, several = axes_or_new(axes), [], len(runs) > 1
    for i, (run, rows) in enumerate(runs.items()):
        for j, name in enumerate(names):
            points = [(int(row["step"]), float(row[name])) for row in rows if row.get(name)]
            # A diverged run's larger values would overflow the scale of the axis.
            points = [(update, value) for update, value in points if abs(value) < 1e30]
            if not points:
                continue
            label = NAMES.get(name, name)
            axes.plot(
                *zip(*points),
                color=COLOURS[(i if several else j) % len(COLOURS)],
                linestyle="-" if j == len(names) - 1 else "--",
                linewidth=1.4,
                marker="o" if len(points) <= 40 else None,
                markersize=3,
                label=plain(f"{run}: {label}" if several else label),
            )
            begin = points[-1][0] / 20
            shown += [v for u, v in points if u >= begin or len(points) < 5]
    if not shown:
        raise ValueError(f"'runs' must have a column of {list(names)} with values, got none")
    low, high = min(shown), max(shown)
    margin = 0.05 * (high - low) or 0.1 * abs(high) or 1.0
    axes.set(ylim=(low - margin, high + margin), xlabel="updates", ylabel=f"nats per {plain(step)}")
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    return quiet_frame(axes, legend=True)


def curves_over_seeds(
    arms: Mapping[str, Sequence[Sequence[tuple[float, float]]]],
    label: str,
    axes: Axes | None = None,
) -> Axes:
    """Draws mean and range over seeds of each arm's curves; a curve ends with its shortest seed.

    A curve is pairs of an update and a value, which ``label`` names.
    """
    axes = axes_or_new(axes)
    for i, (name, curves) in enumerate(arms.items()):
        points = np.array([list(rows) for rows in zip(*curves)])  # (validation, seed, 2)
        updates, values, colour = points[:, 0, 0], points[..., 1], COLOURS[i % len(COLOURS)]
        axes.plot(updates, values.mean(1), color=colour, label=plain(name))
        low, high = values.min(1), values.max(1)
        axes.fill_between(updates, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.set(xlabel="updates", ylabel=label)
    return quiet_frame(axes, legend=True)


def intervals(
    differences: Mapping[str, tuple[float, float, float]], label: str, axes: Axes | None = None
) -> Axes:
    """Draws means with their intervals, ``(mean, low, high)``, by name, beside a line at 0."""
    axes = axes_or_new(axes)
    for place, (mean, low, high) in enumerate(differences.values()):
        axes.plot([low, high], [place, place], color=COLOURS[0], linewidth=2)
        axes.plot(mean, place, "o", color=COLOURS[0])
    axes.axvline(0, color="grey", linewidth=0.8)
    axes.set_yticks(range(len(differences)), [plain(name, 24) for name in differences])
    axes.set(xlabel=label, ylabel="configuration", ylim=(len(differences) - 0.4, -0.6))
    return quiet_frame(axes)
