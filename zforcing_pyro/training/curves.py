"""Curves of a run: sums over updates, rows of validations, and the warning of a collapse."""

import time
import warnings

import torch
from lightning.fabric import Fabric
from torch import Tensor

from ..analysis.evaluation import Evaluation
from ..estimators.base import Objective
from ..models.given import GivenSequences

TERMS = "bound", "emission", "kl", "aux", "reverse"
COUNTS = "steps", "places", "sequences"
COLUMNS = (
    "step",
    *TERMS,
    *("grad_norm", "sequences_per_second", "padding", "skipped", "lr"),
    *("kl_weight", "aux_weight", "reverse_weight"),
    *("valid_bound", "valid_bound_per_sequence", "valid_latents_in_use"),
    *("valid_kl", "valid_kl_first", "valid_kl_middle", "valid_kl_last", "valid_kl_share"),
    *("valid_target_r2", "valid_target_variance"),
    *("valid_target_r2_past", "valid_target_between"),
    *("critic_accuracy", "critic_cost", "adversary"),
)
"""Columns of ``metrics.csv``. Terms are in nats per step, totals over total steps; costs are not
weighted. Costs of a critic are in nats, minus those at equilibrium."""
PATIENCE, BEGIN = 5, 500
"""Validations in a row that are a collapse, and updates before which none is expected."""


def curve_sums(objective: Objective, given: GivenSequences) -> Tensor:
    """Returns the sums over a batch that :class:`Curves` adds up: ``(8,)``, TERMS then COUNTS.

    Steps are those that are scored, and places are scored steps and padding.
    """
    terms = objective.terms
    parts = terms.log_emission, terms.kl_or_estimate, terms.auxiliary, terms.reverse
    sums = [objective.bound.detach().sum(), *(part.detach().mean(0).sum() for part in parts)]
    num_scored = given.counted.sum()
    padding = given.counted.numel() - given.lengths.sum()
    counts = [v.to(sums[0]) for v in (num_scored, num_scored + padding)]
    return torch.stack([*sums, *counts, sums[0].new_tensor(len(given.lengths))])


class Curves:
    """Sums since the last row, kept on the device, so that a row costs one transfer."""

    def __init__(self):
        self.sums: Tensor | None = None
        self.grad_norm: Tensor | float = float("nan")
        self.restart_clock()

    def restart_clock(self) -> None:
        """Leaves the time until now out of the speed, such as that of a validation."""
        self.since, self.timed_from = time.monotonic(), 0.0

    def add(self, sums: Tensor) -> None:
        """Adds :func:`curve_sums` of one part."""
        self.sums = sums if self.sums is None else self.sums + sums

    def row(self, fabric: Fabric) -> dict[str, float]:
        """Returns the means since the last row, over all processes; every process calls it."""
        total = self.gathered(fabric)
        assert total is not None, "a row follows an update"
        sums = dict(zip((*TERMS, *COUNTS), total.tolist()))
        seconds, timed = time.monotonic() - self.since, sums["sequences"] - self.timed_from
        self.sums = None
        self.restart_clock()
        return {name: sums[name] / sums["steps"] for name in TERMS} | {
            "grad_norm": float(self.grad_norm),
            "sequences_per_second": timed / max(seconds, 1e-9),
            "padding": 1 - sums["steps"] / sums["places"],
        }

    def gathered(self, fabric: Fabric) -> Tensor | None:
        """Returns the sums of all processes; the first process goes on with them, others from 0."""
        total: Tensor | None = self.sums  # None on all processes or on none
        if total is not None and fabric.world_size > 1:
            total = fabric.all_reduce(total, reduce_op="sum")  # type: ignore[assignment]
            self.sums = total if fabric.is_global_zero else torch.zeros_like(total)
        return total

    def restore(self, sums: Tensor | None, fabric: Fabric) -> None:
        """Goes on with the sums of a checkpoint, which took no time of this process."""
        if sums is not None:
            if sums.shape != (len(TERMS) + len(COUNTS),):
                raise TypeError("sums of other curves")
            self.timed_from = sums[-1].item()
            sums = sums if fabric.is_global_zero else torch.zeros_like(sums)
            self.sums = sums.to(fabric.device)


def validation_row(result: Evaluation) -> dict[str, float]:
    """Returns the curves' row of a validation. KL is also averaged over thirds of the steps."""
    kl = result.kl_per_sequence * result.num_sequences / result.num_steps
    row = {
        "valid_bound": result.nats_per_step,
        "valid_bound_per_sequence": result.nats_per_sequence,
        "valid_kl": kl,
        "valid_kl_share": kl / max(abs(result.nats_per_step), 1e-12),
    }
    thirds = torch.tensor_split(torch.tensor(result.kl_per_step), 3)
    for name, third in zip(("first", "middle", "last"), thirds):
        row |= {f"valid_kl_{name}": third.mean().item()} if len(third) else {}
    in_use = result.latents_in_use
    return row if in_use is None else row | {"valid_latents_in_use": in_use}


def collapsed_for(result: Evaluation, update: int, before: int) -> int:
    """Returns the validations in a row without a latent in use, ``before`` and with ``result``.

    Warns once, at the fifth.
    """
    if result.latents_in_use is None or update < BEGIN:
        return before
    number = 0 if result.latents_in_use else before + 1
    if number == PATIENCE:
        warnings.warn(
            f"The latents have collapsed: in {PATIENCE} validations in a row, none of "
            f"{result.num_latents} was in use, and their KL was {result.kl_per_sequence:.3g} "
            "nats a sequence. What may help: --training.kl_start 0.2 and kl_updates; "
            "--training.free_bits 0.1; --model.aux_weight; a recurrence that knows less, by "
            "--training.frame_dropout 0.2 or a smaller --model.h_dim",
            stacklevel=2,
        )
    return number
