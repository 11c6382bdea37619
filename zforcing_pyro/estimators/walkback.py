"""The objective of Variational Walkback: teach the model to undo what the guide did."""

from torch import Tensor

from .base import SequenceELBO
from .terms import Given, Terms


class TraceWalkback(SequenceELBO):
    r"""The ELBO with the gradient of Goyal et al. (2017), https://arxiv.org/abs/1711.02282.

    .. math:: \frac{1}{K} \sum_k \frac{\partial \log p(x, z_k)}{\partial \theta}

    The draws of the guide are data: no gradient flows through them, and log q has none. It is meant
    for a guide that shares the model's parameters, such as :class:`.Walkback`'s. A guide of its own
    is not trained. Costs train the networks behind them, and no draw.

    Args:
        num_particles: Number K of draws of the latents.
        options: As for :class:`SequenceELBO`.

    Raises:
        ValueError: If ``num_particles`` is not positive.
    """

    draws_are_data, trains_guide = True, False

    def bound(self, terms: Terms) -> Tensor:
        return terms.log_weight.mean(0)

    def surrogate(self, given: Given, terms: Terms) -> Tensor:
        return terms.log_joint.mean(0)
