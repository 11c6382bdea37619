"""The handwritten digits that come inside scikit-learn."""

from pathlib import Path

import numpy as np

from ..formats.images import ImageCorpus
from ..sequences import Sequences


class Digits(ImageCorpus):
    """1,797 digits of 8 x 8 pixels, pixel by pixel (64 steps of one bit) or row by row.

    A pixel is on where its grey level, 0 to 16, is 8 or more. Split: the images are sorted by the
    first 1,797 raw 64-bit outputs of NumPy's ``PCG64(0)``, a stream that never changes; the first
    1,297 are train, the next 250 valid, the last 250 test. Labels are the digits, 0 to 9.

    Args:
        data_dir: Not needed, there are no files.
        rows: A step is a row of 8 pixels, 8 steps in all.

    Example:
        >>> train = Digits().split("train")
        >>> len(train), train[0].x.shape, train.labels[:3].tolist()
        (1297, torch.Size([64, 1]), [0, 6, 3])
    """

    title = "8x8 digits"
    source = "scikit-learn (sklearn.datasets.load_digits), nothing to download"
    licence = "CC BY 4.0 (UCI, Optical Recognition of Handwritten Digits)"
    size = "1,297 / 250 / 250 images"
    version = "scikit-learn digits, pixels on from grey level 8 of 16"
    image_shape = (8, 8)
    label_names = ("digit",)

    def __init__(self, data_dir: str | Path | None = None, rows: bool = False):
        super().__init__(data_dir, rows)

    def load(self, split: str) -> Sequences:
        from sklearn.datasets import load_digits  # costs half a second, and only this needs it

        grey, labels = load_digits(return_X_y=True)
        order = np.argsort(np.random.PCG64(0).random_raw(len(grey)))
        index = dict(zip(("train", "valid", "test"), np.split(order, [1297, 1547])))[split]
        return self.sequences(grey[index] >= 8, labels[index])
