"""Loads a run for a command."""

import argparse
import os

from ..terminal import user_path


def first_process() -> bool:
    """Joins the processes that torchrun has started, if any; returns whether this is the first."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return True
    import torch.distributed

    torch.distributed.init_process_group("gloo")  # for numbers, which are on the CPU
    return torch.distributed.get_rank() == 0


def loaded(arguments: argparse.Namespace) -> tuple:
    """Returns a run's experiment, its net on the best device, and its data."""
    import dataclasses

    import torch

    from ..experiment import load_corpus, load_experiment, load_weighted

    arguments.run = user_path(arguments.run, "run")
    experiment = load_experiment(arguments.run)
    if arguments.data_dir:
        data_dir = user_path(arguments.data_dir, "--data_dir")
        experiment = dataclasses.replace(experiment, data_dir=data_dir)
    num_threads = experiment.training.num_threads or torch.get_num_threads()
    torch.set_num_threads(min(num_threads, os.cpu_count() or 1))
    local_rank = os.environ.get("LOCAL_RANK", "0")
    device = f"cuda:{local_rank}" if torch.cuda.is_available() else "cpu"
    corpus = load_corpus(arguments.run, experiment)
    return experiment, load_weighted(arguments.run, experiment, corpus).to(device), corpus
