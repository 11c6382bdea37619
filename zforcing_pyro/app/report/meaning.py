"""The part of a report on what latents mean."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ...analysis import plots
from ...analysis.posterior import Interpolation, interpolation, swap, trajectories, traversal
from ...data import SequenceSet
from .findings import HORIZONS, Latents
from .html import grid, paragraph, picture, subheading, table
from .subject import Subject

OFFSETS = (-3.0, -1.5, 0.0, 1.5, 3.0)
NUM_TRAVERSED = 3
NUM_PATHS = 8
NUM_POINTS = 5


def meaning(run: Subject, seed: int) -> str:
    """KL, what is read off z, and what the model makes of latents that are moved."""
    them = run.found.latents
    if them is None:
        return ""
    return numbers(them) + speaking(run, them) + futures(run, them) + moved(run, them, seed)


def numbers(them: Latents) -> str:
    """One number each."""
    kl = them.kl
    rows = [
        ("KL, nats per sequence", f"{kl.per_sequence.mean():.3f}"),
        ("latents in use", f"{int(kl.in_use.sum())} of {len(kl.in_use)}"),
    ]
    if (info := them.information) is not None:
        rows.append(
            (
                f"mutual information of a sequence and its first {len(info.lower)} latents, nats",
                f"{info.lower[-1]:.3f} to {info.upper[-1]:.3f} (at most {info.limit:.2f} is seen)",
            )
        )
    for probe in them.probes:
        rows.append(
            (
                f"{probe.label} read off {probe.source} by a linear map",
                f"{probe.accuracy:.1%} ± {probe.standard_error:.1%} (chance {probe.chance:.1%}, "
                f"{probe.num_classes} classes)",
            )
        )
    note = "The KL is log q - log p at draws." if kl.is_estimate else ""
    return table(("quantity", "value"), rows) + (paragraph(note, class_="soft") if note else "")


def speaking(run: Subject, them: Latents) -> str:
    """Where, when and in which dimensions the posterior says more than the prior."""
    i = usual(run.found.data)[0]
    one, x = them.codes.kl.sel(sequence=i).values, run.found.data[i].x
    shown = [
        picture(
            plots.kl_heat_map(one, x, run.corpus),
            f"KL by step and dimension of z of one sequence of {len(x)} steps, below the sequence",
            "One test sequence, and below it the nats that each dimension of z tells at each step.",
        )
    ]
    if run.corpus.view == "image" and run.corpus.x_dim == 1:
        shown.append(
            picture(
                plots.kl_image(one.sum(1), x, run.corpus),
                "The image beside the KL at each of its pixels",
                "The same image beside the nats that z tells at each of its pixels.",
            )
        )
    else:
        shown.append(
            picture(
                plots.kl_by_step(them.kl.by_step, run.corpus.step),
                "Mean KL by step",
                "Mean KL at each step, of the sequences that reach it.",
            )
        )
    if len(them.kl.by_latent) > 1:
        shown.append(
            picture(
                plots.kl_by_latent(them.kl.by_latent),
                "Mean KL of a step by dimension of z, sorted",
                "How the KL is shared among the dimensions of z.",
            )
        )
        shown.append(paths(run, them))
    return subheading("Where do latents speak, and where do they go?") + grid(*shown)


def futures(run: Subject, them: Latents) -> str:
    """What is read off z about later frames."""
    if them.future is None:
        return ""
    shown = []
    names = {"x": "the frame x", "b": "the guide's backward state b"}
    for target, values in them.future.data_vars.items():
        r2 = {str(s): values.sel(source=s).values for s in values.source.values}
        if not np.isfinite(np.stack(list(r2.values()))).any():
            continue
        name = names.get(str(target), str(target))
        axes = plots.r2_by_horizon(values.horizon.values.tolist(), r2)
        axes.set_title(f"prediction of {name}", fontsize=10)
        caption = f"Linear prediction of {name}, 0 to {max(HORIZONS)} steps ahead, in held-out "
        caption += "sequences. h is the state before z; what z adds is “h and z” above “h”."
        shown.append(picture(axes, f"R² of {name} by steps ahead, from z, h, and both", caption))
    if not shown:
        return ""
    return subheading("How far into the future does z see?") + grid(*shown)


def paths(run: Subject, them: Latents) -> str:
    """Latents of some sequences in the plane of their first two principal components."""
    found = trajectories(them.codes)
    num = min(NUM_PATHS, found.sizes["sequence"])
    labels, names = run.found.data.labels, run.corpus.label_names
    kinds = None
    if labels is not None and names:
        values = labels.reshape(len(labels), -1)[:, 0].tolist()
        # Few kinds, so that a colour is one of them.
        few = list(dict.fromkeys(values))[:4]
        chosen = [i for i, value in enumerate(values) if value in few][:num]
        kinds = [f"{names[0]} {values[i]}" for i in chosen]
    else:
        chosen = list(range(num))
    points = [found.path.values[i][:, :2] for i in chosen]
    axes = plots.trajectories(points, kinds, found.explained.values[:2].tolist())
    return picture(
        axes,
        f"Paths of the posterior mean of {len(points)} sequences in two dimensions",
        "Posterior means along the first two principal components; a ring is a beginning.",
    )


def usual(data: SequenceSet) -> list[int]:
    """Sequences from the one of the most usual length to the least."""
    lengths = data.lengths.double()
    return (lengths - lengths.median()).abs().argsort(stable=True).tolist()


def pair(data: SequenceSet) -> tuple[int, int]:
    """Two sequences of usual lengths that differ in their first label, where they have labels."""
    first, *others = usual(data)
    if data.labels is not None:
        labels = data.labels.reshape(len(data), -1)[:, 0]
        others = [i for i in others if labels[i] != labels[first]] or others
    return first, others[0] if others else first


def moved(run: Subject, them: Latents, seed: int) -> str:
    """Traversal of the latents that say most, interpolation, and an exchange."""
    net, data = run.net, run.found.data
    i, j = pair(data)
    loud = np.argsort(-them.kl.variance)[:NUM_TRAVERSED].tolist()
    rows = [traversal(net, data[i], latent, OFFSETS) for latent in loud]
    offsets = [f"{offset:+g}" if offset else "0" for offset in OFFSETS]
    said = subheading("What does one dimension of z do?")
    said += paragraph(
        "Greedy decodings of one test sequence while one dimension of z is moved at every step, by "
        "as much as stands below; those that vary most come first.",
        class_="soft",
    )
    said += decoded(run, rows, [f"z{latent}" for latent in loud], offsets, "dimension moved by")
    if i == j:
        return said
    between = interpolation(net, data[i], data[j], NUM_POINTS, seed=seed)
    said += subheading("What lies between two sequences?")
    said += paragraph(
        "Latents of two test sequences mixed step by step, and decoded: by the most probable frame "
        "or symbol (argmax), and by a draw (sampled). 0 is the one sequence, 1 the other.",
        class_="soft",
    )
    rows, points = interpolated(between)
    said += decoded(run, rows, ["argmax", "sampled"], points, "place between")
    half = int(min(data.lengths[i], data.lengths[j])) // 2
    swapped = swap(net, data[i], data[j], half)
    rows = [
        [data[i].x, between.greedy[0], swapped[0]],
        [data[j].x, between.greedy[-1], swapped[1]],
    ]
    said += subheading("Whose is the second half?")
    said += paragraph(
        f"The same two: as they are, their greedy decodings, and those after they have exchanged z "
        f"from step {half} on.",
        class_="soft",
    )
    names = ["data", "own z", "z exchanged"]
    return said + decoded(run, rows, ["first", "second"], names, "latents")


def interpolated(found: Interpolation) -> tuple[list[list[Tensor]], list[str]]:
    """Rows of argmax and of sampled decodings, and the names of the columns."""
    return (
        [found.greedy, [draws[0] for draws in found.sampled]],
        [f"{weight:.3g}" for weight in found.weights.tolist()],
    )


def decoded(
    run: Subject,
    rows: list[list[Tensor]],
    row_labels: list[str],
    column_labels: list[str],
    columns: str,
) -> str:
    """Sequences in rows and columns: a picture, or a table of sentences."""
    rows = [[x.cpu() for x in row] for row in rows]
    if run.corpus.view == "text":
        lines: list[tuple[str, str, str]] = []
        merging = " to " if len(column_labels) > 3 else " and "
        for name, row in zip(row_labels, rows):
            for column, x in zip(column_labels, row):
                sentence = " ".join(run.corpus.as_text(x).split()) or "(empty)"
                if lines and lines[-1][0] == name and lines[-1][2] == sentence:
                    first = lines.pop()[1].split(merging)[0]
                    column = f"{first}{merging}{column}"
                lines.append((name, column, sentence))
        return table(("", columns, "sentence"), lines)
    axes = plots.gallery(rows, run.corpus, row_labels, column_labels)
    axes.set_xlabel(columns, fontsize=8)
    return grid(picture(axes, f"Sequences by {' and '.join(row_labels)}, and by {columns}"))
