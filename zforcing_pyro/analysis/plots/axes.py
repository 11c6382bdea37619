"""Colours, new axes, plain text and grids, shared by all figures."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, BLACK, GREY = "#CC79A7", "#56B4E9", "#000000", "#888888"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK, GREY)
"""Okabe and Ito's colours, https://jfly.uni-koeln.de/color/; the most different ones come first."""

MARKERS = "os^Dv<>P"  # tell lines apart on a black-and-white print

SIZE = (4.8, 3.3)
"""Size of a figure in inches; text is readable at the width of a telephone."""


def axes_or_new(axes: Axes | None, size: tuple[float, float] = SIZE) -> Axes:
    """Returns ``axes``, or the axes of a new figure of ``size`` inches."""
    if axes is not None:
        return axes
    return Figure(figsize=size, dpi=110, layout="constrained").subplots()


def quiet_frame(axes: Axes, legend: bool = False) -> Axes:
    """Hides the top and right spines, adds a light grid and, if wanted, a legend."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    if legend:
        axes.legend(fontsize=8)
    return axes


def plain(text: object, max_size: int = 60) -> str:
    r"""Returns a label that matplotlib draws as it is: no formula, one line, in every legend.

    Example:
        >>> plain("$x_{$"), plain("_a\n")
        ('\\$x_{\\$', ' _a�')
    """
    label = "".join(c if c.isprintable() else "\ufffd" for c in str(text))
    label = label if len(label) <= max_size else label[: max_size - 1] + "…"
    # Matplotlib leaves labels that begin with an underscore out of legends.
    return (" " + label if label.startswith("_") else label).replace("$", r"\$")


def show_grid(
    axes: Axes,
    grid: np.ndarray,
    extent: tuple[float, float, float, float],
    cmap: str = "cividis",
    vmin: float | None = 0,
    vmax: float | None = None,
) -> AxesImage:
    """Draws ``grid``, ``(rows, columns)``, with its first row at the bottom of ``extent``."""
    style = {"aspect": "auto", "origin": "lower", "interpolation": "nearest"}
    return axes.imshow(grid, cmap=cmap, vmin=vmin, vmax=vmax, extent=extent, **style)
