"""A run described by its options, saved to its folder and loaded from it."""

import contextlib
import dataclasses
import functools
import hashlib
import inspect
import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from .._version import __version__
from ..data import Corpus, SequenceSet, corpus
from ..data.checks import check_range
from ..data.formats.files import check_regular, check_room
from ..data.writing import replacing
from ..emissions import EMISSIONS
from ..estimators import ESTIMATORS, SequenceELBO
from ..models import MODELS, StochasticRNN
from ..models.files import load_net
from ..training import TrainingOptions
from ..training.checkpoint import load_weights
from .configuration import add_options, items, new_parser, parse, parsed
from .plain_yaml import dump_yaml, read_config
from .pretrained import located
from .terminal import user_path

CHECKOUT = Path(__file__).parents[2]
CHANGEABLE = {"max_updates", "out", "data_dir", "preset"} | {
    f"training.{name}"
    for name in ("accelerator", "devices", "nodes", "num_threads", "early_stop", "max_skipped",
                 "checkpoint_every", "checkpoint_minutes", "loggers")
}  # fmt: skip
"""Options that may differ when a run is resumed."""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """All options of a run, as they stand in its ``config.yaml``. See :func:`describe`."""

    data: dict[str, Any]  # a ``name``, and options of the class behind it, as the next three
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
        check_range(1, max_updates=self.max_updates)
        check_range(0, 2**32 - 1, seed=self.seed)

    def corpus(self) -> Corpus:
        """Returns the data set; nothing is read yet."""
        return corpus(**self.data, data_dir=self.data_dir)

    def net(self, x_dim: int, missing: bool = False) -> StochasticRNN:
        """Returns a new net, whose weights are a function of the seed.

        ``x_dim`` is the size of a frame or the number of symbols; with ``missing``, NaN is a
        missing value. Raises ValueError if the emission does not support that, an option is out of
        its range, or memory is lacking.
        """
        emission = functools.partial(EMISSIONS[self.emission["name"]], **options(self.emission))
        if missing:
            able = [n for n, e in EMISSIONS.items() if "missing" in inspect.signature(e).parameters]
            if self.emission["name"] not in able:
                raise ValueError(
                    f"'emission' must be one of {able} where values are missing, got "
                    f"'{self.emission['name']}'"
                )
            emission = functools.partial(emission, missing=True)
        make = functools.partial(MODELS[self.model["name"]], emission, x_dim, **options(self.model))
        with torch.random.fork_rng(devices=[]):
            size = 0
            # Some models cannot be built without memory; what else is wrong is raised below.
            with torch.device("meta"), contextlib.suppress(NotImplementedError, RuntimeError):
                size = sum(p.numel() * p.element_size() for p in make().parameters())
            check_room(4 * size, "the model with its gradients and Adam's moments")
            torch.manual_seed(self.seed)
            net = make()
            ESTIMATORS[self.bound["name"]](**options(self.bound)).prepare(net)
            return net

    def estimator(self) -> SequenceELBO:
        """Returns the training objective; ValueError if options make no sense together."""
        estimator = ESTIMATORS[self.bound["name"]](**options(self.bound))
        self.training.check(estimator)
        return estimator

    def estimator_for(
        self, name: str, num_particles: int, args: Sequence[str] = ()
    ) -> SequenceELBO:
        """Returns a bound for evaluation with K = ``num_particles`` draws, by its name.

        ``args`` are its other options, such as ``["--bound.alpha", "0.5"]``; the bound that the run
        was trained with keeps those of training.
        """
        for option in ("--bound.num_particles", "--bound.kl_weight"):
            if any(argument.partition("=")[0] == option for argument in args):
                rule = "must be left out: an evaluation has K of '--particles' and KL weight 1"
                raise ValueError(f"'{option}' {rule}")
        parser = new_parser()
        add_options(parser, "bound", ESTIMATORS[name])
        config = {"bound": options(self.bound)} if name == self.bound["name"] else {}
        values = parsed(parser, config, args)["bound"]
        return ESTIMATORS[name](**values | {"num_particles": num_particles})

    def measured(self, corpus: Corpus, split: str) -> tuple[SequenceSet, list[str]]:
        """Returns the sequences of a split as they are measured, and a protocol's words on them."""
        window, sequences = self.training.eval_window, corpus.split(split)
        sequences = sequences.windows(window) if window else sequences
        size = f"windows of {window} steps" if window else "whole sequences"
        first = ["first frame given, not scored"] * (sequences[0].start is not None)
        return sequences, [f"data {corpus.version}", size, *first]

    def resumed(self, earlier: "Experiment") -> "Experiment":
        """Returns this experiment; ValueError unless it may be the continuation of ``earlier``."""
        ours, theirs = (dict(items(e.config())) for e in (self, earlier))
        for name in theirs:
            if ours.get(name) != theirs[name] and name not in CHANGEABLE:
                raise ValueError(f"'--{name}' must be {theirs[name]}, got {ours.get(name)}")
        if self.max_updates < earlier.max_updates:
            raise ValueError(
                f"'--max_updates' must be at least {earlier.max_updates}, got {self.max_updates}"
            )
        return self

    def config(self) -> dict[str, Any]:
        """Returns all options as plain types, which ``describe(config=...)`` reads."""
        return vars(self) | {"training": vars(self.training)}

    def save(self, folder: Path, corpus: Corpus, command: Sequence[str] = ()) -> None:
        """Writes ``environment.json``, ``data.json`` and ``config.yaml`` into a run's folder."""
        folder.mkdir(parents=True, exist_ok=True)
        facts = environment() | {"command": list(command), "seed": self.seed}
        data = corpus.facts() | {"files": corpus.fingerprint()}
        data["checksum"] = checksum(self.config(), data)
        for name, text in {
            "environment.json": json.dumps(facts, indent=2) + "\n",
            "data.json": json.dumps(data, indent=1) + "\n",
            "config.yaml": dump_yaml(self.config()),
        }.items():
            with replacing(folder / name, inside=folder) as file:
                file.write(text.encode())


def environment() -> dict[str, Any]:
    """Returns versions of packages, the platform, the device and the commit of this package."""
    names = "torch", "pyro-ppl", "numpy", "lightning", "scikit-learn"
    return {
        "packages": {"zforcing_pyro": __version__} | {name: version(name) for name in names},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "git_commit": git_commit(CHECKOUT),
    }


def git_commit(folder: Path) -> str | None:
    """Returns the commit of a folder if it is a checkout of this package. No git is run."""
    try:
        if "name = zforcing_pyro" not in (folder / "setup.cfg").read_text(encoding="utf-8"):
            return None
        head = (folder / ".git" / "HEAD").read_text(encoding="utf-8").strip()
        if head.startswith("ref: "):
            head = (folder / ".git" / head[5:]).read_text(encoding="utf-8").strip()
        return head
    except (OSError, ValueError):
        return None


def options(section: dict[str, Any]) -> dict[str, Any]:
    """Returns a section without its name."""
    return {k: v for k, v in section.items() if k != "name"}


def load_experiment(run: str | Path) -> Experiment:
    """Returns the experiment of a run's folder; ValueError if the folder is no run's."""
    run = user_path(str(run), "run")
    if not Path(run, "config.yaml").is_file():
        raise ValueError(f"'run' must be a folder that 'zforcing train' wrote, got '{run}'")
    config = read_config(str(Path(run, "config.yaml")), "config.yaml")
    experiment = describe(config=config)
    facts = run_facts(run)
    if facts.pop("checksum", None) != checksum(config, facts):
        raise ValueError(
            f"'{Path(run, 'data.json')}' and config.yaml must be as the run wrote them, got "
            "another checksum: restore both, or train anew"
        )
    return experiment


def run_facts(run: str | Path) -> dict[str, Any]:
    """Returns a run's ``data.json``; ValueError, which names the file, if it is broken."""
    file = Path(run, "data.json")
    try:
        check_regular(file)
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"'{file}' must hold what was learnt of the data, got {error}") from error


def checksum(config: dict[str, Any], facts: dict[str, Any]) -> str:
    """Returns the SHA-256 of facts of the data, and of options that may not change in a run."""
    options = {k: v for k, v in items(config) if k not in CHANGEABLE | {"data.path"}}
    values = json.loads(json.dumps([options, facts]))
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def load_corpus(run: str | Path, experiment: Experiment, check: bool = True) -> Corpus:
    """Returns the data of a run, with what the run has learnt of it.

    Raises ValueError if the run's ``data.json`` is broken or, with ``check``, the data files are
    not there as they were when the run began.
    """
    corpus, run = experiment.corpus(), user_path(str(run), "run")
    facts = run_facts(run)
    try:
        corpus.restore(facts)
        if check:
            corpus.check_unchanged(facts["files"])
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else error
        raise ValueError(
            f"data must be as '{Path(run, 'data.json')}' says, got: {reason}"
        ) from error
    return corpus


def load(run: str | Path) -> StochasticRNN:
    """Returns a net with the weights that its run kept, in evaluation mode on the CPU.

    ``run`` is a run's folder, a saved net, ``hub:OWNER/NAME`` or ``pretrained:NAME``.
    """
    run = user_path(located(str(run)), "run")
    if Path(run).is_file() or run.startswith("hub:"):
        return load_net(run)
    experiment = load_experiment(run)
    return load_weighted(run, experiment, load_corpus(run, experiment, check=False))


def opened(
    run: str | Path, data_dir: str | None, check: bool = True
) -> tuple[Experiment, StochasticRNN, Corpus]:
    """Returns a run's experiment, its net on the best device, and its data; sets torch's threads.

    A ``data_dir`` replaces the folder of the data files that the run has. With ``check`` they must
    be there as they were when the run began.
    """
    run = user_path(str(run), "run")
    experiment = load_experiment(run)
    if data_dir:
        experiment = dataclasses.replace(experiment, data_dir=user_path(data_dir, "--data_dir"))
    num_threads = experiment.training.num_threads or torch.get_num_threads()
    torch.set_num_threads(min(num_threads, os.cpu_count() or 1))
    device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    corpus = load_corpus(run, experiment, check)
    return experiment, load_weighted(run, experiment, corpus).to(device), corpus


def load_weighted(run: str | Path, experiment: Experiment, corpus: Corpus) -> StochasticRNN:
    """Returns the net of a run like :func:`load`, from its experiment and its data."""
    net = experiment.net(corpus.x_dim, corpus.missing)
    checkpoint = Path(run, "checkpoints", f"{experiment.training.keep}.ckpt")
    if not checkpoint.is_file():
        raise ValueError(f"'run' must have been validated once, got '{run}' without {checkpoint}")
    if experiment.training.precision == "64-true":
        net.double()
    load_weights(net, checkpoint)
    return net.eval()


def describe(args: Sequence[str] = (), config: dict[str, Any] | None = None) -> Experiment:
    """Returns the experiment of a configuration and of command-line arguments, which override it.

    Args:
        args: Such as ``["--data", "jsb", "--model.z_dim", "32"]``; may name a ``--config`` file.
        config: The same as a nested dict: ``{"data": "jsb", "model": {"z_dim": 32}}``.

    Example:
        >>> experiment = describe(["--model.z_dim", "8"], {"data": "jsb"})
        >>> experiment.model["z_dim"], experiment.emission["name"], experiment.out
        (8, 'bernoulli', 'runs/jsb-zforcing-0')
    """
    values = json.loads(json.dumps(parse(args, config)))  # tuples become lists, as in a file
    name = f"{values['data']['name']}-{values['model']['name']}-{values['seed']}"
    values["out"] = user_path(values["out"], "--out") or f"runs/{name}"
    if values["data_dir"]:
        values["data_dir"] = user_path(values["data_dir"], "--data_dir")
    return Experiment(**values | {"training": TrainingOptions(**values["training"])})
