"""What the commands share."""

from __future__ import annotations

import argparse
import os
import sys


class Parser(argparse.ArgumentParser):
    """An argparse parser whose complaints are one line, raised as ValueError."""

    def __init__(self, **kwargs):
        formatter = argparse.ArgumentDefaultsHelpFormatter
        super().__init__(allow_abbrev=False, formatter_class=formatter, **kwargs)

    def error(self, message: str) -> None:
        raise ValueError(message)


def first_process() -> bool:
    """Joins the processes that torchrun has started, if it has; whether this is the first."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return True
    import torch.distributed

    torch.distributed.init_process_group("gloo")  # for numbers, which are on the CPU
    return torch.distributed.get_rank() == 0


def loaded(options: argparse.Namespace) -> tuple:
    """Experiment, net on the best device, and data of a run."""
    import dataclasses

    import torch

    from ..experiment import load, load_corpus, load_experiment

    experiment = load_experiment(options.run)
    if options.data_dir:
        experiment = dataclasses.replace(experiment, data_dir=options.data_dir)
    torch.set_num_threads(experiment.training.num_threads or torch.get_num_threads())
    local_rank = os.environ.get("LOCAL_RANK", "0")
    device = f"cuda:{local_rank}" if torch.cuda.is_available() else "cpu"
    return experiment, load(options.run).to(device), load_corpus(options.run, experiment)


def say(line: str) -> None:
    """Progress goes to stderr: stdout is for results."""
    print(line, file=sys.stderr, flush=True)
