"""Figures of sequences: images, piano-rolls, waves, spectrograms, sentences, curves."""

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
    """Draws sequences, each ``(time, x_dim)`` or ``(time,)``, by the corpus' ``view``."""
    draw = {
        "image": images, "pianoroll": pianorolls, "audio": waveforms, "text": sentences,
        "points": points,
    }  # fmt: skip
    return draw.get(corpus.view, curves)(xs, corpus, axes)


def real_and_generated(corpus: Corpus, real: list[Tensor], generated: list[Tensor]) -> Figure:
    """Returns a figure of real sequences beside generated ones."""
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


def envelope(wave: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns some ``2 num`` places in samples, and the extremes of the wave there, to be drawn."""
    width = max(1, len(wave) // num)
    columns = np.pad(wave, (0, -len(wave) % width), mode="edge").reshape(-1, width)
    places = (np.arange(len(columns)) + 0.5) * width
    return places.repeat(2), np.stack([columns.min(1), columns.max(1)], axis=1).reshape(-1)


def waveforms(xs: Sequence[Tensor], corpus: Corpus, axes: Axes | None = None) -> Axes:
    """Draws up to five waves one below the other, on one scale."""
    axes = axes_or_new(axes)
    waves = [corpus.samples(x) / FULL_SCALE for x in xs[:5]]
    peak = max(np.abs(wave).max() for wave in waves) or 1.0
    for i, wave in enumerate(waves):
        places, heights = envelope(wave, 800)
        seconds = places / corpus.sample_rate
        axes.plot(seconds, heights / (2.2 * peak) - i, linewidth=0.6, color=BLUE)
    longest = max(map(len, waves)) / corpus.sample_rate
    axes.set(xlim=(0, longest), ylim=(0.5 - len(waves), 0.5))
    axes.set_yticks([-i for i in range(len(waves))], range(1, len(waves) + 1))
    axes.set(xlabel="time (s)", ylabel=f"recording (peak {peak:.2g} of full scale)")
    return axes


def spectrogram(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    """Returns the power by frequency and time, in decibels of full scale, at least -100.

    Hann windows of 32 ms, every 8 ms, of a wave in -1..1: ``(frequencies, windows)``.
    """
    size, hop = max(8, round(0.032 * sample_rate)), max(1, round(0.008 * sample_rate))
    wave = np.pad(wave, (0, max(0, size - len(wave))))
    windows = np.lib.stride_tricks.sliding_window_view(wave, size)[::hop] * np.hanning(size)
    power = np.square(np.abs(np.fft.rfft(windows, axis=1)) * 4 / size)
    return 10 * np.log10(np.maximum(power, 1e-10)).T


def spectrum_and_wave(x: Tensor, corpus: Corpus, axes: Axes | None = None) -> Axes:
    """Draws the spectrogram of one recording, below its waveform."""
    axes = axes_or_new(axes, (4.8, 3.6))
    wave = corpus.samples(x) / FULL_SCALE
    level, seconds = spectrogram(wave, corpus.sample_rate), len(wave) / corpus.sample_rate
    # A window is drawn around its middle.
    end, highest = 0.012 + 0.008 * level.shape[1], corpus.sample_rate / 2000
    loudest = level.max()
    image = show_grid(axes, level, (0.012, end, 0, highest), vmin=loudest - 70, vmax=loudest)
    axes.set(xlim=(0, max(seconds, end + 0.012)), xlabel="time (s)", ylabel="frequency (kHz)")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.figure.colorbar(image, ax=axes, label="dB of full scale", pad=0.01)
    strip = axes.inset_axes([0, 1.05, 1, 0.4])
    places, heights = envelope(wave, 800)
    peak = np.abs(wave).max() or 1.0
    strip.plot(places / corpus.sample_rate, heights / peak, linewidth=0.6, color=BLUE)
    strip.tick_params(labelbottom=False)
    strip.set(xlim=axes.get_xlim(), ylim=(-1.05, 1.05), yticks=[], ylabel="wave")
    return axes


def sentences(
    xs: Sequence[Tensor],
    corpus: Corpus,
    axes: Axes | None = None,
    labels: Sequence[str] | None = None,
) -> Axes:
    """Draws sentences one below the other, each cut off after three lines; 25 lines at most."""
    blocks, num_lines = [], 0
    for i, x in enumerate(xs):
        sentence = (labels[i] if labels else "") + (corpus.as_text(x.cpu()) or "(empty)")
        blocks.append(textwrap.wrap(sentence, 68, max_lines=3, placeholder=" ..."))
        num_lines += len(blocks[-1])
    axes, line = axes_or_new(axes, (4.8, 0.2 + 0.17 * min(num_lines, 25))), 0
    for lines in blocks:
        if line + len(lines) > 25:
            break
        # A wide line must not narrow the axes.
        style = {"size": 7.5, "va": "top", "in_layout": False}
        axes.text(0.01, -line - 0.2, "\n".join(plain(part, 68) for part in lines), **style)
        axes.axhline(-line, color="0.8", linewidth=0.6)
        line += len(lines)
    axes.set(xlim=(0, 1), ylim=(-max(1, line), 0.1))
    axes.set_axis_off()
    return axes


def curves(xs: Sequence[Tensor], corpus: Corpus, axes: Axes | None = None) -> Axes:
    """Draws up to three sequences one after another, a line for each of up to six columns.

    A single column is in its own units; several are drawn as a model sees them, to fit one scale.
    """
    axes, names, single = axes_or_new(axes), corpus.columns[:6], len(corpus.columns) == 1
    begin = 0
    for x in xs[:3]:
        values = (corpus.values(x) if single else x).cpu().numpy().reshape(len(x), -1)
        style = {
            "linewidth": 1,
            "marker": "." if len(x) == 1 else None,
            "drawstyle": "default" if corpus.emission == "gaussian" else "steps-mid",
        }
        gap = max(1, len(x) // 20)
        if begin:
            axes.axvline(begin - gap / 2, color="0.7", linewidth=0.8, linestyle=":")
        for name, column, colour in zip(names, values.T, COLOURS):
            label = None if begin else plain(name, 20)
            axes.plot(begin + np.arange(len(x)), column, color=colour, label=label, **style)
        begin += len(x) + gap
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


def points(xs: Sequence[Tensor], corpus: Corpus, axes: Axes | None = None) -> Axes:
    """Draws points of the plane, each ``(1, 2)``; panels of one figure share their axes."""
    axes = axes_or_new(axes, (4.2, 4.2))
    x, y = np.concatenate([x.cpu().numpy() for x in xs]).T
    axes.plot(x, y, ".", markersize=3, color=BLUE, alpha=0.6)
    if (first := axes.figure.axes[0]) is not axes:
        axes.sharex(first)
        axes.sharey(first)
        axes.autoscale()
    axes.set(xlabel=corpus.columns[0], ylabel=corpus.columns[1], aspect="equal")
    return axes


def value_limits(xs: Sequence[Tensor], corpus: Corpus) -> tuple[float, float]:
    """Returns the values at the bottom and top of cells: amplitudes, keys or units."""
    if corpus.view == "audio":
        peak = max(float(np.abs(corpus.samples(x)).max()) for x in xs) / FULL_SCALE or 1.0
        return -peak, peak
    if corpus.view == "pianoroll":
        used = np.flatnonzero(np.any([x.cpu().numpy().any(0) for x in xs], axis=0))
        return (float(used[0]), float(used[-1] + 1)) if len(used) else (0.0, 88.0)
    values = np.concatenate([x.cpu().double().numpy().reshape(-1) for x in xs])
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    return low, high if high > low else low + 1


def draw_cell(
    axes: Axes,
    x: Tensor,
    corpus: Corpus,
    limits: tuple[float, float],
    x0: float = 0.0,
    y0: float = 0.0,
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
        places, heights = envelope(wave, 400)
        lines = [(places / len(wave), heights)]
    else:
        values = x.cpu().numpy().reshape(len(x), -1)
        lines = [((np.arange(len(x)) + 0.5) / len(x), column) for column in values.T[:6]]
    for (places, heights), colour in zip(lines, COLOURS):
        axes.plot(x0 + places, y0 + (heights - low) / (high - low), color=colour, linewidth=0.7)
