"""What the commands share."""

from __future__ import annotations

import argparse
import sys


class Parser(argparse.ArgumentParser):
    """An argparse parser whose complaints are one line, raised as ValueError."""

    def __init__(self, **kwargs):
        formatter = argparse.ArgumentDefaultsHelpFormatter
        super().__init__(allow_abbrev=False, formatter_class=formatter, **kwargs)

    def error(self, message: str) -> None:
        raise ValueError(message)


def loaded(options: argparse.Namespace) -> tuple:
    """Experiment, net on the best device, and data of a run."""
    import dataclasses

    import torch

    from ..experiment import load, load_corpus, load_experiment

    experiment = load_experiment(options.run)
    if options.data_dir:
        experiment = dataclasses.replace(experiment, data_dir=options.data_dir)
    torch.set_num_threads(experiment.training.num_threads or torch.get_num_threads())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return experiment, load(options.run).to(device), load_corpus(options.run, experiment)


def say(line: str) -> None:
    """Progress goes to stderr: stdout is for results."""
    print(line, file=sys.stderr, flush=True)
