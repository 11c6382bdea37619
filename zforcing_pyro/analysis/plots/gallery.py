"""Tables of sequences: traversals, interpolations, sequences with parts swapped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from ...data import Corpus
from ...data.formats.waves import FULL_SCALE
from .axes import COLOURS, axes_or_new, plain, show_grid
from .sequences import envelope

PITCH = 1.12
"""Distance from one cell to the next; a cell is 1 wide and high."""

HEIGHTS = {"image": 1.0, "pianoroll": 0.8, "audio": 0.5, "curve": 0.6}
"""Height of a cell over its width, by view."""


def gallery(
    rows: Sequence[Sequence[Tensor]],
    corpus: Corpus,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    axes: Axes | None = None,
) -> Axes:
    """Draws a table of sequences, such as decodings of one latent at several values.

    Args:
        rows: Observations ``(time, x_dim)`` or ``(time,)``, by row and by column.
        corpus: Data set that says how a sequence is drawn.
        row_labels, column_labels: Names of the rows and columns.
        axes: Where to draw; None is a new figure.

    Raises:
        ValueError: If the labels do not match the number of rows and columns.
    """
    if len(rows) != len(row_labels) or any(len(row) != len(column_labels) for row in rows):
        raise ValueError(
            f"'rows' must be {len(row_labels)} of {len(column_labels)} sequences, as their labels, "
            f"got {[len(row) for row in rows]}"
        )
    if corpus.view == "text":
        axes = axes_or_new(axes, (4.8, 0.4 + 0.32 * len(rows) * len(column_labels)))
        return sentence_table(rows, corpus, row_labels, column_labels, axes)
    width = max(4.8, 0.62 * len(column_labels))
    height = 0.6 + len(rows) * HEIGHTS[corpus.view] * (width - 0.7) / len(column_labels)
    axes = axes_or_new(axes, (width, min(9.0, height)))
    limits = value_limits([x for row in rows for x in row], corpus)
    for i, row in enumerate(rows):
        for j, x in enumerate(row):
            draw_cell(axes, x, corpus, j * PITCH, -i * PITCH, limits)
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


def value_limits(xs: Sequence[Tensor], corpus: Corpus) -> tuple[float, float]:
    """Returns the values at the bottom and top of every cell: amplitudes, keys or units."""
    if corpus.view == "audio":
        peak = max(float(np.abs(corpus.samples(x)).max()) for x in xs) / FULL_SCALE or 1.0
        return -peak, peak
    if corpus.view == "pianoroll":
        used = np.flatnonzero(np.any([x.cpu().numpy().any(0) for x in xs], axis=0))
        return (float(used[0]), float(used[-1] + 1)) if len(used) else (0.0, 88.0)
    if corpus.view == "curve":
        values = np.concatenate([x.cpu().double().numpy().reshape(-1) for x in xs])
        values = values[np.isfinite(values)]
        low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
        return float(low), float(high if high > low else low + 1)
    return 0.0, 1.0


def draw_cell(
    axes: Axes, x: Tensor, corpus: Corpus, x0: float, y0: float, limits: tuple[float, float]
) -> None:
    """Draws one sequence in the unit square whose lower left corner is ``(x0, y0)``."""
    low, high = limits
    if corpus.view in ("image", "pianoroll"):
        if corpus.view == "image":
            grid, cmap = corpus.image(x).cpu().numpy()[::-1], "gray"
        else:
            grid, cmap = x.cpu().numpy().T[int(low) : int(high)], "cividis"
        show_grid(axes, grid, (x0, x0 + 1, y0, y0 + 1), cmap, vmax=1)
        return
    if corpus.view == "audio":
        wave = corpus.samples(x) / FULL_SCALE
        places, heights = envelope(wave, max(1, len(wave) // 160))
        lines = [(places / len(wave), heights)]
    else:
        values = x.cpu().numpy().reshape(len(x), -1)
        lines = [((np.arange(len(x)) + 0.5) / len(x), column) for column in values.T[:6]]
    for (places, heights), colour in zip(lines, COLOURS):
        axes.plot(x0 + places, y0 + (heights - low) / (high - low), color=colour, linewidth=0.7)


def sentence_table(
    rows: Sequence[Sequence[Tensor]],
    corpus: Corpus,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    axes: Axes,
) -> Axes:
    """Draws sentences one below the other, each after the names of its row and column."""
    cells = [(f"{a} {b}", x) for a, xs in zip(row_labels, rows) for b, x in zip(column_labels, xs)]
    for i, (label, x) in enumerate(cells):
        sentence = corpus.as_text(x.cpu()) or "(empty)"
        style = {"size": 7.5, "va": "center", "in_layout": False}
        axes.text(0.0, -i, plain(label), weight="bold", **style)
        axes.text(0.25, -i, plain(" ".join(sentence.split()), 62), **style)
        axes.axhline(-i - 0.5, color="0.85", linewidth=0.6)
    axes.set(xlim=(0, 1), ylim=(0.5 - len(cells), 0.5))
    axes.set_axis_off()
    return axes


def interpolation(
    rows: Sequence[Sequence[Tensor]],
    corpus: Corpus,
    row_labels: Sequence[str],
    alphas: Sequence[float],
    axes: Axes | None = None,
) -> Axes:
    """Draws sequences between two, as in Table 3 of https://arxiv.org/abs/1711.05411.

    Args:
        rows: Sequences by way of decoding, such as argmax and sampled, and by place.
        corpus: Data set that says how a sequence is drawn.
        row_labels: Ways of decoding.
        alphas: Places between the two sequences: 0 is the first, 1 the second.
        axes: Where to draw; None is a new figure.
    """
    axes = gallery(rows, corpus, row_labels, [f"{alpha:g}" for alpha in alphas], axes)
    if corpus.view != "text":
        axes.set_xlabel("place between the two sequences (0: first, 1: second)", fontsize=9)
    return axes
