"""Signals that stop a run after an update, once the run is saved."""

import signal
import threading
from typing import Any

import torch
from lightning.fabric import Fabric


class Stopped(Exception):
    """A run that a signal has stopped after so many updates; saved, so that it can be resumed."""

    def __init__(self, signal_number: int, update: int):
        self.signal_number = signal_number
        name = signal.Signals(signal_number).name
        super().__init__(f"stopped by {name} after update {update}; --resume goes on from there")


class Signals:
    """Context that notes the last signal in ``received``; the caller's handlers come back.

    Ctrl-C, and what a cluster sends before it takes a machine away. Windows has no SIGUSR1.
    """

    NAMES = "SIGINT", "SIGTERM", "SIGUSR1"

    def __init__(self):
        self.received = 0
        self.before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            for number in (getattr(signal, n) for n in self.NAMES if hasattr(signal, n)):
                self.before[number] = signal.signal(number, self.receive)
        return self

    def receive(self, number: int, frame: Any) -> None:
        self.received = number

    def agree(self, fabric: Fabric, due: bool) -> tuple[int, bool]:
        """Returns a signal that any process received (0 is none), and whether any one is due."""
        if fabric.world_size == 1:
            return self.received, due
        ours = torch.tensor([float(self.received), float(due)], device=fabric.device)
        torch.distributed.all_reduce(ours, torch.distributed.ReduceOp.MAX)
        return int(ours[0]), bool(ours[1])

    def __exit__(self, *error) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
