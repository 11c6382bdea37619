"""Reasons for a run to end before its last update: a signal, or gradients that are not finite."""

import signal
import threading
from typing import Any

import torch
from lightning.fabric import Fabric

from ..estimators import SequenceELBO
from ..models import StochasticRNN
from ..models.given import GivenSequences
from .adversary import Adversary


class Stopped(Exception):
    """A run that a signal has stopped after so many updates; saved, so that it can be resumed."""

    def __init__(self, signal_number: int, update: int):
        self.signal_number = signal_number
        name = signal.Signals(signal_number).name
        super().__init__(f"stopped by {name} after update {update}; --resume goes on from there")


class Signals:
    """Context that notes the last signal in ``received``; the caller's handlers come back.

    Ctrl-C, what a cluster sends before it takes a machine away, and what a closed terminal sends,
    unless it is ignored as under ``nohup``. Windows has neither SIGUSR1 nor SIGHUP.
    """

    NAMES = "SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP"

    def __init__(self):
        self.received = 0
        self.before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            for number in (getattr(signal, n) for n in self.NAMES if hasattr(signal, n)):
                name, before = signal.Signals(number).name, signal.getsignal(number)
                if name == "SIGHUP" and before == signal.SIG_IGN:
                    continue
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


class NonFinite(ArithmeticError):
    """A run whose gradients have stopped being finite; says where that begins."""


@torch.enable_grad()
def diagnosis(
    net: StochasticRNN,
    estimator: SequenceELBO,
    given: GivenSequences,
    adversary: Adversary | None = None,
) -> str:
    """Returns the first terms, steps and parameters that are not finite, and the largest gradients.

    The random state is that of the draw in question; ``given`` is the net with its batch.
    """
    objective, named = estimator.objective(given), dict(net.named_parameters())
    loss, parts, terms = -objective.value.mean(), [], objective.terms
    if adversary:
        cost, _ = adversary.compare(given, terms)
        if cost is not None:
            loss = loss + cost / len(given.x)
            parts += [] if cost.isfinite() else ["the critic's opinion"]
    grads = torch.autograd.grad(loss, list(named.values()), materialize_grads=True)
    for name in ("log_prior", "log_posterior", "log_emission", "kl", "auxiliary", "reverse"):
        if name == "kl" and terms.kl_per_latent is None:
            continue
        bad = ~getattr(terms, name).isfinite().all(0)  # (batch, time)
        if bad.any():
            step, num = int(bad.any(0).nonzero()[0]), int(bad.any(1).sum())
            parts.append(f"{name} from step {step} on, in {num} of {len(bad)} sequences")
    weights = [name for name, p in named.items() if not p.isfinite().all()]
    norms = {name: grad.norm().item() for name, grad in zip(named, grads)}
    bad = [name for name, grad in zip(named, grads) if not grad.isfinite().all()]
    for kind, names in (("weights", weights), ("gradients", bad)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            parts.append(f"{kind} that are not finite: {', '.join(names[:3])}{more}")
    finite = sorted((n for n in norms if n not in bad), key=norms.__getitem__, reverse=True)[:3]
    if finite:
        parts.append("largest others: " + ", ".join(f"{n} (norm {norms[n]:.3g})" for n in finite))
    if not bad and not weights:
        parts.insert(0, "this part of the batch is finite; another process or part has it")
    return "; ".join(parts)
