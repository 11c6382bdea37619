"""The training step, as Lightning's module."""

from __future__ import annotations

import copy
import random
from importlib.metadata import version

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ..analysis.evaluation import Totals
from ..estimators import SequenceELBO
from ..layers.blocks import length_mask
from ..models import StochasticRNN
from ..models.given import GivenSequences
from ..models.steps import State, detached
from .batches import Part
from .checkpoint import FORMAT, check_weights
from .curves import Curves, Watch
from .nonfinite import NonFinite, diagnosis
from .options import TrainingOptions

UPDATES_PER_ROW = 10
"""Of the curves, or fewer before a validation."""


class Training(L.LightningModule):
    """Maximises an estimator's objective; the loss is in nats per sequence.

    The loss is a mean over the batch of an update, wherever its sequences are: on which process,
    and in which of the parts that one process works off. Randomness is by counter: noise is a
    function of seed, update and part, so a run that is resumed draws what it would have drawn, and
    there is no random state to store.

    Args:
        net: The model.
        estimator: The objective.
        options: How to train.
        seed: Seed of noise.
        num_updates: Updates of the run.
        updates_per_validation: Updates between validations; the last update has one, too.

    Raises:
        ValueError: If an option makes no sense with the estimator.
    """

    def __init__(
        self,
        net: StochasticRNN,
        estimator: SequenceELBO,
        options: TrainingOptions,
        seed: int,
        num_updates: int,
        updates_per_validation: int,
    ):
        super().__init__()
        options.check(estimator)
        self.net, self.options, self.seed = net, options, seed
        self.num_updates, self.updates_per_validation = num_updates, updates_per_validation
        self.estimator = copy.copy(estimator)  # whose weights a schedule sets
        self.end_kl_weight = getattr(estimator, "kl_weight", 1.0)
        if options.free_bits:
            self.estimator.free_bits = options.free_bits
            self.estimator.free_bits_per = options.free_bits_per
        self.kl_schedule = options.kl_schedule(self.end_kl_weight)
        self.end_weights = copy.copy(net.weights)
        self.aux_schedule = options.aux_schedule(net.weights.aux)
        self.reverse_schedule = options.reverse_schedule(net.weights.reverse)
        self.curves, self.watch = Curves(), Watch()
        self.shown: dict[str, float] = {}  # the last row of the curves
        self.carried: State | None = None
        self.resumed: dict = {}
        self.skipped = self.skipped_in_a_row = 0
        self.validated_at, self.last_bound = 0, float("nan")

    @property
    def part(self) -> int:
        """Which part of an update's batch this process works off now."""
        turn = self.trainer.fit_loop.epoch_loop.total_batch_idx % self.options.accumulate
        return turn * self.trainer.world_size + self.global_rank

    @property
    def validates(self) -> bool:
        """Whether a validation follows the update that was the last."""
        update = self.global_step
        return update % self.updates_per_validation == 0 or update == self.num_updates

    def annealing(self, update: int) -> bool:
        """Returns whether the weight of the KL is still to reach its end."""
        return self.kl_schedule(update) != self.kl_schedule.end

    def on_train_batch_start(self, part: Part, batch_idx: int) -> None:
        self.seed_noise(1 + self.global_step, self.part)
        self.schedule(self.global_step)
        if self.global_step + 1 == self.num_updates:
            # The last update is validated and kept, wherever it falls between two validations.
            self.trainer.val_check_batch = self.num_updates * self.options.accumulate

    def schedule(self, update: int) -> None:
        """Sets the weights and the learning rate that an update has."""
        options = self.options
        if hasattr(self.estimator, "kl_weight"):
            self.estimator.kl_weight = self.kl_schedule(update)
        self.net.weights.aux = self.aux_schedule(update)
        self.net.weights.reverse = self.reverse_schedule(update)
        rate = options.learning_rate(update, self.num_updates)
        if rate is not None:
            self.trainer.optimizers[0].param_groups[0]["lr"] = rate

    def seed_noise(self, counter: int, part: int) -> None:
        seed = ((self.seed * 1_000_003 + counter) * 1_009 + part) % 2**63  # that torch takes
        torch.manual_seed(seed)
        # For what a model of one's own may draw: here all noise is torch's.
        random.seed(seed)
        np.random.seed(seed % 2**32)

    def training_step(self, part: Part, batch_idx: int) -> Tensor:
        objective = self.estimator.objective(self.given(part, self.options.frame_dropout))
        if part.fresh is not None:
            self.carried = detached(objective.terms.state)
        # Gradients are averaged over processes, and parts are, too.
        num_parts = self.trainer.world_size * self.options.accumulate
        loss = -objective.value.sum() * (num_parts / part.num if part.counts else 0.0)
        if part.counts:
            self.curves.add(objective, part.batch)
        # A loss that is no number may have gradients that are some: now they are none, and all
        # processes see it.
        return loss * torch.where(loss.detach().isfinite(), 1.0, torch.nan)

    def given(self, part: Part, frame_dropout: float = 0.0) -> GivenSequences:
        """The net with a batch."""
        given = self.net.given_batch(part.batch)
        if part.fresh is not None and self.carried is not None:
            state, fresh = given.state or self.net.initial_state(len(given.x)), part.fresh[:, None]
            names = self.net.state_dims
            given.state = state | {k: torch.where(fresh, state[k], self.carried[k]) for k in names}
        if frame_dropout:
            dropped = torch.rand(given.x.shape[:2], device=given.x.device) < frame_dropout
            given.inputs = self.net.drop_frames(given.x, dropped)
        return given

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, **lightnings) -> None:
        """Clips, and leaves no gradient, hence no update, of one that is not finite.

        Processes have averaged their gradients by then, so all of them do the same.
        """
        norm = clip_grad_norm_(self.net.parameters(), self.options.clip)
        if norm.isfinite():
            self.skipped_in_a_row = 0
            self.curves.grad_norm = norm
        else:
            self.skipped, self.skipped_in_a_row = self.skipped + 1, self.skipped_in_a_row + 1
            optimizer.zero_grad()

    def on_train_batch_end(self, outputs, part: Part, batch_idx: int) -> None:
        if self.skipped_in_a_row >= self.options.max_skipped:
            self.seed_noise(self.global_step, self.part)
            estimator, given = self.estimator, self.given(part, self.options.frame_dropout)
            raise NonFinite(
                f"the gradient was not finite in {self.skipped_in_a_row} updates in a row, up to "
                f"update {self.global_step}: {diagnosis(self.net, estimator, given)}"
            )
        if (batch_idx + 1) % self.options.accumulate:
            return  # an update is not done
        if self.global_step % UPDATES_PER_ROW == 0 or self.validates:
            self.log_curves()
        # Here, after all callbacks: what they keep of the update is kept in a checkpoint, too.
        self.trainer.checkpoint_callback.after_update(self.trainer, self)

    def log_curves(self) -> None:
        """Writes what has been added up since the last time."""
        row = self.curves.row(self.trainer)
        if row:
            group = self.trainer.optimizers[0].param_groups[0]
            weight = getattr(self.estimator, "kl_weight", 1.0)
            self.shown = row | {"kl_weight": weight, "skipped": self.skipped}
            self.write(self.shown | {"lr": group["lr"]})

    def write(self, row: dict[str, float]) -> None:
        for logger in self.trainer.loggers:
            logger.log_metrics(row, step=self.global_step)

    def on_validation_epoch_start(self) -> None:
        self.totals: dict[int, Totals] = {}

    def validation_step(self, part: Part, batch_idx: int) -> None:
        if not part.counts:
            return
        index = batch_idx * self.trainer.world_size + self.global_rank
        self.seed_noise(0, index)  # so that it is the same draw on any number of processes
        _, bound, terms = self.estimator.unweighted().objective(self.given(part))
        totals = self.totals[index] = Totals()
        totals.add_bounds(bound, part.batch.x, part.batch.lengths)
        totals.add_latents(terms, length_mask(part.batch.lengths, part.batch.x.shape[1]))

    def on_validation_epoch_end(self) -> None:
        names = dict.fromkeys(("bound", "split", "protocol"), "")
        num_particles = self.estimator.num_particles
        totals = Totals.gathered(self.totals)
        found = totals.evaluation(self.net, particles=num_particles, **names)
        self.validated_at, self.last_bound = self.global_step, found.nats_per_step
        row = self.watch.row(found) | {"lr": self.trainer.optimizers[0].param_groups[0]["lr"]}
        self.write(row)
        self.log("valid_bound", found.nats_per_step, logger=False)  # for callbacks that monitor it
        self.shown |= row
        if self.options.lr_schedule == "halve" and self.global_step >= self.options.lr_warmup:
            self.plateau.step(found.nats_per_step)
        if not self.annealing(self.global_step):
            self.watch.warn_of_collapse(found, self.global_step)
        self.curves.restart_clock()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        options = self.options
        optimizer = torch.optim.AdamW(
            self.net.parameters(),
            lr=options.lr,
            eps=1e-5,
            weight_decay=options.weight_decay,
            fused=True,
        )
        self.plateau = ReduceLROnPlateau(
            optimizer, mode="max", factor=0.5, patience=options.patience, min_lr=options.lr_floor
        )
        return optimizer

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        plateau = self.plateau.state_dict()
        checkpoint["zforcing_pyro"] = {
            "format": FORMAT,
            "version": version("zforcing_pyro"),
            "net": type(self.net).__name__,
            "plateau": {k: v for k, v in plateau.items() if k in ("best", "num_bad_epochs")},
            "last_bound": self.last_bound,
            "validated_at": self.validated_at,
            "skipped": [self.skipped, self.skipped_in_a_row],
            "carried": self.all_rows(self.carried),
            "curves": self.curves.gathered(self.trainer),
            "unchanged_validations": self.watch.collapsed,
        }
        # Lightning restarts from here as from the end of a batch within an epoch, of which there is
        # one: whether it was the last one then is no matter, and a validation that is still due is
        # made up for by on_train_start.
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        progress["is_last_batch"] = False
        for count in ("total", "current"):
            progress[count]["completed"] = progress[count]["processed"]

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        resumed = self.resumed = checkpoint["zforcing_pyro"]
        self.last_bound, self.validated_at = resumed["last_bound"], resumed["validated_at"]
        self.skipped, self.skipped_in_a_row = resumed["skipped"]
        self.watch.collapsed = resumed["unchanged_validations"]
        weights = checkpoint["state_dict"]
        check_weights(self, weights, "last.ckpt", resumed["net"])

    def on_train_start(self) -> None:
        if self.resumed:
            for name, value in self.resumed["plateau"].items():
                setattr(self.plateau, name, value)
            self.carried = self.own_rows(self.resumed["carried"])
            if self.trainer.is_global_zero:
                self.curves.restore(self.resumed["curves"], self.device)
            if self.validated_at != self.global_step and self.validates:
                loop = self.trainer.fit_loop.epoch_loop.val_loop
                self.trainer.validating, loop.restarting = True, False
                loop.run()
                self.trainer.training = True
        stop = self.trainer.early_stopping_callback
        stopped = stop is not None and stop.wait_count >= stop.patience
        if stopped or self.global_step >= self.num_updates:
            self.trainer.should_stop = True  # as it had when the run was left
        self.curves.restart_clock()

    def all_rows(self, state: State | None) -> State | None:
        """The state that rows of all processes carry, in the order of the batch."""
        if state is None or self.trainer.world_size == 1:
            return state
        names = list(self.net.state_dims)
        found = {name: self.all_gather(state[name]) for name in names}  # (world, ..., rows, size)
        return {n: v.movedim(0, -2).flatten(-3, -2) for n, v in found.items()}

    def own_rows(self, state: State | None) -> State | None:
        """Of the rows of all processes those of this one."""
        if state is None:
            return None
        mine = slice(self.global_rank, None, self.trainer.world_size)
        return {name: value[..., mine, :].to(self.device) for name, value in state.items()}

    def teardown(self, stage: str) -> None:
        """Gives the net's costs the weights back that schedules have set."""
        self.net.weights = copy.copy(self.end_weights)
