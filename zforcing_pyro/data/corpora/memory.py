"""Tasks of long memory, made by seed: copying symbols, and adding two marked numbers."""

import math
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..checks import check_range
from ..corpus import SPLITS, Corpus, Floor
from ..formats.columns import write_csv
from ..sequences import Sequences


class Made(Corpus):
    """Data that are made by seed, with no file behind them.

    Raw 64-bit outputs of NumPy's ``PCG64([seed, split])`` are the only source of randomness, a
    stream that never changes.

    Args:
        num_train: Sequences to train on; valid and test have 1,000 each.
        seed: Seed of the data.
        data_dir: Not read.
    """

    source = "made by seed, nothing to download"
    licence = "public domain"
    step = "step"
    view = "curve"
    suffix = ".csv"
    columns: list[str]

    def __init__(self, num_train: int = 20_000, seed: int = 0, data_dir: str | Path | None = None):
        super().__init__(data_dir)
        check_range(1, 10**7, num_train=num_train)
        check_range(0, seed=seed)
        self.num_train, self.seed = num_train, seed
        self.size = f"{num_train:,} / 1,000 / 1,000 sequences"

    def stream(self, split: str) -> tuple[int, np.random.PCG64]:
        """Returns the number of sequences of a split, and the stream that they are made from."""
        place = SPLITS.index(split)
        return 1_000 if place else self.num_train, np.random.PCG64([self.seed, place])

    def values(self, x: Tensor) -> Tensor:
        """Returns a sequence in its own units, as it is."""
        return x

    def write(self, x: Tensor, file: Path) -> None:
        write_csv(file, self.columns, x)

    def as_text(self, x: Tensor) -> str:
        values = x.cpu().reshape(-1).tolist()
        return textwrap.fill(" ".join(f"{value:.4g}" for value in values), 80)


def uniform(stream: np.random.PCG64, *shape: int) -> Tensor:
    """Returns numbers uniform in [0, 1), float32, of 24 bits each."""
    raw = stream.random_raw(math.prod(shape)).reshape(shape) >> np.uint64(40)
    return torch.from_numpy((raw * 2.0**-24).astype(np.float32))


class Copy(Made):
    """Ten symbols to remember for ``length`` steps (Hochreiter & Schmidhuber, 1997).

    A sequence is ten symbols of 1 to 8, ``length - 1`` zeros, the marker 9, and the ten symbols
    again: the answer, which alone is scored. A recurrence reads zeros in place of the answer. A
    model without a memory pays 10 ln 8 = 20.79 nats a sequence, one with a perfect memory 0.

    Args:
        length: Steps between symbols and answer.
        all_scored: Scores all steps. The first ten symbols then cost 20.79 nats whatever one does.
    """

    title = "copying"
    emission = "categorical"
    x_dim = 10
    columns = ["symbol"]

    def __init__(self, length: int = 30, all_scored: bool = False, **options: Any):
        super().__init__(**options)
        check_range(1, 10**5, length=length)
        self.length, self.all_scored = length, all_scored
        self.version = f"length {length}, seed {self.seed}" + ", all steps scored" * all_scored

    def load(self, split: str) -> Sequences:
        num, stream = self.stream(split)
        symbols = 1 + (8 * uniform(stream, num, 10)).long()
        zeros, marker = torch.zeros(num, self.length - 1, dtype=torch.long), torch.full((num, 1), 9)
        x = torch.cat([symbols, zeros, marker, symbols], 1)
        inputs = torch.cat([x[:, :-10], torch.zeros_like(symbols)], 1)
        scored = (torch.arange(x.shape[1]) >= x.shape[1] - 10) | self.all_scored
        return Sequences(list(x), inputs=list(inputs), scored=[scored] * num)

    def floor(self) -> Floor:
        nats = 10 * math.log(8) * (1 + self.all_scored)
        return Floor(nats, nats / (self.length + 20 if self.all_scored else 10), "no memory")


class Adding(Made):
    """Two marked numbers among ``length`` to be added at the end (Hochreiter & Schmidhuber, 1997).

    Inputs are (u_t, marker, 0), with u_t uniform in [0, 1] and one marker in each half. The
    observation is missing but for the third column of one more step, the sum of the marked numbers.
    Predicting 1 has a squared error of 1/6.

    Args:
        length: Numbers in a sequence.
    """

    title = "adding"
    emission = "gaussian"
    x_dim = 3
    columns = ["number", "marker", "sum"]
    missing = True

    def __init__(self, length: int = 50, **options: Any):
        super().__init__(**options)
        check_range(2, 10**5, length=length)
        self.length, self.version = length, f"length {length}, seed {self.seed}"

    def load(self, split: str) -> Sequences:
        num, stream = self.stream(split)
        u, half = uniform(stream, num, self.length), self.length // 2
        place = uniform(stream, num, 2) * torch.tensor([half, self.length - half])
        place = place.long() + torch.tensor([0, half])
        inputs = torch.zeros(num, self.length + 1, 3)
        inputs[:, :-1, 0] = u
        inputs[:, :, 1].scatter_(1, place, 1.0)
        x = torch.full_like(inputs, torch.nan)
        x[:, -1, 2] = u.gather(1, place).sum(1)
        scored = torch.arange(self.length + 1) == self.length
        return Sequences(list(x), None, None, True, list(inputs), [scored] * num)

    def floor(self) -> Floor:
        train, test = (torch.stack([s.x[-1, 2] for s in self.split(n)]) for n in ("train", "test"))
        normal = torch.distributions.Normal(train.mean(), train.std())
        nats = -normal.log_prob(test).mean().item()
        return Floor(nats, nats, "a normal sum with the training mean and deviation")
