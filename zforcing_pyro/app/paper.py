"""Tables and figures of Goyal et al. (2017): configurations, published numbers, and ours beside."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..analysis.evaluation import evaluate
from ..data.writing import replacing
from ..estimators import TraceELBO, TraceIWAE
from ..training.logs import read_rows
from .configuration import nested, overlay
from .experiment import load_corpus, load_experiment, load_weighted
from .published import IMDB, PUBLISHED
from .report.findings import chosen

NO_COSTS = {
    "aux_weight": 0.0,
    "reverse_weight": 0.0,
    "aux_network": False,
    "reverse_network": False,
}
FULL: dict[str, dict[str, Any]] = {
    "timit": {
        "data": {"name": "timit", "score_first": False},
        "model": {"z_dim": 256, "h_dim": 1024, "hidden_dim": 512, "embed_dim": 512},
        "training": {"window": 40, "lr": 1e-3, "batch_size": 32},
        "max_updates": 50_000,
    },
    "blizzard": {
        "data": {"name": "blizzard", "score_first": False},
        "model": {"z_dim": 256, "h_dim": 2048, "hidden_dim": 1024, "embed_dim": 1024},
        "training": {"window": 40, "eval_window": 40, "lr": 3e-4, "batch_size": 128},
        "max_updates": 200_000,
    },
    "binarized_mnist": {
        "data": {"name": "binarized_mnist"},
        "model": {"z_dim": 256, "h_dim": 1024, "hidden_dim": 512, "embed_dim": 0},
        "training": {"lr": 1e-3, "batch_size": 32},
        "max_updates": 200_000,
    },
    "imdb": {
        "data": {"name": "imdb"},
        "model": {"z_dim": 64, "h_dim": 500, "hidden_dim": 500, "embed_dim": 300},
        "training": {"lr": 1e-3, "batch_size": 32, "validate_every": 2000},
        "max_updates": 100_000,
    },
}
"""The paper's sizes and protocol. Numbers of updates are this package's choice."""
KL_UPDATES = {"full": 16_000, "small": 2_000}
"""Updates in which the KL's weight goes from 0.2 to 1: 5e-5 an update in the paper."""
SMALL: dict[str, dict[str, Any]] = {
    "timit": {
        "emission": {"min_scale": 0.03},
        "model": {"z_dim": 32, "h_dim": 128, "hidden_dim": 128, "embed_dim": 64},
        "training": {"clip": 1000.0, "eval_window": 40, "validate_every": 250, "early_stop": 12},
        "max_updates": 20_000,
    },
    "binarized_mnist": {
        "model": {"z_dim": 32, "h_dim": 128, "hidden_dim": 64},
        "training": {"validate_every": 250, "validate_on": 500, "early_stop": 8},
        "max_updates": 10_000,
    },
    "imdb": {
        "model": {"z_dim": 32, "h_dim": 128, "hidden_dim": 128, "embed_dim": 100},
        "training": {"validate_every": 500, "validate_on": 2000, "early_stop": 8},
        "max_updates": 20_000,
    },
}
"""Options that the small scale changes; Blizzard is there at full scale only."""
NUM_SMALL = 500
"""Sequences of a split that are measured at the small scale, drawn at random."""
PARTICLES = 25
SPEECH_WEIGHT = {"full": 0.005, "small": 0.03}
"""alpha = beta of speech; the paper does not print it."""


@dataclass(frozen=True)
class PaperRun:
    """One run: a data set, alpha = beta, an annealed KL or none, a seed."""

    data: str
    scale: str
    weight: float
    anneals: bool
    seed: int
    out: Path
    max_updates: int | None = None

    @property
    def folder(self) -> Path:
        name = f"{self.data}-{self.weight:g}{'-kla' * self.anneals}-{self.seed}"
        return self.out / self.scale / name

    @property
    def config(self) -> dict[str, Any]:
        """Options of the run, by section."""
        costs = {"aux_weight": self.weight, "reverse_weight": self.weight}
        config = overlay(nested(FULL[self.data]), {"model": costs if self.weight else NO_COSTS})
        if self.scale == "small":
            config = overlay(config, nested(SMALL[self.data]))
        if self.anneals:
            annealed = {"kl_start": 0.2, "kl_updates": KL_UPDATES[self.scale]}
            config = overlay(config, {"training": annealed})
        if self.max_updates:
            config["max_updates"] = self.max_updates
        return config | {"preset": "paper", "seed": self.seed}

    def numbers(self, data_dir: str | None) -> dict[str, Any]:
        """Returns ELBO, IWAE-25 and KL of validation and test, measured once after training."""
        file = self.folder / "paper.json"
        if not file.exists():
            experiment = load_experiment(self.folder)
            corpus = load_corpus(self.folder, experiment)
            net, result = load_weighted(self.folder, experiment, corpus), {}
            for split in ("valid", "test"):
                data, (version, size, *first) = experiment.measured(corpus, split)
                data = data.subset(chosen(data, NUM_SMALL if self.scale == "small" else len(data)))
                elbo, iwae = (evaluate(net, data, e) for e in (TraceELBO(), TraceIWAE(PARTICLES)))
                result[split] = {
                    "elbo": elbo.nats_per_sequence,
                    "iwae": iwae.nats_per_sequence,
                    "kl": iwae.kl_per_sequence,
                    "perplexity": [elbo.perplexity, iwae.perplexity],
                }
            floor = getattr(net.emission, "min_scale", 0.0)
            result["protocol"] = "; ".join(
                [
                    *(version, size, f"{len(data)} test sequences", *first),
                    *([f"floor of the emission's scale {floor:g}"] if floor else []),
                    f"bounds on log p(x), K=1 and K={PARTICLES}, KL weight 1, costs excluded",
                    f"{experiment.max_updates:,} updates at most",
                ]
            )
            with replacing(file, inside=self.folder) as new:
                new.write(json.dumps(result).encode())
        return json.loads(file.read_text(encoding="utf-8"))

    def curve(self) -> list[tuple[int, float]]:
        """Returns updates and the KL on validation, in nats per step."""
        rows = read_rows(self.folder / "metrics.csv")
        return [(int(row["step"]), row["valid_kl"]) for row in rows if "valid_kl" in row]


def plan(table: str, scale: str) -> dict[tuple[str, str], tuple[str, float, bool]]:
    """Returns data, alpha = beta and annealing of each arm, by data set and published name."""
    weight = SPEECH_WEIGHT[scale]
    costs = {"no costs": (0.0, False), "+ kla": (0.0, True)}
    costs |= {"+ aux": (weight, False), "+ kla, aux": (weight, True)}
    speech = ["timit"] if scale == "small" or table == "figure2" else ["blizzard", "timit"]
    if table in ("table1", "figure2"):
        arms = {(data, name): (data, *arm) for data in speech for name, arm in costs.items()}
        if table == "table1":
            mnist = {"no costs": (0.0, False), "+ aux": (0.005, False)}
            arms |= {("binarized_mnist", k): ("binarized_mnist", *v) for k, v in mnist.items()}
        return arms
    weights = (0.0, 0.0025, 0.005) if table == "table2" else (0.005,)
    return {("imdb", f"alpha = {w:g}"): ("imdb", w, False) for w in weights}


def tabulated(numbers: dict[tuple[str, str], list[dict[str, Any]]]) -> str:
    """Returns published numbers and ours, means ± deviations over seeds, as Markdown."""
    lines = []
    for data in dict.fromkeys(data for data, _ in numbers):
        ours = {name: runs for (d, name), runs in numbers.items() if d == data}
        is_text = data == "imdb"
        head = ["KL", "valid", "test", "our KL", "our valid", "our test"]
        head = ["model", *(head if is_text else ["published", "our ELBO", "our IWAE-25", "our KL"])]
        lines += [f"{data}: {PUBLISHED[data].unit}", "", f"| {' | '.join(head)} |"]
        lines += ["| --- " * len(head) + "|"]
        for name, *published in IMDB if is_text else PUBLISHED[data].rows:
            runs = ours.get(name.removeprefix("Z-Forcing").strip(", "))
            if not runs:
                cells = ["-"] * 3
            elif is_text:
                splits = [[r[s]["perplexity"] for r in runs] for s in ("valid", "test")]
                pairs = [" / ".join(map(spread, zip(*values))) for values in splits]
                cells = [spread([r["test"]["kl"] for r in runs]), *pairs]
            else:
                cells = [spread([r["test"][k] for r in runs]) for k in ("elbo", "iwae", "kl")]
            lines.append(f"| {' | '.join([name, *published, *cells])} |")
        protocols = dict.fromkeys(run["protocol"] for runs in ours.values() for run in runs)
        lines += ["", *(f"Ours: {p}, mean ± deviation over seeds." for p in protocols)]
        lines += [PUBLISHED[data].caption, ""]
    return "\n".join(lines)


def spread(values: Any) -> str:
    """Returns the mean of numbers ± their deviation."""
    values = list(values)
    text = f"{np.mean(values):.2f}"
    return f"{text} ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else text
