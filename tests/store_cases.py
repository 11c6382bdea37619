"""Recordings that are functions of their names, to prepare stores from."""

import time
from pathlib import Path

import numpy as np


class Tones:
    """Recordings of 100 to 500 samples: ``num``, each read in ``seconds``.

    ``no_header`` names those whose header cannot be read, ``no_content`` those whose content
    cannot, ``empty`` those without samples, though their headers have some.
    """

    name, sample_rate = "tones", 8000

    def __init__(self, num: int = 12, seconds: float = 0.0, no_header=(), no_content=(), empty=()):
        self.num, self.seconds = num, seconds
        self.no_header, self.no_content, self.empty = no_header, no_content, empty

    def names(self) -> list[str]:
        return [f"chapter {i // 4}/tøne-{i:03d}.wav" for i in range(self.num)]

    def samples(self, name: str) -> int:
        if name in self.no_header:
            raise ValueError(f"'{name}' has a broken header")
        return 100 + int(name[-7:-4]) * 97 % 401

    def wave(self, name: str) -> np.ndarray:
        time.sleep(self.seconds)
        if name in self.no_content:
            raise ValueError(f"'{name}' is cut short")
        rng = np.random.default_rng(int(name[-7:-4]))
        samples = 0 if name in self.empty else self.samples(name)
        return rng.integers(-32768, 32768, samples).astype(np.int16)


def content(folder: Path) -> dict[str, bytes]:
    """All files of a folder."""
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}
