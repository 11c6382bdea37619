"""What a run shows of itself while it goes on."""

from __future__ import annotations

import time
import warnings

import lightning as L
import torch
from torch import Tensor

from ..analysis.evaluation import Evaluation
from ..data import Batch
from ..estimators.base import Objective

TERMS = "bound", "emission", "kl", "aux", "reverse"
COUNTS = "steps", "places", "sequences"
VALIDATION = (
    "valid_bound",
    "valid_bound_per_sequence",
    "valid_kl",
    "valid_kl_first",
    "valid_kl_middle",
    "valid_kl_last",
    "valid_kl_share",
    "valid_latents_in_use",
)
COLUMNS = (
    "step",
    *TERMS,
    "grad_norm",
    "sequences_per_second",
    "padding",
    "skipped",
    "kl_weight",
    "lr",
    *VALIDATION,
)
"""Of ``metrics.csv``; terms in nats per step, totals over total steps."""


class Curves:
    """Sums over updates, on the device, and over processes: a row is one wait for all of them."""

    def __init__(self):
        self.sums: Tensor | None = None
        self.grad_norm: Tensor | float = float("nan")
        self.restart_clock()

    def restart_clock(self) -> None:
        """What was done until now is not timed: a validation, say."""
        self.since, self.timed_from = time.monotonic(), None

    def add(self, objective: Objective, batch: Batch) -> None:
        """Adds what one process made of its part."""
        terms = objective.terms
        of_terms = terms.log_emission, terms.kl_or_estimate, terms.auxiliary, terms.reverse
        sums = [objective.bound.detach().sum()]
        sums += [term.detach().mean(0).sum() for term in of_terms]
        num, places = len(batch.lengths), batch.x.shape[0] * batch.x.shape[1]
        counts = sums[0].new_tensor([places, num])
        found = torch.cat([torch.stack([*sums, batch.lengths.sum().to(sums[0])]), counts])
        self.sums = found if self.sums is None else self.sums + found

    def row(self, trainer: L.Trainer) -> dict[str, float]:
        """What was added since the last row, of all processes; empty if that is nothing.

        Every process asks for it at the same time.
        """
        sums = self.total(trainer)
        if sums is None:
            return {}
        sums = dict(zip((*TERMS, *COUNTS), sums.tolist()))
        seconds = time.monotonic() - self.since
        timed = sums["sequences"] - (self.timed_from or 0.0)
        self.sums = None
        self.restart_clock()
        row = {name: sums[name] / sums["steps"] for name in TERMS}
        return row | {
            "grad_norm": float(self.grad_norm),
            "sequences_per_second": timed / max(seconds, 1e-9),
            "padding": 1 - sums["steps"] / sums["places"],
        }

    def total(self, trainer: L.Trainer) -> Tensor | None:
        """The sums of all processes."""
        if self.sums is None or trainer.world_size == 1:
            return self.sums
        return trainer.strategy.reduce(self.sums, reduce_op="sum")

    def gathered(self, trainer: L.Trainer) -> Tensor | None:
        """The sums of all processes, for a checkpoint; the first process goes on with them."""
        total = self.total(trainer)
        self.sums = total if trainer.is_global_zero else None
        return total

    def restore(self, sums: Tensor | None, device: torch.device) -> None:
        """Goes on with the sums of a checkpoint, which took no time of this process."""
        if sums is not None:
            self.sums = sums.to(device)
            self.timed_from = sums[-1].item()


class Watch:
    """What the latents do on validation, from one to the next."""

    PATIENCE = 5
    """Validations in a row without a latent in use that are a collapse."""
    BEGIN = 500
    """Updates before which no latent is expected to be in use."""

    def __init__(self):
        self.collapsed = 0

    def row(self, found: Evaluation) -> dict[str, float]:
        """Of the curves. The KL of a third of the steps is of those that reach it."""
        kl = found.kl_per_sequence * found.num_sequences / found.num_steps
        row = {
            "valid_bound": found.nats_per_step,
            "valid_bound_per_sequence": found.nats_per_sequence,
            "valid_kl": kl,
            "valid_kl_share": kl / max(abs(found.nats_per_step), 1e-12),
        }
        thirds = torch.tensor_split(torch.tensor(found.kl_per_step), 3)
        for name, third in zip(("first", "middle", "last"), thirds):
            if len(third):
                row[f"valid_kl_{name}"] = third.mean().item()
        if found.latents_in_use is not None:
            row["valid_latents_in_use"] = found.latents_in_use
        return row

    def warn_of_collapse(self, found: Evaluation, update: int) -> None:
        """Warns once when no latent was in use for some validations in a row."""
        if found.latents_in_use is None or update < self.BEGIN:
            return
        self.collapsed = 0 if found.latents_in_use else self.collapsed + 1
        if self.collapsed == self.PATIENCE:
            warnings.warn(
                f"The latents have collapsed: in {self.PATIENCE} validations in a row, none of "
                f"{found.num_latents} was in use, and their KL was {found.kl_per_sequence:.3g} "
                "nats a sequence. What may help: --training.kl_start 0.2 and kl_updates; "
                "--training.free_bits 0.1; --model.aux_weight; a recurrence that knows less, by "
                "--training.frame_dropout 0.2 or a smaller --model.h_dim",
                stacklevel=2,
            )
