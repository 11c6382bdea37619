"""A run as a report sees it, and everything measured on its net, for ``inspect`` and the page."""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import xarray as xr
import yaml
from torch import Tensor

from ...analysis import posterior
from ...analysis.arviz_adapter import HIGH, MIN_PARTICLES
from ...analysis.evaluation import Evaluation, evaluate, protocol
from ...data import Corpus, SequenceSet
from ...data.checks import check_range
from ...data.corpus import Floor
from ...estimators import TraceIWAE
from ...models import StochasticRNN
from ...training.logs import read_cells
from ..experiment import Experiment, opened

STEPS = 8_000
"""Steps of the sequences looked at, where their number is not given; always 8 to 128 sequences."""

HORIZONS = (0, 1, 2, 4, 8, 16)
MAX_SIMULATED_STEPS = 250_000
"""Steps that the guide draws for a calibration: sequences times draws times steps."""


@dataclass(frozen=True)
class Latents:
    """Trust in the posterior of a model with latents, and the meaning of the latents."""

    importance: posterior.Importance
    curve: posterior.BoundCurve
    protocol: str
    """Protocol of the bounds of :attr:`importance` and :attr:`curve`."""
    calibration: posterior.Calibration
    codes: xr.Dataset
    kl: posterior.LatentKL
    information: posterior.MutualInformation | None
    """None for a single sequence, like everything that compares sequences."""
    future: xr.Dataset | None
    probes: list[posterior.Probe]

    @property
    def num_particles(self) -> int:
        """Draws of the guide for each sequence."""
        return len(self.importance.log_weight)

    @property
    def num_unreliable(self) -> int:
        """Sequences whose k-hat is above 0.7, infinite or NaN: their estimates mislead."""
        return int((~(self.importance.pareto_k <= HIGH)).sum())

    def gains(self) -> list[tuple[int, float, float]]:
        """Returns steps ahead, R² of x from the state before z, and R² with z added."""
        if self.future is None or "x" not in self.future or "h" not in self.future.source:
            return []
        r2 = self.future["x"]
        past, both = (r2.sel(source=source).values.tolist() for source in ("h", "h and z"))
        rows = zip(r2.horizon.values.tolist(), past, both)
        return [row for row in rows if not math.isnan(row[1] + row[2])]


@dataclass(frozen=True)
class Findings:
    """Measurements of a net on some sequences of a split."""

    split: str
    data: SequenceSet
    """The sequences looked at."""
    places: list[int]
    """Their places in the split."""
    num_all: int
    """Sequences of the whole split."""
    step: str
    """Name of a step."""
    floor: Floor
    """Nats that a trivial model pays for test."""
    elbo: Evaluation
    checks: list[posterior.PredictiveCheck]
    latents: Latents | None
    """None for a model without latents of its steps, and where bounds alone were measured."""
    weights: posterior.Importance | None = None
    """None for a model without latents: its bound is exact."""

    @property
    def subset(self) -> str:
        """Words that say which sequences were looked at."""
        if len(self.data) == self.num_all:
            return f"all {self.num_all} {self.split} sequences"
        return f"{len(self.data)} of {self.num_all} {self.split} sequences, drawn at random"

    @property
    def bounds(self) -> dict[str, list[float]]:
        """Bounds of each sequence in nats, by name; the last is the tightest."""
        if self.weights is None:
            return {"log-likelihood": self.elbo.per_sequence}
        iwae, num = self.weights.log_likelihood.tolist(), len(self.weights.log_weight)
        return {"elbo": self.elbo.per_sequence, f"iwae, K = {num}": iwae}


def chosen(split: SequenceSet, num: int | None, seed: int = 0) -> Tensor:
    """Returns indices of ``num`` sequences drawn at random, because files are often sorted.

    None takes some 8,000 steps, 8 to 128 sequences.
    """
    check_range(1, num=num)
    if num is None:
        num = min(128, max(8, STEPS // max(1, int(split.lengths.double().mean()))))
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    return order[:num]


def findings(
    experiment: Experiment,
    net: StochasticRNN,
    corpus: Corpus,
    split: str = "test",
    num: int | None = None,
    num_particles: int = 100,
    seed: int = 0,
    bounds_only: bool = False,
    progress: Callable[[str], None] = lambda stage: None,
) -> Findings:
    """Measures a net on some sequences of a split.

    Args:
        experiment, net, corpus, split: The net, on the device to run on, and its data.
        num: Sequences looked at, see :func:`chosen`.
        num_particles: Draws of the guide for each sequence, 25 or more, as a k-hat needs.
        seed: Seed of the draws.
        bounds_only: Leaves out predictive checks, trust and meaning.
        progress: Called with the name of each stage before it begins.
    """
    check_range(MIN_PARTICLES, particles=num_particles)
    progress("bounds")
    sequences, parts = experiment.measured(corpus, split)
    index = chosen(sequences, num)
    # Sort by length to reduce padding.
    places = index[sequences.lengths[index].argsort()].tolist()
    data = sequences.subset(places)
    if len(data) < len(sequences):
        parts.append(f"{len(data)} of {len(sequences)} sequences of {split}, drawn at random")
    note, checks, latents, weights = "; ".join(parts), [], None, None
    elbo = evaluate(net, data, experiment.estimator_for("elbo", 1), "elbo", split, note, seed=seed)
    if net.of_vectors or posterior.num_latents(net):
        progress("importance weights")
        weights = posterior.importance(net, data, num_particles, seed=seed)
    if not bounds_only:
        progress("predictive checks")
        checks = posterior.predictive_checks(net, corpus, data, num_replicates=20, seed=seed)
    if weights is not None and not (net.of_vectors or bounds_only):
        progress("calibration")
        num = int(MAX_SIMULATED_STEPS / (31 * float(data.lengths.double().mean())))
        options = {"num_simulations": min(320, max(64, num)), "num_draws": 31, "num_bins": 8}
        # The calibration looks at the first sequences only, so they are not sorted.
        ranks = posterior.calibration(net, sequences.subset(index), **options, seed=seed)
        progress("latents")
        codes = posterior.latent_codes(net, data, seed=seed)
        latents = Latents(
            importance=weights,
            curve=posterior.bound_curve(weights.log_weight),
            protocol=protocol("iwae", TraceIWAE(num_particles), net, note),
            calibration=ranks,
            codes=codes,
            kl=posterior.latent_kl(codes),
            **relations(net, corpus, data, codes, seed),
        )
    about = split, data, places, len(sequences), corpus.step, corpus.floor()
    return Findings(*about, elbo, checks, latents, weights)


def relations(
    net: StochasticRNN, corpus: Corpus, data: SequenceSet, codes: xr.Dataset, seed: int
) -> dict:
    """Returns the fields of :class:`Latents` that compare sequences."""
    from threadpoolctl import threadpool_limits  # comes with scikit-learn

    future, probes, information = None, [], None
    if len(data) > 1:
        # Threads slow such small regressions down, up to twenty times: they wait for each other.
        with threadpool_limits(1, "blas"):
            future = posterior.future_prediction(codes, data, HORIZONS, seed=seed)
            if data.labels is not None and (names := corpus.label_names):
                probes = posterior.linear_probes(codes, data.labels, names, seed=seed)
        information = posterior.mutual_information(net, data, 32, 64, seed)
    return {"future": future, "probes": probes, "information": information}


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
    """The same number of sequences of the model, of the median length."""

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
    """Reads a run, measures its net by :func:`.findings.findings`, and draws samples.

    With ``bounds_only`` among the options there are no samples.
    """
    folder = Path(run)
    experiment, net, corpus = opened(folder, data_dir)
    measured = findings(experiment, net, corpus, **options)
    if not (rows := read_cells(folder / "metrics.csv")):
        file = folder / "metrics.csv"
        warnings.warn(f"'{file}' has no row of training: no curve is drawn", stacklevel=2)
    if options.get("bounds_only"):
        return Subject(name, folder, experiment, corpus, net, rows, measured, {}, [])
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
    return Subject(name, folder, experiment, corpus, net, rows, measured, real, generated)
