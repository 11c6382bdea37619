"""Fits a net to data: the one function that starts a run of training."""

import contextlib
import copy
import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyro
import torch

from ..data import SequenceSet, collate
from ..data.checks import check_range
from ..data.formats.rolls import NUM_KEYS
from ..data.sequences import as_sequences
from ..estimators import SequenceELBO, TraceELBO
from ..layers.in_blocks import kept_at_most
from ..layers.memory import keep_freed_memory
from ..models import RNN, SAB, StochasticRNN
from ..models.checks import check_sequences
from .batches import Updates
from .callbacks import Progress
from .checkpoint import load_checkpoint, load_weights
from .folder import run_folder
from .hardware import check_hardware, fabric_for, torch_settings
from .logs import loggers_for, quiet, read_rows
from .loop import Loop
from .options import TrainingOptions


@dataclasses.dataclass(frozen=True)
class Fitted:
    """The result of :func:`fit`."""

    bound: float  # on validation, of the weights that are kept, in nats per step, without costs
    curves: list[dict[str, float]]  # rows of metrics.csv; ``step`` is the updates done

    def plot(self, *names: str) -> Any:
        """Draws curves; without names those of the bound, on training and validation data."""
        from ..analysis.plots import training_curves

        rows = [{name: f"{value:.9g}" for name, value in row.items()} for row in self.curves]
        return training_curves({"run": rows}, names or ("bound", "valid_bound"))


def fit(
    net: StochasticRNN,
    train: SequenceSet | Any,
    valid: SequenceSet | Any,
    estimator: SequenceELBO | None = None,
    folder: str | Path | None = None,
    options: TrainingOptions = TrainingOptions(),
    max_updates: int = 10_000,
    seed: int = 0,
    resume: bool = False,
    callbacks: Sequence[Any] = (),
    loggers: Sequence[Any] = (),
) -> Fitted:
    """Trains ``net`` in place and leaves it with the weights that ``options.keep`` names.

    Writes ``checkpoints/best.ckpt`` and ``last.ckpt``, ``metrics.csv`` and the loggers' files into
    ``folder``. With several devices every process calls it with the same arguments.

    Args:
        net: The model.
        train, valid: Sequences: a set, or a list, tensor or array of sequences.
        estimator: The bound to maximise, to which the net's costs are added; None is TraceELBO().
        folder: Folder of the run: a new or empty one, or a run's. None is a temporary one.
        options: How to train.
        max_updates: Updates of the parameters in all.
        seed: Seed of batches and noise.
        resume: Go on from ``checkpoints/last.ckpt`` if it is there.
        callbacks: Objects with any of the methods of :class:`.callbacks.Callback`.
        loggers: Loggers of Lightning Fabric, beside those that ``options.loggers`` names.

    Raises:
        ValueError: If an option makes no sense with the net, the bound or this machine, if the
            folder is not a run's, or if the checkpoint is not one of such a run.
        OSError: If the run cannot be written, such as on a full disk; the last checkpoint is whole.
        NonFinite: If gradients are not finite in too many updates in a row.
        Stopped: If a signal said so; the run can be resumed.
    """
    estimator = copy.copy(estimator or TraceELBO())  # whose weights a schedule sets
    train, valid = (as_sequences(data, net.emission.missing) for data in (train, valid))
    check_run(net, train, valid, estimator, options, max_updates)
    estimator.prepare(net)
    devices, nodes = check_hardware(options)
    if folder is None and devices * nodes > 1:
        raise ValueError("'folder' must be given where several processes share it, got None")
    temporary = contextlib.ExitStack()
    folder = folder or temporary.enter_context(tempfile.TemporaryDirectory())
    weights, was_training = copy.copy(net.weights), net.training
    device = next(net.parameters()).device
    try:
        with run_folder(folder) as folder, torch_settings(options), quiet():
            last = folder / "checkpoints" / "last.ckpt"
            checkpoint = load_checkpoint(last) if resume and last.exists() else None
            about = checkpoint["zforcing_pyro"] if checkpoint else {}
            kept_rows = about.get("update", 0), about.get("validated_at", 0)
            fabric = fabric_for(
                options,
                callbacks=[Progress(), *callbacks],
                loggers=[*loggers_for(options, folder, *kept_rows), *loggers],
            )
            fabric.launch()
            keep_freed_memory()
            fabric.to_device((net.double() if options.precision == "64-true" else net).train())
            data = Updates(train, options, seed, fabric.global_rank, fabric.world_size)
            with kept_at_most(options.head_mb), pyro.validation_enabled(False):
                loop = Loop(
                    fabric, net, estimator, data, chosen(valid, options), options, folder,
                    max_updates, seed,
                )  # fmt: skip
                if checkpoint:
                    loop.restore(checkpoint, last)
                loop.run()
            fabric.barrier()  # until the first process has written the checkpoint
            load_weights(net, last.with_stem(options.keep))
            for logger in fabric.loggers:
                logger.finalize("success")
            bound = loop.last_bound if options.keep == "last" else loop.best_bound
            assert bound is not None, "a run ends with a validation"
            return Fitted(bound, read_rows(folder / "metrics.csv"))
    except RuntimeError as error:
        if torch.distributed.is_initialized() and "gloo" in str(error).lower():
            raise ConnectionError(
                "another process of the run has ended; --resume goes on from the last checkpoint"
            ) from error
        raise
    finally:
        net.weights = weights
        net.to(device).train(was_training)
        temporary.close()


def check_run(
    net: StochasticRNN,
    train: SequenceSet,
    valid: SequenceSet,
    estimator: SequenceELBO,
    options: TrainingOptions,
    max_updates: int,
) -> None:
    """Raises ValueError if an argument of :func:`fit` makes no sense with another."""
    options.check(estimator)
    check_range(1, max_updates=max_updates)
    if not any(p.requires_grad for p in net.parameters()):
        raise ValueError("'net' must have a parameter with requires_grad True, got none")
    if options.frame_dropout and not net.reads_inputs:
        raise ValueError(
            f"'frame_dropout' must be 0 for {type(net).__name__}, whose model reads no frame, got "
            f"{options.frame_dropout}"
        )
    if options.transpose and train[0].x.shape[1:] != (NUM_KEYS,):
        raise ValueError(
            f"'transpose' must be 0 for data that are no piano-rolls, got {options.transpose}"
        )
    longest = max(int(split.lengths.max()) for split in (train, valid))
    if net.of_vectors and longest > 1:
        raise ValueError(
            f"data must be vectors, sequences of one step, for {type(net).__name__}: --data "
            f"points, or images with --data.vectors true; got {longest} steps"
        )
    if options.carry_state and not net.fixed_state:
        raise ValueError(
            f"'carry_state' must be False for {type(net).__name__} without a limit on its memory, "
            "got True; --model.max_memory sets one"
        )
    for split in (train, valid):
        x, lengths, *_ = collate([split[0]])
        check_sequences(x, lengths, net.emission)
    check_adversary(net, train, options)
    costs = net.costs and (net.costs.auxiliary, net.costs.reverse)
    for name, network, weights in (
        ("aux", costs and costs[0], (options.aux_start, options.aux_end)),
        ("reverse", costs and costs[1], (options.reverse_start, options.reverse_end)),
    ):
        if any(weights) and not network:
            raise ValueError(
                f"'{name}_start' and '{name}_end' must be unset or 0 for a {type(net).__name__} "
                f"without '{name}_network', got {weights}"
            )


def check_adversary(net: StochasticRNN, train: SequenceSet, options: TrainingOptions) -> None:
    """Raises ValueError if net or data have nothing for a critic, or for frames of the model."""
    kind, name = options.adversary, type(net).__name__
    if kind == "latent" and (not net.has_fast or net.of_vectors or isinstance(net, RNN | SAB)):
        raise ValueError(
            f"'adversary' must not be latent for {name}: it needs a fast path and a latent a step"
        )
    if options.scheduled_sampling and not (net.draws_by_steps and net.reads_inputs):
        raise ValueError(
            f"'scheduled_sampling' must be 0 for {name}, which reads no frame or has no 'step', "
            f"got {options.scheduled_sampling}"
        )
    if kind == "professor" or options.scheduled_sampling:
        option = "'adversary' must not be professor" if kind == "professor" else (
            "'scheduled_sampling' must be 0"
        )  # fmt: skip
        reason = "data with inputs of their own" if train[0].inputs is not None else ""
        reason = reason or ("data with missing values" if net.emission.missing else "")
        reason = reason or ("vectors, sequences of one step" if net.of_vectors else "")
        if reason:
            raise ValueError(f"{option} for {reason}: a free run cannot stand beside them")


def chosen(valid: SequenceSet, options: TrainingOptions) -> SequenceSet:
    """Returns the sequences or windows that validation uses."""
    if 0 < options.validate_on < len(valid):
        order = torch.randperm(len(valid), generator=torch.Generator().manual_seed(0))
        valid = valid.subset(order[: options.validate_on])
    return valid.windows(options.eval_window) if options.eval_window else valid
