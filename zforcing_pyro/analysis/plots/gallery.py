"""Tables of sequences: traversals, interpolations (as in Table 3 of
https://arxiv.org/abs/1711.05411), sequences with parts swapped."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ...data import Corpus
from .axes import axes_or_new, plain
from .sequences import draw_cell, sentences, sequences, value_limits

PITCH = 1.12  # distance from one cell to the next; a cell is 1 wide and high
HEIGHTS = {"image": 1.0, "pianoroll": 0.8, "audio": 0.5, "curve": 0.6}
"""Height of a cell over its width, by view."""


def walks(states: Sequence[Tensor], places: Sequence[int], corpus: Corpus) -> Axes:
    """Draws rows of walks after numbers of steps, and returns the last axes of the figure.

    Args:
        states: Rows, ``(points, len(places), x_dim)`` each: points of the plane, or images.
        places: Number of steps of each column.
        corpus: The data that the walks are among.
    """
    figure = Figure((1.5 * len(places), 1.5 * len(states) + 0.4), dpi=110, layout="constrained")
    panels = figure.subplots(len(states), len(places), squeeze=False)
    for row, of_row in zip(states, panels):
        for k, axes in enumerate(of_row):
            sequences(list(row[: 16 if corpus.view == "image" else None, k : k + 1]), corpus, axes)
            axes.set(xlabel="", ylabel="")
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
