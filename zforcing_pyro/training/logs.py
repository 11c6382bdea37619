"""Where the curves of a run go."""

from __future__ import annotations

import csv
import io
import logging
import math
import warnings
from importlib.util import find_spec
from pathlib import Path

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from ..data.writing import replacing
from .curves import COLUMNS


class MetricsFile(Logger):
    """``metrics.csv``, a row at a time at its end: a kill costs the row that is being written.

    Lightning's own begins a file anew when a run is resumed, or when it meets a new name.

    Args:
        folder: Of the run.
        resumed_at: The update after which it goes on; rows up to there are kept.
        validated_at: That of the last validation whose row is kept.
    """

    name, version = "metrics", ""

    def __init__(self, folder: Path, resumed_at: int = 0, validated_at: int = 0):
        super().__init__()
        self.file, self.begun = folder / "metrics.csv", False
        self.resumed_at, self.validated_at = resumed_at, validated_at

    def begin(self) -> None:
        """Writes the head, and the rows of before."""
        rows = read_rows(self.file) if self.resumed_at else []
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.file) as file:
            file.write(lines([dict(zip(COLUMNS, COLUMNS))]))
            file.write(lines([row for row in rows if self.keeps(row)]))
        self.begun = True

    def keeps(self, row: dict[str, str]) -> bool:
        """Whether a row is from before the checkpoint."""
        last = self.validated_at if row["valid_bound"] else self.resumed_at
        return int(row["step"]) <= last

    @rank_zero_only
    def log_hyperparams(self, *args, **kwargs) -> None:
        """They are in ``config.yaml``."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if not self.begun:
            self.begin()
        row = {k: f"{v:.7g}" for k, v in metrics.items() if k in COLUMNS and math.isfinite(v)}
        with open(self.file, "ab", buffering=0) as file:
            file.write(lines([row | {"step": step}]))


def read_rows(file: Path) -> list[dict[str, str]]:
    """The whole rows of a metrics file; one whose writing was cut off is left out."""
    if not file.exists():
        return []
    text = file.read_text(errors="replace")
    rows = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
    return [row for row in rows if None not in row.values() and row.get("step", "").isdigit()]


def lines(rows: list[dict]) -> bytes:
    text = io.StringIO(newline="")
    csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def loggers(folder: Path, resumed_at: int, validated_at: int) -> list[Logger]:
    """``metrics.csv``, and events for TensorBoard where that is installed."""
    found: list[Logger] = [MetricsFile(folder, resumed_at, validated_at)]
    if find_spec("tensorboard"):
        found.append(events(folder, resumed_at))
    return found


def events(folder: Path, resumed_at: int) -> Logger:
    """TensorBoard's events in ``tensorboard/``; what is after ``resumed_at`` it then ignores."""
    from lightning.pytorch.loggers import TensorBoardLogger

    options: dict = {"name": "tensorboard", "version": "", "default_hp_metric": False}
    if resumed_at:
        options["purge_step"] = resumed_at + 1
    return TensorBoardLogger(folder, **options)


class quiet:
    """Keeps Lightning's advertisements and advice about workers off the screen."""

    def __enter__(self) -> None:
        self.logger = logging.getLogger("lightning.pytorch")
        self.level = self.logger.level
        self.logger.setLevel(logging.ERROR)
        self.warnings = warnings.catch_warnings()
        self.warnings.__enter__()
        for message in (
            "does not have many workers",
            "exists and is not empty",
            "LeafSpec",
            "logging interval",
            "sync_dist=True",
        ):
            warnings.filterwarnings("ignore", f".*{message}.*")

    def __exit__(self, *error) -> None:
        self.warnings.__exit__(*error)
        self.logger.setLevel(self.level)
