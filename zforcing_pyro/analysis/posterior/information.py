"""Mutual information of sequences and latents."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ...data import SequenceSet
from ...data.checks import check_range
from ...estimators.particle_filter import log_mean_exp
from ...estimators.programs import ProgramPair
from ...models import StochasticRNN
from ...models.given import GivenSequences
from ..batches import batches, check_latents, drawing, row_limit


@dataclass(frozen=True)
class MutualInformation:
    """Bounds on I_q(x; z_1..z_t) in nats, by the number t of steps."""

    lower: np.ndarray  # (time,); never above the limit
    upper: np.ndarray  # (time,); says little once the lower bound is near the limit
    standard_error: np.ndarray  # of the lower bound over sequences, (time,)
    limit: float  # log of the number of sequences compared with each other, in nats
    num_sequences: int  # full mini-batches, at most max_sequences


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
    later steps leave that mini-batch out. Where the prior reads the past, latents also repeat it:
    the information may exceed the KL, which counts only what is new in each z_t.

    Args:
        batch_size: N; time grows with its square.
        max_sequences: Largest number of sequences, evenly spread over the data.
    """
    check_range(1, batch_size=batch_size, max_sequences=max_sequences)
    check_latents(net)
    size = min(batch_size, max_sequences, len(data))
    if size < 2:
        raise ValueError(f"'data' and a mini-batch must have 2 sequences or more, got {size}")
    num = min(len(data), max_sequences) // size * size
    index = torch.linspace(0, len(data) - 1, num).long()
    data = data.subset(index[data.lengths[index].argsort(stable=True)])
    with drawing(net, seed):
        parts = [contrastive_bounds(cross_densities(given)) for given in batches(net, data, size)]
    bounds = pad_sequence(parts, padding_value=torch.nan).numpy()  # (time, mini-batch, 2, N)
    lower, upper = np.nanmean(bounds, (1, 3)).T
    reach = (~np.isnan(bounds[:, :, 0])).sum((1, 2))
    error = np.nanstd(bounds[:, :, 0], (1, 2)) / np.sqrt(reach)
    return MutualInformation(lower, upper, error, limit=float(np.log(size)), num_sequences=num)


def cross_densities(given: GivenSequences) -> Tensor:
    """Returns log q(z^i_{1:t} | x_j) for a draw of each sequence i, in nats, ``(i, j, time)``.

    Time ends with the shortest sequence. The guide's program is run rather than the net's terms,
    because emissions of N^2 pairs would cost most for a large vocabulary.
    """
    net, x, lengths = given.net, given.x, given.lengths
    z, num_steps, rows = given.terms().latents[0], int(lengths.min()), []
    pair = ProgramPair(net.model, net.guide, *given.args)
    for draws in z.split(max(1, row_limit(net, given) // len(x))):
        latents = draws[:, None].expand(-1, len(x), -1, -1).unbind(2)
        nodes = pair.run(net.guide, len(draws), {f"z_{t}": v for t, v in enumerate(latents)}).nodes
        steps = [nodes[f"z_{t}"]["fn"].log_prob(latents[t]) for t in range(num_steps)]
        rows.append(torch.stack(steps, -1).cpu().double().cumsum(-1))
    return torch.cat(rows)


def contrastive_bounds(log_density: Tensor) -> Tensor:
    """Returns lower and upper bound of each sequence in nats, ``(time, 2, sequence)``."""
    num, matched = len(log_density), log_density.diagonal()  # (time, sequence)
    is_matched = torch.eye(num, dtype=torch.bool)[..., None]
    others = log_density.masked_fill(is_matched, -torch.inf)
    lower, upper = (
        matched - log_mean_exp(density.transpose(0, 1)).T for density in (log_density, others)
    )
    return torch.stack([lower, upper - np.log(num / (num - 1))], 1)
