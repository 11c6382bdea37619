"""Fits a twist to a net as it is."""

from __future__ import annotations

import torch

from ..data import SequenceSet, collate
from ..data.checks import check_range
from ..estimators import TraceTwisted
from ..estimators.twisted import frozen
from ..models import StochasticRNN


def fit_twist(
    net: StochasticRNN,
    sequences: SequenceSet,
    estimator: TraceTwisted,
    num_updates: int,
    seed: int = 0,
    batch_size: int = 32,
    lr: float = 3e-3,
) -> None:
    """Trains the net's twist, a new one if it has none.

    Draws of the model have the lengths of ``sequences``, and the frames before them if there are
    any. Adam's rate falls linearly to 0.

    Args:
        net: The model, whose other weights stay as they are.
        sequences: Training data, at which draws of the guide are taken where ``learn`` is
            ``value``; other ways learn at draws of the model.
        estimator: Says how the twist learns, and the form of a new one.
        num_updates: Updates of the twist.
        seed: Of all draws, and of a new twist.
        batch_size: Sequences of an update.
        lr: Adam's rate at first.

    Raises:
        ValueError: If ``num_updates`` is not positive, or the net cannot learn in that way.
    """
    check_range(1, num_updates=num_updates)
    was_training = net.training
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        estimator.prepare(net.eval())
        assert net.twist is not None
        parameters = list(net.twist.parameters())
        optimiser = torch.optim.Adam(parameters, lr)
        trained = {id(parameter) for parameter in parameters}
        with frozen([p for p in net.parameters() if id(p) not in trained]):
            for update in range(num_updates):
                optimiser.param_groups[0]["lr"] = lr * (1 - update / num_updates)
                rows = torch.randint(len(sequences), (batch_size,)).tolist()
                given = net.given_batch(collate([sequences[i] for i in rows]))
                optimiser.zero_grad()
                (-estimator.twist_objective(given).mean()).backward()
                optimiser.step()
    net.zero_grad()
    net.train(was_training)
