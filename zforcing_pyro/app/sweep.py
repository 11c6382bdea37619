"""Many runs from one file: a grid of options, random draws of them, or both.

A run is a function of its options and is resumed by the command that began it, so what a sweep
needs of an engine is only that it starts commands: processes on one machine, and on a cluster what
the cluster has, such as an array of Slurm jobs that each do one share. Neither needs a server, a
database or another library, and a job that was preempted is put back by the cluster and goes on.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.writing import replacing
from .arguments import flat, items, read_config, with_name
from .experiment import describe

KEYS = {"out", "config", "common", "grid", "random", "evaluate"}
EVALUATE = {"split", "bound", "particles", "seed"}
NUMBERS = (
    "nats_per_sequence",
    "standard_error",
    "nats_per_step",
    "kl_per_sequence",
    "latents_in_use",
    "protocol",
)
"""Of an evaluation that are in the table."""


@dataclass(frozen=True)
class Trial:
    """One run of a sweep.

    Args:
        folder: Of the run.
        settings: The options in which it differs from the others, by dotted names.
        arguments: All it is trained with.
        evaluation: Arguments that it is evaluated with.
    """

    folder: Path
    settings: dict[str, Any]
    arguments: tuple[str, ...]
    evaluation: tuple[str, ...]

    @property
    def result(self) -> dict[str, Any] | None:
        """Its evaluation, if it has been evaluated so."""
        file = self.folder / "evaluation.json"
        try:
            found = json.loads(file.read_text())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise ValueError(f"'{file}' must hold an evaluation, got {error}") from error
        return found["result"] if found["arguments"] == list(self.evaluation) else None

    def commands(self) -> Iterator[list[str]]:
        """What is left to be done, one after the other."""
        program = [sys.executable, "-m", "zforcing_pyro"]
        yield [*program, "train", *self.arguments, "--out", str(self.folder), "--resume"]
        yield [*program, "evaluate", str(self.folder), *self.evaluation, "--json"]


def trials(file: str | Path) -> list[Trial]:
    """The runs that a sweep's file describes.

    ``common`` and the file that ``config`` names have the options of all of them. ``grid`` has
    lists, of which every combination is taken; ``random`` has ``num``, ``seed`` and, by option, one
    of ``{uniform: [low, high]}``, ``{log_uniform: [low, high]}`` and ``{choice: [...]}``; each draw
    is combined with the whole grid, so that seeds may stand there. ``evaluate`` has the options of
    ``zforcing evaluate``, and ``out`` the folder. All runs are on the same data: their numbers
    stand in one table.

    Raises:
        ValueError: If the file is none such, an option of any run is unknown, or data differ.
    """
    file = Path(file)
    sweep = read_config(str(file))
    if unknown := sorted(sweep.keys() - KEYS):
        raise ValueError(f"'{file}' must have keys of {sorted(KEYS)}, got '{unknown[0]}'")
    for name in KEYS - {"out", "config"}:
        if not isinstance(sweep.get(name, {}), dict):
            raise ValueError(f"'{name}' of '{file}' must hold options by name, got {sweep[name]}")
    out = Path(sweep.get("out", Path("runs", file.stem)))
    common = list(flat(sweep.get("common", {})))
    if "config" in sweep:
        common = [f"--config={file.parent / sweep['config']}", *common]
    evaluation = {"split": "valid"} | sweep.get("evaluate", {})
    if unknown := sorted(evaluation.keys() - EVALUATE):
        raise ValueError(
            f"'evaluate' of '{file}' must have keys of {sorted(EVALUATE)}, got '{unknown[0]}'"
        )
    found, first = [], None
    for settings in combinations(sweep.get("grid", {}), sweep.get("random", {}), file):
        arguments = tuple(with_name(a) for a in [*common, *flat(settings)])
        data = describe(arguments).data  # every mistake before the first run
        first = first or data
        if data != first:
            raise ValueError(
                f"runs of '{file}' must be on the same data, to be in one table, got {first} "
                f"and {data}"
            )
        digest = hashlib.sha256(json.dumps([common, settings]).encode()).hexdigest()[:8]
        values = [f"{v:.4g}" if isinstance(v, float) else str(v) for v in settings.values()]
        name = re.sub(r"[^\w.+-]+", "_", "-".join(values))[:60]
        folder = out / f"{name}-{digest}"
        found.append(Trial(folder, settings, arguments, tuple(flat(evaluation))))
    return found


def combinations(grid: dict, random: dict, file: Path) -> Iterator[dict[str, Any]]:
    """Each draw of ``random`` with each point of ``grid``."""
    for name, values in items(grid):
        if not isinstance(values, list) or not values:
            raise ValueError(f"'{name}' of the grid of '{file}' must be a list, got {values}")
    random = dict(random)
    num, seed = random.pop("num", 1), random.pop("seed", 0)
    for name, value, least in (("num", num, 1), ("seed", seed, 0)):
        if type(value) is not int or value < least:
            raise ValueError(
                f"'{name}' of random of '{file}' must be a whole number of {least} or more, "
                f"got {value}"
            )
    for draw in range(num):
        rng = np.random.default_rng([seed, draw])  # so that a larger num keeps what was drawn
        drawn = {name: sampled(rng, name, how, file) for name, how in random.items()}
        axes = dict(items(grid))
        for point in itertools.product(*axes.values()):
            yield dict(zip(axes, point)) | drawn


def sampled(rng: np.random.Generator, name: str, how: Any, file: Path) -> Any:
    """A draw of one option."""
    kind, given = next(iter(how.items())) if isinstance(how, dict) and len(how) == 1 else ("", None)
    if kind == "choice" and isinstance(given, list) and given:
        return given[int(rng.integers(len(given)))]
    numbers = isinstance(given, list) and all(isinstance(v, (int, float)) for v in given)
    if kind in ("uniform", "log_uniform") and numbers and len(given) == 2:
        if kind == "uniform":
            return float(rng.uniform(*given))
        if min(given) > 0:
            return float(np.exp(rng.uniform(*np.log(given))))
    raise ValueError(
        f"'{name}' of '{file}' must be {{uniform: [low, high]}}, {{log_uniform: [low, high]}} of "
        f"positive numbers, or {{choice: [...]}}, got {how}"
    )


def work_off(trials: list[Trial], jobs: int, say: Callable[[str], None]) -> list[Trial]:
    """Trains and evaluates what has not been yet, ``jobs`` at a time; returns what failed.

    Whatever ends it ends the runs as well, each of which saves where it is.
    """
    left = [trial for trial in trials if trial.result is None]
    waiting = iter([(trial, trial.commands()) for trial in left])
    running: dict[subprocess.Popen, tuple[Trial, Iterator[list[str]]]] = {}
    failed, done = [], len(trials) - len(left)
    try:
        while True:
            while len(running) < jobs and (found := next(waiting, None)):
                running[started(found[0], next(found[1]))] = found
            if not running:
                return failed
            for process in [p for p in running if p.poll() is not None]:
                trial, commands = running.pop(process)
                command = next(commands, None)
                if process.returncode:
                    failed.append(trial)
                    log = trial.folder / "log.txt"
                    last = log.read_text(errors="replace").strip().splitlines()[-1:]
                    say(f"{trial.folder}: failed, see {log}" + "".join(f": {x}" for x in last))
                elif command:
                    running[started(trial, command)] = trial, commands
                else:
                    keep_evaluation(trial)
                    done += 1
                    number = trial.result["nats_per_sequence"]
                    say(f"{done} of {len(trials)}: {trial.folder}: {number:.4f} nats a sequence")
            time.sleep(0.1)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


def started(trial: Trial, command: list[str]) -> subprocess.Popen:
    """A process whose complaints are in ``log.txt``, and whose results in ``stdout.txt``."""
    trial.folder.mkdir(parents=True, exist_ok=True)
    with (
        open(trial.folder / "log.txt", "a") as log,
        open(trial.folder / "stdout.txt", "w") as out,
    ):
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=log)


def keep_evaluation(trial: Trial) -> None:
    """What the last command said, as the result."""
    stdout = trial.folder / "stdout.txt"
    found = {"arguments": list(trial.evaluation), "result": json.loads(stdout.read_text())}
    with replacing(trial.folder / "evaluation.json") as file:
        file.write(json.dumps(found, indent=1).encode())
    stdout.unlink()


def table(trials: list[Trial]) -> list[dict[str, Any]]:
    """A row for each run that has a result, the best first."""
    rows = [
        {"run": trial.folder.name, **trial.settings, **{n: trial.result[n] for n in NUMBERS}}
        for trial in trials
        if trial.result is not None
    ]
    return sorted(rows, key=lambda row: -row["nats_per_sequence"])


def write_table(rows: list[dict[str, Any]], file: Path) -> None:
    """Rows as CSV."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with replacing(file) as new:
        new.write(text.getvalue().encode())
