"""One run of training: from data and a net to a folder with checkpoints."""

from __future__ import annotations

import csv
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import lightning as L
import pyro
import torch
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    ModelCheckpoint,
    RichProgressBar,
    WeightAveraging,
)
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from ..data import BatchSampler, Sequences, collate
from ..estimators import SequenceELBO
from ..models import StochasticRNN
from ..models.checks import check_sequences
from .checkpoint import load_weights
from .module import Training
from .options import TrainingOptions


class Updates(Sampler):
    """The batches of all updates of a run, epoch after epoch, from any update on.

    To Lightning a run is one epoch: then there is one counter, and nothing to get wrong at the
    border of two.

    Args:
        sampler: The batches of an epoch.
        num_updates: Updates of the run.
    """

    sampler = property(lambda self: self)

    def __init__(self, batches: BatchSampler, num_updates: int):
        super().__init__()
        self.batches, self.num_updates, self.start = batches, num_updates, 0

    def __len__(self) -> int:
        return self.num_updates

    def __iter__(self) -> Iterator[list[int]]:
        update, self.start = self.start, 0
        while update < self.num_updates:
            epoch, self.batches.start = divmod(update, len(self.batches))
            self.batches.set_epoch(epoch)
            for batch in self.batches:
                yield batch
                update += 1
                if update == self.num_updates:
                    return


class ResumableLoader(DataLoader):
    """A loader whose position Lightning stores and restores, by duck typing."""

    trainer: L.Trainer

    def state_dict(self) -> dict:
        # What training consumed, not what workers prefetched.
        return {"update": self.trainer.fit_loop.epoch_loop.batch_progress.total.processed}

    def load_state_dict(self, state: dict) -> None:
        self.batch_sampler.start = state["update"]


class Bar(RichProgressBar):
    """Progress on a terminal."""

    def _get_train_description(self, current_epoch: int) -> str:
        return "update"  # to Lightning a run is one epoch


class LinePerValidation(Callback):
    """Progress for logs and pipes: one line a validation."""

    def on_validation_end(self, trainer: L.Trainer, training: Training) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        m = trainer.callback_metrics
        line = f"update {trainer.global_step} of {trainer.max_steps}:"
        for name in ("bound", "kl", "aux", "reverse", "valid_bound", "valid_kl", "lr"):
            if name in m:
                line += f" {name} {m[name].item():.4g}"
        print(line, file=sys.stderr, flush=True)


def fit(
    net: StochasticRNN,
    estimator: SequenceELBO,
    train: Sequences,
    valid: Sequences,
    folder: str | Path,
    options: TrainingOptions = TrainingOptions(),
    max_updates: int = 10_000,
    seed: int = 0,
    resume: bool = False,
) -> float:
    """Trains ``net`` in place and leaves it with the weights that ``options.keep`` names.

    Writes ``checkpoints/best.ckpt`` and ``checkpoints/last.ckpt`` and ``metrics.csv`` into
    ``folder``. Every number is in nats per step, totals over total steps.

    Args:
        net: The model.
        estimator: What is maximised, plus the net's costs.
        train, valid: Sequences.
        folder: Where the run is kept.
        options: How to train.
        max_updates: Updates of the parameters in all.
        seed: Seed of batches and noise.
        resume: Whether to go on from ``checkpoints/last.ckpt`` if it is there.

    Returns:
        Bound on validation of the weights that are kept, in nats per step, at KL weight 1 and
        without costs.
    """
    options.check(estimator)
    if max_updates < 1:
        raise ValueError(f"'max_updates' must be positive, got {max_updates}")
    if options.frame_dropout and not net.reads_inputs:
        raise ValueError(
            f"'frame_dropout' must be 0 for {type(net).__name__}, whose model reads no frame, got "
            f"{options.frame_dropout}"
        )
    for split in (train, valid):
        x, lengths, _ = collate([split[0]])
        check_sequences(x, lengths, net.emission)
    folder, last = Path(folder), Path(folder, "checkpoints", "last.ckpt")
    resume = resume and last.exists()
    keeping = {"dirpath": last.parent, "enable_version_counter": False}
    best = ModelCheckpoint(filename="best", monitor="valid_bound", mode="max", **keeping)
    latest = ModelCheckpoint(filename="last", monitor=None, save_top_k=1, **keeping)
    on_terminal = sys.stderr.isatty() or sys.stdout.isatty()
    callbacks = [best, latest, Bar() if on_terminal else LinePerValidation()]
    if options.ema_decay:
        callbacks.append(WeightAveraging(avg_fn=partial(moving_average, decay=options.ema_decay)))
    if options.early_stop:
        callbacks.append(EarlyStopping("valid_bound", mode="max", patience=options.early_stop))
    if 0 < options.validate_on < len(valid):
        order = torch.randperm(len(valid), generator=torch.Generator().manual_seed(0))
        valid = valid.subset(order[: options.validate_on])
    train = train.windows(options.window) if options.window else train
    valid = valid.windows(options.eval_window) if options.eval_window else valid
    if options.precision == "64-true":
        net.double()
    training = Training(net, estimator, options, seed)
    with quiet(), as_before(options), pyro.validation_enabled(False):
        trainer = trainer_of(
            accelerator=options.accelerator,
            devices=1,
            precision=options.precision,
            max_steps=max_updates,
            gradient_clip_val=options.clip,
            check_val_every_n_epoch=None,
            val_check_interval=1,
            logger=metrics_logger(folder, last if resume else None),
            callbacks=callbacks,
            log_every_n_steps=10,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            enable_model_summary=False,
            enable_progress_bar=on_terminal,
        )
        batches = BatchSampler(
            train.lengths,
            options.batch_size,
            options.shuffle,
            options.bucket,
            seed,
            trainer.global_rank,
            trainer.world_size,
        )
        loader = ResumableLoader(
            train, batch_sampler=Updates(batches, max_updates), collate_fn=collate
        )
        loader.trainer = trainer
        every = options.validate_every or len(batches)
        trainer.val_check_interval = min(every, max_updates)
        valid_batches = BatchSampler(valid.lengths, options.batch_size, shuffle=False, bucket=True)
        trainer.fit(
            training,
            loader,
            DataLoader(valid, batch_sampler=valid_batches, collate_fn=collate),
            ckpt_path=last if resume else None,
            weights_only=True,
        )
    load_weights(net, last.with_stem(options.keep))
    return training.last_bound if options.keep == "last" else best.best_model_score.item()


def trainer_of(**options) -> L.Trainer:
    """Lightning's trainer; what it cannot be is the caller's mistake.

    Raises:
        ValueError: If this machine has no such accelerator.
    """
    try:
        return L.Trainer(**options)
    except MisconfigurationException as error:
        raise ValueError(f"'accelerator' must be one of this machine, got: {error}") from error


@contextmanager
def as_before(options: TrainingOptions) -> Iterator[None]:
    """Threads, precision and random numbers as options have them; the caller's come back."""
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    with torch.random.fork_rng():
        torch.set_num_threads(options.num_threads or threads)
        torch.set_float32_matmul_precision(options.matmul_precision)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_float32_matmul_precision(precision)


def moving_average(average: Tensor, weights: Tensor, updates: Tensor, decay: float) -> Tensor:
    """An exponential moving average whose decay rises with time, to forget the initial weights."""
    return average.lerp(weights, 1 - min(decay, (1 + int(updates)) / (10 + int(updates))))


def metrics_logger(folder: Path, resumed: Path | None) -> CSVLogger:
    """``metrics.csv`` in ``folder``; goes on with what it holds up to a checkpoint's update."""
    file, rows = folder / "metrics.csv", []
    if resumed and file.exists():
        step = torch.load(resumed, map_location="cpu", weights_only=True)["global_step"]
        with open(file, newline="") as f:
            rows = [r for r in csv.DictReader(f) if float(r["step"]) <= step]
    logger = CSVLogger(folder.parent, name=folder.name, version="", flush_logs_every_n_steps=50)
    for row in rows:
        logger.experiment.metrics.append({k: v for k, v in row.items() if v})
    if rows:
        logger.save()
    return logger


class quiet:
    """Keeps Lightning's advertisements and advice about workers off the screen."""

    def __enter__(self) -> None:
        self.logger = logging.getLogger("lightning.pytorch")
        self.level = self.logger.level
        self.logger.setLevel(logging.ERROR)
        self.warnings = warnings.catch_warnings()
        self.warnings.__enter__()
        for message in (
            "does not have many workers",
            "exists and is not empty",
            "LeafSpec",
            "logging interval",
        ):
            warnings.filterwarnings("ignore", f".*{message}.*")

    def __exit__(self, *error) -> None:
        self.warnings.__exit__(*error)
        self.logger.setLevel(self.level)
