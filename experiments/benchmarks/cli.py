"""The command line of the benchmark."""

import argparse
import sys
from collections.abc import Callable, Sequence

import torch
from rich.console import Console

from .configurations import CONFIGURATIONS
from .cpu import Disagreement, benchmark, growth
from .gpu import GPU_VARIANTS, benchmark_gpu, gpu_configurations
from .measure import pin
from .report import machine, write
from .variants import VARIANTS


def main(args: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.benchmarks",
        description="Times training steps of Z-Forcing in turns: process CPU time of one thread.",
    )
    parser.add_argument(
        "--configs",
        type=one_of(CONFIGURATIONS),
        default=list(CONFIGURATIONS),
        metavar="A,B",
        help=f"of {', '.join(CONFIGURATIONS)}; default: all",
    )
    parser.add_argument(
        "--variants",
        type=one_of(VARIANTS | GPU_VARIANTS),
        metavar="A,B",
        help=f"of {', '.join(VARIANTS)}; on a GPU of {', '.join(GPU_VARIANTS)}; default: all",
    )
    parser.add_argument("--seconds", type=float, default=60, help="time for each configuration")
    parser.add_argument("--rounds", type=int, help="steps of each variant, instead of --seconds")
    parser.add_argument("--json", metavar="FILE", help="where to write the rows")
    parser.add_argument("--growth", action="store_true", help="naive and fast against T, B and K")
    parser.add_argument("--no-memory", action="store_true", help="without peak memory: quicker")
    parser.add_argument("--core", type=int, help="core to run on; default: the last")
    parser.add_argument(
        "--device", help="the GPU part, on cuda; on cpu at tiny sizes, to see that it runs"
    )
    options = parser.parse_args(args)
    if options.device is None:
        run_on_cpu(options)
    else:
        run_on_gpu(options)


def one_of(known: dict) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        found = text.split(",")
        for name in found:
            if name not in known:
                raise argparse.ArgumentTypeError(f"must be of {', '.join(known)}, got '{name}'")
        return found

    return names


def run_on_cpu(options: argparse.Namespace) -> None:
    console, rows = wide_console(), []
    names = options.variants or (["naive", "fast"] if options.growth else list(VARIANTS))
    configurations = growth() if options.growth else [CONFIGURATIONS[c] for c in options.configs]
    console.print(f"{pin(options.core)}; {described()}")
    try:
        for configuration in configurations:
            rows += benchmark(
                configuration,
                [name for name in names if name in VARIANTS],
                console,
                options.seconds,
                options.rounds,
                memory=not options.no_memory,
                core=options.core,
            )
            write(rows, options.json)
    except Disagreement as error:
        raise SystemExit(str(error)) from error


def run_on_gpu(options: argparse.Namespace) -> None:
    console, rows = wide_console(), []
    if torch.device(options.device).type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("'--device' cannot be 'cuda' here: PyTorch sees no GPU")
    names = [n for n in options.variants or GPU_VARIANTS if n in GPU_VARIANTS]
    console.print(described())
    for configuration in gpu_configurations(options.device):
        rows += benchmark_gpu(
            configuration, console, options.device, names, options.seconds, options.rounds
        )
        write(rows, options.json)


def wide_console() -> Console:
    """Returns a console as wide as its tables, where no terminal says how wide it is."""
    return Console() if sys.stdout.isatty() else Console(width=120)


def described() -> str:
    found = machine()
    versions = ", ".join(f"{name} {found[name] or 'missing'}" for name in ("torch", "pyro", "jax"))
    return f"{found['cpu']}; {versions}"
