"""A run as a report sees it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...data import Corpus
from ...models import StochasticRNN
from ...training.logs import read_rows
from ..experiment import Experiment, load, load_corpus, load_experiment
from .findings import Findings, chosen, findings


@dataclass(frozen=True)
class Subject:
    """A run: what it was told, how it went, and what was measured of it."""

    name: str
    folder: Path
    experiment: Experiment
    corpus: Corpus
    net: StochasticRNN
    rows: list[Mapping[str, str]]
    """Of ``metrics.csv``."""
    found: Findings
    real: list[Tensor]
    """Test sequences, ``(time, ...)`` each."""
    real_names: list[str]
    """What is known of each: its place in the split, and its labels."""
    generated: list[Tensor]
    """As many sequences of the model, of the usual length."""

    @property
    def model(self) -> str:
        """Its name and size."""
        num = sum(p.numel() for p in self.net.parameters())
        return f"{self.experiment.model['name']}, {num:,} parameters"


def subject(
    run: str | Path,
    name: str,
    num: int | None,
    num_particles: int,
    seed: int,
    data_dir: str | None = None,
) -> Subject:
    """Reads a run, measures its net on test, and draws samples.

    Args:
        run: Its folder.
        name: What it is called in the report.
        num, num_particles, seed: As of :func:`.findings.findings`.
        data_dir: Where data files are; None is where the run had them.

    Raises:
        ValueError: If it is no run, or a number is out of its range.
    """
    folder = Path(run)
    experiment = load_experiment(folder)
    if data_dir:
        experiment = dataclasses.replace(experiment, data_dir=data_dir)
    corpus, net = load_corpus(folder, experiment), load(folder)
    net = net.to("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(experiment.training.num_threads or torch.get_num_threads())
    found = findings(experiment, net, corpus, "test", num, num_particles, seed)
    test = corpus.split("test")
    indices = chosen(test, 36 if corpus.view == "image" else 12).tolist()
    steps = test.lengths.max() if corpus.view == "text" else test.lengths.median()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        generated = list(net.generate(len(indices), int(steps)).cpu())
    return Subject(
        name=name,
        folder=folder,
        experiment=experiment,
        corpus=corpus,
        net=net,
        rows=read_rows(folder / "metrics.csv"),
        found=found,
        real=[test[i].x for i in indices],
        real_names=[sequence_name(corpus, test.labels, i) for i in indices],
        generated=generated,
    )


def sequence_name(corpus: Corpus, labels: Tensor | None, i: int) -> str:
    """A test sequence by its place and its labels, such as "test 17, digit 3"."""
    values = [] if labels is None else labels[i].reshape(-1).tolist()
    said = (f"{name} {value}" for name, value in zip(corpus.label_names, values))
    return ", ".join([f"test {i}", *said])
