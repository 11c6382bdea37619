"""Figures on the meaning of latents: KL, prediction of the future, paths, tables of sequences."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from torch import Tensor

from ...data import Corpus
from .axes import BLUE, COLOURS, GREY, MARKERS, axes_or_new, plain, quiet_frame, show_grid
from .sequences import draw_cell, sentences, sequences, value_limits


def kl_heat_map(
    kl: ArrayLike, x: Tensor | None = None, corpus: Corpus | None = None, axes: Axes | None = None
) -> Axes:
    """Draws KL(q || p) of one sequence by step and dimension of z, below the sequence x.

    ``kl`` is in nats, ``(time, latent)``, NaN past the length; ``x`` is ``(time, ...)`` or None.
    """
    axes = axes_or_new(axes, (4.8, 3.6))
    kl = np.asarray(kl, dtype=float)
    kl = kl[~np.isnan(kl).all(1)]
    image = show_grid(axes, kl.T, (0, len(kl), -0.5, kl.shape[1] - 0.5))
    step = f"step ({corpus.step})" if corpus is not None else "step"
    axes.set(xlabel=step, ylabel="dimension of z")
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.figure.colorbar(image, ax=axes, label="KL (nats)", pad=0.01)
    if x is not None:
        draw_along_steps(x[: len(kl)], corpus, axes.inset_axes([0, 1.04, 1, 0.32]))
    return axes


def draw_along_steps(x: Tensor, corpus: Corpus, axes: Axes) -> None:
    """Draws one sequence with its steps to the right, from 0 to 1: the frame of images a column."""
    if corpus.view == "text":
        for t in range(min(len(x), 40)):
            word = corpus.as_text(x[t : t + 1]).strip() or "<eos>"
            style = {"rotation": 90, "size": 7, "ha": "center", "va": "bottom"}
            axes.text((t + 0.5) / len(x), 0.02, plain(word, 14), **style)
    elif corpus.view == "image":
        show_grid(axes, x.cpu().numpy().reshape(len(x), -1).T, (0, 1, 0, 1), "gray", vmax=1)
    else:
        draw_cell(axes, x, corpus, value_limits([x], corpus))
    axes.set_xlim(0, 1)
    axes.set_axis_off()


def kl_image(kl: ArrayLike, x: Tensor, corpus: Corpus, axes: Axes | None = None) -> Axes:
    """Draws an image of one pixel a step, ``(time, 1)``, beside its KL in nats, ``(time,)``."""
    axes = axes_or_new(axes, (4.8, 2.9))
    height, width = corpus.image_shape
    pixels = corpus.image(x).cpu().numpy()
    nats = corpus.image(torch.as_tensor(np.asarray(kl, dtype=float))).numpy()
    show_grid(axes, pixels[::-1], (0, width, 0, height), "gray", vmax=1)
    image = show_grid(axes, nats[::-1], (1.15 * width, 2.15 * width, 0, height))
    axes.set(xlim=(0, 2.15 * width), ylim=(0, height), aspect="equal", yticks=[])
    axes.set_xticks([width / 2, 1.65 * width], ["image", "KL of its pixels"])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.figure.colorbar(image, ax=axes, label="KL (nats)", pad=0.02)
    return axes


def attention_map(
    weights: ArrayLike, k_att: int, step: str = "step", axes: Axes | None = None
) -> Axes:
    """Draws how much each step of a sequence reads of each memory, at the step that wrote it.

    Args:
        weights: Of :meth:`.SAB.attention`, ``(time, memories)``.
        k_att: Steps between memories.
        step: Name of a step.
    """
    axes = axes_or_new(axes, (4.8, 3.6))
    weights = np.asarray(weights, dtype=float)
    first, last = -0.5 - k_att / 2, (len(weights[0]) - 0.5) * k_att - 0.5
    image = show_grid(axes, weights.T, (-0.5, len(weights) - 0.5, first, last), vmax=1)
    axes.set(xlabel=f"reading {step}", ylabel=f"memory, by the {step} that wrote it")
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.figure.colorbar(image, ax=axes, label="weight", pad=0.01)
    return axes


def kl_by_step(kl: ArrayLike, step: str = "step", axes: Axes | None = None) -> Axes:
    """Draws the mean KL at each step, in nats, ``(..., time)``, NaN past the lengths."""
    axes = axes_or_new(axes)
    kl = np.asarray(kl, dtype=float)
    kl = kl.reshape(-1, kl.shape[-1])
    reached = ~np.isnan(kl).all(0)
    mean = np.nanmean(kl[:, reached], axis=0)
    axes.plot(np.flatnonzero(reached), mean, color=BLUE, linewidth=1.3)
    axes.set(ylim=(0, None), xlabel=f"step ({step})", ylabel="KL (nats per step)")
    return quiet_frame(axes)


def kl_by_latent(kl: ArrayLike, axes: Axes | None = None) -> Axes:
    """Draws the mean KL by dimension of z, largest first; nats per step, ``(latent,)``."""
    axes = axes_or_new(axes)
    kl = np.asarray(kl, dtype=float)
    order, places = np.argsort(-kl), np.arange(len(kl))
    axes.bar(places, kl[order], color=BLUE)
    if len(kl) <= 24:
        axes.set_xticks(places, order, fontsize=8)
    axes.set(xlabel="dimension of z, largest first", ylabel="KL (nats per step)")
    return quiet_frame(axes)


def r2_by_horizon(
    horizons: Sequence[int], r2: Mapping[str, ArrayLike], axes: Axes | None = None
) -> Axes:
    """Draws the explained share of a future frame's variance, by source, against the steps ahead.

    The axis ends at -0.5, because one failed regression would hide the rest.
    """
    axes = axes_or_new(axes)
    for (name, values), colour, marker in zip(r2.items(), COLOURS, MARKERS):
        style = {"color": colour, "marker": marker, "ms": 4, "lw": 1.4}
        label = plain(f"from {name}")
        axes.plot(horizons, np.asarray(values, dtype=float), label=label, **style)
    axes.axhline(0, color=GREY, linewidth=0.9, linestyle=":")
    axes.set_ylim(bottom=max(axes.get_ylim()[0], -0.5))
    axes.set(xlabel="steps ahead", ylabel="R² (share of variance)")
    axes.xaxis.get_major_locator().set_params(integer=True)
    return quiet_frame(axes, legend=True)


def trajectories(
    points: Sequence[ArrayLike],
    labels: Sequence[str] | None = None,
    explained: Sequence[float] | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Draws latents of sequences as paths ``(time, 2)`` in a plane; a ring marks a beginning.

    Paths of equal labels share a colour; ``explained`` is the share of the variance along each
    axis.
    """
    axes = axes_or_new(axes, (4.8, 4.0))
    kinds = list(labels) if labels is not None else list(range(len(points)))
    order = list(dict.fromkeys(kinds))
    for i, (path, kind) in enumerate(zip(points, kinds)):
        path = np.asarray(path, dtype=float)
        path = path[~np.isnan(path).any(1)]
        colour = COLOURS[order.index(kind) % len(COLOURS)]
        label = plain(kind) if labels is not None and kinds.index(kind) == i else None
        axes.plot(*path.T, color=colour, lw=0.8, alpha=0.75, label=label)
        axes.plot(*path[0], "o", mfc="white", mec=colour, ms=5)
    names = ["first component", "second component"]
    if explained is not None:
        names = [f"{name} ({share:.0%} of variance)" for name, share in zip(names, explained)]
    axes.set(xlabel=names[0], ylabel=names[1])
    axes.locator_params(nbins=6)
    return quiet_frame(axes, legend=labels is not None)


PITCH = 1.12  # distance from one cell to the next; a cell is 1 wide and high
HEIGHTS = {"image": 1.0, "pianoroll": 0.8, "audio": 0.5, "curve": 0.6}
"""Height of a cell over its width, by view."""


def walks(states: dict[str, Tensor], places: Sequence[int], corpus: Corpus) -> Axes:
    """Draws rows of walks after numbers of steps, and returns the last axes of the figure.

    Args:
        states: Rows by label, ``(points, len(places), x_dim)``: points of the plane, or images.
        places: Number of steps of each column.
        corpus: The data that the walks are among.
    """
    figure = Figure((1.5 * len(places), 1.5 * len(states) + 0.4), dpi=110, layout="compressed")
    panels = figure.subplots(len(states), len(places), squeeze=False)
    for (label, row), of_row in zip(states.items(), panels):
        for k, axes in enumerate(of_row):
            sequences(list(row[: 16 if corpus.view == "image" else None, k : k + 1]), corpus, axes)
            axes.set(xlabel="", ylabel=label if k == 0 else "")
            axes.label_outer()
    for place, axes in zip(places, panels[0]):
        axes.set_title(f"{place} steps", fontsize=9)
    return axes


def gallery(
    rows: Sequence[Sequence[Tensor]],
    corpus: Corpus,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    axes: Axes | None = None,
) -> Axes:
    """Draws a table of sequences, each ``(time, x_dim)`` or ``(time,)``, by row and by column."""
    if len(rows) != len(row_labels) or any(len(row) != len(column_labels) for row in rows):
        raise ValueError(
            f"'rows' must be {len(row_labels)} of {len(column_labels)} sequences, as their labels, "
            f"got {[len(row) for row in rows]}"
        )
    if corpus.view == "text":
        labels = [f"{a} {b}: " for a in row_labels for b in column_labels]
        return sentences([x for row in rows for x in row], corpus, axes, labels)
    width = max(4.8, 0.62 * len(column_labels))
    height = 0.6 + len(rows) * HEIGHTS[corpus.view] * (width - 0.7) / len(column_labels)
    axes = axes_or_new(axes, (width, min(9.0, height)))
    limits = value_limits([x for row in rows for x in row], corpus)
    for i, row in enumerate(rows):
        for j, x in enumerate(row):
            draw_cell(axes, x, corpus, limits, j * PITCH, -i * PITCH)
    columns, lines = (PITCH * np.arange(len(labels)) for labels in (column_labels, row_labels))
    axes.set_xticks(0.5 + columns, map(plain, column_labels), fontsize=9)
    axes.set_yticks(0.5 - lines, map(plain, row_labels), fontsize=9)
    gap = PITCH - 1
    axes.set(xlim=(-gap, len(columns) * PITCH), ylim=(-lines[-1] - gap, PITCH))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if corpus.view == "image":
        axes.set_facecolor("0.6")  # images are black and white
        height, width = corpus.image_shape
        axes.set_aspect(height / width)
    return axes
