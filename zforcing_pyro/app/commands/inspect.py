"""``zforcing inspect``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ..terminal import Parser, printable, show
from .common import loaded

if TYPE_CHECKING:
    from ..report.findings import Findings, Latents


def inspect(args: list[str]) -> None:
    """Prints whether the posterior can be trusted, and what the latents mean."""
    parser = Parser("inspect", "run --split --seed --data_dir --json", description=inspect.__doc__)
    parser.add_argument("--num", type=int, help="sequences looked at; by default as many as have "
                        "some 8,000 steps, but 8 to 128")  # fmt: skip
    parser.add_argument("--particles", type=int, default=100, help="draws of the latents for each, "
                        "25 or more")  # fmt: skip
    arguments = parser.parse_args(args)
    experiment, net, corpus = loaded(arguments)
    from ..report.findings import findings

    num, particles = arguments.num, arguments.particles
    results = findings(experiment, net, corpus, arguments.split, num, particles, arguments.seed)
    if arguments.json:
        print(json.dumps(results.as_dict()))
        return
    show(f"{arguments.run}, {arguments.split}: {corpus.title}")
    show(f"{results.chosen}\n")
    print_rows("bounds (nats; higher is better)", bounds(results))
    if results.latents is None:
        show("The model has no latents: its bound is the exact log-likelihood.\n")
    else:
        print_rows("trust", trust(results.latents))
        print_rows("meaning", meaning(results.latents))
    print_rows("data against what the model generates", checks(results))
    show(f"protocol: {results.elbo.protocol}")


def bounds(results: Findings) -> list[tuple[str, str]]:
    """Returns rows on the ELBO, and on IWAE by the number of particles."""
    elbo = results.elbo
    error = "" if elbo.standard_error is None else f" ± {elbo.standard_error:.3f} (standard error)"
    name = "log-likelihood" if results.latents is None else "elbo, K = 1"
    rows = [(f"{name}, per sequence", f"{elbo.nats_per_sequence:.3f}{error}")]
    if results.latents is not None:
        curve = results.latents.curve
        rows += [
            (f"iwae, K = {k}", f"{bound:.3f}" + (f" ± {e:.3f} (of the draws)" if e == e else ""))
            for k, bound, e in zip(curve.num_particles, curve.bound, curve.standard_error)
            if k > 1
        ]
    return rows


def trust(latents: Latents) -> list[tuple[str, str]]:
    """Returns rows on importance weights and calibration."""
    import numpy as np

    from ...analysis.pareto import HIGH

    particles, k = len(latents.importance.log_weight), latents.importance.pareto_k
    ess, test = latents.importance.ess, latents.calibration
    worst, num = int(test.p_values.argmin()), test.ranks.shape[1]
    verdict = "passed" if test.calibrated else "failed"
    return [
        ("Pareto k-hat", f"median {np.median(k):.2f}; above 0.7 in {(k > HIGH).mean():.0%}"),
        ("effective sample size", f"{ess.mean():.1f} of {particles} (median {np.median(ess):.1f})"),
        ("calibration of the guide", f"{verdict} at level {test.level:g}, {num} simulations"),
        ("  smallest p", f"{test.p_values[worst]:.2g} ({test.quantities[worst]})"),
    ]


def meaning(latents: Latents) -> list[tuple[str, str]]:
    """Returns rows on KL, mutual information, the future and labels."""
    from ..report.answers import ahead

    kl, info = latents.kl, latents.information
    largest = "  ".join(f"{value:.3f}" for value in sorted(kl.by_latent, reverse=True)[:8])
    rows = [
        ("KL per sequence", f"{kl.per_sequence.mean():.3f} nats"),
        ("latents in use", f"{int(kl.in_use.sum())} of {len(kl.in_use)}"),
        ("KL per step, largest", f"{largest} nats by dimension"),
    ]
    if info is not None:
        limits = f"{info.lower[-1]:.3f} to {info.upper[-1]:.3f} nats"
        rows.append((f"mutual information, {len(info.lower)} steps",
                     f"{limits} (at most {info.limit:.2f} seen)"))  # fmt: skip
    for horizon, past, gain in latents.best_future():
        rows.append((f"x, {ahead(horizon)}", f"R² {past:.3f} from h, {past + gain:.3f} with z"))
    for probe in latents.probes:
        accuracy = f"{probe.accuracy:.1%} ± {probe.standard_error:.1%}"
        rows.append((f"{probe.label} read off {probe.source}",
                     f"{accuracy} (chance {probe.chance:.1%})"))  # fmt: skip
    return rows


def checks(results: Findings) -> list[tuple[str, str]]:
    """Returns rows on the predictive checks."""
    import numpy as np

    from ..report.findings import verdict

    rows = []
    for check in results.checks:
        text = verdict(check)
        if check.axis is None and check.outside == check.outside:
            mean = np.nanmean(check.replicated)
            text = f"{float(check.observed):.3g} against {mean:.3g}, {text}"
        rows.append((f"{check.name} ({check.unit})" if check.unit else check.name, text))
    return rows


def print_rows(title: str, rows: list[tuple[str, str]]) -> None:
    """Prints names and values below a title."""
    from rich.console import Console
    from rich.table import Table

    if not rows:
        return
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 2))
    table.add_column(min_width=26)
    table.add_column()
    for row in rows:
        table.add_row(*map(printable, row))
    show(title)
    Console(highlight=False, markup=False).print(table)
    show()
