"""Base class of image data sets: images as sequences of pixels or rows."""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..corpus import Corpus, Floor, permutation
from ..sequences import Sequences
from .floors import bernoulli_floor


class ImageCorpus(Corpus):
    """Binary images of ``image_shape``, pixel by pixel or row by row.

    Args:
        data_dir: Folder with the files.
        rows: A step is a row of pixels, and not one pixel.
        permuted: The pixels come in the fixed order of :func:`.permutation`, in which neighbours
            are far apart. With ``rows``, a step is as many of them as a row has. Images are
            written and drawn in the usual order.
        vectors: A sequence is one step, a vector of all pixels, whatever ``rows`` says.
    """

    view = "image"
    suffix = ".png"
    emission = "bernoulli"
    image_shape: tuple[int, int] = (28, 28)
    label_names: tuple[str, ...] = ("digit",)

    def __init__(
        self,
        data_dir: str | Path | None = None,
        rows: bool = False,
        permuted: bool = False,
        vectors: bool = False,
    ):
        super().__init__(data_dir)
        self.x_dim, self.step = (self.image_shape[1], "row") if rows else (1, "pixel")
        if vectors:
            self.x_dim, self.step = math.prod(self.image_shape), "image"
        self.order: Tensor | None = None
        if permuted:
            self.order = torch.from_numpy(permutation(math.prod(self.image_shape)))
            self.version = f"{self.version}, permuted by PCG64(0)"

    def sequences(self, pixels: np.ndarray, labels: np.ndarray | None = None) -> Sequences:
        """Returns images, ``(images, ...)``, 0 or 1 row by row, as sequences ``(time, x_dim)``."""
        x = torch.from_numpy(pixels.reshape(len(pixels), -1).astype(np.uint8))
        if self.order is not None:
            x = x[:, self.order]
        digits = None if labels is None else torch.from_numpy(labels.astype(np.int64))
        return Sequences(list(x.view(len(x), -1, self.x_dim)), labels=digits)

    def floor(self) -> Floor:
        variables = math.prod(self.image_shape)
        return bernoulli_floor(self.split("train"), self.split("test"), variables, "pixels")

    def image(self, x: Tensor) -> Tensor:
        """Returns one sequence ``(time, x_dim)`` as an image of ``image_shape``."""
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
