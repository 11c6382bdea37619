"""Binarized MNIST as sequences."""

from pathlib import Path

import numpy as np
import torch

from .corpus import Floor, bernoulli_floor, read_npz
from .images import ImageCorpus
from .sequences import Sequences


class BinarizedMNIST(ImageCorpus):
    """The fixed binarisation of MNIST by Larochelle: 50,000 / 10,000 / 10,000 images of 28 x 28.

    Numbers on it do not compare with those on MNIST that is thresholded or sampled anew in every
    epoch. There are no labels. The test images are sorted by digit: never evaluate on the first
    few only. The file has uint8 arrays ``train``, ``valid`` and ``test`` of shape ``(images, 98)``,
    each row the 784 pixels packed by ``numpy.packbits``.

    Args:
        data_dir: Folder with ``binarized_mnist.npz``.
        rows: A step is a row of 28 pixels, 28 steps in all, and not one pixel of 784.
    """

    title = "binarized MNIST"
    source = (
        "https://github.com/mingzhang-yin/ARM-gradient (binarized_mnist_*.amat; pack their rows by "
        "numpy.packbits into the arrays train, valid and test)"
    )
    licence = "as MNIST (Y. LeCun and C. Cortes; commonly given as CC BY-SA 3.0)"
    size = "50,000 / 10,000 / 10,000 images"
    version = "fixed binarisation (Larochelle)"
    emission = "bernoulli"
    image_shape = (28, 28)
    files = ("binarized_mnist.npz",)

    def __init__(self, data_dir: str | Path | None = None, rows: bool = False):
        super().__init__(data_dir)
        self.x_dim, self.step = (28, "row") if rows else (1, "pixel")

    def load(self, split: str) -> Sequences:
        file = self.path("binarized_mnist.npz")
        (packed,) = read_npz(file, **{split: (np.uint8, (None, 98))})
        pixels = torch.from_numpy(np.unpackbits(packed, axis=1))
        return Sequences(list(pixels.view(len(pixels), -1, self.x_dim)))

    def floor(self) -> Floor:
        return bernoulli_floor(self.split("train"), self.split("test"), 784, "pixels")
