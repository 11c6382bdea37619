"""``zforcing inspect``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from .common import Parser, loaded

if TYPE_CHECKING:
    from ..report.findings import Findings, Latents


def inspect(args: list[str]) -> None:
    """Prints whether the posterior can be trusted, and what the latents mean."""
    parser = Parser(prog="zforcing inspect", description=inspect.__doc__)
    parser.add_argument("run", help="folder of a run")
    parser.add_argument(
        "--split", choices=("train", "valid", "test"), default="test", help="part of the data"
    )
    parser.add_argument("--num", type=int, help="sequences looked at; by default as many as have "
                        "some 8,000 steps, but 8 to 128")  # fmt: skip
    parser.add_argument("--particles", type=int, default=100, help="draws of the latents for each")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("--data_dir", help="where data files are, before $ZFORCING_DATA")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args(args)
    experiment, net, corpus = loaded(options)
    from ..report.findings import findings

    found = findings(
        experiment, net, corpus, options.split, options.num, options.particles, options.seed
    )
    if options.json:
        print(json.dumps(found.as_dict()))
        return
    print(f"{options.run}, {options.split}: {corpus.title}")
    print(f"{found.chosen}\n")
    print_rows("bounds (nats; higher is better)", bounds(found))
    if found.latents is None:
        print("The model has no latents: its bound is the exact log-likelihood.\n")
    else:
        print_rows("trust", trust(found.latents))
        print_rows("meaning", meaning(found.latents))
    print_rows("data against what the model generates", checks(found))
    print(f"protocol: {found.elbo.protocol}")


def bounds(found: Findings) -> list[tuple[str, str]]:
    """The ELBO, and the rise with the number of particles."""
    elbo = found.elbo
    error = "" if elbo.standard_error is None else f" ± {elbo.standard_error:.3f} (standard error)"
    name = "log-likelihood" if found.latents is None else "elbo, K = 1"
    rows = [(f"{name}, per sequence", f"{elbo.nats_per_sequence:.3f}{error}")]
    if found.latents is not None:
        curve = found.latents.curve
        rows += [
            (f"iwae, K = {k}", f"{bound:.3f}" + (f" ± {e:.3f} (of the draws)" if e == e else ""))
            for k, bound, e in zip(curve.num_particles, curve.bound, curve.standard_error)
            if k > 1
        ]
    return rows


def trust(them: Latents) -> list[tuple[str, str]]:
    """Importance weights and calibration."""
    import numpy as np

    from ...analysis.pareto import HIGH

    particles, k = len(them.importance.log_weight), them.importance.pareto_k
    ess, found = them.importance.ess, them.calibration
    worst, num = int(found.p_values.argmin()), found.ranks.shape[1]
    said = "passed" if found.calibrated else "failed"
    return [
        ("Pareto k-hat", f"median {np.median(k):.2f}; above 0.7 in {(k > HIGH).mean():.0%}"),
        ("effective sample size", f"{ess.mean():.1f} of {particles} (median {np.median(ess):.1f})"),
        ("calibration of the guide", f"{said} at level {found.level:g}, {num} simulations"),
        ("  smallest p", f"{found.p_values[worst]:.2g} ({found.quantities[worst]})"),
    ]


def meaning(them: Latents) -> list[tuple[str, str]]:
    """KL, mutual information, the future, labels."""
    kl, info = them.kl, them.information
    loud = "  ".join(f"{value:.3f}" for value in sorted(kl.by_latent, reverse=True)[:8])
    from ..report.answers import ahead

    rows = [
        ("KL per sequence", f"{kl.per_sequence.mean():.3f} nats"),
        ("latents in use", f"{int(kl.in_use.sum())} of {len(kl.in_use)}"),
        ("KL per step, largest", f"{loud} nats by dimension"),
    ]
    if info is not None:
        said = f"{info.lower[-1]:.3f} to {info.upper[-1]:.3f} nats (at most {info.limit:.2f} seen)"
        rows.append((f"mutual information, {len(info.lower)} steps", said))
    for horizon, past, gain in them.best_future():
        said = f"R² {past:.3f} from h, {past + gain:.3f} with z"
        rows.append((f"x, {ahead(horizon)}", said))
    for probe in them.probes:
        said = f"{probe.accuracy:.1%} ± {probe.standard_error:.1%} (chance {probe.chance:.1%})"
        rows.append((f"{probe.label} read off {probe.source}", said))
    return rows


def checks(found: Findings) -> list[tuple[str, str]]:
    """Predictive checks."""
    import numpy as np

    from ..report.findings import verdict

    rows = []
    for check in found.checks:
        said = verdict(check)
        if check.axis is None and check.outside == check.outside:
            mean = np.nanmean(check.replicated)
            said = f"{float(check.observed):.3g} against {mean:.3g}, {said}"
        rows.append((f"{check.name} ({check.unit})" if check.unit else check.name, said))
    return rows


def print_rows(title: str, rows: list[tuple[str, str]]) -> None:
    """Names and values below a title."""
    from rich.console import Console
    from rich.table import Table

    if not rows:
        return
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 2))
    table.add_column(min_width=26)
    table.add_column()
    for row in rows:
        table.add_row(*row)
    print(title)
    Console(highlight=False, markup=False).print(table)
    print()
