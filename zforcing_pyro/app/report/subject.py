"""A run as a report sees it."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from ...data import Corpus
from ...models import StochasticRNN
from ...training.logs import read_cells
from ..experiment import Experiment, load_corpus, load_experiment, load_weighted
from .findings import Findings, chosen, findings


@dataclass(frozen=True)
class Subject:
    """A run: its options, data and net, its ``metrics.csv``, and what was measured."""

    name: str
    folder: Path
    experiment: Experiment
    corpus: Corpus
    net: StochasticRNN
    rows: list[Mapping[str, str]]
    findings: Findings
    real: dict[str, Tensor]
    """Test sequences, ``(time, ...)``, by place and labels, such as "test 17, digit 3"."""
    generated: list[Tensor]
    """As many sequences of the model, of the median length."""

    def about(self) -> dict[str, str]:
        """Returns model, size and updates in words."""
        size = sum(p.numel() for p in self.net.parameters())
        last = max((int(row["step"]) for row in self.rows), default=0)
        updates = f"{last:,} of {self.experiment.max_updates:,}"
        names = {"model": self.experiment.model["name"], "parameters": f"{size:,}"}
        return names | {"updates": updates, "trained on": self.experiment.bound["name"]}

    def files(self) -> dict[str, str]:
        """Returns everything that repeats the run, and the machine it ran on, as text by file."""
        config = yaml.safe_dump(self.experiment.config(), sort_keys=False, allow_unicode=True)
        texts, file = {"config.yaml": config}, self.folder / "environment.json"
        if file.is_file() and not file.is_symlink():
            texts[file.name] = file.read_text(encoding="utf-8", errors="replace")
        return texts


def subject(run: str | Path, name: str, data_dir: str | None, **options: Any) -> Subject:
    """Reads a run, measures its net on test by :func:`.findings.findings`, and draws samples."""
    folder = Path(run)
    experiment = load_experiment(folder)
    if data_dir:
        experiment = dataclasses.replace(experiment, data_dir=data_dir)
    corpus = load_corpus(folder, experiment)
    net = load_weighted(folder, experiment, corpus)
    net = net.to("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(experiment.training.num_threads or torch.get_num_threads())
    measured = findings(experiment, net, corpus, "test", **options)
    options["progress"]("samples")
    test, real = corpus.split("test"), {}
    for i in chosen(test, {"image": 36, "points": 500}.get(corpus.view, 12)).tolist():
        values = [] if test.labels is None else test.labels[i].reshape(-1).tolist()
        labels = (f"{label} {value}" for label, value in zip(corpus.label_names, values))
        real[", ".join([f"test {i}", *labels])] = test[i].x
    steps = test.lengths.max() if corpus.view == "text" else test.lengths.median()
    with torch.random.fork_rng():
        torch.manual_seed(options["seed"])
        generated = list(net.generate(len(real), int(steps)).cpu())
    rows = read_cells(folder / "metrics.csv")
    return Subject(name, folder, experiment, corpus, net, rows, measured, real, generated)
