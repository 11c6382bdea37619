"""Evaluates bounds on log p(x) over a data split, and how much its latents carry."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..data import BatchSampler, SequenceSet, collate
from ..estimators import SequenceELBO
from ..estimators.particle_filter import effective_sample_size
from ..estimators.terms import Terms
from ..layers.blocks import length_mask
from ..models import StochasticRNN, evaluating
from .pareto import HIGH, MIN_PARTICLES, pareto_k

KL_IN_USE, VARIANCE_IN_USE = 0.01, 0.01
"""Thresholds of :func:`is_in_use`: nats a step, and squared units of z."""
UNREAD = dict.fromkeys(("latents", "posterior_mean", "prior_mean", "state"))
"""Fields of terms that no bound reads."""


@dataclass(frozen=True)
class Evaluation:
    """Bounds on log p(x) of a split in nats, and what its latents carry."""

    bound: str
    particles: int
    split: str
    nats_per_sequence: float
    nats_per_step: float
    standard_error: float | None
    """Standard error of ``nats_per_sequence`` over sequences; None for a single sequence."""
    kl_per_sequence: float
    kl_per_step: list[float]
    """Mean KL at step t, over the sequences that reach step t."""
    kl_per_latent: list[float] | None
    """Mean KL per step, by dimension of z; None without a closed form."""
    latents_in_use: int | None
    """Number of latents in use, see :func:`is_in_use`; None where means have no closed form."""
    num_latents: int | None
    bits_per_dim: float | None
    """Minus the bound in bits, per observed number; a symbol is one number. None for densities,
    whose bits depend on the unit of the data."""
    perplexity: float | None
    """exp(- nats per step) of symbols, infinite where it overflows; None for other data."""
    ess_mean: float | None
    """Effective sample size in 1..``particles``, mean over sequences; None for one particle."""
    ess_median: float | None
    high_pareto_k: float | None
    """Share of sequences with a k-hat above 0.7, see :func:`pareto_k`; None below 25 particles."""
    num_sequences: int
    num_steps: int
    protocol: str
    per_sequence: list[float]
    """Bound of each sequence in nats, in the order of the split: for paired differences."""

    def as_dict(self) -> dict:
        """Returns plain types for JSON, None for NaN and "inf" for infinity; no single bounds."""
        return {k: plain(v) for k, v in asdict(self).items() if k != "per_sequence"}


def plain(value):
    """Returns ``value`` with numbers that JSON lacks replaced, see :meth:`Evaluation.as_dict`."""
    if isinstance(value, list):
        return [plain(v) for v in value]
    is_infinite = isinstance(value, float) and math.isinf(value)
    return None if value != value else str(value) if is_infinite else value


def evaluate(
    net: StochasticRNN,
    sequences: SequenceSet,
    estimator: SequenceELBO,
    bound: str = "",
    split: str = "",
    note: str = "",
    batch_size: int = 64,
    max_rows: int = 1_024,
    seed: int = 0,
    progress: Callable[[int], None] = lambda num_sequences: None,
) -> Evaluation:
    r"""Returns the mean bound over the sequences of a split.

    Auxiliary and reverse costs, annealing and free bits are left out, so that models trained with
    and without them compare. Latents, KL and importance weights come from the guide's own draws,
    also where the bound resamples particles. Under ``torch.distributed`` each process evaluates its
    share of the batches; all return the numbers of a single process, to the last bit.

    Args:
        net: A stochastic RNN, on the device to evaluate on.
        sequences: The sequences or windows of a split.
        estimator: The bound; its ``num_particles`` is K.
        bound, split: Names of bound and split for the protocol.
        note: Further words for the protocol: version of the data, windows or whole sequences.
        batch_size: Sequences evaluated together.
        max_rows: Particles times sequences evaluated together: chunks of the K particles. A filter
            needs all its particles at once, so its batches have fewer sequences, down to one.
        seed: Seed of the draws.
        progress: Called with this process's number of finished sequences.

    Raises:
        ValueError: If a sequence does not fit the net.

    Example:
        >>> net = ZForcing(Bernoulli, x_dim=1, z_dim=2, h_dim=4)
        >>> split = Sequences([torch.zeros(5, 1), torch.ones(3, 1)])
        >>> evaluate(net, split, TraceIWAE(10)).num_steps
        8
    """
    estimator, bound = estimator.unweighted(), bound or type(estimator).__name__
    if not estimator.chunked:
        batch_size = max(1, min(batch_size, max_rows // estimator.num_particles))
    batches = list(BatchSampler(sequences.lengths, batch_size, shuffle=False, bucket=True))
    (rank, world), totals = rank_and_world(), {}
    for k in range(rank, len(batches), world):
        with evaluating(net, seed * 1_000_003 + k):  # the same draws on every process
            totals[k] = batch_totals(net, [sequences[i] for i in batches[k]], estimator, max_rows)
        progress(sum(map(len, batches[rank : k + 1 : world])))
    names = {"bound": bound, "particles": estimator.num_particles, "split": split}
    names["protocol"] = protocol(bound, estimator, net, note)
    result = Totals.gathered(totals).evaluation(net, **names)
    bounds = dict(zip((i for indices in batches for i in indices), result.per_sequence))
    return replace(result, per_sequence=[bounds[i] for i in range(len(sequences))])


def batch_totals(
    net: StochasticRNN, sequences: list, estimator: SequenceELBO, max_rows: int
) -> Totals:
    """Returns the totals of one batch, drawn in chunks of at most ``max_rows`` rows."""
    totals, given = Totals(), net.given_batch(collate(sequences))
    x, lengths = given.x, given.lengths
    chunk = max(1, min(estimator.num_particles, max_rows // len(x)))
    parts = []
    for first in range(0, estimator.num_particles, chunk):
        terms = given.terms(min(chunk, estimator.num_particles - first))
        totals.add_latents(terms, length_mask(lengths, x.shape[1]))
        parts.append(terms.summed() if sums_over_time(estimator) else terms._replace(**UNREAD))
        del terms  # before the next chunk is drawn
    terms = concatenated(parts)
    bound = estimator.bound(terms) if estimator.chunked else estimator.objective(given).bound
    totals.add_bounds(bound, x, lengths)
    totals.add_weights(terms.log_weight)
    return totals


def sums_over_time(estimator: SequenceELBO) -> bool:
    """Returns whether the bound may be taken from terms that are summed over time.

    A class outside this package with its own ``bound`` must declare ``linear_in_time`` too, because
    the declaration of its parent is about the parent's formula.
    """
    classes = type(estimator).__mro__
    cls = next(c for c in classes if {"bound", "linear_in_time"} & vars(c).keys())
    is_declared = "linear_in_time" in vars(cls) or cls.__module__.startswith("zforcing_pyro.")
    return is_declared and estimator.linear_in_time


def rank_and_world() -> tuple[int, int]:
    """Returns rank and world size; (0, 1) without ``torch.distributed``."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def concatenated(parts: list[Terms]) -> Terms:
    """Returns the terms of all particles from those of chunks of particles."""
    names = ["log_prior", "log_posterior", "log_emission", "auxiliary", "reverse"]
    names += [] if parts[0].kl_per_latent is None else ["kl_per_latent"]
    fields = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
    return parts[0]._replace(**fields)


def protocol(bound: str, estimator: SequenceELBO, net: StochasticRNN, note: str) -> str:
    """Returns one line that says how a number was computed."""
    floor = getattr(net.emission, "min_scale", None)
    options = f", {estimator.description}" if estimator.description else ""
    parts = [
        f"{bound} with K={estimator.num_particles}{options}",
        "nats; per sequence: mean over sequences; per step: total over total steps",
        "KL weight 1, no free bits, auxiliary and reverse costs excluded",
        note,
        "" if floor is None else f"floor of the emission's scale {floor:g}",
    ]
    return "; ".join(filter(None, parts))


def is_in_use(kl, variance):
    """Returns which latents carry information about a sequence, bool, ``(latent,)``.

    Neither condition is enough alone: a learned prior moves the posterior's mean too, and a KL can
    be the same for all data.

    Args:
        kl: Mean KL per step in nats, which must be above 0.01, ``(latent,)``; ``(1,)`` where only
            the joint KL has a closed form.
        variance: Variance over the data of (posterior mean - prior mean), which must be above 0.01,
            ``(latent,)``.
    """
    return (kl > KL_IN_USE) & (variance > VARIANCE_IN_USE)


class Totals:
    """Columns of one number per sequence, and sums over steps and sequences, float64 on the CPU."""

    def __init__(self):
        self.columns: dict[str, list[Tensor]] = defaultdict(list)
        self.sums: dict[str, Tensor] = {}

    def add_bounds(self, bound: Tensor, x: Tensor, lengths: Tensor) -> None:
        """Adds the bound of each sequence, ``(batch,)``, and counts steps and observed numbers."""
        self.columns["bound"].append(on_cpu(bound))
        observed = ~x[length_mask(lengths, x.shape[1])].isnan()
        self.add_sum("num_steps", lengths.sum()[None])
        self.add_sum("num_values", observed.sum()[None])

    def add_weights(self, log_weight: Tensor) -> None:
        """Adds ESS and k-hat of log-weights of all particles, ``(particles, batch)``."""
        log_weight = on_cpu(log_weight)
        if len(log_weight) > 1:
            self.columns["ess"].append(effective_sample_size(log_weight))
        if len(log_weight) >= MIN_PARTICLES:
            self.columns["pareto_k"].append(pareto_k(log_weight))

    def add_latents(self, terms: Terms, mask: Tensor) -> None:
        """Adds KL and moments of (posterior mean - prior mean); ``mask`` is ``(batch, time)``."""
        self.add_sum("kl_by_step", terms.kl_or_estimate.sum((0, 1)))
        self.add_sum("reach", len(terms.log_prior) * mask.sum(0))
        if terms.kl_per_latent is not None:
            self.add_sum("kl_by_latent", terms.kl_per_latent.sum((0, 1, 2)))
        if terms.posterior_mean is not None and terms.prior_mean is not None:
            shift = torch.where(mask[..., None], terms.posterior_mean - terms.prior_mean, 0.0)
            shift = on_cpu(shift)
            self.add_sum("shift", shift.sum((0, 1, 2)))
            self.add_sum("squared_shift", shift.square().sum((0, 1, 2)))

    def add_sum(self, name: str, value: Tensor) -> None:
        """Adds a vector to a sum; the shorter one of the two is padded with zeros."""
        value, total = on_cpu(value), self.sums.get(name, torch.zeros(0, dtype=torch.float64))
        size = max(len(value), len(total))
        self.sums[name] = pad(total, (0, size - len(total))) + pad(value, (0, size - len(value)))

    @classmethod
    def gathered(cls, batches: dict[int, Totals]) -> Totals:
        """Returns the totals of all processes' batches, added in the order of their numbers."""
        parts = [batches] * rank_and_world()[1]
        if len(parts) > 1:
            torch.distributed.all_gather_object(parts, batches)
        totals, batches = cls(), {k: v for part in parts for k, v in part.items()}
        for _, batch in sorted(batches.items()):
            for name, column in batch.columns.items():
                totals.columns[name] += column
            for name, value in batch.sums.items():
                totals.add_sum(name, value)
        return totals

    def evaluation(self, net: StochasticRNN, **names) -> Evaluation:
        """Returns the evaluation of all that was added; ``names`` are its remaining fields."""
        columns = {name: torch.cat(column) for name, column in self.columns.items()}
        bound, ess, k = (columns.get(name) for name in ("bound", "ess", "pareto_k"))
        num_steps, num_values = int(self.sums["num_steps"]), int(self.sums["num_values"])
        kl, kl_by_latent = self.sums["kl_by_step"], self.sums.get("kl_by_latent")
        draws = self.sums["reach"].sum()
        in_use = num_latents = None
        if kl_by_latent is not None and "shift" in self.sums:
            mean, square = (self.sums[name] / draws for name in ("shift", "squared_shift"))
            used = is_in_use(kl_by_latent / draws, square - mean**2)
            in_use, num_latents = int(used.sum()), len(mean)
        nats_per_step = bound.sum().item() / num_steps
        bits = -bound.sum().item() / num_values / math.log(2)
        perplexity = torch.tensor(-nats_per_step, dtype=torch.float64).exp().item()  # may be inf
        return Evaluation(
            nats_per_sequence=bound.mean().item(),
            nats_per_step=nats_per_step,
            standard_error=bound.std().item() / len(bound) ** 0.5 if len(bound) > 1 else None,
            kl_per_sequence=(kl.sum() * num_steps / draws / len(bound)).item(),
            kl_per_step=(kl / self.sums["reach"]).tolist(),
            kl_per_latent=None if kl_by_latent is None else (kl_by_latent / draws).tolist(),
            latents_in_use=in_use,
            num_latents=num_latents,
            bits_per_dim=bits if net.emission.support.is_discrete else None,
            perplexity=perplexity if net.emission.symbols else None,
            ess_mean=None if ess is None else ess.mean().item(),
            ess_median=None if ess is None else ess.median().item(),
            high_pareto_k=None if k is None else (k > HIGH).sum().item() / len(k),
            num_sequences=len(bound),
            num_steps=num_steps,
            per_sequence=bound.tolist(),
            **names,
        )


def on_cpu(value: Tensor) -> Tensor:
    """Returns float64 on the CPU; the order matters, because some devices have no float64."""
    return value.detach().cpu().double()
