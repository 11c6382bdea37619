"""Curves of a run: metrics.csv, and loggers of Lightning by name."""

import csv
import io
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from lightning.fabric.loggers import Logger
from lightning.fabric.utilities.rank_zero import rank_zero_only

from ..data.formats.files import check_regular
from ..data.writing import refuse_links, replacing
from .curves import COLUMNS
from .folder import run_id
from .options import CheckpointOptions


class MetricsFile(Logger):
    """``metrics.csv``, to which rows are appended: a kill costs the row that is being written.

    Lightning's own begins a file anew when a run is resumed, or when it meets a new name.

    Rows of updates up to ``resumed_at``, and of validations up to ``validated_at``, are kept.
    """

    name, version = "metrics", ""

    def __init__(self, folder: Path, resumed_at: int = 0, validated_at: int = 0):
        super().__init__()
        self.folder, self.file, self.begun = folder, folder / "metrics.csv", False
        self.resumed_at, self.validated_at = resumed_at, validated_at

    def begin(self) -> None:
        """Writes the head and the rows from before the checkpoint."""
        rows = read_cells(self.file) if self.resumed_at else []
        with replacing(self.file, inside=self.folder) as file:
            file.write(lines([dict(zip(COLUMNS, COLUMNS))]))
            file.write(lines([row for row in rows if self.is_before(row)]))
        self.begun = True

    def is_before(self, row: dict[str, str]) -> bool:
        """Returns whether a row is from before the checkpoint."""
        last = self.validated_at if row["valid_bound"] else self.resumed_at
        return int(row["step"]) <= last

    @rank_zero_only
    def log_hyperparams(self, *args, **kwargs) -> None:
        """Does nothing: options are saved in config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if not self.begun:
            self.begin()
        refuse_links(self.file, self.folder)
        row = {name: f"{value:.7g}" for name, value in metrics.items() if name in COLUMNS}
        with open(self.file, "ab", buffering=0) as file:
            file.write(lines([row | {"step": step}]))


def read_cells(file: Path) -> list[dict[str, str]]:
    """Returns the rows of a metrics file; one whose writing was cut off is left out."""
    if not file.exists():
        return []
    check_regular(file)
    text = file.read_text(encoding="utf-8", errors="replace")
    rows = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
    names = {"step", "valid_bound"}
    return [
        row
        for row in rows
        if names <= row.keys() and None not in row.values() and row["step"].isdigit()
    ]


def read_rows(file: Path) -> list[dict[str, float]]:
    """Returns the rows of a metrics file as numbers, without empty cells."""
    rows = read_cells(file)
    return [{name: float(cell) for name, cell in row.items() if cell} for row in rows]


def lines(rows: list[dict], names: tuple[str, ...] = COLUMNS) -> bytes:
    """Returns rows as lines of CSV, with the columns ``names``."""
    text = io.StringIO(newline="")
    csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def loggers_for(
    options: CheckpointOptions, folder: Path, resumed_at: int, validated_at: int
) -> list[Logger]:
    """Returns the logger of metrics.csv, and those that options name, which write into the folder.

    Rows of metrics.csv up to the updates ``resumed_at`` and ``validated_at`` are kept. Raises
    ValueError if a logger's package is not installed, or its folder is a link.
    """
    loggers: list[Logger] = [MetricsFile(folder, resumed_at, validated_at)]
    for name in dict.fromkeys(options.loggers):
        if name != "csv":
            if not find_spec(name):
                raise ValueError(f"'loggers' must be installed, got '{name}': pip install {name}")
            refuse_links(folder / name, folder)
            loggers.append(LOGGERS[name](folder, resumed_at))
    return loggers


def tensorboard(folder: Path, resumed_at: int) -> Logger:
    """Returns a logger for TensorBoard, which drops events after the update ``resumed_at``."""
    from lightning.fabric.loggers import TensorBoardLogger

    purge = resumed_at + 1 if resumed_at else None
    return TensorBoardLogger(folder, name="tensorboard", version="", purge_step=purge)


def wandb(folder: Path, resumed_at: int) -> Logger:
    """Returns a logger for Weights & Biases; a run that is resumed goes on there."""
    from lightning.pytorch.loggers import WandbLogger

    return WandbLogger(folder.name, folder, id=run_id(folder), resume="allow")


def mlflow(folder: Path, resumed_at: int) -> Logger:
    """Returns a logger for MLflow, which writes to the folder if no tracking server is set."""
    from lightning.pytorch.loggers import MLFlowLogger

    uri = os.environ.get("MLFLOW_TRACKING_URI", f"file:{folder / 'mlflow'}")
    return MLFlowLogger("zforcing_pyro", run_name=folder.name, tracking_uri=uri)


LOGGERS = {"tensorboard": tensorboard, "wandb": wandb, "mlflow": mlflow}


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps Lightning's advertisements and advice off the screen for a while."""
    logger = logging.getLogger("lightning.fabric")
    level = logger.level
    with warnings.catch_warnings():
        for message in ("exists and is not empty", "LeafSpec", "isinstance.treespec"):
            warnings.filterwarnings("ignore", f".*{message}.*")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
