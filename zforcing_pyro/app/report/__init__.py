"""A page on one run or several: one HTML file without scripts, which needs no network."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ..._version import __version__
from ...analysis import plots
from ...analysis.evaluation import KL_IN_USE, VARIANCE_IN_USE
from ...data.corpus import check_comparable
from ...data.writing import refuse_links, replacing
from ..experiment import load_corpus, load_experiment
from . import comparison
from .figures import figures, svg
from .findings import Subject, subject
from .numbers import digits, numbers

MAX_RUNS = 8
SOUND_BYTES = 3_800_000
"""Bytes of all sounds of a page, which keeps it below 10 MB; a run has six sounds."""

MARK = "zforcing_pyro report"
"""First words of every file that a report writes: no other file is overwritten."""

TEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"±": r"$\pm$", "∞": r"$\infty$", "²": "$^2$"}
)


def report(
    runs: Sequence[str | Path],
    file: str | Path,
    num: int | None = None,
    num_particles: int = 100,
    seed: int = 0,
    data_dir: str | None = None,
    latex: bool = False,
    progress: Callable[[str], None] = lambda stage: None,
) -> Path:
    """Writes a page on runs, and returns it: samples, bounds, training, trust, meaning, options.

    Several runs also stand side by side, with paired differences and means over seeds. Raises
    ValueError if there are none or more than eight runs, one is not a run's folder, data differ, a
    number is out of its range, or ``file`` is not a report's.

    Args:
        runs: Folders of runs on the same version of the same data.
        file: The page, ``*.html``; its folder is made.
        num: Test sequences looked at; None takes some 8,000 steps, but 8 to 128 sequences.
        num_particles: Draws of the guide for each sequence, 25 or more.
        seed: Seed of all draws.
        data_dir: Folder of the data files; None is where the runs had them.
        latex: Writes the tables of several runs beside the page too, as ``*.tex``.
        progress: Called with a line before each stage.
    """
    if not 1 <= len(runs) <= MAX_RUNS:
        raise ValueError(f"'runs' must be 1 to {MAX_RUNS}, got {len(runs)}")
    if latex and len(runs) == 1:
        raise ValueError("'latex' must come with several runs, whose table it writes, got one run")
    names, file = names_of(runs), Path(file).absolute()
    files = {file: "page.html"} | ({file.with_suffix(".tex"): "tables.tex"} if latex else {})
    folders = [guarded_folder(path, runs) for path in files]
    options = {"num": num, "num_particles": num_particles, "seed": seed}
    subjects = measured(runs, names, data_dir, progress, **options)
    progress("page")
    max_bytes, step = SOUND_BYTES // (6 * len(runs)), subjects[0].corpus.step
    rows = {run.name: run.rows for run in subjects}
    facts = {
        "runs": subjects,
        "tables": comparison.tables(subjects),
        "ranking": comparison.ranking(comparison.arms(subjects)),
        "num_particles": num_particles,
        "drawn": lambda run: figures(run, max_bytes, seed),
        "curves": lambda: {
            name: plots.training_curves(rows, (column,), step)
            for name, column in {"Bound": "valid_bound", "KL": "valid_kl"}.items()
            if any(row.get(column) for run in subjects for row in run.rows)
        },
    }
    texts = [environment().get_template(name).render(facts) for name in files.values()]
    file.parent.mkdir(parents=True, exist_ok=True)
    for path, folder, text in zip(files, folders, texts):
        with replacing(path, inside=folder) as new:
            new.write(text.encode(errors="replace"))
    return file


def measured(
    runs: Sequence[str | Path],
    names: Sequence[str],
    data_dir: str | None,
    progress: Callable[[str], None],
    **options: Any,
) -> list[Subject]:
    """Returns runs measured on the same sequences; ValueError if their data differ."""
    if len(runs) > 1:
        corpora = (load_corpus(run, load_experiment(run), check=False) for run in runs)
        check_comparable(dict(zip(names, corpora)))
    subjects = []
    for run, name in zip(runs, names):
        about = f"{len(subjects) + 1} of {len(runs)}, {name}: " if len(runs) > 1 else ""
        options["progress"] = lambda text, about=about: progress(f"{about}{text}")
        subjects.append(subject(run, name, data_dir, **options))
    comparison.check_same_sequences(subjects)
    return subjects


def environment() -> jinja2.Environment:
    """Returns the templates' environment, which escapes every text."""
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"svg": svg, "digits": digits}
    templates.filters["upper_first"] = lambda text: text[:1].upper() + text[1:]
    templates.filters["tex"] = lambda text: Markup(" ".join(text.split()).translate(TEX))
    thresholds = {"KL_IN_USE": KL_IN_USE, "VARIANCE_IN_USE": VARIANCE_IN_USE}
    templates.globals |= {"mark": MARK, "version": __version__, "numbers": numbers, **thresholds}
    return templates


def guarded_folder(file: Path, runs: Sequence[str | Path]) -> Path:
    """Returns the folder in which no link is followed: the run that ``file`` is in, or its own.

    Raises ValueError if ``file`` has another ending, or exists and is not a report.
    """
    if file.suffix not in (".html", ".tex"):
        raise ValueError(f"'out' must end in .html, got '{file}'")
    inside = [run for run in map(Path.absolute, map(Path, runs)) if file.is_relative_to(run)]
    folder = inside[0] if inside else file.parent
    refuse_links(file, folder)
    if file.exists() and not (file.is_file() and MARK.encode() in file.read_bytes()[:200]):
        raise ValueError(f"'out' must be a new file or an earlier report, got '{file}'")
    return folder


def names_of(runs: Sequence[str | Path]) -> list[str]:
    """Returns the ends of the runs' paths, as long as it takes to tell them apart.

    Example:
        >>> names_of(["runs/a", "runs/b"]), names_of(["x/a", "y/a"])
        (['a', 'b'], ['x/a', 'y/a'])
    """
    paths = [Path(run).resolve() for run in runs]
    if len(set(paths)) < len(paths):
        raise ValueError(f"'runs' must differ, got {[os.fspath(run) for run in runs]}")
    size = 1
    while len({path.parts[-size:] for path in paths}) < len(paths):
        size += 1
    return ["/".join(path.parts[-size:]) for path in paths]
