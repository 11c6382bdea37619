"""A page on one run or several: one file that needs no network and no script."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from ... import __version__
from ...analysis import plots
from ...data.corpus import check_comparable
from ...data.writing import replacing
from ..experiment import load_corpus, load_experiment
from .answers import answers
from .html import element, grid, page, paragraph, picture, section, table
from .meaning import meaning
from .samples import samples
from .sections import bounds, configuration, training, trust, with_error
from .subject import Subject, subject

MAX_RUNS = 8
SOUND_BYTES = 3_800_000
"""Of all sounds of a page together, which keeps it below 10 MB; six are of one run. Each is then up
to 28 seconds of a piano, a chorale, and 39 of speech at 8 kHz."""


def report(
    runs: Sequence[str | Path],
    file: str | Path,
    num: int | None = None,
    num_particles: int = 100,
    seed: int = 0,
    data_dir: str | None = None,
    progress: Callable[[str], None] = lambda run: None,
) -> Path:
    """Writes a page on runs: training, bounds, trust, meaning, samples, configuration.

    Args:
        runs: Their folders; of several, all on the same version of the same data.
        file: The page; its folder is made.
        num: Test sequences looked at; None is as many as have some 8,000 steps, but 8 to 128.
        num_particles: Draws of the guide for each, 25 or more.
        seed: Of all draws.
        data_dir: Where data files are; None is where the runs had them.
        progress: Called with the name of each run before it is looked at.

    Returns:
        The file.

    Raises:
        ValueError: If there are none or more than eight, one is no run, data differ, or a number
            is out of its range.
        OSError: If the file cannot be written.
    """
    if not 1 <= len(runs) <= MAX_RUNS:
        raise ValueError(f"'runs' must be 1 to {MAX_RUNS}, got {len(runs)}")
    names, file = names_of(runs), Path(file)
    if file.is_dir():
        raise ValueError(f"'file' must not be a folder, got '{file}'")
    if len(runs) > 1:
        corpora = (load_corpus(run, load_experiment(run)) for run in runs)
        check_comparable(dict(zip(names, corpora)))
    subjects = []
    for run, name in zip(runs, names):
        progress(name)
        subjects.append(subject(run, name, num, num_particles, seed, data_dir))
    max_bytes = SOUND_BYTES // (6 * len(runs))
    corpus, found = subjects[0].corpus, subjects[0].found
    has_guide = any(run.found.latents is not None for run in subjects)
    title = f"{names[0] if len(runs) == 1 else f'{len(runs)} runs'}: {corpus.title}"
    about = (
        f"Data: {corpus.title} ({corpus.version}). Numbers are of {found.chosen}"
        + (f"; {num_particles} draws of the guide for each" if has_guide else "")
        + f". Written by zforcing_pyro {__version__}."
    )
    content = [element("h1", escape(title)), paragraph(about, class_="soft")]
    if len(runs) == 1:
        content.append(of_one(subjects[0], 2, max_bytes, seed))
    else:
        content += [contents(names), side_by_side(subjects)]
        for i, run in enumerate(subjects):
            about_it = of_one(run, 3, max_bytes, seed)
            content.append(element("div", section(run.name, about_it), id=f"run-{i}"))
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as new:
        new.write(page(title, *content).encode())
    return file


def of_one(run: Subject, level: int, max_bytes: int, seed: int) -> str:
    """All about one run; ``level`` is that of its headings."""
    parts = {
        "Samples beside data": samples(run, max_bytes),
        "Bounds": bounds(run),
        "Training": training(run),
        "Trust": trust(run),
        "Meaning": meaning(run, seed),
        "Configuration": configuration(run),
    }
    sections = (section(title, part, level=level) for title, part in parts.items())
    return "".join([paragraph(run.model), answers(run.found), *sections])


def contents(names: Sequence[str]) -> str:
    """Links to what is about each run."""
    links = (
        element("li", element("a", escape(name), href=f"#run-{i}")) for i, name in enumerate(names)
    )
    return element("nav", element("ul", *links), aria_label="Runs")


def side_by_side(subjects: Sequence[Subject]) -> str:
    """Numbers of several runs in one table, and their curves in one picture."""
    columns = [numbers(run) for run in subjects]
    rows = [
        (name, *(column.get(name, "-") for column in columns))
        for name in dict.fromkeys(name for column in columns for name in column)
    ]
    runs = {run.name: run.rows for run in subjects}
    curves = ""
    if any(row.get("valid_bound") for run in subjects for row in run.rows):
        axes = plots.training_curves(runs, ("valid_bound",), subjects[0].corpus.step)
        curves = grid(picture(axes, "Bound on validation data against updates, of all runs"))
    return section("Side by side", table(("", *runs), rows), curves)


def numbers(run: Subject) -> dict[str, str]:
    """Of one run, by what they are."""
    found, them = run.found, run.found.latents
    values = {
        "model": run.experiment.model["name"],
        "parameters": f"{sum(p.numel() for p in run.net.parameters()):,}",
        "updates": f"{max((int(row['step']) for row in run.rows), default=0):,}",
        "trained on": run.experiment.bound["name"],
        "elbo, nats per sequence (± standard error)": with_error(
            found.elbo.nats_per_sequence, found.elbo.standard_error
        ),
    }
    if them is not None:
        particles = len(them.importance.log_weight)
        values |= {
            f"iwae, K = {particles}, nats per sequence": (
                f"{them.importance.log_likelihood.mean():,.3f}"
            ),
            "k-hat above 0.7": f"{them.high_pareto_k:.0%}",
            f"effective sample size of {particles}": f"{them.importance.ess.mean():.1f}",
            "calibrated": "yes" if them.calibration.calibrated else "no",
            "KL, nats per sequence": f"{them.kl.per_sequence.mean():.3f}",
            "latents in use": f"{int(them.kl.in_use.sum())} of {len(them.kl.in_use)}",
        }
        values |= {
            f"{probe.label} read off {probe.source}": f"{probe.accuracy:.0%}"
            for probe in them.probes
        }
    return values


def names_of(runs: Sequence[str | Path]) -> list[str]:
    """What runs are called: the ends of their paths, as long as it takes to tell them apart.

    Example:
        >>> names_of(["runs/a", "runs/b"]), names_of(["x/a", "y/a"])
        (['a', 'b'], ['x/a', 'y/a'])

    Raises:
        ValueError: If a run is given twice.
    """
    paths = [Path(run).resolve() for run in runs]
    if len(set(paths)) < len(paths):
        raise ValueError(f"'runs' must differ, got {[os.fspath(run) for run in runs]}")
    size = 1
    while len({path.parts[-size:] for path in paths}) < len(paths):
        size += 1
    return ["/".join(path.parts[-size:]) for path in paths]
