"""Pictures; each function returns the matplotlib figure that it drew."""

from __future__ import annotations

import textwrap

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from .data import Corpus
from .data.waves import FULL_SCALE


def real_and_generated(corpus: Corpus, real: list[Tensor], generated: list[Tensor]) -> Figure:
    """Real sequences beside generated ones, drawn as the corpus says.

    Args:
        corpus: Where they come from.
        real, generated: Observations, each ``(time, x_dim)``.
    """
    draw = {
        "image": images,
        "pianoroll": pianorolls,
        "audio": waveforms,
        "text": text,
        "curve": curves,
    }[corpus.view]
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
        grid[top : top + height, left : left + width] = corpus.image(x).cpu()
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


def waveforms(axes: matplotlib.axes.Axes, corpus: Corpus, sequences: list[Tensor]) -> None:
    """Waves one below the other, time to the right; all of a panel have one scale."""
    waves = [corpus.samples(x) / FULL_SCALE for x in sequences[:5]]
    # A line through every 1/800 of the time, from its least sample to its largest: what a line
    # through all samples would show, and no more points than there are pixels.
    longest = max(map(len, waves))
    step = max(1, longest // 800)
    peak = max(np.abs(wave).max() for wave in waves) or 1.0
    for i, wave in enumerate(waves):
        columns = np.pad(wave, (0, -len(wave) % step), mode="edge").reshape(-1, step)
        seconds = (np.arange(len(columns)) + 0.5) * step / corpus.sample_rate
        ends = np.stack([columns.min(1), columns.max(1)], axis=1) / (2.2 * peak) - i
        axes.plot(seconds.repeat(2), ends.reshape(-1), linewidth=0.6, color="C0")
    axes.set_xlim(0, longest / corpus.sample_rate)
    axes.set_ylim(0.6 - len(waves), 0.6)
    axes.set_yticks([-i for i in range(len(waves))], range(1, len(waves) + 1))
    axes.set_xlabel("time (s)")
    axes.set_ylabel(f"recording (largest sample {peak:.2g} of full scale)")


def text(axes: matplotlib.axes.Axes, corpus: Corpus, sequences: list[Tensor]) -> None:
    """A table of sentences, as many as there is room for; the rest of a long one is cut off."""
    num_lines, line = 25, 0
    for x in sequences:
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


def curves(axes: matplotlib.axes.Axes, corpus: Corpus, sequences: list[Tensor]) -> None:
    """Sequences one after another, a line a column, on the scale of the panel to the left.

    A single column is in its own units; several are as a model sees them, to fit one scale.
    """
    names = corpus.columns[:6]
    single = len(corpus.columns) == 1
    begin, edges = 0, []
    for x in sequences[:3]:
        values = (corpus.values(x) if single else x).cpu().numpy().reshape(len(x), -1)
        steps = np.arange(begin, begin + len(x))
        marker = "." if len(x) == 1 else None
        style = "default" if corpus.emission == "gaussian" else "steps-mid"
        for i, name in enumerate(names):
            label = None if edges else name
            axes.plot(
                steps, values[:, i], f"C{i}", lw=1, label=label, marker=marker, drawstyle=style
            )
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
