"""Devices, threads, precision and memory of a run."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric

from .folder import RANKS
from .options import HardwareOptions, TrainingOptions

CLUSTER = "SLURM_NTASKS", "MASTER_ADDR", "LSB_JOBID"
"""Variables, one of which tells a process of the machines of its run."""


def check_hardware(options: TrainingOptions) -> tuple[int, int]:
    """Returns devices of each machine and machines; no process is started.

    Raises:
        ValueError: If this machine has fewer cores or devices, no cluster tells of other machines,
            torchrun's variables are not complete, a rank comes without its launcher, or
            processes outnumber the sequences of a batch.
    """
    cores, devices, nodes = os.cpu_count() or 1, options.devices, options.nodes
    if options.num_threads > cores:
        limit = f"at most {cores}, the cores of this machine"
        raise ValueError(f"'num_threads' must be {limit}, got {options.num_threads}")
    if "TORCHELASTIC_RUN_ID" in os.environ:
        names = "LOCAL_WORLD_SIZE", "WORLD_SIZE", "RANK", "LOCAL_RANK"
        numbers = {name: os.environ.get(name, "") for name in names}
        if not all(value.isdigit() for value in numbers.values()) or numbers[names[0]] == "0":
            raise ValueError(
                f"'TORCHELASTIC_RUN_ID' must come with torchrun's other variables, got {numbers}"
            )
        devices = int(numbers["LOCAL_WORLD_SIZE"])
        nodes = int(numbers["WORLD_SIZE"]) // devices
    elif nodes > 1 and not any(name in os.environ for name in CLUSTER):
        rule = "must be 1 where neither torchrun, Slurm nor MASTER_ADDR tells of other machines"
        raise ValueError(f"'nodes' {rule}, got {nodes}")
    several = devices * nodes > 1
    for name in filter(os.environ.get, RANKS):
        rank, launcher = os.environ[name], RANKS[name]
        # With a LOCAL_RANK, also 0, Fabric waits for processes that others start.
        tells = rank != "0" or (several and name == "LOCAL_RANK")
        if tells and not (several and launcher in os.environ):
            raise ValueError(
                f"'{name}' must come with '{launcher}', as set by what starts several processes, "
                f"got '{rank}' in a run of {devices * nodes}: 'unset {name}', or start by torchrun"
            )
    gpus = torch.cuda.device_count() if options.accelerator in ("auto", "gpu") else 0
    most, kind = (gpus, "GPUs") if gpus else (max(2, cores), "cores")  # two run anywhere, as trials
    if devices > most:
        raise ValueError(f"'devices' must be at most {most}, for {kind} here, got {devices}")
    if options.batch_size < devices * nodes:
        least = f"at least {devices * nodes}, the number of processes"
        raise ValueError(f"'batch_size' must be {least}, got {options.batch_size}")
    return devices, nodes


def fabric_for(options: TrainingOptions, **others: Any) -> Fabric:
    """Returns a run's Fabric, whose processes are not started; ``others`` are its arguments, too.

    Raises ValueError if this machine has no such devices.
    """
    devices, nodes = check_hardware(options)
    strategy = "ddp" if devices * nodes > 1 else "auto"
    others |= {"num_nodes": nodes, "precision": options.precision, "strategy": strategy}
    try:
        return Fabric(accelerator=options.accelerator, devices=devices, **others)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"'accelerator' must be one of this machine, with {devices} devices or more, got "
            f"'{options.accelerator}': {reason}"
        ) from error


@contextmanager
def torch_settings(options: HardwareOptions) -> Iterator[None]:
    """Sets threads, precision and default dtype for a block; settings and noise are restored."""
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    states, dtype = (random.getstate(), np.random.get_state()), torch.get_default_dtype()
    with torch.random.fork_rng():
        try:
            torch.set_num_threads(options.num_threads or threads)
            torch.set_float32_matmul_precision(options.matmul_precision)
            if options.precision == "64-true":
                torch.set_default_dtype(torch.float64)  # Fabric casts what a forward returns
            yield
        finally:
            torch.set_default_dtype(dtype)
            torch.set_num_threads(threads)
            torch.set_float32_matmul_precision(precision)
            random.setstate(states[0])
            np.random.set_state(states[1])


def seed_all(seed: int) -> None:
    """Seeds torch, and the two generators that models of other people may draw from."""
    torch.manual_seed(seed % 2**63)  # torch's limit
    random.seed(seed % 2**63)
    np.random.seed(seed % 2**63 % 2**32)
