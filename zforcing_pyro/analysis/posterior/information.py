"""Mutual information of sequences and latents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...data import SequenceSet
from ...estimators.particle_filter import log_mean_exp
from ...estimators.programs import ProgramPair
from ...models import StochasticRNN
from ...models.checks import check_positive
from ...models.given import GivenSequences
from .batches import drawing, given_batch, most_rows
from .codes import check_latents


@dataclass(frozen=True)
class MutualInformation:
    """Bounds on I_q(x; z_1..z_t) in nats, by the number t of steps."""

    lower: np.ndarray
    """Lower bound, ``(time,)``; never above ``limit``."""
    upper: np.ndarray
    """Upper bound, ``(time,)``; says little once the lower bound is near the limit."""
    standard_error: np.ndarray
    """Standard error of ``lower`` over sequences, ``(time,)``."""
    limit: float
    """log of the number of sequences compared with each other, in nats."""
    num_sequences: int
    """Sequences used: full mini-batches, at most ``max_sequences``."""


def mutual_information(
    net: StochasticRNN,
    data: SequenceSet,
    batch_size: int = 64,
    max_sequences: int = 256,
    seed: int = 0,
) -> MutualInformation:
    r"""Returns bounds on the mutual information of sequences and latents, under q.

    With a draw :math:`z^i \sim q(z \mid x_i)` for each of the N sequences of a mini-batch,

    .. math:: I \ge \frac{1}{N} \sum_i \log \frac{q(z^i_{1:t} \mid x_i)}
        {\frac{1}{N} \sum_j q(z^i_{1:t} \mid x_j)}

    which is at most log N. Without j = i in the lower sum, and N - 1 for N, it is an upper bound
    (Poole et al., 2019, https://arxiv.org/abs/1905.06922, Sec. 2.4). Both hold in expectation.
    Sequences are sorted by length; t ends with the shortest of its mini-batch, and the averages of
    later steps leave that mini-batch out.

    Where the prior reads the past, latents also repeat it: the information may exceed the KL, which
    counts only what is new in each z_t.

    Args:
        batch_size: N; time grows with its square.
        max_sequences: Largest number of sequences, evenly spread over the data.

    Raises:
        ValueError: If the net has no latents, a number is not positive, or a mini-batch has fewer
            than 2 sequences.
    """
    check_positive(batch_size=batch_size, max_sequences=max_sequences)
    check_latents(net)
    size = min(batch_size, max_sequences, len(data))
    if size < 2:
        raise ValueError(f"'data' and a mini-batch must have 2 sequences or more, got {size}")
    num = min(len(data), max_sequences) // size * size
    index = torch.linspace(0, len(data) - 1, num).long()
    index = index[data.lengths[index].argsort(stable=True)]
    bounds = np.full((2, num, int(data.lengths[index].max())), np.nan)
    with drawing(net, seed):
        for k, batch in enumerate(index.split(size)):
            log_density = cross_densities(given_batch(net, [data[i] for i in batch.tolist()]))
            both = contrastive_bounds(log_density)
            bounds[:, k * size : (k + 1) * size, : both.shape[-1]] = both
    bounds = bounds[..., ~np.isnan(bounds[0]).all(0)]
    reach = (~np.isnan(bounds[0])).sum(0)
    return MutualInformation(
        lower=np.nanmean(bounds[0], 0),
        upper=np.nanmean(bounds[1], 0),
        standard_error=np.nanstd(bounds[0], 0) / np.sqrt(reach),
        limit=float(np.log(size)),
        num_sequences=num,
    )


def cross_densities(given: GivenSequences) -> Tensor:
    """Returns log q(z^i_{1:t} | x_j) for a draw of each sequence i, in nats, ``(i, j, time)``.

    Time ends with the shortest sequence. The guide's program is run rather than the net's terms,
    because emissions of N^2 pairs would cost most for a large vocabulary.
    """
    net, x, lengths = given.net, given.x, given.lengths
    z, num_steps = given.terms().latents[0], int(lengths.min())
    pair = ProgramPair(net.model, net.guide, x, lengths, given.state)
    chunk = max(1, most_rows(net, given, 4_096) // len(x))
    rows = []
    for draws in z.split(chunk):
        latents = draws[:, None].expand(-1, len(x), -1, -1).unbind(2)
        nodes = pair.run(net.guide, len(draws), {f"z_{t}": v for t, v in enumerate(latents)}).nodes
        steps = [nodes[f"z_{t}"]["fn"].log_prob(latents[t]) for t in range(num_steps)]
        rows.append(torch.stack(steps, -1).cpu().double().cumsum(-1))
    return torch.cat(rows)


def contrastive_bounds(log_density: Tensor) -> np.ndarray:
    """Returns lower and upper bound of each sequence in nats, ``(2, sequence, time)``."""
    num = len(log_density)
    matched = log_density.diagonal().T  # (sequence, time)
    is_matched = torch.eye(num, dtype=torch.bool)[..., None]
    others = log_density.masked_fill(is_matched, -torch.inf).transpose(0, 1)
    lower = matched - log_mean_exp(log_density.transpose(0, 1))
    upper = matched - log_mean_exp(others) - np.log(num / (num - 1))
    return torch.stack([lower, upper]).numpy()
