"""Backtests DeepAR (Salinas et al., 2020) as GluonTS has it, on the same series and origins.

    python -m venv deepar
    deepar/bin/pip install 'gluonts[torch]' statsmodels scoringrules
    deepar/bin/python -m experiments.forecasting.deepar [--seeds 0 1 2] [--epochs 20]

GluonTS needs an older pandas than this repository, so it has an environment of its own. Rows are
written to results/deepar.csv; ``python -m experiments.forecasting --series draw`` has their column.
"""

import argparse
import csv
import logging
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from gluonts.dataset.common import ListDataset
from gluonts.torch import DeepAREstimator
from lightning.pytorch import seed_everything

from .series import DRAWS, SERIES, metrics, origins_of

FILE = Path(__file__).parent / "results" / "deepar.csv"


def measured(name: str, seed: int, epochs: int) -> dict:
    """Returns CRPS and coverage; options are GluonTS' own but for the number of epochs."""
    load, season, horizon = SERIES[name]
    y = load()
    first, origins = origins_of(y, horizon)
    values, freq = y.interpolate().to_numpy(), "Y" if season != 12 else "M"
    start = pd.Period(y.index[0], freq)

    def data(ends: list[int]) -> ListDataset:
        return ListDataset([{"start": start, "target": values[:end]} for end in ends], freq=freq)

    seed_everything(seed, verbose=False)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    quiet |= {"accelerator": "cpu", "max_epochs": epochs, "enable_checkpointing": True}
    estimator = DeepAREstimator(freq=freq, prediction_length=horizon, trainer_kwargs=quiet)
    predictor = estimator.train(data([first]))
    forecasts = predictor.predict(data(origins), num_samples=DRAWS)
    draws = np.stack([forecast.samples.T for forecast in forecasts])
    truth = np.stack([y.to_numpy()[o : o + horizon] for o in origins])
    return {"series": name, "seed": seed, **metrics("deepar", draws, truth), "epochs": epochs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", nargs="+", default=list(SERIES), choices=list(SERIES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=20, help="of 50 batches each")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    rows: list[dict] = list(csv.DictReader(FILE.open())) if FILE.exists() else []
    for seed in options.seeds:
        for name in options.series:
            if any(row["series"] == name and row["seed"] == str(seed) for row in rows):
                continue
            rows.append(measured(name, seed, options.epochs))
            print(rows[-1], flush=True)
            with FILE.open("w", newline="") as stream:
                writer = csv.DictWriter(stream, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)


if __name__ == "__main__":
    main()
