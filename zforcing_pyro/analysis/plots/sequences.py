"""Figures of sequences: images, piano-rolls, waves, spectrograms, sentences, curves."""

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
from .axes import BLUE, COLOURS, axes_or_new, plain, show_grid


def sequences(xs: Sequence[Tensor], corpus: Corpus, axes: Axes | None = None) -> Axes:
    """Draws sequences by the function of the corpus' ``view``.

    Args:
        xs: Observations as a model sees them, each ``(time, x_dim)`` or ``(time,)``.
        corpus: Data set that the sequences are from.
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
    """Draws real sequences beside generated ones, each ``(time, x_dim)`` or ``(time,)``."""
    figure = Figure(figsize=(9, 4.6), dpi=110, layout="constrained")
    kinds = ("data (test)", real), ("generated", generated)
    for axes, (title, xs) in zip(figure.subplots(1, 2), kinds):
        sequences(xs, corpus, axes)
        axes.set_title(plain(f"{corpus.title}: {title}"), fontsize=11)
    return figure


def images(xs: Sequence[Tensor], corpus: Corpus, axes: Axes | None = None) -> Axes:
    """Draws images in a square grid."""
    axes = axes_or_new(axes, (4.2, 4.2))
    height, width = corpus.image_shape
    side = int(np.ceil(np.sqrt(len(xs))))
    gap = max(1, width // 8)
    grid = np.full((side * (height + gap) + gap, side * (width + gap) + gap), 0.35)
    for i, x in enumerate(xs):
        row, column = divmod(i, side)
        top, start = gap + row * (height + gap), gap + column * (width + gap)
        grid[top : top + height, start : start + width] = corpus.image(x).cpu()
    axes.imshow(grid, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()
    return axes


def pianorolls(xs: Sequence[Tensor], corpus: Corpus, axes: Axes | None = None) -> Axes:
    """Draws up to three rolls one after another, time to the right and pitch upwards."""
    axes = axes_or_new(axes)
    rolls = [x.cpu().numpy().T for x in xs[:3]]
    silence = np.full((rolls[0].shape[0], 2), np.nan)
    grid = np.concatenate([part for roll in rolls for part in (roll, silence)][:-1], axis=1)
    extent = (0, grid.shape[1], LOWEST - 0.5, LOWEST - 0.5 + len(grid))
    show_grid(axes, grid, extent, vmax=1)
    axes.set(xlabel=f"step ({corpus.step})", ylabel="pitch (MIDI note)")
    return axes


def envelope(wave: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the smallest and largest of every ``width`` samples, for a line of few points.

    Args:
        wave: Samples, ``(samples,)``.
        width: Samples of a column of pixels.

    Returns:
        Places in samples, and heights: ``(2 ceil(samples / width),)`` each.
    """
    columns = np.pad(wave, (0, -len(wave) % width), mode="edge").reshape(-1, width)
    places = (np.arange(len(columns)) + 0.5) * width
    return places.repeat(2), np.stack([columns.min(1), columns.max(1)], axis=1).reshape(-1)


def waveforms(xs: Sequence[Tensor], corpus: Corpus, axes: Axes | None = None) -> Axes:
    """Draws up to five waves one below the other, on one scale."""
    axes = axes_or_new(axes)
    waves = [corpus.samples(x) / FULL_SCALE for x in xs[:5]]
    longest = max(map(len, waves))
    peak = max(np.abs(wave).max() for wave in waves) or 1.0
    for i, wave in enumerate(waves):
        places, heights = envelope(wave, max(1, longest // 800))
        seconds = places / corpus.sample_rate
        axes.plot(seconds, heights / (2.2 * peak) - i, linewidth=0.6, color=BLUE)
    axes.set(xlim=(0, longest / corpus.sample_rate), ylim=(0.5 - len(waves), 0.5))
    axes.set_yticks([-i for i in range(len(waves))], range(1, len(waves) + 1))
    axes.set(xlabel="time (s)", ylabel=f"recording (peak {peak:.2g} of full scale)")
    return axes


def spectrogram(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    """Returns the power by frequency and time, in decibels of full scale, at least -100.

    Hann windows of 32 ms, every 8 ms; silence follows a wave that is shorter than one window.

    Args:
        wave: Samples in -1..1, ``(samples,)``.
        sample_rate: Samples a second.

    Returns:
        Decibels, ``(frequencies, windows)``, from 0 to half the sample rate.
    """
    size, hop = max(8, round(0.032 * sample_rate)), max(1, round(0.008 * sample_rate))
    wave = np.pad(wave, (0, max(0, size - len(wave))))
    windows = np.lib.stride_tricks.sliding_window_view(wave, size)[::hop] * np.hanning(size)
    power = np.square(np.abs(np.fft.rfft(windows, axis=1)) * 4 / size)
    return 10 * np.log10(np.maximum(power, 1e-10)).T


def spectrograms(xs: Sequence[Tensor], corpus: Corpus, axes: Axes | None = None) -> Axes:
    """Draws up to three recordings one after another: waveform above spectrogram."""
    axes = axes_or_new(axes, (4.8, 3.6))
    waves = [corpus.samples(x) / FULL_SCALE for x in xs[:3]]
    levels = [spectrogram(wave, corpus.sample_rate) for wave in waves]
    loudest = max(level.max() for level in levels)
    peak = max(np.abs(wave).max() for wave in waves) or 1.0
    strip = axes.inset_axes([0, 1.05, 1, 0.4])
    begin, highest = 0.0, corpus.sample_rate / 2000
    for wave, level in zip(waves, levels):
        # A window is drawn around its middle.
        extent = (begin + 0.012, begin + 0.012 + 0.008 * level.shape[1], 0, highest)
        image = show_grid(axes, level, extent, vmin=loudest - 70, vmax=loudest)
        places, heights = envelope(wave, max(1, sum(map(len, waves)) // 800))
        seconds = begin + places / corpus.sample_rate
        strip.plot(seconds, heights / peak, linewidth=0.6, color=BLUE)
        begin += max(len(wave) / corpus.sample_rate, 0.024 + 0.008 * level.shape[1]) + 0.05
    axes.set(xlim=(0, begin - 0.05), ylim=(0, highest), xlabel="time (s)", ylabel="frequency (kHz)")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.figure.colorbar(image, ax=axes, label="dB of full scale", pad=0.01)
    strip.tick_params(labelbottom=False)
    strip.set(xlim=axes.get_xlim(), ylim=(-1.05, 1.05), yticks=[], ylabel="wave")
    return axes


def sentences(xs: Sequence[Tensor], corpus: Corpus, axes: Axes | None = None) -> Axes:
    """Draws sentences one below the other, at most 25 lines; long sentences are cut off."""
    axes = axes_or_new(axes, (4.8, 4.6))
    num_lines, line = 25, 0
    for x in xs:
        sentence = corpus.as_text(x.cpu()) or "(empty)"
        lines = textwrap.wrap(sentence, 68, max_lines=3, placeholder=" ...")
        if line + len(lines) > num_lines:
            break
        top = 1 - line / num_lines
        # A wide line must not narrow the axes.
        style = {"size": 7.5, "va": "top", "in_layout": False}
        axes.text(0.01, top - 0.008, "\n".join(plain(part, 68) for part in lines), **style)
        axes.axhline(top, color="0.8", linewidth=0.6)
        line += len(lines)
    axes.set(xlim=(0, 1), ylim=(0, 1.005))
    axes.set_axis_off()
    return axes


def curves(xs: Sequence[Tensor], corpus: Corpus, axes: Axes | None = None) -> Axes:
    """Draws up to three sequences one after another, a line for each of up to six columns.

    Panels of one figure share the y axis of its first. A single column is in its own units;
    several columns are drawn as a model sees them, to fit one scale.
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
            look = {"color": COLOURS[i], "label": None if edges else plain(name, 20), "lw": 1}
            axes.plot(steps, values[:, i], marker=marker, drawstyle=style, **look)
        gap = max(1, len(x) // 20)
        begin += len(x) + gap
        edges.append(begin - gap / 2)
    for edge in edges[:-1]:
        axes.axvline(edge, color="0.7", linewidth=0.8, linestyle=":")
    if (first := axes.figure.axes[0]) is not axes:
        axes.sharey(first)
    axes.autoscale_view()
    unit = plain(names[0]) if single else "value, as a model sees it"
    axes.set(xlabel=f"time ({corpus.step}s, sequences one after another)", ylabel=unit)
    if not single:
        rest = len(corpus.columns) - len(names)
        title = f"and {rest} more" if rest else None
        axes.legend(fontsize=8, title=title, ncols=3, loc="upper right")
    return axes
