"""One run of training: from data and a net to a folder with checkpoints."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import lightning as L
import numpy as np
import pyro
import torch
from lightning.pytorch.callbacks import Callback, WeightAveraging
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.utils.data import DataLoader

from ..data import BatchSampler, SequenceSet, collate
from ..estimators import SequenceELBO
from ..layers.in_blocks import kept_at_most
from ..models import StochasticRNN
from ..models.checks import check_sequences
from .batches import ResumableLoader, Shard, Streams, Updates
from .callbacks import Bar, CheckpointFiles, Checkpoints, EarlyStop, LinePerValidation
from .checkpoint import load_checkpoint, load_weights
from .logs import loggers, quiet
from .memory import keep_freed_memory
from .module import Training
from .options import TrainingOptions


def fit(
    net: StochasticRNN,
    estimator: SequenceELBO,
    train: SequenceSet,
    valid: SequenceSet,
    folder: str | Path,
    options: TrainingOptions = TrainingOptions(),
    max_updates: int = 10_000,
    seed: int = 0,
    resume: bool = False,
) -> float:
    """Trains ``net`` in place and leaves it with the weights that ``options.keep`` names.

    Writes ``checkpoints/best.ckpt`` and ``checkpoints/last.ckpt``, ``metrics.csv`` and, where
    TensorBoard is installed, its events into ``folder``. Every number is in nats per step, totals
    over total steps. With several devices every process calls it with the same arguments.

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

    Raises:
        ValueError: If an option makes no sense with the net, the bound or this machine, or if a
            checkpoint is none of such a run.
        OSError: If the run cannot be written, such as on a full disk; the last checkpoint is whole.
        NonFinite: If gradients are not finite in too many updates in a row.
        Stopped: If a signal said so; the run is resumed from where it was.
    """
    options.check(estimator)
    keep_freed_memory()
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
    batches = batches_of(train, options, seed)
    train = train.windows(options.window) if options.window else train
    if 0 < options.validate_on < len(valid):
        order = torch.randperm(len(valid), generator=torch.Generator().manual_seed(0))
        valid = valid.subset(order[: options.validate_on])
    valid = valid.windows(options.eval_window) if options.eval_window else valid
    folder, last = Path(folder), Path(folder, "checkpoints", "last.ckpt")
    resume = resume and last.exists()
    resumed_at = validated_at = 0
    if resume:
        checkpoint = load_checkpoint(last)
        resumed_at = checkpoint["global_step"]
        validated_at = checkpoint["zforcing_pyro"]["validated_at"]
    if options.precision == "64-true":
        net.double()
    every = min(options.validate_every or len(batches), max_updates)
    training = Training(net, estimator, options, seed, max_updates, every)
    checkpoints = Checkpoints(last.parent, options)
    on_terminal = sys.stderr.isatty() or sys.stdout.isatty()
    blocks = kept_at_most(options.head_mb)
    with quiet(), as_before(options), blocks, pyro.validation_enabled(False):
        trainer = trainer_of(
            options,
            max_epochs=1,  # and no number of steps: the loader has all updates
            check_val_every_n_epoch=None,
            val_check_interval=every * options.accumulate,
            logger=loggers(folder, resumed_at, validated_at),
            callbacks=[*callbacks(options, on_terminal), checkpoints],
            enable_progress_bar=on_terminal,
        )
        shard = trainer.global_rank, trainer.world_size
        updates = Updates(train, batches, max_updates, options.accumulate, *shard)
        valid = Shard(valid, max(1, options.batch_size // options.accumulate), *shard)
        trainer.fit(
            training,
            ResumableLoader(updates, trainer),
            DataLoader(valid, batch_size=None),
            ckpt_path=last if resume else None,
            weights_only=True,
        )
    load_weights(net, last.with_stem(options.keep))
    return training.last_bound if options.keep == "last" else checkpoints.best_bound


def batches_of(train: SequenceSet, options: TrainingOptions, seed: int) -> BatchSampler | Streams:
    """The batches of an epoch, of all processes together."""
    size, shuffle = options.batch_size, options.shuffle
    if options.carry_state:
        return Streams(train.lengths, options.window, size, shuffle, seed)
    lengths = (train.windows(options.window) if options.window else train).lengths
    return BatchSampler(lengths, size, shuffle, options.bucket, seed)


def callbacks(options: TrainingOptions, on_terminal: bool) -> list[Callback]:
    """Beside the checkpoints."""
    found: list[Callback] = [Bar() if on_terminal else LinePerValidation()]
    if options.ema_decay:
        found.append(WeightAveraging(avg_fn=partial(moving_average, decay=options.ema_decay)))
    if options.early_stop:
        stop = {"patience": options.early_stop, "check_finite": False}
        found.append(EarlyStop("valid_bound", mode="max", **stop))
    return found


def trainer_of(options: TrainingOptions, **others) -> L.Trainer:
    """Lightning's trainer; what it cannot be is the caller's mistake.

    Raises:
        ValueError: If this machine has no such devices.
    """
    devices, nodes = options.devices, options.nodes
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun has said how many
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    try:
        return L.Trainer(
            accelerator=options.accelerator,
            devices=devices,
            num_nodes=nodes,
            strategy="ddp" if devices * nodes > 1 else "auto",
            precision=options.precision,
            accumulate_grad_batches=options.accumulate,
            plugins=[CheckpointFiles()],
            log_every_n_steps=1,  # of what there is, which is little
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            enable_model_summary=False,
            **others,
        )
    except (MisconfigurationException, RuntimeError) as error:
        raise ValueError(
            f"'accelerator' must be one of this machine, with {devices} devices or more, got: "
            f"{error}"
        ) from error


@contextmanager
def as_before(options: TrainingOptions) -> Iterator[None]:
    """Threads, precision and random numbers as options have them; the caller's come back."""
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        torch.set_num_threads(options.num_threads or threads)
        torch.set_float32_matmul_precision(options.matmul_precision)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_float32_matmul_precision(precision)
            random.setstate(states[0])
            np.random.set_state(states[1])


def moving_average(average: Tensor, weights: Tensor, updates: Tensor, decay: float) -> Tensor:
    """An exponential moving average whose decay rises with time, to forget the initial weights."""
    return average.lerp(weights, 1 - min(decay, (1 + int(updates)) / (10 + int(updates))))
