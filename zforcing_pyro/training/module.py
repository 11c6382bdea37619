"""The training step, as Lightning's module."""

import copy

import lightning as L
import torch
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ..data import Batch
from ..estimators import SequenceELBO
from ..models import StochasticRNN
from ..models.given import GivenSequences
from .options import TrainingOptions, cyclical_weight, linear_weight


class Training(L.LightningModule):
    """Maximises an estimator's objective; the loss is in nats per sequence.

    Randomness is by counter: an update's noise is a function of seed, update and rank, so a run
    that is resumed draws what it would have drawn.

    Args:
        net: The model.
        estimator: The objective.
        options: How to train.
        seed: Seed of noise.

    Raises:
        ValueError: If an option makes no sense with the estimator.
    """

    def __init__(
        self, net: StochasticRNN, estimator: SequenceELBO, options: TrainingOptions, seed: int
    ):
        super().__init__()
        options.check(estimator)
        self.net, self.options, self.seed = net, options, seed
        self.estimator = copy.copy(estimator)  # whose weights a schedule sets
        self.kl_weight = getattr(estimator, "kl_weight", 1.0)
        if options.free_bits:
            self.estimator.free_bits = options.free_bits
            self.estimator.free_bits_per = options.free_bits_per
        self.cost_weights = {
            name: getattr(net.costs, f"{name}_weight") if net.costs else 0.0
            for name in ("aux", "reverse")
        }
        self.validated: list[Tensor] = []
        self.resumed_plateau: dict[str, float] = {}
        self.last_bound = float("nan")

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        self.seed_noise(1 + self.global_step)
        self.weigh(self.global_step)

        if self.global_step + 1 == self.trainer.max_steps:
            # The last update is validated and kept, wherever it falls between two validations.
            self.trainer.val_check_batch = self.trainer.max_steps

    def weigh(self, update: int) -> None:
        """Sets the weights that an update has by its schedule."""
        options, end = self.options, self.kl_weight
        if options.kl_period:
            cycle = options.kl_period, options.kl_share
            self.estimator.kl_weight = cyclical_weight(update, options.kl_start, *cycle, end)
        elif options.kl_start < 1:
            rise = options.kl_start, options.kl_step
            self.estimator.kl_weight = linear_weight(update, *rise, end)
        for name, end in self.cost_weights.items():
            start, step = (getattr(options, f"{name}_{part}") for part in ("start", "step"))
            if start >= 0 and end:
                setattr(self.net.costs, f"{name}_weight", linear_weight(update, start, step, end))

    def seed_noise(self, counter: int) -> None:
        torch.manual_seed((self.seed * 1_000_003 + counter) * 1_009 + self.global_rank)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        objective = self.estimator.objective(self.given(batch, self.options.frame_dropout))
        terms, steps = objective.terms, batch.lengths.sum()
        self.log_dict(
            {
                "bound": objective.bound.detach().sum() / steps,
                "kl": per_step(terms.kl_or_estimate, steps),
                "aux": per_step(terms.auxiliary, steps),
                "reverse": per_step(terms.reverse, steps),
            },
            prog_bar=True,
            batch_size=len(batch.x),
        )
        self.log("step", self.global_step + 1.0)  # Lightning's own is off by one after a resume
        return -objective.value.mean()

    def given(self, batch: Batch, frame_dropout: float = 0.0) -> GivenSequences:
        """The net with a batch."""
        x, lengths, start = batch
        state = None if start is None else self.net.initial_state(len(x), start)
        inputs = None
        if frame_dropout:
            dropped = torch.rand(x.shape[:2], device=x.device) < frame_dropout
            inputs = self.net.drop_frames(x, dropped)
        return self.net.given(x, lengths, state, inputs)

    def on_validation_epoch_start(self) -> None:
        self.seed_noise(0)
        self.validated.clear()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        _, bound, terms = self.estimator.unweighted().objective(self.given(batch))
        kl = terms.kl_or_estimate.sum(-1).mean(0)
        count = torch.ones_like(bound)
        self.validated.append(torch.stack([bound, kl, batch.lengths.to(bound), count]).sum(-1))

    def on_validation_epoch_end(self) -> None:
        total = torch.stack(self.validated).double().sum(0)
        if self.trainer.world_size > 1:
            total = self.all_gather(total).sum(0)
        bound, kl, steps, sequences = total.tolist()
        self.last_bound = bound / steps
        self.log_dict(
            {
                "step": float(self.global_step),
                "valid_bound": bound / steps,
                "valid_kl": kl / steps,
                "valid_bound_per_sequence": bound / sequences,
                "lr": self.trainer.optimizers[0].param_groups[0]["lr"],
            },
            prog_bar=False,
        )
        if self.options.lr_schedule == "halve" and not self.trainer.sanity_checking:
            self.plateau.step(bound / steps)

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
        state = self.plateau.state_dict()
        checkpoint["plateau"] = {k: v for k, v in state.items() if k in ("best", "num_bad_epochs")}
        checkpoint["last_bound"] = self.last_bound

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        self.resumed_plateau, self.last_bound = checkpoint["plateau"], checkpoint["last_bound"]

    def on_train_start(self) -> None:
        for name, value in self.resumed_plateau.items():
            setattr(self.plateau, name, value)
        stop = self.trainer.early_stopping_callback
        if stop is not None and stop.wait_count >= stop.patience:
            self.trainer.should_stop = True  # as it had when the run was left

    def teardown(self, stage: str) -> None:
        """Gives the net's costs the weights back that schedules have set."""
        for name, weight in self.cost_weights.items():
            if self.net.costs:
                setattr(self.net.costs, f"{name}_weight", weight)


def per_step(term: Tensor, steps: Tensor) -> Tensor:
    """Mean over particles, total over steps, divided by their number."""
    return term.detach().mean(0).sum() / steps
