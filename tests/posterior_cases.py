"""Sequences of several lengths, and values in their padding that nothing may read."""

import torch

from zforcing_pyro.analysis import batches
from zforcing_pyro.data import Sequences
from zforcing_pyro.data.sequences import Batch
from zforcing_pyro.models import MODELS

LENGTHS = [5, 1, 4, 6, 2]
STOCHASTIC = [name for name in MODELS if name not in ("rnn", "sab", "walkback")]


def data_of(kind: str, lengths=LENGTHS, labels=None) -> Sequences:
    """Sequences of three numbers, three bits, or one of three symbols a step."""
    generator = torch.Generator().manual_seed(1)

    def sequence(n: int) -> torch.Tensor:
        if kind == "categorical":
            return torch.randint(3, (n,), generator=generator)
        if kind == "bernoulli":
            return torch.randint(2, (n, 3), generator=generator).double()
        return torch.randn(n, 3, generator=generator)

    return Sequences([sequence(n) for n in lengths], labels=labels)


def put_garbage_into_padding(monkeypatch) -> None:
    """Makes collated batches hold values past the lengths."""
    collate = batches.collate

    def with_garbage(sequences):
        x, lengths, start, *_ = collate(sequences)
        for row, length in zip(x, lengths):
            row[length:] = 2 if row.dtype == torch.int64 else 1e4
        return Batch(x, lengths, start)

    monkeypatch.setattr(batches, "collate", with_garbage)
