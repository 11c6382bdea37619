"""Images as sequences of pixels or rows."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..corpus import Corpus


class ImageCorpus(Corpus):
    """Images of ``image_shape``, read row by row, or with their pixels in another order.

    Attributes:
        order: Pixel, counted row by row, that is read at each place; None is row by row.
    """

    view = "image"
    suffix = ".png"
    order: Tensor | None = None

    def read(self, pixels: Tensor) -> Tensor:
        """Pixels row by row, ``(images, pixels)``, as sequences ``(images, time, x_dim)``."""
        if self.order is not None:
            pixels = pixels[:, self.order]
        return pixels.view(len(pixels), -1, self.x_dim)

    def image(self, x: Tensor) -> Tensor:
        """One sequence ``(time, x_dim)`` as an image of ``image_shape``."""
        pixels = x.reshape(-1)
        if self.order is not None:
            pixels = torch.empty_like(pixels).scatter(0, self.order.to(x.device), pixels)
        return pixels.view(self.image_shape)

    def write(self, x: Tensor, file: Path) -> None:
        from matplotlib.image import imsave  # costs half a second, and only this needs it

        imsave(file, self.image(x).float().numpy(), cmap="gray", vmin=0, vmax=1)

    def as_text(self, x: Tensor) -> str:
        shades = " .:-=+*#%@"
        levels = (self.image(x).clamp(0, 1) * (len(shades) - 1)).round().long()
        return "\n".join("".join(2 * shades[i] for i in row) for row in levels.tolist())


def permutation(num: int) -> Tensor:
    """The fixed order of ``num`` pixels: sorted by the first raw 64-bit outputs of ``PCG64(0)``.

    NumPy's bit generators have streams that never change, so this is the same order everywhere.

    Example:
        >>> permutation(784)[:8].tolist()
        [269, 11, 403, 600, 196, 608, 657, 150]
    """
    return torch.from_numpy(np.argsort(np.random.PCG64(0).random_raw(num)))
