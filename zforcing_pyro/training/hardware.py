"""Devices of a run: a Fabric, checked against the machine, and torch's settings."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric

from .options import HardwareOptions

TORCHRUN = "LOCAL_WORLD_SIZE", "WORLD_SIZE", "RANK", "LOCAL_RANK"


def check_hardware(options: HardwareOptions) -> tuple[int, int]:
    """Checks that the machine has the devices and threads of a run; no process is started.

    Returns:
        Devices of each machine, and machines.

    Raises:
        ValueError: If the machine has not, or torchrun's variables are incomplete.
    """
    cores, devices, nodes = os.cpu_count() or 1, options.devices, options.nodes
    if options.num_threads > cores:
        raise ValueError(
            f"'num_threads' must be at most {cores}, the cores of this machine, got "
            f"{options.num_threads}"
        )
    if "TORCHELASTIC_RUN_ID" in os.environ:
        try:
            local, world = (int(os.environ[name]) for name in TORCHRUN[:2])
            devices, nodes = local, world // local
            missing = [name for name in TORCHRUN if name not in os.environ]
        except (KeyError, ValueError, ZeroDivisionError):
            missing = [name for name in TORCHRUN if not os.environ.get(name, "").isdigit()]
        if missing:
            raise ValueError(
                f"'TORCHELASTIC_RUN_ID' must come with torchrun's other variables, got none or a "
                f"wrong value of {missing or TORCHRUN}"
            )
    gpus = torch.cuda.device_count()
    on_gpu = options.accelerator == "gpu" or (options.accelerator == "auto" and gpus)
    # Two processes run on any machine, for trials.
    most, kind = (gpus, "GPUs") if on_gpu and gpus else (max(2, cores), "cores")
    if devices > most:
        raise ValueError(
            f"'devices' must be at most {most}, as this machine has {kind}, got {devices}"
        )
    return devices, nodes


def fabric_for(options: HardwareOptions, devices: int, nodes: int, **others: Any) -> Fabric:
    """Returns the Fabric of a run, whose processes are not started yet.

    Args:
        options: Kind of device and precision.
        devices, nodes: Devices of each machine, and machines.
        others: Further arguments of Fabric, such as loggers and callbacks.

    Raises:
        ValueError: If this machine has no such devices.
    """
    try:
        return Fabric(
            accelerator=options.accelerator,
            devices=devices,
            num_nodes=nodes,
            strategy="ddp" if devices * nodes > 1 else "auto",
            precision=options.precision,
            **others,
        )
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"'accelerator' must be one of this machine, with {devices} devices or more, got "
            f"'{options.accelerator}': {reason}"
        ) from error


@contextmanager
def torch_settings(options: HardwareOptions) -> Iterator[None]:
    """Sets threads, precision and default dtype for a while; noise and settings are restored."""
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
