"""Works off the runs of a sweep as an Optuna study, together with any number of other processes."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from ..data.writing import replacing
from ..training.logs import read_rows
from .sweep import Sweep, Trial
from .terminal import say

try:
    import fcntl
except ImportError:  # Windows: nobody else is told that a trial is in work
    fcntl = None  # type: ignore[assignment]

NUMBERS = ("nats_per_sequence", "standard_error", "nats_per_step", "kl_per_sequence",
           "latents_in_use", "protocol")  # fmt: skip
"""Fields of an evaluation that are in the table."""
GRACE = 5.0
"""Seconds in which a process that was killed has its runs stopped, or a new trial is locked."""


def open_study(sweep: Sweep) -> optuna.Study:
    """Returns the study of a sweep, in its journal or its database, with all that is planned.

    Trials that failed, and those of processes that are gone, are planned again.
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sweep.out.mkdir(parents=True, exist_ok=True)
    storage = sweep.storage or JournalStorage(JournalFileBackend(str(sweep.out / "study.journal")))
    study = optuna.create_study(
        storage=storage,
        study_name=sweep.study,
        direction="maximize",
        load_if_exists=True,
        pruner={"none": optuna.pruners.NopPruner, "median": optuna.pruners.MedianPruner}[
            sweep.pruner
        ](),
    )
    study.sampler = optuna.samplers.TPESampler(
        seed=sweep.seed + len(study.get_trials(deepcopy=False)), n_startup_trials=1,
        constant_liar=True,
    )  # fmt: skip
    done, failed = set(), {}
    for trial in study.get_trials(deepcopy=False):
        key = json.dumps([trial.user_attrs.get("draw"), trial.user_attrs.get("point")])
        if trial.state == TrialState.FAIL:
            failed[key] = trial.params
        else:
            done.add(key)
    for draw, point, drawn in sweep.plan:
        key = json.dumps([draw, point])
        if key not in done:
            enqueue(study, draw, point, failed.get(key) or encoded(sweep, drawn or {}))
    return study


def enqueue(study: optuna.Study, draw: int, point: dict[str, Any], params: dict[str, Any]) -> None:
    """Adds a trial that some process will take; the sampler chooses what ``params`` lacks."""
    study.enqueue_trial(params, user_attrs={"draw": draw, "point": point})


def encoded(sweep: Sweep, drawn: dict[str, Any]) -> dict[str, Any]:
    """Returns drawn options as Optuna's parameters: choices are JSON texts."""
    return {n: json.dumps(v) if sweep.random[n][0] == "choice" else v for n, v in drawn.items()}


def trial_of(sweep: Sweep, frozen: Any) -> Trial:
    """Returns the run of one of Optuna's trials."""
    drawn = {
        name: json.loads(value) if sweep.random[name][0] == "choice" else value
        for name, value in frozen.params.items()
    }
    return sweep.trial(frozen.user_attrs["point"] | drawn)


def distributions(sweep: Sweep) -> dict[str, Any]:
    """Returns what Optuna draws each option of ``random`` from."""
    return {
        name: CategoricalDistribution(list(dict.fromkeys(map(json.dumps, values))))
        if kind == "choice"
        else FloatDistribution(*values, log=kind == "log_uniform")
        for name, (kind, values) in sweep.random.items()
    }


def beside(folder: Path, suffix: str) -> Path:
    """Returns a file of a trial outside its folder, which belongs to the run."""
    return folder.with_name(f".{folder.name}.{suffix}")


def lock(folder: Path) -> int | None:
    """Returns a descriptor that holds a trial until it is closed here and in all children.

    None is returned if another process holds the trial.
    """
    handle = os.open(beside(folder, "lock"), os.O_CREAT | os.O_RDWR, 0o644)
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return handle
    except BlockingIOError:
        os.close(handle)
        return None


@dataclass
class Job:
    """A trial that this process works on."""

    asked: optuna.Trial
    trial: Trial
    handle: int
    commands: Iterator[list[str]]
    process: subprocess.Popen | None = None
    update: int = -1
    pruned: bool = False

    def start(self, command: list[str]) -> None:
        """Starts a command. Its stdin ends with this process, which stops it."""
        with (
            open(beside(self.trial.folder, "log"), "ab") as log,
            open(beside(self.trial.folder, "out"), "wb") as out,
        ):
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=log,
                env=os.environ | {"ZFORCING_STOP_WITH_STDIN": "1"},
                pass_fds=(self.handle,) if fcntl is not None else (),
            )

    def watch(self) -> None:
        """Reports validations to the pruner and stops a run that is not worth going on with."""
        for row in read_rows(self.trial.folder / "metrics.csv"):
            if row.get("valid_bound") and int(row["step"]) > self.update:
                self.update = int(row["step"])
                self.asked.report(float(row["valid_bound"]), self.update)
        if not self.pruned and self.update >= 0 and self.asked.should_prune():
            self.pruned = True
            self.process.terminate()

    def wait(self) -> int:
        """Waits for the process and returns its exit status."""
        with self.process:
            return self.process.wait()

    def keep_evaluation(self) -> None:
        """Writes what the last command printed as the result."""
        file = beside(self.trial.folder, "out")
        result = json.loads(file.read_text(encoding="utf-8"))
        saved = {"arguments": list(self.trial.evaluation), "result": result}
        with replacing(self.trial.folder / "evaluation.json", inside=self.trial.folder) as new:
            new.write(json.dumps(saved, indent=1).encode())


def next_job(sweep: Sweep, study: optuna.Study) -> Job | None:
    """Returns a waiting trial that this process holds from now on, or None if none waits."""
    while any(t.state == TrialState.WAITING for t in study.get_trials(deepcopy=False)):
        asked = study.ask(distributions(sweep))
        if "point" not in asked.user_attrs:  # another process took the one that waited
            study.tell(asked, state=TrialState.FAIL)
            continue
        trial = trial_of(sweep, asked)
        handle = lock(trial.folder)
        if handle is None:  # an equal trial is in work
            study.tell(asked, state=TrialState.FAIL)
            continue
        if trial.result is None:
            return Job(asked, trial, handle, trial.commands())
        os.close(handle)
        tell(study, asked, trial)
    return None


def tell(study: optuna.Study, asked: optuna.Trial, trial: Trial) -> bool:
    """Tells the study a trial's result; returns whether it is a number."""
    value = (trial.result or {}).get("nats_per_sequence")
    if isinstance(value, float) and math.isfinite(value):
        study.tell(asked, value)
        return True
    study.tell(asked, state=TrialState.FAIL)
    return False


def revive(sweep: Sweep, study: optuna.Study) -> bool:
    """Plans the trials of processes that are gone again; returns whether any is in other hands."""
    others = False
    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        point = trial.user_attrs.get("point")
        if point is None:
            continue
        whole = trial.params.keys() == sweep.random.keys()
        handle = lock(trial_of(sweep, trial).folder) if whole else -1
        age = time.time() - trial.datetime_start.timestamp()
        if handle is None or age < GRACE:
            others = True
        else:
            study.tell(trial.number, state=TrialState.FAIL)
            enqueue(study, trial.user_attrs["draw"], point, trial.params)
        if handle not in (None, -1):
            os.close(handle)
    return others


def work_off(sweep: Sweep, study: optuna.Study, jobs: int) -> list[Trial]:
    """Trains and evaluates what waits, ``jobs`` at a time.

    Whatever ends this process ends its runs as well, each of which saves its state.

    Returns:
        The trials that failed.
    """
    running: list[Job] = []
    failed: list[Trial] = []
    idle_since = time.monotonic()
    try:
        while True:
            others = not running and revive(sweep, study)
            while len(running) < jobs and (job := next_job(sweep, study)):
                running.append(job)
                job.start(next(job.commands))
            if not running:
                if not others or time.monotonic() - idle_since > 2 * GRACE:
                    return failed
                time.sleep(0.5)
                continue
            idle_since = time.monotonic()
            time.sleep(0.1)
            for job in list(running):
                if sweep.pruner != "none":
                    job.watch()
                if job.process.poll() is None:
                    continue
                command = None if job.wait() else next(job.commands, None)
                if command:
                    job.start(command)
                    continue
                running.remove(job)
                if not finish(study, job):
                    failed.append(job.trial)
    finally:
        for job in running:
            job.process.terminate()
        for job in running:
            job.wait()
            os.close(job.handle)


def finish(study: optuna.Study, job: Job) -> bool:
    """Tells the study how a trial ended; returns whether it did well."""
    folder = job.trial.folder
    try:
        if job.pruned:
            study.tell(job.asked, state=TrialState.PRUNED)
            say(f"{folder}: pruned after update {job.update}")
            return True
        if job.process.returncode == 0:
            job.keep_evaluation()
            if tell(study, job.asked, job.trial):
                say(f"{folder}: {job.trial.result['nats_per_sequence']:.4f} nats a sequence")
                return True
        else:
            study.tell(job.asked, state=TrialState.FAIL)
        log = beside(folder, "log")
        lines = log.read_text(errors="replace").strip().splitlines()
        say(f"{folder}: failed, see {log}" + "".join(f": {x}" for x in lines[-1:]))
        return False
    finally:
        beside(folder, "out").unlink(missing_ok=True)
        os.close(job.handle)


def table(sweep: Sweep, study: optuna.Study) -> list[dict[str, Any]]:
    """Returns a row for each run that has a result, the best first."""
    trials = {}
    for frozen in study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]):
        trial = trial_of(sweep, frozen)
        trials[trial.folder] = trial
    rows = [
        {"run": trial.folder.name, **trial.settings, **{n: result.get(n) for n in NUMBERS}}
        for trial in trials.values()
        if (result := trial.result) is not None
    ]
    return sorted(rows, key=lambda row: -row["nats_per_sequence"])


def write_table(rows: list[dict[str, Any]], file: Path) -> None:
    """Writes rows as CSV."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with replacing(file) as new:
        new.write(text.getvalue().encode())
