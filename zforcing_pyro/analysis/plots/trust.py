"""Figures on the trust in a posterior: importance weights, calibration, predictive checks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from ..arviz_adapter import HIGH
from .axes import BLUE, GREEN, GREY, ORANGE, VERMILION, axes_or_new, plain, quiet_frame

GOOD = 0.5
"""Pareto k-hat below which importance weights have a variance."""


def pareto_k(k: ArrayLike, axes: Axes | None = None) -> Axes:
    """Draws the sorted Pareto k-hat of each sequence's importance weights, with counts.

    Minus infinity (weights do not vary) is below the rest; infinity and NaN (no fit) are above it.
    """
    axes = axes_or_new(axes)
    k = np.sort(np.asarray(k, dtype=float))
    finite = k[np.isfinite(k)]
    low, high = finite.min(initial=0.0) - 0.1, finite.max(initial=HIGH) + 0.2
    heights = np.nan_to_num(k, nan=high, posinf=high, neginf=low)
    places = (np.arange(len(k)) + 0.5) / max(1, len(k))
    good, unreliable = k < GOOD, ~(k <= HIGH)
    for chosen, colour, marker, label in (
        (good, GREEN, "o", f"good, below {GOOD:g}"),
        (~good & ~unreliable, ORANGE, "s", f"fair, up to {HIGH:g}"),
        (unreliable, VERMILION, "^", "not to be relied on"),
    ):
        label = f"{label}: {chosen.sum()} of {len(k)}"
        axes.plot(places[chosen], heights[chosen], marker, color=colour, ms=4, label=label)
    for limit in (GOOD, HIGH):
        axes.axhline(limit, color=GREY, linewidth=0.9, linestyle=":")
    if not np.isfinite(k[unreliable]).all():
        axes.text(0.01, high, "infinite", size=8, va="center", color=VERMILION)
    axes.set(xlim=(0, 1), xlabel="share of sequences", ylabel="Pareto k-hat (no unit)")
    return quiet_frame(axes, legend=True)


def bound_against_particles(
    particles: Sequence[int],
    bounds: Sequence[float],
    errors: Sequence[float] | None = None,
    exact: float | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Draws the bound on log p(x) in nats per sequence against the number K of particles."""
    axes = axes_or_new(axes)
    axes.errorbar(particles, bounds, yerr=errors, color=BLUE, marker="o", ms=4, lw=1.4, capsize=2)
    if exact is not None:
        axes.axhline(exact, color=VERMILION, linestyle="--", label="log p(x)")
    axes.set_xscale("log")
    axes.set_xticks(particles, particles, minor=False)
    axes.minorticks_off()
    axes.set(xlabel="particles K", ylabel="bound (nats per sequence)")
    return quiet_frame(axes, legend=exact is not None)


def rank_histogram(
    counts: ArrayLike,
    band: tuple[float, float] | None = None,
    title: str = "",
    axes: Axes | None = None,
) -> Axes:
    """Draws the ranks of the model's draws among the guide's; flat if the guide is exact.

    A hill shows a guide that is too wide, a U one that is too narrow, a slope one that is shifted.
    ``band`` is the interval in which the counts of bins usually lie if ranks are uniform.
    """
    axes = axes_or_new(axes)
    counts = np.asarray(counts, dtype=float)
    width, top = 1 / len(counts), counts.max()
    if band is not None:
        axes.axhspan(*band, color="0.86", label="if the guide is exact", zorder=0)
        axes.legend(fontsize=8, loc="upper right")
        top = max(top, band[1])
    axes.axhline(counts.mean(), color=GREY, linewidth=0.9, zorder=3)
    edges = np.arange(len(counts)) * width
    axes.bar(edges, counts, width=0.92 * width, align="edge", color=BLUE, alpha=0.85)
    axes.set(xlim=(0, 1), ylim=(0, 1.25 * top), ylabel="simulations", title=plain(title))
    axes.set_xlabel("rank among the guide's draws (share)")
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def predictive_check(check: Any, axes: Axes | None = None) -> Axes:
    """Draws a :class:`.PredictiveCheck`: a statistic of the data beside that of generated data.

    A number becomes two histograms over sequences; a curve is drawn over the replicates' range.
    """
    axes = axes_or_new(axes)
    label = plain(f"{check.name} ({check.unit})" if check.unit else check.name)
    if check.axis is None:
        both = (check.observed_values, check.replicated_values)
        kinds = [values[np.isfinite(values)] for values in both]
        shown = np.concatenate([*kinds, [] if any(map(len, kinds)) else [0.0]])
        low, high = shown.min(), shown.max()
        edges = np.linspace(low, high if high > low else low + 1, 17)
        looks = (("data", BLUE, "-"), ("generated", VERMILION, "--"))
        for (kind, colour, line), values in zip(looks, kinds):
            weights = np.full(len(values), 1 / max(1, len(values)))
            style = {"histtype": "step", "color": colour, "linestyle": line, "linewidth": 1.6}
            axes.hist(values, edges, weights=weights, label=kind, **style)
        axes.set(xlabel=label, ylabel="share of sequences")
    else:
        low, high = check.replicated.min(0), check.replicated.max(0)
        many = f"generated, {len(check.replicated)} times"
        axes.fill_between(check.axis, low, high, color=VERMILION, alpha=0.35, lw=0, label=many)
        axes.plot(check.axis, check.observed, color=BLUE, linewidth=1.6, label="data")
        axes.set(xlabel=plain(check.axis_label), ylabel=label)
    return quiet_frame(axes, legend=True)
