"""Pictures; each function returns the matplotlib figure that it drew."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from .data import Corpus


def real_and_generated(corpus: Corpus, real: list[Tensor], generated: list[Tensor]) -> Figure:
    """Real sequences beside generated ones, drawn as the corpus says.

    Args:
        corpus: Where they come from.
        real, generated: Observations, each ``(time, x_dim)``.
    """
    draw = {"image": images, "pianoroll": pianorolls}[corpus.view]
    num_columns = 2
    figure = Figure(figsize=(9, 4.6), dpi=110, layout="constrained")
    for axes, title, sequences in zip(
        figure.subplots(1, num_columns), ("data (test)", "generated"), (real, generated)
    ):
        draw(axes, corpus, sequences)
        axes.set_title(f"{corpus.title}: {title}", fontsize=11)
    return figure


def images(axes: matplotlib.axes.Axes, corpus: Corpus, sequences: list[Tensor]) -> None:
    """A square grid of images with a line of background between them."""
    height, width = corpus.image_shape
    side = int(np.ceil(np.sqrt(len(sequences))))
    gap = max(1, width // 8)
    grid = np.full((side * (height + gap) + gap, side * (width + gap) + gap), 0.35)
    for i, x in enumerate(sequences):
        row, column = divmod(i, side)
        top, left = gap + row * (height + gap), gap + column * (width + gap)
        grid[top : top + height, left : left + width] = x.reshape(height, width).cpu()
    axes.imshow(grid, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()


def pianorolls(axes: matplotlib.axes.Axes, corpus: Corpus, sequences: list[Tensor]) -> None:
    """Rolls one after another, time to the right and pitch upwards."""
    rolls = [x.cpu().numpy().T for x in sequences[:3]]
    silence = np.full((rolls[0].shape[0], 2), np.nan)
    grid = np.concatenate([part for roll in rolls for part in (roll, silence)][:-1], axis=1)
    top, bottom = 21 + 87.5, 20.5
    axes.imshow(
        grid,
        cmap="cividis",
        aspect="auto",
        origin="lower",
        interpolation="nearest",
        extent=(0, grid.shape[1], bottom, top),
    )
    axes.set_xlabel(f"step ({corpus.step})")
    axes.set_ylabel("pitch (MIDI note)")
