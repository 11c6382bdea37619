"""The figures and sounds of one run, and figures as SVG."""

import base64
import io
import re
import warnings
import wave
import zlib
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from torch import Tensor

from ...analysis import plots
from ...analysis.posterior import interpolation, swap, trajectories, traversal
from ...data import Corpus, SequenceSet, collate
from ...data.formats.rolls import LOWEST
from ...data.formats.waves import as_int16
from ...models import SAB, Walkback, evaluating
from .findings import Subject

SHOWN = {"image": 36, "pianoroll": 3, "audio": 3, "text": 12, "curve": 3, "points": 500}
"""Sequences of each side, by view."""

OFFSETS = (-3.0, -1.5, 0.0, 1.5, 3.0)
NUM_TRAVERSED, NUM_PATHS, NUM_POINTS = 3, 8, 5
COLOURS = {"#000000": "currentColor", "#ffffff": "var(--paper)", "#0072b2": "var(--blue)"}
COLOURS |= dict.fromkeys(("#cccccc", "#dbdbdb", "#e6e6e6"), "var(--line)")
"""Colours of figures that follow the page, in the dark and on paper."""


def svg(axes: Axes) -> Markup:
    """Returns a figure as an SVG element with escaped texts, the page's fonts and own ids."""
    figure, content = axes.figure, io.BytesIO()
    if axes.child_axes:
        figure.draw_without_rendering()  # the layout takes a second round to see them
    options = {"svg.fonttype": "none", "svg.hashsalt": "zforcing_pyro"}
    with matplotlib.rc_context(options), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # browsers have more fonts
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(content, format="svg", dpi=140, facecolor="none", metadata=metadata)
    text = content.getvalue().decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<defs>\s*<style.*?</defs>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r' ?font-family: [^;"]*;?', "", text).replace('<g id="', '<g data-id="')
    for colour, name in COLOURS.items():
        text = text.replace(f": {colour}", f": {name}")
    prefix = f"f{zlib.crc32(text.encode()):x}-"
    return Markup(re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{prefix}", text))


def figures(run: Subject, max_bytes: int, seed: int) -> dict[str, Any]:
    """Returns axes, sentences and sounds, of ``max_bytes`` each, by their names in ``run.html``."""
    data, latents, corpus = run.findings.data, run.findings.latents, run.corpus
    drawn = samples(run, max_bytes) | {"curves": {}, "futures": {}}
    drawn["checks"] = [plots.predictive_check(check) for check in run.findings.checks]
    for title, names in {"bound": ("bound", "valid_bound"), "KL": ("kl", "valid_kl")}.items():
        is_drawn = title == "bound" or latents is not None
        if is_drawn and any(row.get(name) for row in run.rows for name in names):
            drawn["curves"][title] = plots.training_curves({"": run.rows}, names, corpus.step)
    if any(row.get("critic_accuracy") for row in run.rows):
        costs = plots.training_curves({"": run.rows}, ("critic_cost", "adversary"), corpus.step)
        costs.set_ylabel("nats above equilibrium")
        accuracy = plots.training_curves({"": run.rows}, ("critic_accuracy",), corpus.step)
        accuracy.set_ylabel("share told apart")
        drawn["critic"] = {"costs": costs, "accuracy": accuracy}
    if isinstance(run.net, Walkback):
        drawn["walk"] = walk(run.net, data, corpus, seed)
    if isinstance(run.net, SAB):
        drawn["attention"] = attention(run.net, data, corpus.step)
    if latents is None:
        return drawn
    kl, test, curve = latents.kl, latents.calibration, latents.curve
    drawn["pareto_k"] = plots.pareto_k(latents.importance.pareto_k)
    drawn["curve"] = plots.bound_against_particles(
        curve.num_particles.tolist(), curve.bound, curve.standard_error
    )
    worst = int(test.p_values[:-1].argmin()) if len(test.p_values) > 1 else 0
    drawn["ranks"] = {
        i: plots.rank_histogram(test.histograms[i], test.band, test.quantities[i])
        for i in dict.fromkeys((len(test.quantities) - 1, worst))
    }
    i = by_usual_length(data)[0]
    one, x = latents.codes.kl.sel(sequence=i).values, data[i].x
    drawn["heat"] = plots.kl_heat_map(one, x, corpus)
    if corpus.view == "image" and corpus.x_dim == 1:
        drawn["kl_image"] = plots.kl_image(one.sum(1), x, corpus)
    else:
        drawn["kl_by_step"] = plots.kl_by_step(kl.by_step, corpus.step)
    if len(kl.by_latent) > 1:
        drawn["by_latent"], drawn["paths"] = plots.kl_by_latent(kl.by_latent), paths(run)
    for target, values in latents.future.data_vars.items() if latents.future is not None else ():
        r2 = {str(s): values.sel(source=s).values for s in values.source.values}
        if np.isfinite(np.stack(list(r2.values()))).any():
            axes = plots.r2_by_horizon(values.horizon.values.tolist(), r2)
            drawn["futures"][str(target)] = axes
    return drawn | moved(run, seed)


def attention(net: SAB, data: SequenceSet, step: str) -> Axes:
    """Returns what the steps of a sequence of usual length read of their memories."""
    given = net.given_batch(collate([data[by_usual_length(data)[0]]]))
    return plots.attention_map(net.attention(*given.args)[0].cpu(), net.rnn.k_att, step)


def walk(net: Walkback, data: SequenceSet, corpus: Corpus, seed: int) -> Axes:
    """Returns walks from test data, and ways back, after some of their steps."""
    x = net.given_batch(collate([data[i] for i in range(min(len(data), 128))])).x[:, 0]
    with evaluating(net, seed):
        rows = {"from data": net.walk(x), "way back": net.walk_back(len(x)).flip(1)}
    places = sorted({round(i * len(net.log_t) / 5) for i in range(6)})
    rows = {label: row[:, places].cpu() for label, row in rows.items()}
    return plots.walks(rows, places, corpus)


def samples(run: Subject, max_bytes: int) -> dict[str, Any]:
    """Returns sequences of the test split and generated ones as axes, sentences or sounds."""
    corpus, num = run.corpus, SHOWN[run.corpus.view]
    pairs = {"data (test)": list(run.real.values())[:num], "generated": run.generated[:num]}
    if corpus.view == "text":
        return {"sentences": {title: [sentence(run, x) for x in xs] for title, xs in pairs.items()}}
    if corpus.view in ("audio", "pianoroll"):
        sounds = []
        for i, (name, real) in enumerate(list(run.real.items())[:num]):
            for title, x in ((name, real), (f"generated {i + 1}", run.generated[i])):
                if corpus.view == "audio":
                    axes = plots.spectrum_and_wave(x, corpus)
                else:
                    axes = plots.pianorolls([x], corpus)
                content, is_complete = sound(x, corpus, max_bytes)
                source = f"data:audio/wav;base64,{base64.b64encode(content).decode()}"
                sounds.append((title, axes, source, is_complete))
        return {"sounds": sounds}
    axes = {title: plots.sequences(xs, corpus) for title, xs in pairs.items()}
    if corpus.view == "curve":
        limits = np.array([panel.get_ylim() for panel in axes.values()])
        for panel in axes.values():
            panel.set_ylim(limits[:, 0].min(), limits[:, 1].max())
    return {"panels": axes}


def sentence(run: Subject, x: Tensor) -> str:
    """Returns a sequence of symbols as one line."""
    return " ".join(run.corpus.as_text(x.cpu()).split()) or "(empty)"


def paths(run: Subject) -> Axes:
    """Returns latents of some sequences in the plane of their first two principal components."""
    components, labels = trajectories(run.findings.latents.codes), run.findings.data.labels
    points, kinds = components.path.values[:NUM_PATHS, :, :2], None
    if labels is not None and (names := run.corpus.label_names):
        values = labels.reshape(len(labels), -1)[:NUM_PATHS, 0].tolist()
        kinds = [f"{names[0]} {value}" for value in values]
    return plots.trajectories(points, kinds, components.explained.values[:2].tolist())


def by_usual_length(data: SequenceSet) -> list[int]:
    """Returns indices of sequences, those near the median length first."""
    lengths = data.lengths.double()
    return (lengths - lengths.median()).abs().argsort(stable=True).tolist()


def moved(run: Subject, seed: int) -> dict[str, Any]:
    """Returns a traversal of the latents that vary most, an interpolation, and an exchange."""
    net, data = run.net, run.findings.data
    i, *others = by_usual_length(data)
    largest = np.argsort(-run.findings.latents.kl.variance)[:NUM_TRAVERSED].tolist()
    rows = [traversal(net, data[i], latent, OFFSETS) for latent in largest]
    offsets = [f"{offset:+g}" if offset else "0" for offset in OFFSETS]
    names = [f"z{latent}" for latent in largest]
    drawn = {"traversal": decoded(run, rows, names, offsets, "dimension moved by")}
    if not others:
        return drawn
    if data.labels is not None:
        labels = data.labels.reshape(len(data), -1)[:, 0]
        others = [j for j in others if labels[j] != labels[i]] or others
    j = others[0]
    between = interpolation(net, data[i], data[j], NUM_POINTS, seed=seed)
    rows = [between.greedy, [draws[0] for draws in between.sampled]]
    places = [f"{weight:.3g}" for weight in between.weights.tolist()]
    drawn["between"] = decoded(run, rows, ["argmax", "sampled"], places, "place between")
    drawn["half"] = half = int(min(data.lengths[i], data.lengths[j])) // 2
    first, second = swap(net, data[i], data[j], half)
    rows = [[data[i].x, between.greedy[0], first], [data[j].x, between.greedy[-1], second]]
    columns = ["data", "own z", "z exchanged"]
    drawn["swap"] = decoded(run, rows, ["first", "second"], columns, "latents")
    return drawn


def decoded(
    run: Subject,
    rows: list[list[Tensor]],
    row_labels: list[str],
    column_labels: list[str],
    columns: str,
) -> Axes | list[tuple[str, str]]:
    """Returns sequences in rows and columns: axes, or sentences after their labels."""
    if run.corpus.view == "text":
        cells = [(a, b, x) for a, r in zip(row_labels, rows) for b, x in zip(column_labels, r)]
        return [(f"{a}: {b}", sentence(run, x)) for a, b, x in cells]
    rows = [[x.cpu() for x in row] for row in rows]
    axes = plots.gallery(rows, run.corpus, row_labels, column_labels)
    axes.set_xlabel(columns, fontsize=8)
    return axes


RATE = 11_025
"""Samples a second of a played roll: more than twice the highest key's 4,186 Hz."""

BEAT = 0.5
"""Seconds of a quarter note, as in the MIDI files that are written."""


def sound(x: Tensor, corpus: Corpus, max_bytes: int) -> tuple[bytes, bool]:
    """Returns audio or music, ``(time, x_dim)``, as a WAV file, and whether nothing was cut off."""
    if corpus.view == "audio":
        samples, rate = corpus.samples(x), corpus.sample_rate
    else:
        seconds = corpus.step_seconds or BEAT / corpus.steps_per_beat
        keys = x[: 1 + int(max_bytes / (2 * RATE * seconds))].cpu().numpy() > 0.5
        samples, rate = as_int16(played(keys, seconds)), RATE
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", None))
        file.writeframes(samples[: max_bytes // 2].astype("<i2").tobytes())
    return content.getvalue(), len(samples) <= max_bytes // 2


def played(keys: np.ndarray, step_seconds: float, rate: int = RATE) -> np.ndarray:
    """Returns a piano-roll as decaying sines with overtones, at most 0.7 loud, ``(samples,)``.

    ``keys`` are True where held, ``(time, 88)``; a key held for several steps is struck once.
    """
    size = max(1, round(step_seconds * rate))
    samples = np.zeros(len(keys) * size)
    edges = np.diff(np.pad(keys.astype(np.int8), ((1, 1), (0, 0))), axis=0)
    for key in np.flatnonzero(keys.any(0)):
        pitch = 440.0 * 2 ** ((LOWEST + key - 69) / 12)
        starts, ends = (np.flatnonzero(sign * edges[:, key] > 0) for sign in (1, -1))
        for start, end in zip(starts, ends):
            time = np.arange((end - start) * size) / rate
            overtones = [n for n in (1, 2, 3) if n * pitch < rate / 2]
            tone = sum(np.sin(2 * np.pi * n * pitch * time) / n**2 for n in overtones)
            # Fade in for 5 ms and out for 20 ms, because edges click.
            fade = np.minimum(time / 0.005, 1) * np.minimum((time[-1] - time) / 0.02, 1)
            samples[start * size : end * size] += tone * fade * np.exp(-2.0 * time)
    return 0.7 * samples / max(np.abs(samples).max(initial=0.0), 1e-9)
