"""What the latents mean, in pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import ArrayLike
from torch import Tensor

from ...data import Corpus
from ...data.formats.rolls import LOWEST
from ...data.formats.waves import FULL_SCALE
from .axes import BLUE, COLOURS, GREY, MARKERS, axes_or_new, quiet_frame
from .sequences import envelope

LOWEST_R2 = -0.5


def kl_heat_map(
    kl: ArrayLike, x: Tensor | None = None, corpus: Corpus | None = None, axes: Axes | None = None
) -> Axes:
    """KL(q || p) of one sequence by step and by dimension of z, with the sequence above it.

    Args:
        kl: In nats, ``(time, latent)``; NaN past the length.
        x: The sequence, ``(time, x_dim)`` or ``(time,)``; None draws none.
        corpus: Where it comes from.
        axes: Where to draw; None is a new figure.
    """
    axes = axes_or_new(axes, (4.8, 3.6))
    kl = np.asarray(kl, dtype=float)
    kl = kl[~np.isnan(kl).all(1)]
    image = axes.imshow(
        kl.T,
        cmap="cividis",
        vmin=0,
        aspect="auto",
        origin="lower",
        interpolation="nearest",
        extent=(0, len(kl), -0.5, kl.shape[1] - 0.5),
    )
    step = f"step ({corpus.step})" if corpus is not None else "step"
    axes.set(xlabel=step, ylabel="dimension of z")
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.figure.colorbar(image, ax=axes, label="KL (nats)", pad=0.01)
    if x is not None:
        strip = axes.inset_axes([0, 1.04, 1, 0.32])
        along_steps(x[: len(kl)], corpus, strip)
        strip.set_xlim(0, len(kl))
        strip.tick_params(labelbottom=False)
    return axes


def kl_image(kl: ArrayLike, x: Tensor, corpus: Corpus, axes: Axes | None = None) -> Axes:
    """An image beside the KL(q || p) at each of its pixels, where a step is a pixel.

    Args:
        kl: Of each step, in nats, ``(time,)``.
        x: The image as a sequence, ``(time, 1)``.
        corpus: Where it comes from.
        axes: Where to draw; None is a new figure.
    """
    axes = axes_or_new(axes, (4.8, 2.9))
    height, width = corpus.image_shape
    shown = corpus.image(x).cpu().numpy()
    nats = corpus.image(torch.as_tensor(np.asarray(kl, dtype=float))).numpy()
    style = {"origin": "upper", "interpolation": "nearest"}
    left, right = (0, width, height, 0), (1.15 * width, 2.15 * width, height, 0)
    axes.imshow(shown, cmap="gray", vmin=0, vmax=1, extent=left, **style)
    image = axes.imshow(nats, cmap="cividis", vmin=0, extent=right, **style)
    axes.set(xlim=(0, 2.15 * width), ylim=(height, 0), aspect="equal")
    axes.set_xticks([width / 2, 1.65 * width], ["image", "KL of its pixels"])
    axes.set_yticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.figure.colorbar(image, ax=axes, label="KL (nats)", pad=0.02)
    return axes


def along_steps(x: Tensor, corpus: Corpus, axes: Axes) -> None:
    """One sequence with its steps to the right, each one unit wide, to be seen beside another."""
    values = x.cpu().numpy()
    if corpus.view == "audio":
        wave = corpus.samples(x) / FULL_SCALE
        frame = len(wave) / len(x)
        places, heights = envelope(wave, max(1, len(wave) // 600))
        axes.plot(places / frame, heights, color=BLUE, linewidth=0.6)
        axes.set_ylabel("wave", fontsize=8)
    elif corpus.view == "text":
        # One sentence of the symbols before the last, so that a word stands at its own step.
        for t in range(min(len(x), 40)):
            word = corpus.as_text(x[t : t + 1]).strip() or "<eos>"
            style = {"rotation": 90, "size": 7, "ha": "center", "va": "bottom"}
            axes.text(t + 0.5, 0.02, word[:14], parse_math=False, **style)
        axes.set_axis_off()
    elif corpus.view == "curve":
        values = values.reshape(len(values), -1)[:, : len(COLOURS)]
        for i, column in enumerate(values.T):
            axes.plot(np.arange(len(column)) + 0.5, column, color=COLOURS[i], linewidth=1)
        axes.set_ylabel("x", fontsize=8)
    else:
        grid = values.reshape(len(values), -1).T
        low = 0
        if corpus.view == "pianoroll" and grid.any():
            used = np.flatnonzero(grid.any(1))
            low, grid = LOWEST + used[0], grid[used[0] : used[-1] + 1]
            axes.set_ylabel("pitch", fontsize=8)
        else:
            axes.set_yticks([])
            axes.set_ylabel("pixel" if len(grid) == 1 else "pixels", fontsize=8)
        colours = "gray" if corpus.view == "image" else "cividis"
        style = {"aspect": "auto", "origin": "lower", "interpolation": "nearest"}
        extent = (0, len(values), low - 0.5, low + len(grid) - 0.5)
        axes.imshow(grid, cmap=colours, vmin=0, vmax=1, extent=extent, **style)
    axes.tick_params(labelsize=7)


def kl_by_step(kl: ArrayLike, step: str = "step", axes: Axes | None = None) -> Axes:
    """Mean KL at each step, of the sequences that reach it.

    Args:
        kl: In nats, ``(time,)``, or ``(..., time)`` with NaN past the lengths, such as
            ``sample_stats.kl_per_step`` of an InferenceData, ``(chain, draw, sequence, time)``.
        step: What a step is.
        axes: Where to draw; None is a new figure.
    """
    axes = axes_or_new(axes)
    kl = np.asarray(kl, dtype=float)
    kl = kl.reshape(-1, kl.shape[-1])
    reached = ~np.isnan(kl).all(0)
    mean = np.nanmean(kl[:, reached], axis=0)
    axes.plot(np.flatnonzero(reached), mean, color=BLUE, linewidth=1.3)
    axes.set(ylim=(0, None), xlabel=f"step ({step})", ylabel="KL (nats per step)")
    quiet_frame(axes)
    return axes


def kl_by_latent(kl: ArrayLike, axes: Axes | None = None) -> Axes:
    """Mean KL of a step by dimension of z, largest first.

    Args:
        kl: In nats per step, ``(latent,)``.
        axes: Where to draw; None is a new figure.
    """
    axes = axes_or_new(axes)
    kl = np.asarray(kl, dtype=float)
    order = np.argsort(-kl)
    axes.bar(np.arange(len(kl)), kl[order], color=BLUE)
    if len(kl) <= 24:
        axes.set_xticks(np.arange(len(kl)), order, fontsize=8)
        axes.set_xlabel("dimension of z, largest first")
    else:
        axes.set_xlabel("dimensions of z, largest first")
    axes.set_ylabel("KL (nats per step)")
    quiet_frame(axes)
    return axes


def r2_by_horizon(
    horizons: Sequence[int], r2: Mapping[str, ArrayLike], axes: Axes | None = None
) -> Axes:
    """How much of a future frame is predicted, against how far ahead it is; 0 is its mean.

    What is far below, a failed regression, is cut off: it would hide the rest.

    Args:
        horizons: Steps ahead.
        r2: Share of the variance that is explained in held-out sequences, no unit, by what it is
            predicted from, such as "z": ``(len(horizons),)``.
        axes: Where to draw; None is a new figure.
    """
    axes = axes_or_new(axes)
    for i, (name, values) in enumerate(r2.items()):
        style = {"color": COLOURS[i], "marker": MARKERS[i], "ms": 4, "lw": 1.4}
        axes.plot(horizons, np.asarray(values, dtype=float), label=f"from {name}", **style)
    axes.axhline(0, color=GREY, linewidth=0.9, linestyle=":")
    axes.set_ylim(bottom=max(axes.get_ylim()[0], LOWEST_R2))
    axes.set(xlabel="steps ahead", ylabel="R² (share of variance)")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(fontsize=8)
    quiet_frame(axes)
    return axes


def trajectories(
    points: Sequence[ArrayLike],
    labels: Sequence[str] | None = None,
    explained: Sequence[float] | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Latents of sequences as paths in a plane; a ring is where a path begins.

    Args:
        points: Of each sequence, ``(time, 2)``; NaN past the length.
        labels: Of each sequence: those alike have a colour. None gives each its own.
        explained: Share of the variance along both axes, of principal components.
        axes: Where to draw; None is a new figure.
    """
    axes = axes_or_new(axes, (4.8, 4.0))
    known = list(dict.fromkeys(labels)) if labels is not None else []
    for i, path in enumerate(points):
        path = np.asarray(path, dtype=float)
        path = path[~np.isnan(path).any(1)]
        kind = known.index(labels[i]) if labels is not None else i
        colour, first = COLOURS[kind % len(COLOURS)], True
        if labels is not None:
            first = list(labels).index(labels[i]) == i
        label = str(labels[i]) if labels is not None and first else None
        axes.plot(*path.T, color=colour, lw=0.8, alpha=0.75, label=label)
        axes.plot(*path[0], "o", mfc="white", mec=colour, ms=5)
    names = ["first component", "second component"]
    if explained is not None:
        names = [f"{name} ({share:.0%} of variance)" for name, share in zip(names, explained)]
    axes.set(xlabel=names[0], ylabel=names[1])
    if labels is not None:
        axes.legend(fontsize=8)
    quiet_frame(axes)
    return axes
