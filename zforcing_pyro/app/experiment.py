"""A run described: names from the registries, and options from the signatures behind them."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentError

from ..data import Corpus, corpus
from ..data.writing import replacing
from ..emissions import EMISSIONS
from ..estimators import ESTIMATORS, SequenceELBO
from ..models import MODELS, StochasticRNN
from ..models.files import load_net
from ..training import TrainingOptions
from ..training.checkpoint import load_weights
from .arguments import arguments, items, one_line, options, read_config
from .environment import environment

CHANGEABLE = {
    "max_updates",
    "out",
    "data_dir",
    "training.accelerator",
    "training.devices",
    "training.nodes",
    "training.num_threads",
    "training.early_stop",
    "training.checkpoint_every",
    "training.checkpoint_minutes",
    "training.max_skipped",
    "training.loggers",
}
"""What a resumed run may have otherwise than it began."""


@dataclass(frozen=True)
class Experiment:
    """What makes a run; all of it stands in the run's ``config.yaml``. See :func:`describe`.

    Args:
        data, model, emission, bound: A ``name``, and options of the class behind it.
        training: How to train.
        preset: The defaults that the options depart from.
        seed: Seed of initial weights, batches and noise.
        max_updates: Updates of the parameters.
        out: Folder of the run.
        data_dir: Where data files are looked for, before ``$ZFORCING_DATA``.
    """

    data: dict[str, Any]
    model: dict[str, Any]
    emission: dict[str, Any]
    bound: dict[str, Any]
    training: TrainingOptions
    preset: str
    seed: int
    max_updates: int
    out: str
    data_dir: str | None

    def __post_init__(self):
        if self.max_updates < 1:
            raise ValueError(f"'max_updates' must be positive, got {self.max_updates}")
        if self.seed < 0:
            raise ValueError(f"'seed' must not be negative, got {self.seed}")

    def corpus(self) -> Corpus:
        """The data; nothing is read yet."""
        return corpus(**self.data, data_dir=self.data_dir)

    def net(self, x_dim: int, missing: bool = False) -> StochasticRNN:
        """A new net, its weights a function of the seed.

        Args:
            x_dim: Size of a frame, or number of symbols.
            missing: Whether NaN is a missing value.

        Raises:
            ValueError: If an option is out of its range, or an emission knows no missing values.
        """
        family = EMISSIONS[self.emission["name"]]
        emission = functools.partial(family, **options(self.emission))
        if missing:
            able = [n for n, e in EMISSIONS.items() if "missing" in inspect.signature(e).parameters]
            if self.emission["name"] not in able:
                raise ValueError(
                    f"'emission' must be one of {able} where values are missing, got "
                    f"'{self.emission['name']}'"
                )
            emission = functools.partial(emission, missing=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return MODELS[self.model["name"]](emission, x_dim, **options(self.model))

    def estimator(self) -> SequenceELBO:
        """The training objective.

        Raises:
            ValueError: If an option is out of its range, or makes no sense with another.
        """
        estimator = ESTIMATORS[self.bound["name"]](**options(self.bound))
        self.training.check(estimator)
        return estimator

    def estimator_for(self, name: str, num_particles: int) -> SequenceELBO:
        """A bound for evaluation, with the options that the run has for it if it was trained so."""
        chosen = options(self.bound) if name == self.bound["name"] else {}
        return ESTIMATORS[name](**chosen | {"num_particles": num_particles})

    def resumed(self, earlier: Experiment) -> Experiment:
        """This experiment, as the continuation of ``earlier``.

        Raises:
            ValueError: If it differs in what a run cannot change on its way.
        """
        ours, theirs = (dict(items(e.config())) for e in (self, earlier))
        for name in theirs:
            if ours[name] != theirs[name] and name not in CHANGEABLE:
                raise ValueError(f"'--{name}' must be {theirs[name]}, got {ours[name]}")
        if self.max_updates < earlier.max_updates:
            raise ValueError(
                f"'--max_updates' must be at least {earlier.max_updates}, got {self.max_updates}"
            )
        return self

    def config(self) -> dict[str, Any]:
        """Everything as plain types; ``describe(config=...)`` gives the experiment back."""
        return vars(self) | {"training": vars(self.training)}

    def save(self, folder: Path, corpus: Corpus, command: Sequence[str] = ()) -> None:
        """Writes what the run can be repeated from.

        That is ``config.yaml``, ``environment.json``, and ``data.json`` with what ``corpus`` has
        learnt from its training split.
        """
        folder.mkdir(parents=True, exist_ok=True)
        facts = environment() | {"command": list(command), "seed": self.seed}
        for name, text in {
            "data.json": json.dumps(corpus.facts() | {"files": corpus.fingerprint()}, indent=1)
            + "\n",
            "environment.json": json.dumps(facts, indent=2) + "\n",
            "config.yaml": yaml.safe_dump(self.config(), sort_keys=False),
        }.items():
            with replacing(folder / name) as file:
                file.write(text.encode())


def load_experiment(run: str | Path) -> Experiment:
    """The experiment whose folder ``run`` is.

    Raises:
        ValueError: If it is not the folder of a run.
    """
    file = Path(run, "config.yaml")
    if not file.is_file():
        raise ValueError(f"'run' must be a folder that 'zforcing train' wrote, got '{run}'")
    return describe(config=read_config(str(file)))


def load_corpus(run: str | Path, experiment: Experiment) -> Corpus:
    """The data of a run, with what the run has learnt of it; learnt anew without ``data.json``.

    Raises:
        ValueError: If the run's ``data.json`` is broken.
    """
    corpus, file = experiment.corpus(), Path(run, "data.json")
    try:
        if file.exists():
            corpus.restore(json.loads(file.read_text()))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"'{file}' must hold what was learnt of the data, got {error}") from error
    return corpus


def load(run: str | Path) -> StochasticRNN:
    """The net of a run, with the weights that it kept, in evaluation mode on the CPU.

    Args:
        run: The folder of a run, or a file that a net's ``save`` wrote.

    Raises:
        ValueError: If ``run`` is neither, or its weights are broken.
    """
    if Path(run).is_file():
        return load_net(run)
    experiment = load_experiment(run)
    corpus = load_corpus(run, experiment)
    net = experiment.net(corpus.x_dim, corpus.missing)
    checkpoint = Path(run, "checkpoints", f"{experiment.training.keep}.ckpt")
    if not checkpoint.is_file():
        raise ValueError(f"'run' must have been validated once, got '{run}' without {checkpoint}")
    if experiment.training.precision == "64-true":
        net.double()
    load_weights(net, checkpoint)
    return net.eval()


def describe(args: Sequence[str] = (), config: dict[str, Any] | None = None) -> Experiment:
    """An experiment from a configuration and from command-line arguments, which win over it.

    Args:
        args: Such as ``["--data", "jsb", "--model.z_dim", "32"]``; may name a ``--config`` file.
        config: The same as a nested dict: ``{"data": "jsb", "model": {"z_dim": 32}}``.

    Raises:
        ValueError: If a name, an option or a value is unknown, or a file is no configuration.
        FileNotFoundError: If a configuration file is missing.

    Example:
        >>> experiment = describe(["--model.z_dim", "8"], {"data": "jsb"})
        >>> experiment.model["z_dim"], experiment.emission["name"], experiment.out
        (8, 'bernoulli', 'runs/jsb-zforcing-0')
    """
    given, names, parser = arguments(args, config)
    try:
        parsed = parser.parse_args(given).as_dict()
    except ArgumentError as error:
        raise ValueError(one_line(str(error), parser)) from error
    parsed = json.loads(json.dumps(parsed))  # lists for tuples: as a file would give it back
    parsed["training"] = TrainingOptions(**parsed["training"])
    parsed["out"] = parsed["out"] or f"runs/{names['data']}-{names['model']}-{parsed['seed']}"
    return Experiment(**parsed)
