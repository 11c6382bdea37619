"""Sequences in rows and columns: traversals, interpolations, sequences with parts swapped."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from ...data import Corpus
from ...data.formats.waves import FULL_SCALE
from .axes import BLUE, COLOURS, axes_or_new
from .sequences import envelope

GAP = 0.12
"""Between two cells, of a cell."""


def gallery(
    rows: Sequence[Sequence[Tensor]],
    corpus: Corpus,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    axes: Axes | None = None,
) -> Axes:
    """A table of sequences, each as its corpus draws it: such as one latent at several values.

    Args:
        rows: Observations ``(time, x_dim)`` or ``(time,)``, by row and by column.
        corpus: Where they come from.
        row_labels, column_labels: What the rows and columns are.
        axes: Where to draw; None is a new figure.

    Raises:
        ValueError: If a row has not one sequence for each column, or labels are not as many.
    """
    if len(rows) != len(row_labels) or any(len(row) != len(column_labels) for row in rows):
        raise ValueError(
            f"'rows' must be {len(row_labels)} of {len(column_labels)} sequences, as their labels, "
            f"got {[len(row) for row in rows]}"
        )
    if corpus.view == "text":
        axes = axes_or_new(axes, (4.8, 0.4 + 0.32 * len(rows) * len(column_labels)))
        return table(rows, corpus, row_labels, column_labels, axes)
    tall = {"image": 1.0, "pianoroll": 0.8, "audio": 0.5, "curve": 0.6}[corpus.view]
    width = max(4.8, 0.62 * len(column_labels))
    height = 0.6 + len(rows) * tall * (width - 0.7) / len(column_labels)
    axes = axes_or_new(axes, (width, min(9.0, height)))
    peak = scale(rows, corpus)
    for i, row in enumerate(rows):
        for j, x in enumerate(row):
            left, bottom = j * (1 + GAP), -i * (1 + GAP)
            cell(axes, x, corpus, left, bottom, peak)
    for ticks, labels, sign in (
        (axes.set_xticks, column_labels, 1),
        (axes.set_yticks, row_labels, -1),
    ):
        ticks([0.5 + sign * k * (1 + GAP) for k in range(len(labels))], labels, fontsize=9)
    axes.set_xlim(-GAP, len(column_labels) * (1 + GAP))
    axes.set_ylim(-(len(rows) - 1) * (1 + GAP) - GAP, 1 + GAP)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if corpus.view == "image":
        axes.set_facecolor("0.6")  # neither black nor white, which are pictures' own
        height, width = corpus.image_shape
        axes.set_aspect(height / width)
    return axes


def scale(rows: Sequence[Sequence[Tensor]], corpus: Corpus) -> tuple[float, float]:
    """What stands at the bottom and at the top of a cell: the same in all of them."""
    everything = [x for row in rows for x in row]
    if corpus.view == "audio":
        peak = max(float(np.abs(corpus.samples(x)).max()) for x in everything) / FULL_SCALE or 1.0
        return -peak, peak
    if corpus.view == "pianoroll":
        used = np.flatnonzero(np.any([x.cpu().numpy().any(0) for x in everything], axis=0))
        return (float(used[0]), float(used[-1] + 1)) if len(used) else (0.0, 88.0)
    if corpus.view == "curve":
        values = [x.cpu().double() for x in everything]
        low = min(float(v[~v.isnan()].min()) for v in values)
        high = max(float(v[~v.isnan()].max()) for v in values)
        return low, high if high > low else low + 1
    return 0.0, 1.0


def cell(
    axes: Axes, x: Tensor, corpus: Corpus, left: float, bottom: float, peak: tuple[float, float]
) -> None:
    """One sequence in the square of one unit at ``left`` and ``bottom``."""
    low, high = peak
    if corpus.view in ("image", "pianoroll"):
        if corpus.view == "image":
            grid, colours = corpus.image(x).cpu().numpy()[::-1], "gray"
        else:
            grid, colours = x.cpu().numpy().T[int(low) : int(high)], "cividis"
        style = {"aspect": "auto", "origin": "lower", "interpolation": "nearest"}
        extent = (left, left + 1, bottom, bottom + 1)
        axes.imshow(grid, cmap=colours, vmin=0, vmax=1, extent=extent, **style)
        return
    if corpus.view == "audio":
        wave = corpus.samples(x) / FULL_SCALE
        places, heights = envelope(wave, max(1, len(wave) // 160))
        lines = [(places / len(wave), heights, BLUE)]
    else:
        values = x.cpu().numpy().reshape(len(x), -1)
        places = (np.arange(len(values)) + 0.5) / len(values)
        lines = [(places, v, COLOURS[i % len(COLOURS)]) for i, v in enumerate(values.T[:6])]
    for places, heights, colour in lines:
        heights = bottom + (heights - low) / (high - low)
        axes.plot(left + places, heights, color=colour, linewidth=0.7)


def table(
    rows: Sequence[Sequence[Tensor]],
    corpus: Corpus,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    axes: Axes,
) -> Axes:
    """Sentences one below the other, each with what its row and column are."""
    lines = []
    for name, row in zip(row_labels, rows):
        for column, x in zip(column_labels, row):
            sentence = corpus.as_text(x.cpu()).replace("\n", " ") or "(empty)"
            lines.append((f"{name} {column}", textwrap.shorten(sentence, 62, placeholder=" ...")))
    for i, (label, sentence) in enumerate(lines):
        style = {"size": 7.5, "va": "center", "parse_math": False, "in_layout": False}
        axes.text(0.0, -i, label, weight="bold", **style)
        axes.text(0.25, -i, sentence, **style)
        axes.axhline(-i - 0.5, color="0.85", linewidth=0.6)
    axes.set(xlim=(0, 1), ylim=(0.5 - len(lines), 0.5))
    axes.set_axis_off()
    return axes


def interpolation(
    rows: Sequence[Sequence[Tensor]],
    corpus: Corpus,
    row_labels: Sequence[str],
    alphas: Sequence[float],
    axes: Axes | None = None,
) -> Axes:
    """Sequences between two, as in Table 3 of https://arxiv.org/abs/1711.05411.

    Args:
        rows: By way of decoding, such as argmax and sampled, and by place between the two.
        corpus: Where they come from.
        row_labels: Ways of decoding.
        alphas: Places: 0 is the one sequence, 1 the other.
        axes: Where to draw; None is a new figure.
    """
    axes = gallery(rows, corpus, row_labels, [f"{alpha:g}" for alpha in alphas], axes)
    if corpus.view != "text":
        axes.set_xlabel("place between the two sequences (0: first, 1: second)", fontsize=9)
    return axes
