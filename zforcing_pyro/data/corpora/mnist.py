"""MNIST as sequences: the fixed binarisation, and the grey levels binarised with a seed."""

import math
from pathlib import Path

import numpy as np

from ..checks import check_range
from ..formats.files import read_bytes, read_npz
from ..formats.images import ImageCorpus
from ..sequences import Sequences

PARTS = ("train", "t10k")


class BinarizedMNIST(ImageCorpus):
    """The fixed binarisation of MNIST by Larochelle, without labels.

    The test images are sorted by digit: never evaluate on the first few only. The file has uint8
    arrays ``train``, ``valid`` and ``test`` of shape ``(images, 98)``, each row the 784 pixels
    packed by ``numpy.packbits``.
    """

    title = "binarized MNIST"
    source = (
        "https://github.com/mingzhang-yin/ARM-gradient (binarized_mnist_*.amat; pack their rows by "
        "numpy.packbits into the arrays train, valid and test)"
    )
    licence = "as MNIST (Y. LeCun and C. Cortes; commonly given as CC BY-SA 3.0)"
    size = "50,000 / 10,000 / 10,000 images"
    version = "fixed binarisation (Larochelle)"
    files = ("binarized_mnist.npz",)
    label_names = ()

    def load(self, split: str) -> Sequences:
        file = self.path("binarized_mnist.npz")
        (packed,) = read_npz(file, **{split: (np.uint8, (None, 98))})
        return self.sequences(np.unpackbits(packed, axis=1))


class MNIST(ImageCorpus):
    """MNIST's own files, binarised once, with labels; the last 10,000 training images are valid.

    A pixel is on with probability grey / 255, drawn once: where ``u * 255 // 2**32`` is below its
    grey level, for u the upper half of a raw 64-bit output of NumPy's ``PCG64(seed)``; the 60,000
    training images take the first outputs. Another seed or a threshold is another data set.
    The files may be gzipped, and in a folder ``mnist`` or ``MNIST/raw``.

    Args:
        threshold: Pixels are on from this grey level of 255 on, and nothing is drawn; 0 draws.
        seed: Seed of the binarisation.
    """

    title = "MNIST"
    source = "https://github.com/cvdfoundation/mnist (the four files *-ubyte.gz)"
    licence = "Y. LeCun and C. Cortes; commonly given as CC BY-SA 3.0"
    size = "50,000 / 10,000 / 10,000 images"
    files = tuple(f"{p}-{k}-ubyte" for p in PARTS for k in ("images-idx3", "labels-idx1"))

    def __init__(
        self,
        data_dir: str | Path | None = None,
        threshold: int = 0,
        seed: int = 0,
        **options: bool,
    ):
        check_range(0, 255, threshold=threshold)
        check_range(0, seed=seed)
        self.threshold, self.seed = threshold, seed
        self.version = f"binarised with seed {seed}"
        if threshold:
            self.version = f"pixels on from grey level {threshold} of 255"
        super().__init__(data_dir, **options)

    def alternatives(self, file: str) -> list[str]:
        folders = ("", "mnist/", "MNIST/raw/")
        return [f"{folder}{file}{suffix}" for folder in folders for suffix in ("", ".gz")]

    def load(self, split: str) -> Sequences:
        files = [self.path(file) for file in self.files if file.startswith(PARTS[split == "test"])]
        grey, labels = read_idx(files[0], (None, 28, 28)), read_idx(files[1], (None,))
        if len(grey) != len(labels):
            raise ValueError(
                f"'{files[0]}' and '{files[1]}' must agree, got {len(grey)} images and "
                f"{len(labels)} labels"
            )
        num_train = len(grey) - 10_000
        if split != "test" and num_train < 1:
            raise ValueError(f"'{files[0]}' must hold more than 10,000 images, got {len(grey)}")
        begin, end = {"train": (0, num_train), "valid": (num_train, None), "test": (0, None)}[split]
        # The stream goes on where the 60,000 training images have ended.
        skipped = (begin + (60_000 if split == "test" else 0)) * 784
        pixels = self.binarized(grey[begin:end].reshape(-1, 784), skipped)
        return self.sequences(pixels, labels[begin:end])

    def binarized(self, grey: np.ndarray, skipped: int) -> np.ndarray:
        """Returns grey levels as 0 and 1, by the random numbers after the first ``skipped``."""
        if self.threshold:
            return grey >= self.threshold
        stream, pixels = np.random.PCG64(self.seed).advance(skipped), np.empty_like(grey)
        for first in range(0, len(grey), 5_000):  # 31 MB of random numbers at a time
            some = grey[first : first + 5_000]
            uniform = stream.random_raw(some.size).reshape(some.shape) >> np.uint64(32)
            pixels[first : first + 5_000] = (uniform * np.uint64(255)) >> np.uint64(32) < some
        return pixels


def read_idx(file: Path, shape: tuple[int | None, ...]) -> np.ndarray:
    """Returns the bytes of an idx file, which may be gzipped: ``shape`` is None for any size.

    The file has two zeros, 8 for uint8, the number of dimensions, each as 4 bytes, and the data.
    """
    content = read_bytes(file)
    magic, start = bytes([0, 0, 8, len(shape)]), 4 + 4 * len(shape)
    if content[:4] != magic or len(content) < start:
        raise ValueError(f"'{file}' must begin as an idx file, {magic!r}, got {content[:4]!r}")
    sizes = tuple(np.frombuffer(content[4:start], ">u4").tolist())
    if any(wanted not in (n, None) for n, wanted in zip(sizes, shape)) or 0 in sizes:
        raise ValueError(f"'{file}' must be an array of shape {shape}, got {sizes}")
    expected, got = math.prod(sizes), len(content) - start
    if got != expected:
        raise ValueError(f"'{file}' must hold {expected} bytes, as its beginning says, got {got}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(sizes)
