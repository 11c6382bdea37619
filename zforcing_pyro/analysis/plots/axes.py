"""What all figures share: colours that colour-blind people tell apart, and where to draw."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, BLACK, GREY = "#CC79A7", "#56B4E9", "#000000", "#888888"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK, GREY)
"""Okabe and Ito's, https://jfly.uni-koeln.de/color/; those that differ most come first."""

MARKERS = "os^Dv<>P"
"""Beside the colours, since pages are printed in black."""

SIZE = (4.8, 3.3)
"""Of a figure in inches: as wide as a telephone shows at a size that can be read."""


def axes_or_new(axes: Axes | None, size: tuple[float, float] = SIZE) -> Axes:
    """The axes given, or those of a new figure."""
    if axes is not None:
        return axes
    return Figure(figsize=size, dpi=110, layout="constrained").subplots()


def quiet_frame(axes: Axes) -> None:
    """Only the two axes that are read, and a light grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
