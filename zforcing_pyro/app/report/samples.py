"""What a model generates beside the data: pictures, players, sentences."""

from __future__ import annotations

from html import escape

from torch import Tensor

from ...analysis import plots
from ...data import Corpus
from .html import element, grid, paragraph, picture, player, subheading
from .sound import sound
from .subject import Subject

SHOWN = {"image": 36, "pianoroll": 3, "audio": 3, "text": 12, "curve": 3}
"""Sequences of each side, by view."""


def samples(run: Subject, max_bytes: int) -> str:
    """Sequences of the test split beside generated ones.

    Args:
        run: The run.
        max_bytes: Of each sound.
    """
    corpus = run.corpus
    num = SHOWN[corpus.view]
    real, generated = run.real[:num], run.generated[:num]
    step = f"{len(generated[0]):,} steps ({corpus.step})"
    said = paragraph(
        f"Real sequences are of the test split, drawn at random; generated ones are the model's "
        f"own, of {step}, none of them picked.",
        class_="soft",
    )
    names = run.real_names[:num], [f"generated {i + 1}" for i in range(len(generated))]
    if corpus.view == "text":
        return said + grid(
            listing("Data (test)", real, corpus), listing("Generated", generated, corpus)
        )
    if corpus.view in ("audio", "pianoroll"):
        pairs = [
            pair
            for i in range(len(real))
            for pair in ((real[i], names[0][i]), (generated[i], names[1][i]))
        ]
        return said + grid(*(heard(x, name, corpus, max_bytes) for x, name in pairs))
    panels = []
    for title, xs in (("data (test)", real), ("generated", generated)):
        axes = plots.sequences(xs, corpus)
        axes.set_title(title, fontsize=10)
        panels.append(axes)
    if corpus.view == "curve":
        limits = [axes.get_ylim() for axes in panels]
        for axes in panels:
            axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    return said + grid(
        picture(panels[0], f"{len(real)} sequences of the test split of {corpus.title}"),
        picture(panels[1], f"{len(generated)} sequences that the model generated"),
    )


def listing(title: str, xs: list[Tensor], corpus: Corpus) -> str:
    """Sentences as a list."""
    lines = [" ".join(corpus.as_text(x.cpu()).split()) or "(empty)" for x in xs]
    items = (element("li", escape(line)) for line in lines)
    return element("div", subheading(title), element("ol", *items), class_="sentences")


def heard(x: Tensor, name: str, corpus: Corpus, max_bytes: int) -> str:
    """A sequence to see and to hear."""
    if corpus.view == "audio":
        axes, kind = plots.spectrograms([x], corpus), "waveform and spectrogram"
    else:
        axes, kind = plots.pianorolls([x], corpus), "piano-roll"
    played, is_whole = sound(x, corpus, max_bytes)
    note = "" if is_whole else paragraph("Only the beginning can be played.", class_="soft heard")
    name = name[0].upper() + name[1:]
    shown = picture(axes, f"{name}: {kind}, {len(x):,} steps", name)
    return element("div", shown, player(played, f"Sound of {name}"), note)
