"""Whether the posterior is to be trusted, in pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from .axes import BLUE, GREEN, GREY, ORANGE, VERMILION, axes_or_new, quiet_frame

if TYPE_CHECKING:
    from ..posterior import PredictiveCheck

GOOD, HIGH = 0.5, 0.7
"""Pareto k-hat: below the first importance weights have a variance, above the second an estimate
from them is not to be relied on."""


def pareto_k(k: ArrayLike, axes: Axes | None = None) -> Axes:
    """Pareto k-hat of each sequence's importance weights, by size, with the limits of trust.

    Args:
        k: ``(sequence,)``; minus infinity, of weights that do not vary, is drawn below the rest.
        axes: Where to draw; None is a new figure.
    """
    axes = axes_or_new(axes)
    k = np.sort(np.asarray(k, dtype=float))
    finite = k[np.isfinite(k)]
    floor = min(0.0, finite.min(initial=0.0)) - 0.1
    shown = np.where(np.isfinite(k), k, floor)
    place = (np.arange(len(k)) + 0.5) / len(k)
    for low, high, colour, marker, label in (
        (-np.inf, GOOD, GREEN, "o", f"good, below {GOOD:g}"),
        (GOOD, HIGH, ORANGE, "s", f"fair, below {HIGH:g}"),
        (HIGH, np.inf, VERMILION, "^", "not to be relied on"),
    ):
        chosen = (k >= low) & (k < high)
        label = f"{label}: {chosen.mean():.0%}"
        axes.plot(place[chosen], shown[chosen], marker, color=colour, ms=4, label=label)
    for limit in (GOOD, HIGH):
        axes.axhline(limit, color=GREY, linewidth=0.9, linestyle=":")
    axes.set(xlim=(0, 1), xlabel="share of sequences", ylabel="Pareto k-hat (no unit)")
    axes.legend(fontsize=8)
    quiet_frame(axes)
    return axes


def bound_against_particles(
    particles: Sequence[int],
    bounds: Sequence[float],
    errors: Sequence[float] | None = None,
    exact: float | None = None,
    axes: Axes | None = None,
) -> Axes:
    """The bound on log p(x) against the number K of particles, K = 1 being the ELBO.

    Args:
        particles: Numbers K.
        bounds: Mean bound over sequences, nats per sequence, ``(len(particles),)``.
        errors: Standard errors of the rise from K = 1, in nats per sequence.
        exact: log p(x), where it is known.
        axes: Where to draw; None is a new figure.
    """
    axes = axes_or_new(axes)
    axes.errorbar(particles, bounds, yerr=errors, color=BLUE, marker="o", ms=4, lw=1.4, capsize=2)
    if exact is not None:
        axes.axhline(exact, color=VERMILION, linestyle="--", label="log p(x)")
        axes.legend(fontsize=8)
    axes.set_xscale("log")
    axes.set_xticks(particles, particles, minor=False)
    axes.minorticks_off()
    axes.set(xlabel="particles K", ylabel="bound (nats per sequence)")
    quiet_frame(axes)
    return axes


def rank_histogram(
    counts: ArrayLike,
    band: tuple[float, float] | None = None,
    title: str = "",
    axes: Axes | None = None,
) -> Axes:
    """Ranks of what the model drew among the guide's draws; flat if the guide is the posterior.

    A hill is a guide that is too wide, a heap at both ends one that is too narrow, a slope one that
    is off to one side.

    Args:
        counts: Simulations in each of the bins, which are equally wide, ``(bin,)``.
        band: Where a bin is as a rule, if they are uniform, in simulations.
        title: What was ranked.
        axes: Where to draw; None is a new figure.
    """
    axes = axes_or_new(axes)
    counts = np.asarray(counts, dtype=float)
    width = 1 / len(counts)
    if band is not None:
        axes.axhspan(*band, color="0.86", label="if the guide is exact", zorder=0)
    axes.axhline(counts.mean(), color=GREY, linewidth=0.9, zorder=3)
    left = np.arange(len(counts)) * width
    axes.bar(left, counts, width=0.92 * width, align="edge", color=BLUE, alpha=0.85)
    axes.set(
        xlim=(0, 1),
        ylim=(0, 1.25 * max(counts.max(), band[1] if band is not None else 0.0)),
        xlabel="rank among the guide's draws (share)",
        ylabel="simulations",
        title=title,
    )
    if band is not None:
        axes.legend(fontsize=8, loc="upper right")
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def predictive_check(check: PredictiveCheck, axes: Axes | None = None) -> Axes:
    """A statistic of the data beside the same of what the model generates.

    A number is drawn as two histograms over sequences; a curve, such as an autocorrelation, as that
    of the data over the range of the replicates of the data as a whole.

    Args:
        check: From :func:`.posterior.predictive_checks`.
        axes: Where to draw; None is a new figure.
    """
    axes = axes_or_new(axes)
    label = f"{check.name} ({check.unit})" if check.unit else check.name
    if check.axis is None:
        kinds = [
            np.asarray(v, dtype=float) for v in (check.observed_values, check.replicated_values)
        ]
        kinds = [values[np.isfinite(values)] for values in kinds]
        both = np.concatenate(kinds) if any(map(len, kinds)) else np.zeros(1)
        low, high = both.min(), both.max()
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
        axes.set(xlabel=check.axis_label, ylabel=label)
    axes.legend(fontsize=8)
    quiet_frame(axes)
    return axes
