"""The training loop: data position, schedules, update, validation, checkpoint, early stop.

:func:`.fit` makes the loop and runs it. Callbacks read its attributes.
"""

import time
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch.optim.lr_scheduler import ReduceLROnPlateau

from .._version import __version__
from ..analysis.evaluation import Evaluation, evaluate
from ..data import SequenceSet
from ..estimators import SequenceELBO
from ..models import StochasticRNN
from ..models.steps import State
from .adversary import adversary_for
from .batches import Part, Updates
from .checkpoint import BOUNDS, COUNTERS, FORMAT, save_checkpoint
from .curves import BEGIN, Curves, collapsed_for, validation_row
from .hardware import seed_all
from .options import TrainingOptions
from .player import Player, gathered_rows, own_rows
from .schedules import Schedule, steered
from .stops import NonFinite, Signals, Stopped, diagnosis
from .targets import TargetFit, warn_of_faint_costs, warn_of_trivial_target

UPDATES_PER_ROW = 10


class Loop:
    """One run. The loss is a mean over the batch of an update, on however many processes.

    Noise is a function of seed, update and part: a resumed run draws what it would have drawn, and
    no random state is stored.

    Attributes:
        fabric, net, estimator, options, folder, num_updates, seed: The arguments.
        update: Updates done.
        row: The last values of the curves.
        best_bound, last_bound: Bounds on validation, in nats per step; None before the first.
    """

    def __init__(
        self,
        fabric: Fabric,
        net: StochasticRNN,
        estimator: SequenceELBO,
        data: Updates,
        valid: SequenceSet,
        options: TrainingOptions,
        folder: Path,
        num_updates: int,
        seed: int,
    ):
        self.fabric, self.net, self.estimator, self.options = fabric, net, estimator, options
        self.data, self.valid, self.folder = data, valid, folder
        self.num_updates, self.seed = num_updates, seed
        self.validate_every = options.validate_every or len(data.batches)
        weights = getattr(estimator, "kl_weight", 1.0), net.weights.aux, net.weights.reverse
        self.kl_weight, self.aux_weight, self.reverse_weight = options.schedules(*weights)
        self.own_share = Schedule(0.0, options.scheduled_sampling, options.sampling_updates)
        if options.free_bits:
            vars(estimator).update(free_bits=options.free_bits, free_bits_per=options.free_bits_per)
        self.player = Player(net, estimator, options)
        self.loss = fabric.setup(self.player)  # DDP around the player, on several devices
        self.adversary = adversary_for(net, options, seed)
        self.critic = self.adversary and fabric.setup(self.adversary)
        self.plateau = ReduceLROnPlateau(
            self.player.optimiser, "max", 0.5, options.patience, min_lr=options.lr_floor
        )
        self.update = self.validated_at = self.skipped = self.skipped_in_a_row = 0
        self.stale = self.collapsed = 0
        self.kl_multiplier = 1.0
        self.best_bound: float | None = None
        self.last_bound: float | None = None
        self.best_annealed: float | None = None
        self.carried: State | None = None
        self.curves, self.signals = Curves(), Signals()
        self.row: dict[str, float] = {}
        self.warned = False
        self.saved_at = time.monotonic()

    def run(self) -> None:
        """Trains to the last update, or until early stopping.

        Raises:
            Stopped: If a signal said so.
            NonFinite: If too many updates in a row had gradients that are not finite.
        """
        with self.signals:
            if self.update and self.validates and self.validated_at != self.update:
                self.validate()  # a run that was killed after its update
            while self.update < self.num_updates and not self.stops_early:
                self.set_schedules()
                self.take_update()
                self.update += 1
                self.player.average_weights(self.update)
                if self.update % UPDATES_PER_ROW == 0 or self.validates:
                    self.log_curves()
                self.fabric.call("on_update", self)
                signal_number, due = self.agree()
                every = self.options.checkpoint_every
                if signal_number or due or self.validates or (every and self.update % every == 0):
                    self.save("last")
                if signal_number:
                    raise Stopped(signal_number, self.update)
                if self.validates:
                    self.validate()
        self.fabric.call("on_end", self)

    # Schedules and data.

    def set_schedules(self) -> None:
        """Sets the weights and the learning rate of the next update."""
        if hasattr(self.estimator, "kl_weight"):
            self.estimator.kl_weight = self.kl_multiplier * self.kl_weight(self.update)
        self.net.weights.aux = self.aux_weight(self.update)
        self.net.weights.reverse = self.reverse_weight(self.update)
        self.player.own_share = self.own_share(self.update)
        if self.adversary:
            self.adversary.begin(self.update)
        rate = self.options.learning_rate(self.update, self.num_updates)
        if rate is not None:
            self.player.optimiser.param_groups[0]["lr"] = rate

    def seed_noise(self, turn: int) -> None:
        """Seeds all noise of a part of the next update."""
        part = turn * self.fabric.world_size + self.fabric.global_rank
        seed_all((self.seed * 1_000_003 + 1 + self.update) * 1_009 + part)

    def take_update(self) -> None:
        """Takes one optimiser step, or skips it on all processes if a gradient is not finite."""
        aggressive = self.update < self.options.inner_until
        for inner in range(self.options.inner_updates if aggressive else 0):
            self.gradients(1 + inner)
            self.player.step(guide_only=True)
        part, carried = self.gradients()
        norm = self.player.step()
        if norm.isfinite():
            self.skipped_in_a_row, self.curves.grad_norm = 0, norm
            if self.update == BEGIN and self.fabric.is_global_zero:
                warn_of_faint_costs(self.net, self.player.given(part, carried))
            return
        self.skipped, self.skipped_in_a_row = self.skipped + 1, self.skipped_in_a_row + 1
        if self.skipped_in_a_row >= self.options.max_skipped:
            self.seed_noise(self.options.accumulate - 1)
            with self.fabric.autocast():
                given = self.player.given(part, carried)
                reason = diagnosis(self.net, self.estimator, given, self.adversary)
            raise NonFinite(
                f"the gradient was not finite in {self.skipped_in_a_row} updates in a row, up to "
                f"update {self.update + 1}: {reason}"
            )

    def gradients(self, inner: int = 0) -> tuple[Part, State | None]:
        """Computes the gradients of an update, or of an ``inner`` one, which no curve shows.

        Returns the last part of its batch, and the state it began with.
        """
        num_turns = self.options.accumulate
        self.player.optimiser.zero_grad()
        adversary, parts = self.adversary if self.adversary and self.adversary.plays else None, []
        for turn in range(num_turns):
            part = self.data.part(self.update + inner, turn)
            self.seed_noise(inner * num_turns + turn)
            # DDP averages gradients over processes, so the loss is scaled up by their number.
            scale = self.fabric.world_size / part.num if part.counts else 0.0
            with self.fabric.no_backward_sync(self.loss, enabled=turn + 1 < num_turns):
                given = self.player.given(part, self.carried)
                loss, sums, state, compared = self.loss(given, scale, adversary)
                self.fabric.backward(loss)
            parts.append((compared, scale))
            if not inner:
                self.curves.add(sums if part.counts else torch.zeros_like(sums))
            carried = self.carried
            if part.fresh is not None:
                self.carried = {name: state[name] for name in self.net.state_dims}
        if adversary:
            adversary.learn(self.fabric, self.critic, parts)
        return part, carried

    def log_curves(self) -> None:
        """Writes the row of the updates since the last row."""
        weights = {"kl_weight": getattr(self.estimator, "kl_weight", 1.0)}
        weights |= {"aux_weight": self.net.weights.aux, "reverse_weight": self.net.weights.reverse}
        row = self.curves.row(self.fabric) | weights | {"skipped": self.skipped}
        row |= self.adversary.row() if self.adversary else {}
        self.write(row)
        if self.options.kl_target:
            self.kl_multiplier = steered(self.kl_multiplier, row["kl"], self.options.kl_target)

    def write(self, row: dict[str, float]) -> None:
        row = row | {"lr": self.player.optimiser.param_groups[0]["lr"]}
        self.row = self.row | row
        self.fabric.log_dict(row, step=self.update)

    @property
    def validates(self) -> bool:
        """True if a validation follows the last update: at intervals, and after the run's last."""
        return self.update % self.validate_every == 0 or self.update == self.num_updates

    @property
    def stops_early(self) -> bool:
        return 0 < self.options.early_stop <= self.stale

    def validate(self) -> None:
        """Evaluates the bound, follows it (rate, early stop, collapse), and saves checkpoints."""
        options = self.options
        with TargetFit(self.player.kept) as fit:
            result = self.evaluation()
        bound = result.nats_per_step
        self.validated_at, self.last_bound = self.update, bound
        row = validation_row(result) | fit.row(self.fabric)
        self.write(row)
        if self.update >= BEGIN and not self.warned:
            self.warned = warn_of_trivial_target(row)
        if options.lr_schedule == "halve" and self.update >= options.lr_warmup:
            self.plateau.step(bound)
        if self.kl_weight(self.update) == self.kl_weight.end:
            improved = self.best_annealed is None or bound > self.best_annealed
            self.best_annealed = bound if improved else self.best_annealed
            self.stale = 0 if improved else self.stale + 1
            self.collapsed = collapsed_for(result, self.update, self.collapsed)
        self.fabric.call("on_validation", self)
        best = self.best_bound
        if best is None or bound > best or best != best:  # a number is better than NaN
            self.best_bound = bound
            self.save("best")
        self.save("last")
        self.curves.restart_clock()

    def evaluation(self) -> Evaluation:
        """Returns the evaluation of the weights that would be kept, on validation data."""
        size = max(1, self.options.batch_size // self.options.accumulate)
        checks = -(-len(self.valid) // size) // self.fabric.world_size  # batches of every process

        def stop_if_told(num_sequences: int) -> None:
            nonlocal checks
            checks -= 1
            if checks >= 0 and (number := self.agree()[0]):
                raise Stopped(number, self.update)  # saved before; a resumed run validates anew

        options: dict[str, Any] = {"batch_size": size, "seed": self.seed, "progress": stop_if_told}
        with self.fabric.autocast():
            return evaluate(self.player.kept, self.valid, self.estimator, **options)

    def agree(self) -> tuple[int, bool]:
        """Returns a signal that any process received (or 0), and whether a checkpoint is due."""
        minutes = (time.monotonic() - self.saved_at) / 60
        return self.signals.agree(self.fabric, 0 < self.options.checkpoint_minutes <= minutes)

    # Checkpoints.

    def save(self, name: str) -> None:
        """Writes a checkpoint; every process calls it, and the first one writes."""
        about = {name: getattr(self, name) for name in (*COUNTERS, *BOUNDS)} | {
            "format": FORMAT,
            "version": __version__,
            "net": type(self.net).__name__,
            "plateau": [self.plateau.best, self.plateau.num_bad_epochs],
            "kl_multiplier": self.kl_multiplier,
            "carried": gathered_rows(self.carried, self.fabric),
            "curves": self.curves.gathered(self.fabric),
        }
        file = self.folder / "checkpoints" / f"{name}.ckpt"
        if self.fabric.is_global_zero:
            players = {"net": self.player.state()}
            players |= {"critic": self.adversary.state()} if self.adversary else {}
            save_checkpoint({"zforcing_pyro": about, "players": players}, file, self.folder)
        self.saved_at = time.monotonic()
        self.fabric.call("on_checkpoint", self, file)

    def restore(self, checkpoint: dict[str, Any], file: Path) -> None:
        """Goes on from a checkpoint.

        Raises ValueError if the checkpoint is not one of such a run.
        """
        about = checkpoint["zforcing_pyro"]
        try:
            self.player.restore(checkpoint["players"]["net"], file, about["net"])
            if self.adversary:
                self.adversary.restore(checkpoint["players"]["critic"])
            for name in (*COUNTERS, *BOUNDS):
                setattr(self, name, about[name])
            self.kl_multiplier = 1.0 * about.get("kl_multiplier", 1.0)
            self.plateau.best = 0.0 + about["plateau"][0]
            self.plateau.num_bad_epochs = 0 + about["plateau"][1]
            self.curves.restore(about["curves"], self.fabric)
            if about["carried"] is not None:
                rows = own_rows(about["carried"], self.fabric)
                self.carried = {name: rows[name] for name in self.net.state_dims}
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise ValueError(
                f"'{file}' must be a checkpoint of such a run, got {reason}"
            ) from error
