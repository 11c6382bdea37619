"""Evaluates bounds on log p(x) over a data split, and how much its latents carry."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..data import BatchSampler, SequenceSet, collate
from ..data.checks import check_range
from ..data.sequences import as_sequences
from ..estimators import SequenceELBO, TraceTwisted
from ..estimators.particle_filter import effective_sample_size
from ..estimators.terms import Given, Terms
from ..estimators.traces import concatenated
from ..layers.blocks import length_mask
from ..models import StochasticRNN
from ..models.given import GivenSequences
from .arviz_adapter import HIGH, MIN_PARTICLES, pareto_k
from .batches import MAX_ROWS, Source, drawing, row_limit

KL_IN_USE, VARIANCE_IN_USE = 0.01, 0.01
"""Thresholds of :func:`is_in_use`: nats a step, and squared units of z."""
COLUMNS = ("bound", "ess", "pareto_k")
"""Numbers of a batch that are one per sequence; the others are sums."""

Numbers = dict[str, Tensor]
"""Columns and sums of a batch, float64 on the CPU, ``(num,)`` each."""


@dataclass(frozen=True)
class Evaluation:
    """Bounds on log p(x) of a split in nats, and what its latents carry."""

    bound: str
    particles: int
    split: str
    nats_per_sequence: float
    nats_per_step: float
    standard_error: float | None  # of nats_per_sequence; None for a single sequence
    kl_per_sequence: float
    kl_per_step: list[float]  # mean KL at step t, over the sequences that reach step t
    kl_per_latent: list[float] | None  # mean KL per step, by latent; None without a closed form
    latents_in_use: int | None  # see is_in_use; None where means have no closed form
    num_latents: int | None
    bits_per_dim: float | None
    """Minus the bound in bits per observed number or symbol; None for densities, whose bits depend
    on the unit of the data."""
    perplexity: float | None  # exp(- nats per step) of symbols, may be infinite; else None
    ess_mean: float | None  # effective sample size in 1..particles; None for one particle
    ess_median: float | None
    high_pareto_k: float | None  # share of sequences with k-hat > 0.7; None below 25 particles
    num_sequences: int
    num_steps: int
    protocol: str
    per_sequence: list[float]  # in nats, in the order of the split: for paired differences

    def as_dict(self) -> dict:
        """Returns plain types for JSON, None for NaN and "inf" for infinity; no single bounds."""
        return {k: plain(v) for k, v in asdict(self).items() if k != "per_sequence"}


def plain(value):
    """Returns ``value`` with numbers that JSON lacks replaced, see :meth:`Evaluation.as_dict`."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    is_infinite = isinstance(value, float) and math.isinf(value)
    return None if value != value else str(value) if is_infinite else value


def evaluate(
    net: Source,
    sequences: SequenceSet | Any,
    estimator: SequenceELBO,
    bound: str = "",
    split: str = "",
    note: str = "",
    batch_size: int = 64,
    max_rows: int = MAX_ROWS,
    seed: int = 0,
    progress: Callable[[int], None] = lambda num_sequences: None,
) -> Evaluation:
    r"""Returns the mean bound over the sequences of a split.

    Costs, annealing and free bits are left out, so that models trained with and without them
    compare. Latents, KL and importance weights come from the guide's own draws, also where the
    bound resamples particles. Under ``torch.distributed`` each process evaluates its share of the
    batches; all return the numbers of a single process, to the last bit.

    Args:
        net: A model; or two Pyro programs with their arguments, ``(model, guide, args)``: one
            batch, whose steps are its latent sites.
        sequences: A set, or a list, tensor or array of sequences; None for programs.
        bound, split, note: Words for the protocol: names of bound and split, version of the data.
        max_rows: Particles times sequences evaluated together: chunks of the K particles. A filter
            needs all its particles at once, so its batches have fewer sequences, down to one.
        progress: Called with this process's number of finished sequences.

    Example:
        >>> net = ZForcing(Bernoulli, x_dim=1, z_dim=2, h_dim=4)
        >>> split = Sequences([torch.zeros(5, 1), torch.ones(3, 1)])
        >>> evaluate(net, split, TraceIWAE(10)).num_steps
        8
    """
    check_range(0, 2**32 - 1, seed=seed)
    check_range(1, batch_size=batch_size, max_rows=max_rows)
    if not isinstance(estimator, SequenceELBO):
        rule = "must be one of zforcing_pyro.estimators, such as TraceIWAE(10)"
        raise ValueError(f"'estimator' {rule}, got {estimator!r:.80}")
    estimator, bound = estimator.unweighted(), bound or type(estimator).__name__
    if isinstance(net, StochasticRNN):
        sequences = as_sequences(sequences, net.emission.missing)
        if not estimator.chunked:
            batch_size = max(1, min(batch_size, max_rows // estimator.num_particles))
        sampler = BatchSampler(sequences.lengths, batch_size, shuffle=False, bucket=True)
        order = list(sampler)
    else:
        row_limit(net, sequences)  # refuses sequences
        order = [[0]]
    rank, world, parts, num_done = 0, 1, {}, 0
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    for k in range(rank, len(order), world):
        with drawing(net, seed * 1_000_003 + k):  # the same draws on every process
            if isinstance(net, StochasticRNN):
                given = net.given_batch(collate([sequences[i] for i in order[k]]))
            else:
                given = net if isinstance(net, Given) else estimator.given(*net[:2], *net[2])
            parts[k] = batch_numbers(given, estimator, max_rows)
        progress(num_done := num_done + len(order[k]))
    if world > 1:
        shares = [parts] * world
        torch.distributed.all_gather_object(shares, parts)
        parts = {k: numbers for share in shares for k, numbers in share.items()}
    total = merged([parts[k] for k in range(len(order))])
    if isinstance(net, StochasticRNN):
        places = torch.tensor([i for indices in order for i in indices]).argsort()
        total = total | {name: total[name][places] for name in COLUMNS if name in total}
    return Evaluation(
        bound=bound,
        particles=estimator.num_particles,
        split=split,
        protocol=protocol(bound, estimator, net, note),
        per_sequence=total["bound"].tolist(),
        **summary(total, net),
    )


def batch_numbers(given: Given, estimator: SequenceELBO, max_rows: int) -> Numbers:
    """Returns the numbers of one batch, drawn in chunks of at most ``max_rows`` rows."""
    mask, counts = extent(given)
    chunk = max(1, min(estimator.num_particles, max_rows // len(mask)))
    parts, sums = [], []
    for first in range(0, estimator.num_particles, chunk):
        terms = given.terms(min(chunk, estimator.num_particles - first))
        sums.append(latent_sums(terms, mask))
        if sums_over_time(estimator):
            terms = terms.summed()
        terms = terms._replace(latents=None, posterior_mean=None, prior_mean=None, state=None)
        parts.append(terms)
        del terms  # before the next chunk is drawn
    terms = concatenated(parts)
    bound = estimator.bound(terms) if estimator.chunked else estimator.objective(given).bound
    numbers = merged(sums) | counts | {"bound": on_cpu(bound)}
    log_weight = on_cpu(terms.log_weight)
    if len(log_weight) > 1:
        numbers["ess"] = effective_sample_size(log_weight)
    if len(log_weight) >= MIN_PARTICLES:
        numbers["pareto_k"] = pareto_k(log_weight)
    return numbers


def extent(given: Given) -> tuple[Tensor, Numbers]:
    """Returns which steps have latents, ``(batch, time)``, and how many steps and values count.

    The steps of programs are their latent sites, and their values are not counted.
    """
    if isinstance(given, GivenSequences):
        counted = given.counted
        values = ~given.x[counted].isnan()
        mask = length_mask(given.lengths, given.x.shape[1])
        return mask, {
            "num_steps": on_cpu(counted.sum()[None]),
            "num_values": on_cpu(values.sum()[None]),
        }
    with torch.random.fork_rng():
        terms = given.terms()  # a draw tells the sizes
    mask = torch.ones_like(terms.log_prior[0]).bool() if terms.mask is None else terms.mask[0]
    return mask, {"num_steps": on_cpu(mask.sum()[None])}


def latent_sums(terms: Terms, mask: Tensor) -> Numbers:
    """Returns sums of KL and of (posterior mean - prior mean); ``mask`` is ``(batch, time)``."""
    num = len(terms.log_prior)
    sums = {"kl_by_step": terms.kl_or_estimate.sum((0, 1)), "reach": num * mask.sum(0)}
    if terms.kl_per_latent is not None:
        sums["kl_by_latent"] = terms.kl_per_latent.sum((0, 1, 2))
    if isinstance(terms.posterior_mean, Tensor) and isinstance(terms.prior_mean, Tensor):
        shift = torch.where(mask[..., None], terms.posterior_mean - terms.prior_mean, 0.0)
        shift = on_cpu(shift)
        sums |= {"shift": shift.sum((0, 1, 2)), "squared_shift": shift.square().sum((0, 1, 2))}
    return {name: on_cpu(value) for name, value in sums.items()}


def merged(parts: list[Numbers]) -> Numbers:
    """Returns columns one after the other, and sums added; shorter sums end with zeros."""
    columns = {name: [part[name] for part in parts] for name in parts[0]}
    return {
        name: torch.cat(values) if name in COLUMNS else pad_sequence(values).sum(-1)
        for name, values in columns.items()
    }


def on_cpu(value: Tensor) -> Tensor:
    """Returns float64 on the CPU; the order matters, because some devices have no float64."""
    return value.detach().cpu().double()


def sums_over_time(estimator: SequenceELBO) -> bool:
    """Returns whether the bound may be taken from terms that are summed over time.

    A class outside this package with its own ``bound`` must declare ``linear_in_time`` too, because
    the declaration of its parent is about the parent's formula.
    """
    classes = type(estimator).__mro__
    cls = next(c for c in classes if {"bound", "linear_in_time"} & vars(c).keys())
    is_declared = "linear_in_time" in vars(cls) or cls.__module__.startswith("zforcing_pyro.")
    return is_declared and estimator.linear_in_time


def protocol(bound: str, estimator: SequenceELBO, net: Source, note: str) -> str:
    """Returns one line that says how a number was computed."""
    floor = getattr(getattr(net, "emission", None), "min_scale", None)
    untwisted = isinstance(estimator, TraceTwisted) and getattr(net, "twist", net) is None
    options = f", {estimator.description}" if estimator.description else ""
    parts = [
        f"{bound} with K={estimator.num_particles}{options}",
        "nats; per sequence: mean over sequences; per step: total over total steps",
        "KL weight 1, no free bits, auxiliary and reverse costs excluded",
        note,
        "no trained twist: r = 0, as in FIVO" if untwisted else "",
        "" if floor is None else f"floor of the emission's scale {floor:g}",
    ]
    return "; ".join(filter(None, parts))


def is_in_use(kl, variance):
    """Returns which latents carry information about a sequence, bool, ``(latent,)``.

    The mean KL per step (``(1,)`` if it is joint) and the variance over the data of (posterior mean
    - prior mean) must be above 0.01. Neither is enough alone: a learned prior moves the posterior's
    mean too, and a KL can be the same for all data.
    """
    return (kl > KL_IN_USE) & (variance > VARIANCE_IN_USE)


def summary(total: Numbers, net: Source) -> dict:
    """Returns the fields of :class:`Evaluation` that are computed from the numbers of a split."""
    bound, ess, k = total["bound"], total.get("ess"), total.get("pareto_k")
    num_steps, draws = total["num_steps"].item(), total["reach"].sum()
    kl, kl_by_latent = total["kl_by_step"], total.get("kl_by_latent")
    in_use = num_latents = None
    if kl_by_latent is not None:
        kl_by_latent = kl_by_latent / draws
        if "shift" in total:
            variance = total["squared_shift"] / draws - (total["shift"] / draws) ** 2
            used = is_in_use(kl_by_latent, variance)
            in_use, num_latents = int(used.sum()), len(used)
    nats_per_step, bits, perplexity = bound.sum() / num_steps, None, None
    if isinstance(net, StochasticRNN) and net.emission.support.is_discrete:
        bits = (-bound.sum() / total["num_values"] / math.log(2)).item()
        perplexity = (-nats_per_step).exp().item() if net.emission.symbols else None
    return {
        "nats_per_sequence": bound.mean().item(),
        "nats_per_step": nats_per_step.item(),
        "standard_error": bound.std().item() / len(bound) ** 0.5 if len(bound) > 1 else None,
        "kl_per_sequence": (kl.sum() * num_steps / draws / len(bound)).item(),
        "kl_per_step": (kl / total["reach"]).tolist(),
        "kl_per_latent": None if kl_by_latent is None else kl_by_latent.tolist(),
        "latents_in_use": in_use,
        "num_latents": num_latents,
        "bits_per_dim": bits,
        "perplexity": perplexity,
        "ess_mean": None if ess is None else ess.mean().item(),
        "ess_median": None if ess is None else ess.median().item(),
        "high_pareto_k": None if k is None else (k > HIGH).sum().item() / len(k),
        "num_sequences": len(bound),
        "num_steps": int(num_steps),
    }
