"""Backtests ``zf.SequenceModel`` on three public series, against seasonal naive and ETS.

    python -m experiments.forecasting [--series NAME ...] [--seeds 0 1 2] [--out runs/forecasting]

The last fifth of each series is test; training, choices and thresholds see the rest alone. The same
command goes on where it was killed: rows are in results/results.csv. ``draw`` as the only series
prints the table of experiments/README.md from them. Needs statsmodels and scoringrules.
"""

import argparse
import csv
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from statsmodels.tsa.exponential_smoothing.ets import ETSModel

import zforcing_pyro as zf

from .series import DRAWS, SERIES, metrics, origins_of

FILE = Path(__file__).parent / "results" / "results.csv"
DEEPAR = FILE.with_name("deepar.csv")
FAULTS, PLACES, SIZE, FROZEN, SPELL = ("spike", "shift", "frozen"), 5, 6.0, 12, 12
"""Faults, their number in a series, their size in deviations of changes, steps of a freeze, and
steps after it whose scores it moves: a fault is ranked among the others."""
TOP = 0.02


def panel(parts: dict[str, pd.Series]) -> pd.DataFrame:
    """Returns a frame of series by name."""
    frames = [pd.DataFrame({"series": n, "time": s.index, "x": s.to_numpy()})
              for n, s in parts.items()]  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def naive(past: pd.Series, season: int, horizon: int, rng: np.random.Generator) -> np.ndarray:
    """Returns the season before plus changes from season to season, drawn from the past."""
    y = past.to_numpy()
    changes = y[season:] - y[:-season]
    last = y[-season:][np.arange(horizon) % season]
    return last[:, None] + rng.choice(changes, (horizon, DRAWS))


def ets_options(train: pd.Series, season: int) -> dict:
    """Returns the form of ETS with the least AICc on the training part."""
    forms = [
        {"trend": trend, "damped_trend": trend is not None, "seasonal": seasonal}
        | ({"seasonal_periods": season} if seasonal else {})
        for trend in (None, "add")
        for seasonal in (None, "add")
    ]
    return min(forms, key=lambda form: ETSModel(train, **form).fit(disp=False).aicc)


def baselines(y: pd.Series, first: int, origins: list[int], season: int, horizon: int) -> dict:
    """Returns metrics of both baselines; gaps are interpolated for them."""
    full, rng = y.interpolate(), np.random.default_rng(0)
    truth = np.stack([y.to_numpy()[o : o + horizon] for o in origins])
    form = ets_options(full[:first], season)
    params = ETSModel(full[:first], **form).fit(disp=False).params
    draws: dict[str, list[np.ndarray]] = {"naive": [], "ets": []}
    for origin in origins:
        past = full[:origin]
        draws["naive"].append(naive(past, season, horizon, rng))
        fitted = ETSModel(past, **form).smooth(params)
        draws["ets"].append(
            fitted.simulate(horizon, anchor="end", repetitions=DRAWS, rng=rng).to_numpy()
        )
    results: dict = {"ets_form": f"{form['trend']}/{form['seasonal']}"}
    for name, values in draws.items():
        results |= metrics(name, np.stack(values), truth)
    return results


def with_gaps(y: pd.Series, first: int) -> pd.Series:
    """Returns the series with gaps of 3 and 6 steps in turn in its test part."""
    holed, at, size = y.copy(), first + 8, 3
    while at + size < len(y) - 8:
        holed.iloc[at : at + size] = np.nan
        at, size = at + size + 12, 9 - size
    return holed


def faulty(y: pd.Series, first: int) -> dict[str, tuple[pd.Series, int]]:
    """Returns series with one fault in the test part each, and the fault's first step."""
    size, parts = SIZE * y[:first].diff().std(), {}
    places = np.linspace(first + 10, len(y) - FROZEN - 6, PLACES).astype(int)
    for fault in FAULTS:
        for place in places:
            x = y.interpolate()
            if fault == "spike":
                x.iloc[place] += size
            elif fault == "shift":
                x.iloc[place:] += size
            else:
                x.iloc[place : place + FROZEN] = x.iloc[place]
            parts[f"{fault}-{place}"] = x, place
    return parts


def measured(name: str, seed: int, out: Path, updates: int) -> dict:
    """Returns all numbers of a series and a seed; a fitted model is read again."""
    load, season, horizon = SERIES[name]
    y = load()
    first, origins = origins_of(y, horizon)
    file = out / f"{name}-{seed}.safetensors"
    if file.exists():
        model = zf.SequenceModel.load(file)
    else:
        model = zf.SequenceModel(id="series", time="time", seed=seed, updates=updates)
        model.fit(panel({name: y[:first]})).save(file)
    row = {"series": name, "seed": seed, **baselines(y, first, origins, season, horizon)}
    pasts = panel({str(o): y[:o] for o in origins})
    draws = model.sample(pasts, horizon, DRAWS)["x"].to_numpy()
    draws = draws.reshape(len(origins), DRAWS, horizon).transpose(0, 2, 1)
    truth = np.stack([y.to_numpy()[o : o + horizon] for o in origins])
    row |= metrics("ours", draws, truth)
    holed = with_gaps(y, first)
    hidden = (holed.isna() & y.notna()).to_numpy()
    filled = model.impute(panel({name: holed}))["x"].to_numpy()
    for way, values in {"ours": filled, "linear": holed.interpolate().to_numpy()}.items():
        row[f"{way}_rmse"] = float(np.sqrt(((values - y.to_numpy())[hidden] ** 2).mean()))
    return row | hits(model, y, first)


def hits(model: zf.SequenceModel, y: pd.Series, first: int) -> dict[str, float]:
    """Returns the share of the faults of each kind that are in the top of the scores.

    A fault is ranked by its best score among the test steps whose scores it does not move.
    """
    parts, is_found = faulty(y, first), {fault: [] for fault in FAULTS}
    scores = model.score(panel({n: x for n, (x, _) in parts.items()}))["unusual"].to_numpy()
    for (key, (_, place)), each in zip(parts.items(), np.split(scores, len(parts))):
        fault, held, at = key.split("-")[0], each[first:], place - first
        best = held[at : at + (FROZEN if fault == "frozen" else 3)].max()
        healthy = np.concatenate([held[:at], held[at + FROZEN + SPELL :]])
        is_found[fault].append((healthy > best).mean() < TOP)
    return {fault: float(np.mean(values)) for fault, values in is_found.items()}


def table(rows: list[dict]) -> str:
    """Returns the table of README.md: means over seeds, and their range where seeds matter."""
    heads = ["series", "CRPS: ours", "seasonal naive", "ETS", "DeepAR", "80 % interval covers",
             "RMSE of gaps: ours", "linear", "spike, shift, frozen in the top 2 %"]  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for name in dict.fromkeys(row["series"] for row in rows):
        group = [row for row in rows if row["series"] == name]

        def cell(key: str, digits: int = 3, group: list[dict] = group) -> str:
            if not (values := [float(row[key]) for row in group if key in row]):
                return "-"
            spread = f" ({min(values):.{digits}f} to {max(values):.{digits}f})"
            return f"{np.mean(values):.{digits}f}" + spread * (max(values) > min(values))

        faults = ", ".join(f"{100 * np.mean([float(r[f]) for r in group]):.0f} %" for f in FAULTS)
        crps = [cell(f"{way}_crps") for way in ("ours", "naive", "ets", "deepar")]
        cells = [name, *crps, cell("ours_coverage", 2), cell("ours_rmse"), cell("linear_rmse")]
        cells.append(faults)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", nargs="+", default=list(SERIES), choices=[*SERIES, "draw"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--updates", type=int, default=400, help="most updates of training")
    parser.add_argument("--out", type=Path, default=Path("runs/forecasting"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of frequencies that statsmodels guesses
    options.out.mkdir(parents=True, exist_ok=True)
    FILE.parent.mkdir(exist_ok=True)
    rows = list(csv.DictReader(FILE.open())) if FILE.exists() else []
    for name in options.series if options.series != ["draw"] else ():
        for seed in options.seeds:
            if any(row["series"] == name and row["seed"] == str(seed) for row in rows):
                continue
            rows.append(measured(name, seed, options.out, options.updates))
            with FILE.open("w", newline="") as stream:
                writer = csv.DictWriter(stream, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
    if DEEPAR.exists():
        others = {(r["series"], r["seed"]): r for r in csv.DictReader(DEEPAR.open())}
        rows = [row | others.get((row["series"], str(row["seed"])), {}) for row in rows]
    print(table(rows))


if __name__ == "__main__":
    main()
