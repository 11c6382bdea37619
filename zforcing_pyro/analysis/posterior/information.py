"""How much of a sequence its latents carry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...data import SequenceSet
from ...estimators.particle_filter import log_mean_exp
from ...estimators.programs import ProgramPair
from ...models import StochasticRNN, evaluating
from ...models.checks import check_positive
from .batches import NetBatch, batch, most_rows
from .codes import check_latents


@dataclass(frozen=True)
class MutualInformation:
    """Bounds on I_q(x; z_1..z_t) in nats, by the number t of steps."""

    lower: np.ndarray
    """``(time,)``; never above ``limit``."""
    upper: np.ndarray
    """``(time,)``; says little once the lower bound is near the limit."""
    standard_error: np.ndarray
    """Of ``lower``, over sequences, ``(time,)``."""
    limit: float
    """log of the number of sequences compared with each other, in nats."""
    num_sequences: int
    """Sequences looked at: as many of ``max_sequences`` as fill mini-batches."""


def mutual_information(
    net: StochasticRNN,
    data: SequenceSet,
    batch_size: int = 64,
    max_sequences: int = 256,
    seed: int = 0,
) -> MutualInformation:
    r"""Mutual information of sequences and their latents under the aggregate posterior.

    With a draw :math:`z^i \sim q(z \mid x_i)` of each of N sequences of a mini-batch,

    .. math:: I \ge \frac{1}{N} \sum_i \log \frac{q(z^i_{1:t} \mid x_i)}
        {\frac{1}{N} \sum_j q(z^i_{1:t} \mid x_j)}

    which is at most log N; without j = i in the sum below (and N - 1 for N) it is an upper bound
    (Poole et al., 2019, https://arxiv.org/abs/1905.06922, Sec. 2.4). Both hold in
    expectation over mini-batches. Sequences are sorted by length; t ends with the
    shortest of its mini-batch, and a mini-batch that is too short is in no average of later steps.

    Where the prior reads the past, as p(z_t | h_{t-1}) does, latents also repeat what x_1, ...,
    x_{t-1} tell: the information may then exceed the KL, which counts only what is new in each z_t.

    Args:
        net: A model with latents.
        data: Sequences.
        batch_size: N; time grows with its square.
        max_sequences: Sequences looked at, evenly spread over the data.
        seed: Of the draws.

    Raises:
        ValueError: If the net has no latents, a number is not positive, or there are fewer than 2
            sequences in a mini-batch.
    """
    check_positive(batch_size=batch_size, max_sequences=max_sequences)
    check_latents(net)
    size = min(batch_size, max_sequences, len(data))
    if size < 2:
        raise ValueError(f"'data' and a mini-batch must have 2 sequences or more, got {size}")
    num = min(len(data), max_sequences) // size * size
    chosen = torch.linspace(0, len(data) - 1, num).long()
    chosen = chosen[data.lengths[chosen].argsort(stable=True)]
    found = []
    with evaluating(net, seed):
        for indices in chosen.split(size):
            log_density = cross_densities(net, batch(net, data, indices.tolist()))
            found.append(bounds_of(log_density))
    most = max(lower.shape[1] for lower, _ in found)
    lower, upper = (np.concatenate([with_nan(b, most) for b in bounds]) for bounds in zip(*found))
    reach = (~np.isnan(lower)).sum(0)
    return MutualInformation(
        lower=np.nanmean(lower, 0),
        upper=np.nanmean(upper, 0),
        standard_error=np.nanstd(lower, 0) / np.sqrt(reach),
        limit=float(np.log(size)),
        num_sequences=num,
    )


def cross_densities(net: StochasticRNN, given: NetBatch) -> Tensor:
    """log q(z^i_{1:t} | x_j) of a draw of each sequence i, in nats, ``(i, j, time)``, float64.

    Time is that of the shortest sequence: past its end it has no latents. The guide's program is
    run, not the net's terms: emissions of N^2 pairs would cost most, of a large vocabulary.
    """
    _, x, lengths, state = given
    z, num_steps = net.terms(x, lengths, state=state).latents[0], int(lengths.min())
    pair = ProgramPair(net.model, net.guide, x, lengths, state)
    chunk = max(1, most_rows(net, x.shape[1], 4_096) // len(x))
    rows = []
    for draws in z.split(chunk):
        latents = draws[:, None].expand(-1, len(x), -1, -1).unbind(2)
        nodes = pair.run(net.guide, len(draws), {f"z_{t}": v for t, v in enumerate(latents)}).nodes
        steps = [nodes[f"z_{t}"]["fn"].log_prob(latents[t]) for t in range(num_steps)]
        rows.append(torch.stack(steps, -1).double().cumsum(-1).cpu())
    return torch.cat(rows)


def bounds_of(log_density: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bound of each sequence, nats, ``(sequence, time)``."""
    own = log_density.diagonal().T  # (sequence, time)
    is_own = torch.eye(len(log_density), dtype=torch.bool)[..., None]
    others = log_density.masked_fill(is_own, -torch.inf).transpose(0, 1)
    of_all = log_mean_exp(log_density.transpose(0, 1))
    of_others = log_mean_exp(others) + np.log(len(own) / (len(own) - 1))
    return (own - of_all).numpy(), (own - of_others).numpy()


def with_nan(bound: np.ndarray, num_steps: int) -> np.ndarray:
    """``(sequence, time)`` with NaN up to ``num_steps``."""
    rest = num_steps - bound.shape[1]
    return np.pad(bound, ((0, 0), (0, rest)), constant_values=np.nan)
