"""Pieces of a page: text, tables, pictures and sounds, all inside the one file."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape

from matplotlib.axes import Axes

DPI = 140
"""Of pictures: sharp on a telephone, and small in the file."""


def element(tag: str, *content: str, **attributes: str) -> str:
    """An HTML element; its content is HTML already, its attributes are text.

    Args:
        tag: Its name.
        content: HTML.
        attributes: A trailing underscore is dropped, as in ``class_``; others are hyphens.

    Example:
        >>> element("p", escape("a < b"), class_="small")
        '<p class="small">a &lt; b</p>'
    """
    names = (name.rstrip("_").replace("_", "-") for name in attributes)
    given = "".join(f' {name}="{escape(v)}"' for name, v in zip(names, attributes.values()))
    return f"<{tag}{given}>{''.join(content)}</{tag}>"


def paragraph(text: str, **attributes: str) -> str:
    """Plain text as a paragraph."""
    return element("p", escape(text), **attributes)


def subheading(text: str) -> str:
    """What a part of a section is about; no heading, so that levels are never skipped."""
    return element("p", element("strong", escape(text)), class_="sub")


def section(title: str, *content: str, level: int = 2) -> str:
    """A part of the page under a heading; nothing where there is no content."""
    if not any(content):
        return ""
    return element("section", element(f"h{level}", escape(title)), *content)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """A table of texts; the first of a row is its head. It scrolls where a screen is narrow."""
    top = element("tr", *(element("th", escape(name), scope="col") for name in head))
    body = []
    for first, *rest in rows:
        cells = (element("td", escape(value)) for value in rest)
        body.append(element("tr", element("th", escape(first), scope="row"), *cells))
    named = element("caption", escape(caption)) if caption else ""
    parts = named, element("thead", top), element("tbody", *body)
    return element("div", element("table", *parts), class_="scroll", tabindex="0")


def data_uri(content: bytes, kind: str) -> str:
    """Bytes as an address that needs no network.

    Example:
        >>> data_uri(b"GIF", "image/gif")
        'data:image/gif;base64,R0lG'
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def picture(axes: Axes, alt: str, caption: str = "") -> str:
    """A figure with its alternative text, and a caption below it."""
    from PIL import Image

    content, small = io.BytesIO(), io.BytesIO()
    figure = axes.figure
    if axes.child_axes:
        figure.draw_without_rendering()  # the layout takes a second round to see them
    figure.savefig(content, format="png", dpi=DPI, facecolor="white")
    # A palette takes a third of the room; this kind keeps the colour of a few dots, too.
    drawn = Image.open(content).convert("RGB")
    palette = drawn.quantize(method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    palette.save(small, "png", optimize=True)
    width, height = drawn.size
    source = data_uri(small.getvalue(), "image/png")
    image = f'<img src="{source}" alt="{escape(alt)}" width="{width}" height="{height}">'
    below = element("figcaption", escape(caption)) if caption else ""
    return element("figure", image, below)


def player(content: bytes, label: str) -> str:
    """A sound that can be played."""
    source = data_uri(content, "audio/wav")
    return (
        f'<audio controls preload="metadata" aria-label="{escape(label)}" src="{source}"></audio>'
    )


def grid(*items: str) -> str:
    """Items side by side where there is room, and else one below the other."""
    return element("div", *items, class_="grid") if any(items) else ""


def page(title: str, *content: str) -> str:
    """A whole page; it has no script, and asks for nothing outside of itself."""
    from .style import STYLE

    head = (
        '<meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        '<link rel="icon" href="data:,">'  # or a browser asks for one
        f"<title>{escape(title)}</title><style>{STYLE}</style>"
    )
    body = element("main", *content)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'
