"""The numbers of a run, written once for the terminal, for JSON, for the page and for LaTeX."""

import math
from typing import Any, NamedTuple

import numpy as np

from ...analysis.evaluation import plain
from ...analysis.posterior import PredictiveCheck
from .findings import Findings, Latents


class Number(NamedTuple):
    """A measured quantity: key and value for programs, label and text for people."""

    key: str
    label: str
    value: Any
    text: str


def digits(value: float, num: int = 3) -> str:
    """Returns a number with ``num`` decimals, or with four digits if it is huge.

    Example:
        >>> digits(-1234.5), digits(1e300), digits(float("nan")), digits(float("inf"))
        ('-1,234.500', '1e+300', 'undefined', '∞')
    """
    if not math.isfinite(value):
        return "undefined" if math.isnan(value) else "∞" if value > 0 else "-∞"
    return f"{value:,.{num}f}" if abs(value) < 1e7 else f"{value:.4g}"


def with_error(values: list[float], of_mean: bool = True) -> str:
    """Returns the mean of ``values`` ± its standard error, or ± their deviation."""
    mean, size = digits(float(np.mean(values))), len(values)
    if size < 2:
        return mean
    return f"{mean} ± {digits(float(np.std(values, ddof=1)) / (size**0.5 if of_mean else 1))}"


def numbers(results: Findings) -> dict[str, list[Number]]:
    """Returns all numbers by group: "bounds", "trust", "meaning", "predictive_checks"."""
    groups = {"bounds": bounds(results)}
    if results.latents is not None:
        groups |= {"trust": trust(results.latents), "meaning": meaning(results.latents)}
    return groups | {"predictive_checks": [check_number(check) for check in results.checks]}


def as_json(results: Findings) -> dict[str, Any]:
    """Returns the numbers as plain types for JSON."""
    about = {"split": results.split, "sequences": len(results.data), "elbo": results.elbo.as_dict()}
    groups = numbers(results).items()
    return about | {name: {n.key: plain(n.value) for n in group} for name, group in groups}


def bounds(results: Findings) -> list[Number]:
    """Returns bounds on log p(x), and what a trivial model has."""
    elbo, floor, rows = results.elbo, results.floor, []
    for name, values in results.bounds.items():
        per_step = f"{digits(sum(values) / elbo.num_steps, 4)} per {results.step}"
        label, text = f"{name}, nats per sequence", f"{with_error(values)} ({per_step})"
        rows.append(Number(name.split(",")[0], label, float(np.mean(values)), text))
    value, per_step = -floor.nats_per_sequence, digits(-floor.nats_per_step, 4)
    text = f"{digits(value)} ({per_step} per {results.step})"
    rows.append(Number("trivial", "trivial model, all of test", value, text))
    if (bits := elbo.bits_per_dim) is not None:
        rows.append(Number("bits_per_dim", "bits per dimension", bits, digits(bits, 4)))
    if (perplexity := elbo.perplexity) is not None:
        rows.append(Number("perplexity", "perplexity", perplexity, digits(perplexity, 2)))
    return rows


def trust(latents: Latents) -> list[Number]:
    """Returns what importance weights and calibration say about the posterior."""
    k, ess, num = latents.importance.pareto_k, latents.importance.ess, latents.num_particles
    curve, test, high = latents.curve, latents.calibration, latents.num_unreliable
    by_particles = dict(zip(curve.num_particles.tolist(), curve.bound.tolist()))
    rise = digits(curve.bound[-1] - curve.bound[0])
    share = f"{high} of {len(k)} sequences (median {digits(np.median(k), 2)})"
    size = f"{ess.mean():.1f} (median {np.median(ess):.1f})"
    verdict = "passed" if test.calibrated else "failed"
    verdict += f" at level {test.level:g}, {test.ranks.shape[1]} simulations"
    p, worst = dict(zip(test.quantities, test.p_values.tolist())), int(test.p_values.argmin())
    smallest = f"{test.p_values[worst]:.2g} ({test.quantities[worst]})"
    label = f"rise of the bound from K = 1 to {num}, nats"
    return [
        Number("bound_by_particles", label, by_particles, rise),
        Number("high_pareto_k", "Pareto k-hat above 0.7", high / len(k), share),
        Number("ess_mean", f"effective sample size, of {num}", float(ess.mean()), size),
        Number("calibrated", "calibration of the guide", bool(test.calibrated), verdict),
        Number("calibration_p_values", "smallest p-value of the calibration", p, smallest),
    ]


def meaning(latents: Latents) -> list[Number]:
    """Returns KL, latents in use, mutual information, the future and labels read off z."""
    kl, info = latents.kl, latents.information
    mean, by_latent, in_use = float(kl.per_sequence.mean()), kl.by_latent.tolist(), kl.in_use
    label = "KL, nats per sequence" + (" (log q - log p at draws)" if kl.is_estimate else "")
    largest = "  ".join(f"{value:.3f}" for value in sorted(by_latent, reverse=True)[:8])
    rows = [
        ("kl", label, mean, digits(mean)),
        ("latents_in_use", "latents in use", int(in_use.sum()), f"{in_use.sum()} of {len(in_use)}"),
        ("kl_by_latent", "KL by latent, nats per step, largest first", by_latent, largest),
    ]
    if info is not None:
        value = {"lower": float(info.lower[-1]), "upper": float(info.upper[-1])}
        label = f"mutual information of a sequence and its first {len(info.lower)} latents, nats"
        text = f"{digits(value['lower'])} to {digits(value['upper'])}"
        text += f" (at most {info.limit:.2f} is seen)"
        rows.append(("mutual_information", label, value, text))
    for horizon, past, both in latents.gains():
        value, text = {"h": past, "h and z": both}, f"{past:.3f} from h, {both:.3f} with z"
        rows.append((f"r2_{horizon}", f"R² of x, steps ahead: {horizon}", value, text))
    for probe in latents.probes:
        key, label = (f"{probe.label}{word}{probe.source}" for word in ("_from_", " read off "))
        chance = f"(chance {probe.chance:.1%}, {probe.num_classes} classes)"
        text = f"{probe.accuracy:.1%} ± {probe.standard_error:.1%} {chance}"
        rows.append((key, label, probe.accuracy, text))
    return [Number(*row) for row in rows]


def check_number(check: PredictiveCheck) -> Number:
    """Returns a statistic of the data beside the statistic of generated data."""
    label = f"{check.name} ({check.unit})" if check.unit else check.name
    value = {"smallest_p_value": check.smallest_p_value, "outside": check.outside}
    text = verdict(check)
    if check.axis is None and not math.isnan(check.outside):
        text = f"{float(check.observed):.3g} against {np.nanmean(check.replicated):.3g}, {text}"
    return Number(check.name, label, value, text)


def verdict(check: PredictiveCheck) -> str:
    """Returns where the data stand among the replicates, in words."""
    num = len(check.replicated)
    if math.isnan(check.outside):
        return "undefined in all that the model generates"
    if check.axis is not None:
        share = f"{check.outside:.0%} of points, {2 / (num + 1):.0%} if the model were right"
        return f"data outside of {num} replicates at {share}"
    if check.outside:
        return f"data outside of {num} replicates"
    return f"data within the range of {num} replicates, p = {check.smallest_p_value:.2g}"
