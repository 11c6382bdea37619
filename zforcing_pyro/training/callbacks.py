"""What happens between updates: checkpoints, stopping, and what is seen of a run."""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, Checkpoint, EarlyStopping, RichProgressBar

from .checkpoint import load_checkpoint, save_checkpoint
from .module import Training
from .options import TrainingOptions

SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGUSR1
"""A person's Ctrl-C, and what a cluster sends before it takes the machine."""


class Stopped(Exception):
    """A run that was told to stop, and has saved what it goes on from.

    Args:
        signal_number: What told it.
        update: Updates done.
    """

    def __init__(self, signal_number: int, update: int):
        self.signal_number = signal_number
        name = signal.Signals(signal_number).name
        super().__init__(f"stopped by {name} after update {update}; --resume goes on from there")


class CheckpointFiles(TorchCheckpointIO):
    """How Lightning writes and reads: whole files, of which nothing is executed."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options=None) -> None:
        save_checkpoint(checkpoint, path)

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", **options) -> dict[str, Any]:
        return load_checkpoint(path, "cpu")


class Checkpoints(Checkpoint):
    """``best.ckpt`` and ``last.ckpt``, and what stops a run between two updates.

    The last one is written before each validation and after it, and at times in between; the best
    one, before the last. Lightning's own forgets the best one when its folder is moved, and stops
    at a signal without a checkpoint.

    Args:
        folder: For the checkpoints.
        options: When to write them.
    """

    def __init__(self, folder: Path, options: TrainingOptions):
        self.folder, self.options = folder, options
        self.best_bound: float | None = None
        self.received, self.saved_at = 0, time.monotonic()

    def on_train_start(self, trainer: L.Trainer, training: Training) -> None:
        if threading.current_thread() is threading.main_thread():
            # In the place of Lightning's, which gives the caller's back in the end. Its own has the
            # process that received a signal wait for the others wherever they are.
            for number in SIGNALS:
                signal.signal(number, self.receive)

    def receive(self, number: int, frame: Any) -> None:
        self.received = number

    def agreed(self, trainer: L.Trainer) -> tuple[int, bool]:
        """A signal that any process has received, and whether the clock of any says to save."""
        minutes = (time.monotonic() - self.saved_at) / 60
        due = bool(self.options.checkpoint_minutes) and minutes >= self.options.checkpoint_minutes
        if trainer.world_size == 1:
            return self.received, due
        ours = torch.tensor([float(self.received), float(due)], device=trainer.strategy.root_device)
        torch.distributed.all_reduce(ours, torch.distributed.ReduceOp.MAX)
        received, due = ours.tolist()
        return int(received), bool(due)

    def after_update(self, trainer: L.Trainer, training: Training) -> None:
        """Saves where it is time to, and stops where it was told to."""
        received, due = self.agreed(trainer)
        update, every = trainer.global_step, self.options.checkpoint_every
        if received or due or training.validates or (every and update % every == 0):
            self.save(trainer, "last")
        if received:
            raise Stopped(received, update)

    def on_validation_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        received, _ = self.agreed(trainer)
        if received:  # what it goes on from was saved before; that validates anew
            raise Stopped(received, trainer.global_step)

    def on_validation_end(self, trainer: L.Trainer, training: Training) -> None:
        bound = training.last_bound
        if self.best_bound is None or bound > self.best_bound or self.best_bound != self.best_bound:
            self.best_bound = bound
            self.save(trainer, "best")
        self.save(trainer, "last")

    def save(self, trainer: L.Trainer, name: str) -> None:
        trainer.save_checkpoint(self.folder / f"{name}.ckpt")
        self.saved_at = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        return {"best_bound": self.best_bound}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best_bound = state["best_bound"]


class EarlyStop(EarlyStopping):
    """Early stopping that does not count while the weight of the KL has still to rise."""

    def on_validation_end(self, trainer: L.Trainer, training: Training) -> None:
        if not training.annealing(trainer.global_step):
            super().on_validation_end(trainer, training)


class Bar(RichProgressBar):
    """Progress on a terminal."""

    def __init__(self):
        super().__init__(refresh_rate=10)

    def _get_train_description(self, current_epoch: int) -> str:
        return "update"  # to Lightning a run is one epoch

    def get_metrics(self, trainer: L.Trainer, training: Training) -> dict[str, str]:
        return described(training)


class LinePerValidation(Callback):
    """Progress for logs and pipes: one line a validation."""

    def on_fit_start(self, trainer: L.Trainer, training: Training) -> None:
        self.begun: tuple[float, int] | None = None

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        self.begun = self.begun or (time.monotonic(), trainer.global_step)

    def on_validation_end(self, trainer: L.Trainer, training: Training) -> None:
        if not trainer.is_global_zero:
            return
        update, num = trainer.global_step, training.num_updates
        words = [f"update {update} of {num}"]
        if self.begun and self.begun[1] < update < num:
            seconds = (time.monotonic() - self.begun[0]) / (update - self.begun[1])
            words[0] += f", {duration(seconds * (num - update))} left"
        words += [f"{name} {value}" for name, value in described(training).items()]
        print(f"{words[0]}: {' '.join(words[1:])}", file=sys.stderr, flush=True)


def described(training: Training) -> dict[str, str]:
    """The last row of the curves, for people."""
    names = {
        **{n: n for n in ("bound", "kl", "aux", "reverse", "valid_bound", "valid_kl")},
        **{"valid_latents_in_use": "in_use", "grad_norm": "grad_norm", "lr": "lr"},
    }
    shown = training.shown
    found = {text: f"{shown[name]:.4g}" for name, text in names.items() if name in shown}
    if "sequences_per_second" in shown:
        found["seq/s"] = f"{shown['sequences_per_second']:.4g}"
        found["padding"] = f"{shown['padding']:.1%}"
    if shown.get("skipped"):
        found["skipped"] = str(shown["skipped"])
    return found


def duration(seconds: float) -> str:
    """Such as ``3 min``.

    Example:
        >>> duration(50), duration(3_000), duration(100_000)
        ('50 s', '50 min', '27.8 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6_000 else f"{seconds / 3_600:.1f} h"
