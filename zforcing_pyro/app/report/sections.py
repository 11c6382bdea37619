"""The parts of a report on one run: training, bounds, trust, configuration."""

from __future__ import annotations

import json
import math
from html import escape

import yaml

from ...analysis import plots
from .findings import Findings, Latents, verdict
from .html import element, grid, paragraph, picture, subheading, table
from .subject import Subject


def training(run: Subject) -> str:
    """Curves of bound and KL."""
    shown = []
    curves = [(("bound", "valid_bound"), "bound")]
    if run.found.latents is not None:
        curves.append((("kl", "valid_kl"), "KL"))
    for names, title in curves:
        if any(row.get(name) for row in run.rows for name in names):
            axes = plots.training_curves({run.name: run.rows}, names, run.corpus.step)
            axes.set_title(f"{title}, nats per {run.corpus.step}", fontsize=10)
            axes.set_ylabel("nats")
            shown.append(
                picture(axes, f"{title} against updates, on training and on validation data")
            )
    if not shown:
        return ""
    options = run.experiment
    said = (
        f"{last_update(run):,} of {options.max_updates:,} updates on the bound "
        f"{options.bound['name']}. Validation has KL weight 1 and no costs; training is as it was "
        "weighed then."
    )
    return paragraph(said, class_="soft") + grid(*shown)


def last_update(run: Subject) -> int:
    """The last update that ``metrics.csv`` tells of."""
    return max((int(row["step"]) for row in run.rows), default=0)


def bounds(run: Subject) -> str:
    """Bounds on test with their protocol, and what a trivial model has."""
    found, step = run.found, run.corpus.step
    elbo, floor = found.elbo, run.corpus.floor()
    rows = [
        (
            "elbo, K = 1" if found.latents else "log-likelihood",
            with_error(elbo.nats_per_sequence, elbo.standard_error),
            f"{elbo.nats_per_step:.4f}",
        )
    ]
    protocols = [elbo.protocol]
    if (them := found.latents) is not None:
        total = them.importance.log_likelihood
        error = total.std(ddof=1) / math.sqrt(len(total)) if len(total) > 1 else None
        rows.append(
            (
                f"iwae, K = {len(them.importance.log_weight)}",
                with_error(total.mean(), error),
                f"{total.sum() / them.importance.lengths.sum():.4f}",
            )
        )
        protocols.append(them.protocol)
    trivial = f"{-floor.nats_per_sequence:,.3f}", f"{-floor.nats_per_step:.4f}"
    rows.append(("trivial model, all of test", *trivial))
    head = (
        "lower bound on log p(x)" if them else "log p(x)",
        "nats per sequence (± standard error)",
        f"nats per {step}",
    )
    extra = []
    if elbo.bits_per_dim is not None:
        extra.append(f"{elbo.bits_per_dim:.4f} bits per dimension")
    if elbo.perplexity is not None:
        extra.append(f"perplexity {elbo.perplexity:.2f}")
    by = "elbo" if them else "log-likelihood"
    units = f" By the {by}: {', '.join(extra)}." if extra else ""
    said = paragraph(f"Higher is better.{units} Trivial model: {floor.description}.")
    best = elbo.nats_per_step if them is None else total.sum() / them.importance.lengths.sum()
    if best < -floor.nats_per_step:
        worse = "By these numbers the model is no better than the trivial one."
        said += element("p", element("strong", escape(worse)))
    numbers = table(head, rows) + said
    numbers += "".join(paragraph(f"Protocol: {line}", class_="soft") for line in protocols)
    return numbers


def with_error(value: float, error: float | None) -> str:
    """A mean and its standard error."""
    return f"{value:,.3f}" + ("" if error is None else f" ± {error:.3f}")


def trust(run: Subject) -> str:
    """Importance weights, the bound against K, calibration, and predictive checks."""
    found, them = run.found, run.found.latents
    shown = []
    if them is not None:
        curve, k = them.curve, them.importance.pareto_k
        axes = plots.bound_against_particles(
            curve.num_particles.tolist(), curve.bound, curve.standard_error
        )
        rise = curve.bound[-1] - curve.bound[0]
        shown += [
            picture(
                plots.pareto_k(k),
                f"Pareto k-hat of {len(k)} sequences, sorted; above 0.7 in "
                f"{them.high_pareto_k:.0%}",
                "Pareto k-hat of each sequence's importance weights: above 0.7 the guide leaves "
                "out so much of the posterior that no number of draws helps.",
            ),
            picture(
                axes,
                f"The bound rises by {rise:.3f} nats from 1 to {curve.num_particles[-1]} particles",
                f"From the elbo to K = {curve.num_particles[-1]} the bound rises by {rise:.3f} "
                "nats per sequence: at least so far is the guide from the posterior.",
            ),
            *calibrations(them),
        ]
    return grid(*shown) + checks(found)


def calibrations(them: Latents) -> list[str]:
    """Rank histograms of log p(x, z), and of the latent that is worst."""
    found = them.calibration
    last = len(found.quantities) - 1
    worst = int(found.p_values[:last].argmin()) if last else last
    shown = []
    for i in dict.fromkeys((last, worst)):
        name, p = found.quantities[i], found.p_values[i]
        axes = plots.rank_histogram(found.histograms[i], found.band, name)
        shown.append(
            picture(
                axes,
                f"Histogram of ranks of {name}; uniformity has p = {p:.2g}",
                f"Calibration on {found.ranks.shape[1]} sequences that the model generated: ranks "
                f"of {name}{' (worst latent)' if i == worst and i != last else ''} among "
                f"{found.num_draws} draws of the guide, p = {p:.2g}. A hill: the guide is too "
                "wide; a U: too narrow; a slope: off to one side.",
            )
        )
    return shown


def checks(found: Findings) -> str:
    """Statistics of the data beside those of generated sequences."""
    shown = []
    for check in found.checks:
        said = f"{check.name} of the data and of generated sequences"
        shown.append(
            picture(
                plots.predictive_check(check),
                said,
                f"{said[0].upper()}{said[1:]}: {verdict(check)}.",
            )
        )
    if not shown:
        return ""
    return subheading("Does what it generates look like the data, in numbers?") + grid(*shown)


def configuration(run: Subject) -> str:
    """All that repeats the run, and what it ran on."""
    text = yaml.safe_dump(run.experiment.config(), sort_keys=False, allow_unicode=True)
    said = subheading("config.yaml") + element("pre", escape(text))
    file = run.folder / "environment.json"
    if file.is_file():
        facts = json.dumps(json.loads(file.read_text()), indent=1, ensure_ascii=False)
        said += subheading("environment.json") + element("pre", escape(facts))
    return said
