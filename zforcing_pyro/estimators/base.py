"""Base class of all estimators, and the gradients that several of them share."""

import math
from collections.abc import Mapping
from copy import copy
from typing import Any, NamedTuple

import torch
from pyro.infer import Trace_ELBO
from pyro.util import warn_if_nan
from torch import Tensor

from ..data.checks import check_range
from ..layers.memory import keep_freed_memory
from .fast import net_of
from .programs import ProgramPair
from .terms import Given, Terms

PARTICLE_TERMS = Terms._fields[:6]
"""Fields of :class:`Terms` whose first dim is particles."""


class Objective(NamedTuple):
    """The value that a training step maximises."""

    value: Tensor
    """Bound plus costs of each sequence, in nats, ``(batch,)``; its gradient is the estimator's."""
    bound: Tensor
    """The bound alone, ``(batch,)``."""
    terms: Terms
    """The terms at the draw."""


class SequenceELBO(Trace_ELBO):
    """A Pyro ELBO that is a function of :class:`Terms`. Subclasses write :meth:`bound`.

    Pyro calls :meth:`loss_and_grads` with two programs; training calls :meth:`objective` with a
    batch. Costs are added outside any bound, and a plate's scale is applied outside any logarithm.
    Estimators whose gradient is not the bound's write :meth:`surrogate` too. Class attributes
    declare what an estimator assumes; evaluation and the contract tests read them.

    Args:
        num_particles: Number K of draws of the latents.
        options: Arguments of ``pyro.infer.Trace_ELBO``. Other than there, ``vectorize_particles``
            is True by default, and ``max_plate_nesting`` is raised where two programs nest more.
    """

    chunked: bool = True
    """True if particles may be drawn in chunks, whose terms :meth:`bound` then takes together."""
    per_sequence: bool = True
    """True if each sequence needs a bound of its own, so that no latent is shared by sequences."""
    takes_scores: bool = True
    """True if latents without a reparameterised draw are trained, by their score function."""
    draws_are_data: bool = False
    """True if no gradient flows through the draws of the guide."""
    trains_guide: bool = True
    """True if parameters of the guide alone have a gradient."""
    min_particles: int = 1
    """Least number of particles; a constructor that refuses others raises ValueError."""
    evaluate_options: tuple[str, ...] = ()
    """Arguments of the constructor on which the bound's value depends."""
    training_options: Mapping[str, float] = {}
    """Arguments for training only, with the values at which the objective is a bound."""

    def __init__(self, num_particles: int = 1, **options):
        check_range(self.min_particles, num_particles=num_particles)
        settings = {"vectorize_particles": True, "max_plate_nesting": 1} | options
        super().__init__(num_particles, **settings)  # not options themselves: for Python only
        nesting = settings["max_plate_nesting"]
        self.max_plate_nesting = 1 if math.isinf(nesting) else nesting

    @property
    def linear_in_time(self) -> bool:
        """True if terms may be summed over time before :meth:`bound`."""
        return True

    @property
    def description(self) -> str:
        """Options of the bound beside the number of particles, for the protocol of a number."""
        return ""

    def bound(self, terms: Terms) -> Tensor:
        """Returns a lower bound on log p(x) of each sequence, in nats, ``(batch,)``."""
        raise NotImplementedError

    def log_weight(self, terms: Terms) -> Tensor:
        """Returns the log-weights of the estimator's particles, ``(particles, batch)``.

        Raises:
            ValueError: If ``terms`` have another number of particles, hence another bound.
        """
        log_weight = terms.log_weight
        if len(log_weight) != self.num_particles:
            raise ValueError(
                f"'terms' must have num_particles {self.num_particles} as the estimator, got "
                f"{len(log_weight)}"
            )
        return log_weight

    def unweighted(self) -> "SequenceELBO":
        """Returns the estimator without options for training only, such as annealing."""
        estimator = copy(self)
        vars(estimator).update(self.training_options)
        return estimator

    def prepare(self, net: Any) -> None:
        """Adds to a net what the estimator reads of it, unless that is there already."""

    def objective(self, given: Given) -> Objective:
        """Returns the objective of each sequence of a batch.

        Args:
            given: Model and guide with a batch, such as ``net.given(x, lengths)``.

        Raises:
            NotImplementedError: If the estimator does not take the draws of the guide.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.draws_are_data):
            terms = given.terms(self.num_particles)
        if self.draws_are_data and torch.is_grad_enabled():
            terms = given.terms(self.num_particles, terms.latents)
        self.check_draws(terms)
        bound = self.bound(terms)
        value = total = bound + costs(terms)
        if torch.is_grad_enabled():
            surrogate = self.surrogate(given, terms)
            if surrogate is not None:
                value = bound.detach() + gradient_only(surrogate) + costs(terms)
            if terms.score:
                value = value + gradient_only(self.score_function(terms, total.detach()))
        return Objective(value, bound, terms)

    def surrogate(self, given: Given, terms: Terms) -> Tensor | None:
        """Returns the scalars whose gradient replaces the bound's, ``(batch,)``; None keeps it."""
        return None

    def check_draws(self, terms: Terms) -> None:
        """Raises NotImplementedError for draws that need a score function where none is used."""
        if terms.score and not self.takes_scores:
            raise NotImplementedError(
                f"Site '{next(iter(terms.score))}' must be reparameterised for "
                f"{type(self).__name__}; TraceELBO, TraceIWAE, TraceRenyi and TraceRWS take others"
            )

    def score_function(self, terms: Terms, value: Tensor) -> Tensor:
        r"""Returns the scalars whose gradient is the score-function term, ``(batch,)``.

        .. math:: \sum_k (L - L_{-k}) \frac{\partial \log q(z_k \mid x)}{\partial \phi}

        The baseline :math:`L_{-k}` is the objective with the terms of particle k replaced by the
        mean of the others, and 0 for one particle. For the IWAE it is VIMCO (Mnih & Rezende, 2016,
        https://arxiv.org/abs/1602.06725).
        """
        score = sum(terms.score.values(), torch.zeros(()))
        if len(score) == 1:
            return value * score[0]
        terms = terms.summed() if self.linear_in_time else terms
        gains = []
        with torch.no_grad():
            for k in range(len(score)):
                others = leave_one_out(terms, k)
                gains.append(value - self.bound(others) - costs(others))
        return (torch.stack(gains) * score).sum(0)

    def given(self, model, guide, *args, **kwargs) -> Given:
        """Returns two programs with their arguments, or the fast path that computes the same."""
        net = net_of(model, guide)
        if net is not None and (self.vectorize_particles or self.num_particles == 1):
            keep_freed_memory()
            return net.given(*args, **kwargs)
        pair = ProgramPair(model, guide, *args, max_plate_nesting=self.max_plate_nesting, **kwargs)
        pair.vectorized, pair.per_sequence = self.vectorize_particles, self.per_sequence
        return pair

    def differentiable_loss(self, model, guide, *args, **kwargs) -> Tensor:
        """Returns minus the objective, summed over sequences, in nats."""
        given = self.given(model, guide, *args, **kwargs)
        value, _, terms = self.objective(given)
        if isinstance(given, ProgramPair):
            self.max_plate_nesting = given.max_plate_nesting  # the next pair need not find out
        loss = -(terms.scale * value).sum()
        warn_if_nan(loss, "loss")
        return loss

    def loss(self, model, guide, *args, **kwargs) -> float:
        with torch.no_grad():
            return self.differentiable_loss(model, guide, *args, **kwargs).item()

    def loss_and_grads(self, model, guide, *args, **kwargs) -> float:
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        if loss.requires_grad:
            loss.backward(retain_graph=self.retain_graph)
        return loss.item()


def costs(terms: Terms) -> Tensor:
    """Returns the weighted costs of each sequence, mean over particles, in nats: ``(batch,)``."""
    # Summed over time first: programs may have several auxiliary factors a step and one reverse.
    auxiliary, reverse = terms.auxiliary.sum(-1), terms.reverse.sum(-1)
    return (terms.weights.aux * auxiliary + terms.weights.reverse * reverse).mean(0)


def gradient_only(surrogate: Tensor) -> Tensor:
    """Returns zeros that have the gradient of ``surrogate``."""
    return surrogate - surrogate.detach()


def leave_one_out(terms: Terms, k: int) -> Terms:
    """Returns the terms with those of particle k replaced by the mean of the others."""
    fields = {name: getattr(terms, name) for name in PARTICLE_TERMS}
    is_k = torch.arange(len(terms.log_prior), device=terms.log_prior.device) == k
    for name, value in fields.items():
        if value is not None:
            mean = (value.sum(0) - value[k]) / (len(value) - 1)
            fields[name] = torch.where(is_k.view(-1, *[1] * mean.dim()), mean, value)
    return terms._replace(**fields)


def leaves(latents: Any) -> Any:
    """Returns a tensor, or a dict of tensors, detached as leaves of a new graph."""
    if isinstance(latents, dict):
        return {name: leaves(z) for name, z in latents.items()}
    return latents.detach().requires_grad_()


def along_paths(log_weight: Tensor, fixed: Any, drawn: Any, sequence_dim: int | None) -> Tensor:
    r"""Returns scalars with the gradient :math:`\frac{\partial \ell}{\partial z} \frac{dz}{d\phi}`.

    They are one of each sequence, ``(batch,)``. ``log_weight`` is ell, a function of ``fixed``, the
    :func:`leaves` of ``drawn``, which are functions of the guide's parameters. ``sequence_dim`` is
    the dim of sequences in latents; None if the batch counts as one sequence.
    """
    if not isinstance(drawn, dict):
        fixed, drawn = {"z": fixed}, {"z": drawn}
    total = torch.zeros_like(log_weight.detach().sum(0))
    if not drawn:
        return total
    slopes = torch.autograd.grad(
        log_weight.sum(), list(fixed.values()), retain_graph=True, materialize_grads=True
    )
    for slope, z in zip(slopes, drawn.values()):
        product = slope * z
        product = product[None] if sequence_dim is None else product.movedim(sequence_dim, 0)
        total = total + product.flatten(1).sum(-1)
    return total
