"""Everything that is measured of a trained net, once for the terminal and for the page."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...analysis.evaluation import Evaluation, evaluate, protocol
from ...analysis.pareto import HIGH, MIN_PARTICLES
from ...analysis.posterior import (
    BoundCurve,
    Calibration,
    Importance,
    LatentKL,
    MutualInformation,
    PredictiveCheck,
    Probe,
    bound_curve,
    calibration,
    future_prediction,
    importance,
    latent_codes,
    latent_kl,
    linear_probes,
    mutual_information,
    num_latents,
    predictive_checks,
)
from ...data import Corpus, SequenceSet
from ...estimators import TraceIWAE
from ...models import StochasticRNN
from ..experiment import Experiment

if TYPE_CHECKING:
    import xarray as xr

STEPS = 8_000
"""Of the sequences looked at, where their number is not given; always 8 to 128 sequences."""

HORIZONS = (0, 1, 2, 4, 8, 16)
MAX_SIMULATED_STEPS = 250_000
"""That the guide draws for a calibration: sequences times draws times steps."""


@dataclass(frozen=True)
class Latents:
    """Of a model with latents: whether its posterior can be trusted, and what it means."""

    importance: Importance
    curve: BoundCurve
    protocol: str
    """Of the bounds of :attr:`importance` and :attr:`curve`."""
    calibration: Calibration
    codes: xr.Dataset
    kl: LatentKL
    information: MutualInformation | None
    """None of a single sequence, as all that compares sequences."""
    future: xr.Dataset | None
    probes: list[Probe]

    @property
    def high_pareto_k(self) -> float | None:
        """Share of sequences with a k-hat above 0.7; None where there are too few particles."""
        k = self.importance.pareto_k
        return None if k is None else float((k > HIGH).mean())

    def best_future(self, target: str = "x") -> list[tuple[int, float, float]]:
        """Steps ahead, R^2 from the state before z, and what z adds to it; where there is both."""
        if self.future is None or target not in self.future:
            return []
        r2 = self.future[target]
        if "h" not in r2.source:
            return []
        horizons, past = r2.horizon.values, r2.sel(source="h").values
        gains = r2.sel(source="h and z").values - past
        rows = zip(horizons.tolist(), past.tolist(), gains.tolist())
        return [row for row in rows if not math.isnan(row[2])]


@dataclass(frozen=True)
class Findings:
    """What was measured of a net on some sequences."""

    split: str
    data: SequenceSet
    """The sequences looked at."""
    num_all: int
    """Of the split they are from."""
    elbo: Evaluation
    checks: list[PredictiveCheck]
    latents: Latents | None
    """None of a model without latents, whose bound is exact."""

    @property
    def chosen(self) -> str:
        """Which sequences these are, in words."""
        if len(self.data) == self.num_all:
            return f"all {self.num_all} {self.split} sequences"
        return f"{len(self.data)} of {self.num_all} {self.split} sequences, drawn at random"

    def as_dict(self) -> dict[str, Any]:
        """The numbers as plain types, for JSON; no number for each sequence or step."""
        found: dict[str, Any] = {
            "split": self.split,
            "sequences": len(self.data),
            "elbo": self.elbo.as_dict(),
            "predictive_checks": {
                check.name: {
                    "smallest_p_value": number(check.smallest_p_value),
                    "outside_all_replicates": number(check.outside),
                    "replicates": len(check.replicated),
                }
                for check in self.checks
            },
        }
        if self.latents is None:
            return found
        them = self.latents
        found["trust"] = {
            "particles": len(them.importance.log_weight),
            "high_pareto_k": them.high_pareto_k,
            "ess_mean": float(them.importance.ess.mean()),
            "iwae_nats_per_sequence": float(them.importance.log_likelihood.mean()),
            "protocol": them.protocol,
            "bound_by_particles": dict(
                zip(map(str, them.curve.num_particles.tolist()), them.curve.bound.tolist())
            ),
            "calibrated": bool(them.calibration.calibrated),
            "calibration_p_values": dict(
                zip(them.calibration.quantities, them.calibration.p_values.tolist())
            ),
        }
        found["meaning"] = {
            "kl_nats_per_sequence": float(them.kl.per_sequence.mean()),
            "kl_nats_per_step_by_latent": them.kl.by_latent.tolist(),
            "kl_is_estimate": them.kl.is_estimate,
            "latents_in_use": int(them.kl.in_use.sum()),
            "num_latents": len(them.kl.in_use),
            "probes": [vars(probe) for probe in them.probes],
        }
        if them.information is not None:
            info = them.information
            found["meaning"]["mutual_information_nats"] = {
                "lower": float(info.lower[-1]),
                "upper": float(info.upper[-1]),
                "limit": float(info.limit),
                "steps": len(info.lower),
            }
        if them.future is not None:
            found["meaning"]["r2_by_horizon"] = {
                str(target): {
                    str(source): by_horizon(values.sel(source=source))
                    for source in values.source.values
                }
                for target, values in them.future.data_vars.items()
            }
        return found


def by_horizon(values: xr.DataArray) -> dict[str, float | None]:
    """Numbers by steps ahead."""
    pairs = zip(values.horizon.values.tolist(), values.values.tolist())
    return {str(horizon): number(value) for horizon, value in pairs}


def number(value: float) -> float | None:
    """None in place of NaN, which JSON has not."""
    return None if math.isnan(value) else value


def verdict(check: PredictiveCheck) -> str:
    """Where the data stand among the replicates, in words."""
    num = len(check.replicated)
    if math.isnan(check.outside):
        return "undefined in all that the model generates"
    if check.axis is not None:
        return (
            f"data outside of {num} replicates at {check.outside:.0%} of points, "
            f"{2 / (num + 1):.0%} if the model were right"
        )
    if check.outside:
        return f"data outside of {num} replicates"
    return f"data within the range of {num} replicates, p = {check.smallest_p_value:.2g}"


def chosen(split: SequenceSet, num: int | None, seed: int = 0) -> Tensor:
    """Indices of some sequences, drawn at random: files are often sorted. Shape ``(num,)``.

    Args:
        split: All of them.
        num: How many at most; None is as many as have some 8,000 steps, but 8 to 128.
        seed: Of the choice.

    Raises:
        ValueError: If ``num`` is not positive.
    """
    if num is not None and num < 1:
        raise ValueError(f"'num' must be positive, got {num}")
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
) -> Findings:
    """Measures a net on some sequences of a split.

    Args:
        experiment: That the net is of.
        net: On the device where it shall run.
        corpus: Its data.
        split: Part of them.
        num: Sequences looked at, see :func:`chosen`.
        num_particles: Draws of the guide for each.
        seed: Of the draws.

    Raises:
        ValueError: If a number is not positive, or there are fewer than 25 particles, of which no
            k-hat can be had.
    """
    if num_particles < MIN_PARTICLES:
        raise ValueError(f"'particles' must be at least {MIN_PARTICLES}, got {num_particles}")
    window = experiment.training.eval_window
    whole = corpus.split(split)
    whole = whole.windows(window) if window else whole
    index = chosen(whole, num)
    # By length, so that batches have little padding; but what takes only the first has them all.
    data, shuffled = whole.subset(index[whole.lengths[index].argsort()]), whole.subset(index)
    note = "; ".join(
        part
        for part in (
            f"data {corpus.version}",
            f"windows of {window} steps" if window else "whole sequences",
            "first frame given, not scored" if data[0].start is not None else "",
            f"{len(data)} of {len(whole)} sequences of {split}, drawn at random"
            if len(data) < len(whole)
            else "",
        )
        if part
    )
    elbo = evaluate(net, data, experiment.estimator_for("elbo", 1), "elbo", split, note, seed=seed)
    return Findings(
        split=split,
        data=data,
        num_all=len(whole),
        elbo=elbo,
        checks=predictive_checks(net, corpus, data, num_replicates=20, seed=seed),
        latents=latents(net, corpus, data, shuffled, num_particles, note, seed)
        if num_latents(net)
        else None,
    )


def latents(
    net: StochasticRNN,
    corpus: Corpus,
    data: SequenceSet,
    shuffled: SequenceSet,
    num_particles: int,
    note: str,
    seed: int,
) -> Latents:
    """Trust and meaning; see :func:`findings`."""
    from threadpoolctl import threadpool_limits  # comes with scikit-learn

    weights = importance(net, data, num_particles, seed=seed)
    codes = latent_codes(net, data, seed=seed)
    several, probes, future = len(data) > 1, [], None
    # Regressions are so small that threads only wait for each other: up to twenty times as long.
    with threadpool_limits(1, "blas"):
        if several:
            future = future_prediction(codes, data, HORIZONS, seed=seed)
        if data.labels is not None and corpus.label_names and several:
            probes = linear_probes(codes, data.labels, corpus.label_names, seed=seed)
    steps = float(data.lengths.double().mean())
    simulations = int(min(320, max(64, MAX_SIMULATED_STEPS / (31 * steps))))
    return Latents(
        importance=weights,
        curve=bound_curve(weights.log_weight),
        protocol=protocol("iwae", TraceIWAE(num_particles), net, note),
        calibration=calibration(net, shuffled, simulations, num_draws=31, num_bins=8, seed=seed),
        codes=codes,
        kl=latent_kl(codes),
        information=mutual_information(net, data, 32, 64, seed) if several else None,
        future=future,
        probes=probes,
    )
