"""The same step on a GPU, next to a lower limit: cuDNN's LSTM of the same size.

On a CPU it runs too, at tiny sizes: to see that it runs, and to measure nothing.
"""

import gc
from collections.abc import Callable, Sequence
from dataclasses import replace

import pyro
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from .agreement import agreements
from .configurations import CONFIGURATIONS, Configuration, Problem, problem
from .measure import clocked, first, interleaved
from .naive import naive_loss, naive_step
from .report import Row, print_agreements, print_rows, rows_of
from .variants import LEARNING_RATE, Fast, Naive

LAUNCHES = {
    "cudaLaunchKernel",
    "cudaLaunchKernelExC",
    "cuLaunchKernel",
    "cuLaunchKernelEx",
}
"""Calls by which a CPU gives work to a GPU."""


class Compiled(Naive):
    """The naive loop around a compiled step: a compiled loop would be compiled for minutes."""

    fused_adam = True

    def __init__(self, problem: Problem):
        super().__init__(problem)
        self.compiled = torch.compile(naive_step)

    def loss(self) -> Tensor:
        return naive_loss(self.net, self.x, self.particles, step=self.compiled)


class Limit:
    """Two LSTMs of the library, one upon the other: the recurrences without what is between them.

    The backward one reads embeddings, the forward one embeddings and a part of the other's state.
    """

    def __init__(self, problem: Problem):
        c, like = problem.configuration, next(problem.net.parameters())
        in_dim = c.embed_dim or c.x_dim
        kind = {"batch_first": True, "device": like.device, "dtype": like.dtype}
        self.e = torch.randn(c.batch_size, c.num_steps, in_dim).to(like)
        self.backward = nn.LSTM(in_dim, c.h_dim, **kind)
        self.forward = nn.LSTM(in_dim + c.z_dim, c.h_dim, **kind)
        parameters = [*self.backward.parameters(), *self.forward.parameters()]
        self.optimiser = torch.optim.Adam(parameters, lr=LEARNING_RATE, fused=True)
        self.z_dim = c.z_dim

    def step(self) -> None:
        self.optimiser.zero_grad()
        b, _ = self.backward(self.e)
        h, _ = self.forward(torch.cat([self.e, b[..., : self.z_dim]], -1))
        h.square().mean().backward()
        self.optimiser.step()


GPU_VARIANTS = {"naive": Naive, "compile": Compiled, "fast": Fast}
GPU_VARIANTS |= {"cudnn_lstm": Limit}


def gpu_configurations(device: str) -> list[Configuration]:
    """H = 1024 as TIMIT, in two batch sizes and lengths; tiny ones where there is no GPU."""
    base, sizes = CONFIGURATIONS["TIMIT"], [(b, t) for b in (32, 128) for t in (40, 784)]
    if torch.device(device).type == "cpu":
        base, sizes = Configuration("TINY", 2, 3, 5, 4, 8, 3, 4), [(2, 3), (4, 5)]
    return [
        replace(base, name=f"H={base.h_dim} B={b} T={t}", batch_size=b, num_steps=t)
        for b, t in sizes
    ]


def benchmark_gpu(
    configuration: Configuration,
    console: Console,
    device: str,
    names: Sequence[str] = tuple(GPU_VARIANTS),
    seconds: float = 60.0,
    rounds: int | None = None,
) -> list[Row]:
    """Prints what it finds, and returns a row for each variant, with these entries of its own:
    ``ratio_to_cudnn_lstm``, ``launches`` in a step, and ``device``.

    Disagreement is printed and no error.
    """
    on_gpu = torch.device(device).type == "cuda"
    synchronize = torch.cuda.synchronize if on_gpu else lambda: None
    with pyro.validation_enabled(False):
        given = problem(configuration, device=device)
        variants = {name: GPU_VARIANTS[name](given) for name in names}
        found = agreements(given, {n: v for n, v in variants.items() if n != "cudnn_lstm"})
        print_agreements(console, configuration.name, found)
        firsts = {name: first(v.step, synchronize) for name, v in variants.items()}
        steps = {name: clocked(v.step, synchronize) for name, v in variants.items()}
        try:
            times = interleaved(steps, firsts, seconds, rounds)
        finally:
            gc.unfreeze()
        launches = {name: launches_of(v.step, on_gpu) for name, v in variants.items()}
        peaks = {name: peak_mb_on_gpu(v.step) if on_gpu else None for name, v in variants.items()}
    rows = rows_of(configuration, times, peaks, clock="wall")
    medians = {row["variant"]: row["median_ms"] for row in rows}
    for row in rows:
        row["ratio_to_cudnn_lstm"] = (
            row["median_ms"] / medians["cudnn_lstm"] if "cudnn_lstm" in medians else None
        )
        row["launches"] = launches[row["variant"]]
        row["device"] = torch.cuda.get_device_name(device) if on_gpu else "cpu"
    title = f"{configuration.name} on {rows[0]['device']}: wall time of a training step"
    print_rows(console, title, rows, ("ratio_to_naive", "ratio_to_cudnn_lstm"))
    if on_gpu:
        counts = ", ".join(f"{name} {count}" for name, count in launches.items())
        console.print(f"Launches in a step: {counts}")
    return rows


def launches_of(step: Callable[[], None], on_gpu: bool) -> int | None:
    """Returns how often a step gives work to the GPU, by the profiler; None without one."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiled:
        step()
        if on_gpu:
            torch.cuda.synchronize()
    counts = {event.key: event.count for event in profiled.key_averages()}
    return sum(counts.get(name, 0) for name in LAUNCHES) if on_gpu else None


def peak_mb_on_gpu(step: Callable[[], None]) -> float:
    """Returns the rise in a step of memory that PyTorch gave out, in megabytes of 2^20 bytes."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20
