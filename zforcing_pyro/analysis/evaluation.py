"""Numbers that go into a table, each with its protocol."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from ..data import BatchSampler, SequenceSet, collate
from ..emissions import Emission
from ..estimators import SequenceELBO
from ..estimators.particle_filter import effective_sample_size
from ..estimators.terms import Terms
from ..layers.blocks import length_mask
from ..models import StochasticRNN
from .pareto import HIGH, MIN_PARTICLES, pareto_k

ACTIVE_VARIANCE = 0.01
"""A latent dimension is active if its posterior mean varies more than this (Burda et al., 2016)."""


@dataclass(frozen=True)
class Evaluation:
    """Bounds on log p(x) of a split, in nats, and what its latents do."""

    bound: str
    particles: int
    split: str
    nats_per_sequence: float
    nats_per_step: float
    standard_error: float | None
    """Of ``nats_per_sequence``, over sequences; None of a single one."""
    kl_per_sequence: float
    kl_per_step: list[float]
    """Mean KL at step t of the sequences that reach it."""
    kl_per_latent: list[float] | None
    """Mean KL of a step by dimension of z."""
    active_units: int | None
    num_latents: int | None
    bits_per_dim: float
    """Minus the bound in bits, per number that was observed; a symbol is one."""
    perplexity: float | None
    """exp of minus the bound per step, of symbols only."""
    ess_mean: float | None
    """Effective sample size of a sequence's importance weights, out of ``particles``, mean over
    sequences; None of a single particle."""
    ess_median: float | None
    high_pareto_k: float | None
    """Share of sequences whose weights have a k-hat above 0.7, see :func:`pareto_k`: their bounds
    say little of log p(x). None of fewer than 25 particles."""
    num_sequences: int
    num_steps: int
    protocol: str

    def as_dict(self) -> dict:
        """Plain types, for JSON."""
        return asdict(self)


@torch.no_grad()
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
    r"""The bound of each sequence, averaged.

    Auxiliary and reverse costs are no part of it, and annealing and free bits are off, so models
    trained with and without them compare. Latents, their KL and the importance weights are those of
    the guide's own draws, also where particles are resampled.

    Where ``torch.distributed`` has been initialised, each process evaluates its share of the
    batches, and all return the numbers of the whole, to the last bit those of a single one.

    Args:
        net: A stochastic RNN, on the device where it shall run.
        sequences: What is evaluated; windows have been cut already.
        estimator: The bound; its ``num_particles`` is K.
        bound, split: Their names, for the protocol.
        note: More of the protocol: the data's version, whole sequences or windows.
        batch_size: Sequences evaluated together.
        max_rows: Particles times sequences evaluated together: K is worked off in chunks. A filter
            needs all its particles at once, so then there are fewer sequences, down to one.
        seed: Seed of the draws.
        progress: Called with the number of sequences done so far, of this process.

    Raises:
        ValueError: If a sequence is not one of the net's.

    Example:
        >>> net = ZForcing(Bernoulli, x_dim=1, z_dim=2, h_dim=4)
        >>> split = Sequences([torch.zeros(5, 1), torch.ones(3, 1)])
        >>> result = evaluate(net, split, TraceIWAE(10))
        >>> result.num_sequences, result.num_steps
        (2, 8)
    """
    estimator, device = estimator.unweighted(), next(net.parameters()).device
    num_particles = estimator.num_particles
    if not estimator.chunked:
        batch_size = max(1, min(batch_size, max_rows // num_particles))
    batches = BatchSampler(sequences.lengths, batch_size, shuffle=False, bucket=True)
    rank, world = rank_and_world()
    found, num_done = {}, 0
    devices = [device] if device.type == "cuda" else []
    with evaluating(net), torch.random.fork_rng(devices=devices):
        for k, indices in enumerate(batches):
            if k % world != rank:
                continue
            torch.manual_seed(seed * 1_000_003 + k)  # the same draw in whichever process
            totals = found[k] = Totals()
            x, lengths, start = collate([sequences[i] for i in indices]).to(device)
            x = x.to(next(net.parameters()).dtype) if x.is_floating_point() else x
            state = None if start is None else net.initial_state(len(x), start)
            given = net.given(x, lengths, state)
            chunk = max(1, min(num_particles, max_rows // len(x)))
            parts = []
            for first in range(0, num_particles, chunk):
                terms = given.terms(min(chunk, num_particles - first))
                totals.add_latents(terms, length_mask(lengths, x.shape[1]))
                parts.append(terms.summed())
                del terms  # before the next chunk is drawn
            whole = concatenated(parts)
            if estimator.chunked:
                totals.add_bounds(estimator.bound(whole), x, lengths)
            else:
                totals.add_bounds(estimator.objective(given).bound, x, lengths)
            totals.add_weights(whole.log_weight)
            num_done += len(indices)
            progress(num_done)
    return Totals.gathered(found).evaluation(
        net.emission,
        bound=bound or type(estimator).__name__,
        particles=num_particles,
        split=split,
        protocol=protocol(bound or type(estimator).__name__, estimator, net, note),
    )


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """In evaluation mode for a while, also where that ends in an error."""
    was_training = net.training
    net.eval()
    try:
        yield
    finally:
        net.train(was_training)


def rank_and_world() -> tuple[int, int]:
    """Which process this is of how many."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def concatenated(parts: list[Terms]) -> Terms:
    """Chunks of particles as one."""
    fields = {
        name: torch.cat([getattr(part, name) for part in parts])
        for name in ("log_prior", "log_posterior", "log_emission", "auxiliary", "reverse")
    }
    if parts[0].kl_per_latent is not None:
        fields["kl_per_latent"] = torch.cat([part.kl_per_latent for part in parts])
    return parts[0]._replace(**fields)


def protocol(bound: str, estimator: SequenceELBO, net: StochasticRNN, note: str) -> str:
    """What a number means, in one line."""
    floor = getattr(net.emission, "min_scale", None)
    options = f", {estimator.description}" if estimator.description else ""
    parts = [
        f"{bound} with K={estimator.num_particles}{options}",
        "nats; per sequence: mean over sequences; per step: total over total steps",
        "KL weight 1, no free bits, auxiliary and reverse costs excluded",
        note,
    ]
    if floor is not None:
        parts.append(f"floor of the emission's scale {floor:g}")
    return "; ".join(part for part in parts if part)


class Totals:
    """Sums over the batches of a split."""

    def __init__(self):
        self.bounds: list[Tensor] = []
        self.ess: list[Tensor] = []
        self.pareto_k: list[Tensor] = []
        self.num_steps = self.num_values = 0
        self.kl_sum = self.reach = torch.zeros(0, dtype=torch.float64)
        self.latent_kl = self.mean_sum = self.mean_square_sum = None

    @property
    def num_sequences(self) -> int:
        return sum(len(b) for b in self.bounds)

    def add_bounds(self, bound: Tensor, x: Tensor, lengths: Tensor) -> None:
        self.bounds.append(bound.double().cpu())
        self.num_steps += int(lengths.sum())
        self.num_values += int((~x[length_mask(lengths, x.shape[1])].isnan()).sum())

    def add_weights(self, log_weight: Tensor) -> None:
        """Diagnoses of the importance weights of all particles."""
        if len(log_weight) > 1:
            self.ess.append(effective_sample_size(log_weight.double()).cpu())
        if len(log_weight) >= MIN_PARTICLES:
            self.pareto_k.append(pareto_k(log_weight))

    def add_latents(self, terms: Terms, mask: Tensor) -> None:
        """KL by step and by latent, moments of the posterior mean; particles count alike."""
        draws = len(terms.log_prior)
        kl = terms.kl_or_estimate.double().sum((0, 1)).cpu()
        reach = draws * mask.sum(0).double().cpu()
        self.kl_sum, self.reach = padded_sum(self.kl_sum, kl), padded_sum(self.reach, reach)
        if terms.kl_per_latent is not None:
            by_latent = terms.kl_per_latent.double().sum((0, 1, 2)).cpu()
            self.latent_kl = by_latent + (0 if self.latent_kl is None else self.latent_kl)
        if terms.posterior_mean is not None:
            mean = terms.posterior_mean.double() * mask[..., None]
            first, second = mean.sum((0, 1, 2)).cpu(), mean.square().sum((0, 1, 2)).cpu()
            self.mean_sum = first + (0 if self.mean_sum is None else self.mean_sum)
            self.mean_square_sum = second + (
                0 if self.mean_square_sum is None else self.mean_square_sum
            )

    def add(self, other: Totals) -> None:
        """Adds those of another batch."""
        for name in ("bounds", "ess", "pareto_k"):
            getattr(self, name).extend(getattr(other, name))
        self.num_steps += other.num_steps
        self.num_values += other.num_values
        self.kl_sum = padded_sum(self.kl_sum, other.kl_sum)
        self.reach = padded_sum(self.reach, other.reach)
        for name in ("latent_kl", "mean_sum", "mean_square_sum"):
            ours, theirs = getattr(self, name), getattr(other, name)
            if theirs is not None:
                setattr(self, name, theirs if ours is None else ours + theirs)

    @classmethod
    def gathered(cls, batches: dict[int, Totals]) -> Totals:
        """The totals of the batches of all processes, in the order of their numbers."""
        found = [batches]
        if rank_and_world()[1] > 1:
            found = [{}] * rank_and_world()[1]
            torch.distributed.all_gather_object(found, batches)
        totals, batches = cls(), {k: v for part in found for k, v in part.items()}
        for k in sorted(batches):
            totals.add(batches[k])
        return totals

    def evaluation(self, emission: Emission, **names) -> Evaluation:
        bounds, draws = torch.cat(self.bounds), self.reach.sum()
        nats_per_step = bounds.sum().item() / self.num_steps
        ess = torch.cat(self.ess) if self.ess else None
        k = torch.cat(self.pareto_k) if self.pareto_k else None
        active = num_latents = None
        if self.mean_sum is not None:
            variance = self.mean_square_sum / draws - (self.mean_sum / draws).square()
            active, num_latents = int((variance > ACTIVE_VARIANCE).sum()), len(variance)
        error = bounds.std().item() / math.sqrt(len(bounds)) if len(bounds) > 1 else None
        return Evaluation(
            nats_per_sequence=bounds.mean().item(),
            nats_per_step=nats_per_step,
            standard_error=error,
            kl_per_sequence=(self.kl_sum.sum() * self.num_steps / draws / len(bounds)).item(),
            kl_per_step=(self.kl_sum / self.reach).tolist(),
            kl_per_latent=None if self.latent_kl is None else (self.latent_kl / draws).tolist(),
            active_units=active,
            num_latents=num_latents,
            bits_per_dim=-bounds.sum().item() / self.num_values / math.log(2),
            perplexity=math.exp(-nats_per_step) if emission.symbols else None,
            ess_mean=None if ess is None else ess.mean().item(),
            ess_median=None if ess is None else ess.median().item(),
            high_pareto_k=None if k is None else (k > HIGH).double().mean().item(),
            num_sequences=len(bounds),
            num_steps=self.num_steps,
            **names,
        )


def padded_sum(a: Tensor, b: Tensor) -> Tensor:
    """The sum of two vectors, the shorter one followed by zeros."""
    size = max(len(a), len(b))
    return torch.stack([torch.nn.functional.pad(v, (0, size - len(v))) for v in (a, b)]).sum(0)
