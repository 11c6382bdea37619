"""A particle filter whose target is twisted by the future."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ..data.checks import check_choice
from .base import Objective, costs, gradient_only
from .fivo import TraceFIVO
from .particle_filter import ParticleFilter, Resampling
from .terms import Given

Learn = Literal["ratio", "value", "bound", "auxiliary"]


class TraceTwisted(TraceFIVO):
    r""":class:`TraceFIVO` with a twist r_t in its target, a function of h_t and b_{t+1}.

    .. math:: \log w_t = \log p(x_t, z_t \mid \cdot) - \log q(z_t \mid \cdot)
        + \log r_t - \log r_{t-1}, \qquad r_t \approx p(x_{t+1:T} \mid z_{\le t})

    with r = 1 before the first step and after the last. FIVO discards early what a guide that
    foresees the future has put into its weights; a twist credits it at once. Any r gives a bound.
    Twisted targets are of Lawson et al. (2022, https://arxiv.org/abs/2206.05952).

    The twist is the net's ``twist``, see :meth:`StochasticRNN.add_twist`, or that of two
    :class:`Steps`. Without one the bound is FIVO's.

    Args:
        num_particles, threshold, resampling, options: As for :class:`TraceFIVO`.
        learn: What trains the twist: telling a draw's own future from another's, by logistic loss
            (``ratio``); predicting the log-weight that a draw of the guide still gathers, see
            :meth:`squared_error` (``value``); the gradient of this bound, with that of the
            choice of ancestors, which must be independent (``bound``); or the Gaussian density of
            b_{t+1} given h_t (``auxiliary``). The first and last use draws of the model. All but
            ``bound`` train nothing else.
        form: A new twist's form: a network, or a quadratic function of h_t.
        hidden_dim: Size of the hidden layers of a new twist.
    """

    def __init__(
        self,
        num_particles: int = 4,
        threshold: float = 0.5,
        resampling: Resampling = "systematic",
        learn: Learn = "ratio",
        form: Literal["mlp", "quadratic"] = "mlp",
        hidden_dim: int = 64,
        **options,
    ):
        super().__init__(num_particles, threshold, resampling, **options)
        check_choice(Learn, learn=learn)
        if learn == "bound" and resampling != "multinomial":
            raise ValueError(
                f"'resampling' must be 'multinomial' where 'learn' is 'bound', got '{resampling}'"
            )
        self.learn, self.form, self.hidden_dim = learn, form, hidden_dim

    @property
    def description(self) -> str:
        return f"{super().description}, twist by {self.learn}"

    def prepare(self, net: Any) -> None:
        """Adds a twist to a net that has none."""
        if net.twist is None:
            net.add_twist("gaussian" if self.learn == "auxiliary" else self.form, self.hidden_dim)

    def objective(self, given: Given) -> Objective:
        particles = ParticleFilter(self.threshold, self.resampling)
        parameters, by_bound = given.twist_parameters(), self.learn == "bound"
        with frozen([] if by_bound else parameters):
            terms = given.filtered(self.num_particles, particles, twisted=True)
        self.check_draws(terms)
        bound = particles.log_evidence()
        value = bound + costs(terms)
        if torch.is_grad_enabled() and terms.twist is not None:
            if by_bound:
                extra = only_of(parameters, particles.score())
            else:
                extra = self.twist_objective(given)
            value = value + gradient_only(extra)
        return Objective(value, bound, terms)

    def twist_objective(self, given: Given) -> Tensor:
        """Returns what trains the twist, ``(batch,)``: at the batch, or at draws of the model."""
        if self.learn == "bound":
            return self.objective(given.dream()[0]).value
        if self.learn == "value":
            return only_of(given.twist_parameters(), -self.squared_error(given))
        log_twist, log_of_another, counts, counts_too = given.foreseen()
        if self.learn == "auxiliary":
            return torch.where(counts, log_twist, 0.0).sum(-1)
        score = logsigmoid(log_twist) + logsigmoid(-log_of_another)
        return torch.where(counts & counts_too, score, 0.0).sum(-1)

    def squared_error(self, given: Given) -> Tensor:
        r"""Returns the error of log r_t as a forecast of the log-weight to come, ``(batch,)``.

        .. math:: \sum_t \operatorname{Var}_k \Big[ \log r_t^{(k)}
            - \sum_{s > t} \log w_s^{(k)} \Big]

        over particles k, which do not resample. The best r_t is the mean of the product of the
        weights to come, given z_{<= t}; this is the mean of its log. What particles share cancels.
        """
        log_twist, log_weight = given.foretold(max(2, self.num_particles))
        to_come = (log_weight.flip(-1).cumsum(-1).flip(-1) - log_weight).detach()
        return (log_twist - to_come).var(0).sum(-1)


def only_of(parameters: list[Tensor], value: Tensor) -> Tensor:
    """Returns scalars with the gradient of ``value``, ``(batch,)``, by some parameters alone."""
    trained = [p for p in parameters if p.requires_grad]
    if not value.requires_grad or not trained:
        return torch.zeros_like(value)
    slopes = torch.autograd.grad(value.sum(), trained, retain_graph=True, materialize_grads=True)
    product = sum((slope * p).sum() for slope, p in zip(slopes, trained))
    return product / len(value) + torch.zeros_like(value)


@contextmanager
def frozen(parameters: list[Tensor]) -> Iterator[None]:
    """Gives parameters no gradient by what a block computes."""
    parameters = [p for p in parameters if p.requires_grad]
    try:
        for parameter in parameters:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
