"""Sequences as people know them: pictures, piano-rolls, waves, spectrograms, sentences, curves."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ...data import Corpus
from ...data.formats.rolls import LOWEST
from ...data.formats.waves import FULL_SCALE
from .axes import BLUE, COLOURS, axes_or_new


def sequences(xs: Sequence[Tensor], corpus: Corpus, axes: Axes | None = None) -> Axes:
    """Sequences drawn as the corpus says, by the function of its ``view``.

    Args:
        xs: Observations as a model sees them, each ``(time, x_dim)`` or ``(time,)``.
        corpus: Where they come from.
        axes: Where to draw; None is a new figure.
    """
    draw = {
        "image": images,
        "pianoroll": pianorolls,
        "audio": waveforms,
        "text": sentences,
        "curve": curves,
    }[corpus.view]
    return draw(xs, corpus, axes)


def real_and_generated(corpus: Corpus, real: list[Tensor], generated: list[Tensor]) -> Figure:
    """Real sequences beside generated ones, drawn as the corpus says.

    Args:
        corpus: Where they come from.
        real, generated: Observations, each ``(time, x_dim)``.
    """
    figure = Figure(figsize=(9, 4.6), dpi=110, layout="constrained")
    for axes, title, xs in zip(
        figure.subplots(1, 2), ("data (test)", "generated"), (real, generated)
    ):
        sequences(xs, corpus, axes)
        axes.set_title(f"{corpus.title}: {title}", fontsize=11)
    return figure


def images(xs: Sequence[Tensor], corpus: Corpus, axes: Axes | None = None) -> Axes:
    """A square grid of images with a line of background between them."""
    axes = axes_or_new(axes, (4.2, 4.2))
    height, width = corpus.image_shape
    side = int(np.ceil(np.sqrt(len(xs))))
    gap = max(1, width // 8)
    grid = np.full((side * (height + gap) + gap, side * (width + gap) + gap), 0.35)
    for i, x in enumerate(xs):
        row, column = divmod(i, side)
        top, left = gap + row * (height + gap), gap + column * (width + gap)
        grid[top : top + height, left : left + width] = corpus.image(x).cpu()
    axes.imshow(grid, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()
    return axes


def pianorolls(xs: Sequence[Tensor], corpus: Corpus, axes: Axes | None = None) -> Axes:
    """Up to three rolls one after another, time to the right and pitch upwards."""
    axes = axes_or_new(axes)
    rolls = [x.cpu().numpy().T for x in xs[:3]]
    silence = np.full((rolls[0].shape[0], 2), np.nan)
    grid = np.concatenate([part for roll in rolls for part in (roll, silence)][:-1], axis=1)
    low, high = LOWEST - 0.5, LOWEST - 0.5 + len(grid)
    axes.imshow(
        grid,
        cmap="cividis",
        vmin=0,
        vmax=1,
        aspect="auto",
        origin="lower",
        interpolation="nearest",
        extent=(0, grid.shape[1], low, high),
    )
    axes.set_xlabel(f"step ({corpus.step})")
    axes.set_ylabel("pitch (MIDI note)")
    return axes


def envelope(wave: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A line through every ``width`` samples, from the least to the largest of them.

    It is what a line through all samples would show, with no more points than pixels.

    Args:
        wave: ``(samples,)``.
        width: Samples of a column.

    Returns:
        Where, in samples, and how high: ``(2 ceil(samples / width),)`` each.
    """
    columns = np.pad(wave, (0, -len(wave) % width), mode="edge").reshape(-1, width)
    places = (np.arange(len(columns)) + 0.5) * width
    return places.repeat(2), np.stack([columns.min(1), columns.max(1)], axis=1).reshape(-1)


def waveforms(xs: Sequence[Tensor], corpus: Corpus, axes: Axes | None = None) -> Axes:
    """Up to five waves one below the other; all of a panel have one scale."""
    axes = axes_or_new(axes)
    waves = [corpus.samples(x) / FULL_SCALE for x in xs[:5]]
    longest = max(map(len, waves))
    peak = max(np.abs(wave).max() for wave in waves) or 1.0
    for i, wave in enumerate(waves):
        places, heights = envelope(wave, max(1, longest // 800))
        axes.plot(
            places / corpus.sample_rate, heights / (2.2 * peak) - i, linewidth=0.6, color=BLUE
        )
    axes.set_xlim(0, longest / corpus.sample_rate)
    axes.set_ylim(0.5 - len(waves), 0.5)
    axes.set_yticks([-i for i in range(len(waves))], range(1, len(waves) + 1))
    axes.set_xlabel("time (s)")
    axes.set_ylabel(f"recording (peak {peak:.2g} of full scale)")
    return axes


def spectrogram(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    """Power by frequency and time, in decibels of full scale, at least -100.

    Hann windows of 32 ms, every 8 ms; a wave shorter than one is followed by silence.

    Args:
        wave: Samples in -1..1, ``(samples,)``.
        sample_rate: Samples a second.

    Returns:
        ``(frequencies, windows)``, from 0 to half the sample rate.
    """
    size, hop = max(8, round(0.032 * sample_rate)), max(1, round(0.008 * sample_rate))
    wave = np.pad(wave, (0, max(0, size - len(wave))))
    windows = np.lib.stride_tricks.sliding_window_view(wave, size)[::hop] * np.hanning(size)
    power = np.square(np.abs(np.fft.rfft(windows, axis=1)) * 4 / size)
    return 10 * np.log10(np.maximum(power, 1e-10)).T


def spectrograms(xs: Sequence[Tensor], corpus: Corpus, axes: Axes | None = None) -> Axes:
    """Up to three recordings one after another: the spectrogram, and the waveform above it."""
    axes = axes_or_new(axes, (4.8, 3.6))
    waves = [corpus.samples(x) / FULL_SCALE for x in xs[:3]]
    levels = [spectrogram(wave, corpus.sample_rate) for wave in waves]
    high = max(level.max() for level in levels)
    peak = max(np.abs(wave).max() for wave in waves) or 1.0
    strip = axes.inset_axes([0, 1.05, 1, 0.4])
    begin, highest = 0.0, corpus.sample_rate / 2000
    for wave, level in zip(waves, levels):
        image = axes.imshow(
            level,
            cmap="cividis",
            vmin=high - 70,
            vmax=high,
            aspect="auto",
            origin="lower",
            interpolation="nearest",
            # A window stands where its middle is.
            extent=(begin + 0.012, begin + 0.012 + 0.008 * level.shape[1], 0, highest),
        )
        places, heights = envelope(wave, max(1, sum(map(len, waves)) // 800))
        seconds = begin + places / corpus.sample_rate
        strip.plot(seconds, heights / peak, linewidth=0.6, color=BLUE)
        begin += max(len(wave) / corpus.sample_rate, 0.024 + 0.008 * level.shape[1]) + 0.05
    axes.set(xlim=(0, begin - 0.05), ylim=(0, highest))
    strip.set(xlim=axes.get_xlim())
    axes.set(xlabel="time (s)", ylabel="frequency (kHz)")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.figure.colorbar(image, ax=axes, label="dB of full scale", pad=0.01)
    strip.tick_params(labelbottom=False)
    strip.set(ylim=(-1.05, 1.05), yticks=[], ylabel="wave")
    return axes


def sentences(xs: Sequence[Tensor], corpus: Corpus, axes: Axes | None = None) -> Axes:
    """A table of sentences, as many as there is room for; the rest of a long one is cut off."""
    axes = axes_or_new(axes, (4.8, 4.6))
    num_lines, line = 25, 0
    for x in xs:
        sentence = corpus.as_text(x.cpu()) or "(empty)"
        lines = textwrap.wrap(sentence, 68, max_lines=3, placeholder=" ...")
        if line + len(lines) > num_lines:
            break
        top = 1 - line / num_lines
        # Dollars are no formulas, and a wide line does not narrow the table.
        style = {"size": 7.5, "va": "top", "parse_math": False, "in_layout": False}
        axes.text(0.01, top - 0.008, "\n".join(lines), **style)
        axes.axhline(top, color="0.8", linewidth=0.6)
        line += len(lines)
    axes.set(xlim=(0, 1), ylim=(0, 1.005))
    axes.set_axis_off()
    return axes


def curves(xs: Sequence[Tensor], corpus: Corpus, axes: Axes | None = None) -> Axes:
    """Up to three sequences one after another, a line a column.

    Panels of one figure have the scale of its first. A single column is in its own units; several
    are as a model sees them, to fit one scale.
    """
    axes = axes_or_new(axes)
    names = corpus.columns[:6]
    single = len(corpus.columns) == 1
    begin, edges = 0, []
    for x in xs[:3]:
        values = (corpus.values(x) if single else x).cpu().numpy().reshape(len(x), -1)
        steps = np.arange(begin, begin + len(x))
        marker = "." if len(x) == 1 else None
        style = "default" if corpus.emission == "gaussian" else "steps-mid"
        for i, name in enumerate(names):
            look = {"color": COLOURS[i], "label": None if edges else name, "lw": 1}
            axes.plot(steps, values[:, i], marker=marker, drawstyle=style, **look)
        begin += len(x) + max(1, len(x) // 20)
        edges.append(begin - max(1, len(x) // 20) / 2)
    for edge in edges[:-1]:
        axes.axvline(edge, color="0.7", linewidth=0.8, linestyle=":")
    if (left := axes.figure.axes[0]) is not axes:
        axes.sharey(left)
    axes.autoscale_view()
    unit = f"{names[0]}" if single else "value, as a model sees it"
    axes.set(xlabel=f"time ({corpus.step}s, sequences one after another)", ylabel=unit)
    if not single:
        rest = len(corpus.columns) - len(names)
        title = f"and {rest} more" if rest else None
        axes.legend(fontsize=8, title=title, ncols=3, loc="upper right")
    return axes
