"""Works off a sweep as an Optuna study, together with any number of other processes."""

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
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from ..data.writing import locked, replacing
from ..training.logs import lines, read_rows
from .sweep import Sweep, Trial
from .terminal import say

NUMBERS = ("nats_per_sequence", "standard_error", "nats_per_step", "kl_per_sequence",
           "latents_in_use", "protocol")  # fmt: skip
"""Fields of an evaluation that are in the table."""
GRACE = 5.0
"""Seconds in which a new trial is locked, or the runs of a process that was killed stop."""


def open_study(sweep: Sweep) -> optuna.Study:
    """Returns the study of a sweep, in its journal or its database, with all that is planned.

    Trials that failed are planned again. Optuna chooses the options that a plan leaves open.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sweep.out.mkdir(parents=True, exist_ok=True)
    storage = sweep.storage or JournalStorage(JournalFileBackend(str(sweep.out / "study.journal")))
    pruners = {"none": optuna.pruners.NopPruner, "median": optuna.pruners.MedianPruner}
    study = optuna.create_study(
        storage=storage,
        study_name=sweep.study,
        direction="maximize",
        load_if_exists=True,
        pruner=pruners[sweep.pruner](),
    )
    seed = sweep.seed + len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=1, constant_liar=True)
    while (handle := lock(sweep.out / "plan")) is None:  # one process plans at a time
        time.sleep(0.1)
    planned, failed = set(), {}
    for trial in study.get_trials(deepcopy=False):
        key = json.dumps([trial.user_attrs.get("draw"), trial.user_attrs.get("point")])
        if trial.state == TrialState.FAIL:
            failed[key] = trial.params
        else:
            planned.add(key)
    for draw, point, drawn in sweep.plan:
        key = json.dumps([draw, point])
        if key not in planned:
            attributes = {"draw": draw, "point": point}
            study.enqueue_trial(failed.get(key) or drawn, user_attrs=attributes)
    os.close(handle)
    return study


def beside(folder: Path, suffix: str) -> Path:
    """Returns a file of a trial outside its folder, which belongs to the run."""
    return folder.with_name(f".{folder.name}.{suffix}")


def lock(folder: Path) -> int | None:
    """Returns a descriptor that holds a trial until this process and its children close it.

    None is returned if another process holds the trial.
    """
    handle = os.open(beside(folder, "lock"), os.O_CREAT | os.O_RDWR, 0o644)
    if locked(handle):
        return handle
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
        """Starts a command, which stops when its stdin ends with this process."""
        folder, descriptors = self.trial.folder, () if os.name == "nt" else (self.handle,)
        environment = os.environ | {"ZFORCING_STOP_WITH_STDIN": "1"}
        with open(beside(folder, "log"), "ab") as log, open(beside(folder, "out"), "wb") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=log,
                                            env=environment, pass_fds=descriptors)  # fmt: skip

    def report(self) -> None:
        """Tells the pruner of new validations, and stops a run that it rejects."""
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

    def finish(self, study: optuna.Study) -> bool:
        """Keeps the evaluation and tells the study; returns whether the trial did well."""
        folder, out = self.trial.folder, beside(self.trial.folder, "out")
        if self.process.returncode == 0:
            result = json.loads(out.read_text(encoding="utf-8"))
            saved = {"arguments": list(self.trial.evaluation), "result": result}
            with replacing(folder / "evaluation.json", inside=folder) as file:
                file.write(json.dumps(saved, indent=1).encode())
        out.unlink()
        os.close(self.handle)
        if self.pruned:
            study.tell(self.asked, state=TrialState.PRUNED)
            say(f"{folder}: pruned after update {self.update}")
        elif tell(study, self.asked, self.trial):
            say(f"{folder}: {self.trial.result['nats_per_sequence']:.4f} nats a sequence")
        else:
            log = beside(folder, "log")
            lines = log.read_text(errors="replace").strip().splitlines()
            say(f"{folder}: failed, see {log}" + "".join(f": {x}" for x in lines[-1:]))
            return False
        return True


def tell(study: optuna.Study, asked: optuna.Trial, trial: Trial) -> bool:
    """Tells the study a trial's result; returns whether the result is a number."""
    value = (trial.result or {}).get("nats_per_sequence")
    is_number = isinstance(value, float) and math.isfinite(value)
    study.tell(asked, value if is_number else None, None if is_number else TrialState.FAIL)
    return is_number


def next_job(sweep: Sweep, study: optuna.Study) -> Job | None:
    """Returns a waiting trial, which this process holds from now on; None if none waits."""
    while study.get_trials(deepcopy=False, states=[TrialState.WAITING]):
        asked = study.ask(sweep.random)
        # Another process took the trial that waited, or works on an equal one.
        trial = handle = None
        if "point" in asked.user_attrs:
            trial = sweep.trial(asked.user_attrs["point"], asked.params)
            handle = lock(trial.folder)
        if handle is None:
            study.tell(asked, state=TrialState.FAIL)
        elif trial.result is None:
            return Job(asked, trial, handle, trial.commands())
        else:
            os.close(handle)
            tell(study, asked, trial)
    return None


def revive(sweep: Sweep, study: optuna.Study) -> bool:
    """Plans trials of processes that are gone again; returns whether others work on any."""
    others = False
    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        if "point" not in trial.user_attrs or trial.params.keys() != sweep.random.keys():
            continue
        handle = lock(sweep.trial(trial.user_attrs["point"], trial.params).folder)
        if handle is not None:
            os.close(handle)
        if handle is None or time.time() - trial.datetime_start.timestamp() < GRACE:
            others = True
        else:
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params, user_attrs=trial.user_attrs)
    return others


def work_off(sweep: Sweep, study: optuna.Study, num_jobs: int) -> list[Trial]:
    """Trains and evaluates what waits, ``num_jobs`` at a time; returns the trials that failed.

    Whatever ends this process ends its runs as well, each of which saves its state.
    """
    running: list[Job] = []
    failed: list[Trial] = []
    busy_at = time.monotonic()
    try:
        while True:
            others = not running and revive(sweep, study)
            while len(running) < num_jobs and (job := next_job(sweep, study)):
                running.append(job)
                job.start(next(job.commands))
            if running:
                busy_at = time.monotonic()
            elif not others or time.monotonic() - busy_at > 2 * GRACE:
                return failed
            time.sleep(0.1)
            for job in list(running):
                if sweep.pruner != "none":
                    job.report()
                if job.process.poll() is None:
                    continue
                command = None if job.wait() else next(job.commands, None)
                if command:
                    job.start(command)
                    continue
                running.remove(job)
                if not job.finish(study):
                    failed.append(job.trial)
    finally:
        for job in running:
            job.process.terminate()
        for job in running:
            job.wait()
            os.close(job.handle)


def table(sweep: Sweep, study: optuna.Study) -> list[dict[str, Any]]:
    """Returns a row for each run that has a result, the best first."""
    trials = {}
    for frozen in study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]):
        trial = sweep.trial(frozen.user_attrs["point"], frozen.params)
        trials[trial.folder] = trial
    rows = [
        {"run": trial.folder.name, **trial.settings, **{n: result.get(n) for n in NUMBERS}}
        for trial in trials.values()
        if (result := trial.result) is not None
    ]
    return sorted(rows, key=lambda row: -row["nats_per_sequence"])


def write_table(rows: list[dict[str, Any]], file: Path) -> None:
    """Writes rows as CSV."""
    with replacing(file) as new:
        new.write(lines([dict(zip(rows[0], rows[0])), *rows], tuple(rows[0])))
