"""Frames in, forecasts, imputations and scores out: a facade with scikit-learn's manners."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator

from ..analysis.series import Told, future_draws, thresholds, told, unusual
from ..data.checks import check_range
from ..data.corpus import random_split
from ..data.own.coding import Coding
from ..data.own.frames import Layout, Series
from ..data.own.grid import Grid
from ..models.files import description_of, load_net, save_net
from ..training.series import fit_series, new_net

SIZES = {"z_dim": 4, "h_dim": 48, "hidden_dim": 48, "embed_dim": 0}
"""Sizes of the net unless ``sizes`` names others."""
MANY, SHARE, WARM_UP = 10, 0.2, 8
"""Series of which some are validation; else the last share of each is; steps before scores."""
RARE, FEWEST, CONTEXT = 0.99, 100, 2
"""Quantile of validation's scores that is a threshold; particles; windows that forecasts read."""


class SequenceModel(BaseEstimator):
    """A stochastic recurrent network of a frame's series: forecasts, imputes and scores.

    A frame is of pandas or polars. One row is a step of a series, with the series' ``id`` and the
    ``time`` in columns or in the index; without an id there is one series. A frame with one column
    for each series is made long first, as by ``melt``. Missing values, and missing rows between
    others, need no care. Results are in the data's own units, with ids and times.

    Args:
        id, time: Columns; empty finds them in the index, and times in a column of dates.
        targets: Columns to model; () is all others.
        future: Columns that are known in the future too, such as holidays or prices.
        static: Columns that are constant in a series; texts are categories, here and in ``future``.
        kind: Family of targets, or a dict by column: "gaussian", "student_t" (heavy tails),
            "counts" ("poisson", "negative_binomial"), "bernoulli", "beta"; "auto" looks.
        difference: Models changes of real targets instead of levels; "auto" looks for levels that
            move away.
        calendar: Reads the phase of year, week and day where times are dates.
        model: Name of the net, such as "vrnn", "srnn" or "zforcing".
        sizes: Options of the net.
        window: Steps of a training window; 0 is 64, or the longest series.
        updates: Most updates of training, which stops early.
        training: Options of :class:`.TrainingOptions`.
        seed: Seed of weights, batches and draws.
        verbose: Prints what was chosen by look.

    Example:
        >>> import numpy as np, pandas as pd
        >>> days = pd.date_range("2024-01-01", periods=200, name="day")
        >>> sales = np.random.default_rng(0).poisson(20.0, 200)
        >>> frame = pd.DataFrame({"sales": sales}, index=days)
        >>> model = SequenceModel(updates=5, sizes={"h_dim": 8}).fit(frame)
        'sales': poisson, since all are whole numbers, with variance 1.1 x mean
        calendar: cycles of the week are read
        validation: the last 40 steps
        >>> model.forecast(frame, 2).columns.tolist()
        ['sales', 'sales_q0.1', 'sales_q0.5', 'sales_q0.9']
    """

    def __init__(
        self,
        id: str = "",
        time: str = "",
        targets: Sequence[str] = (),
        future: Sequence[str] = (),
        static: Sequence[str] = (),
        kind: str | dict[str, str] = "auto",
        difference: bool | str = "auto",
        calendar: bool = True,
        model: str = "vrnn",
        sizes: dict[str, Any] | None = None,
        window: int = 0,
        updates: int = 2_000,
        training: dict[str, Any] | None = None,
        seed: int = 0,
        verbose: bool = True,
    ):
        self.id, self.time, self.targets, self.future = id, time, targets, future
        self.static, self.kind, self.difference, self.calendar = static, kind, difference, calendar
        self.model, self.sizes, self.window, self.updates = model, sizes, window, updates
        self.training, self.seed, self.verbose = training, seed, verbose

    def fit(self, frame: Any, y: None = None) -> SequenceModel:
        """Trains on a frame and returns the model; ``choices_`` says what was chosen by look.

        The last fifth of each series is validation, or a tenth of the series if they are 10 or
        more: training stops by it, and thresholds of :meth:`score` are its quantiles.

        Raises:
            ValueError: If the frame does not fit the options, by the column.
        """
        check_range(0, window=self.window)
        layout = Layout(self.id, self.time, [*self.targets], [*self.future], [*self.static])
        series = layout.read(frame)
        cuts = np.array([len(s.times) for s in series])
        if cuts.max() < 3:
            raise ValueError(f"'frame' must have a series of 3 steps at least, got {cuts.max()}")
        if len(series) < MANY:
            cuts = np.minimum(cuts - 1, np.ceil((1 - SHARE) * cuts).astype(int))
            told = f"the last {(np.array([len(s.times) for s in series]) - cuts).sum()} steps"
        else:
            valid = random_split(len(series), self.seed, "series")["valid"]
            cuts[valid], told = 0, f"{len(valid)} of {len(series)} series"
        seen = [cut_off(s, cut) for s, cut in zip(series, cuts) if cut]
        coding, self.choices_ = Coding.learnt(
            seen, layout, self.kind, self.difference, self.calendar
        )
        self.choices_.append(f"validation: {told}")
        if self.verbose:
            print("\n".join(self.choices_))
        coded = [(coding.coded(s, layout.targets), coding.given(s), int(cut))
                 for s, cut in zip(series, cuts)]  # fmt: skip
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            sizes = SIZES | (self.sizes or {})
            net = new_net(self.model, coding, coded[0][1].shape[1], sizes)
        self.window_ = self.window or min(64, int(cuts.max()))
        fitted = fit_series(
            net, coding, coded, self.window_, self.updates, self.seed, self.training or {}
        )
        self.net_, self.layout_, self.coding_, self.bound_ = net, layout, coding, fitted.bound
        held = [slice(max(n, min(WARM_UP, len(s.times) // 2)), None) for s, n in zip(series, cuts)]
        parts = self.told(series, 64, 0)
        self.calm_, self.thresholds_ = thresholds(parts, held, layout.targets, RARE)
        return self

    def forecast(
        self,
        frame: Any,
        horizon: int,
        quantiles: Sequence[float] = (0.1, 0.5, 0.9),
        future: Any = None,
        draws: int = 200,
        seed: int = 0,
    ) -> Any:
        """Returns the mean and quantiles of each target in the steps after each series' last row.

        Args:
            frame: The series so far, with or without those of training.
            horizon: Number of steps.
            quantiles: Between 0 and 1; the columns are ``NAME_q0.1``, and ``NAME`` is the mean.
            future: Covariates that are known in these steps, a frame with ids and times.
            draws: Number of draws that the quantiles are of.

        Returns:
            A frame of the library of ``frame`` with a row for each series and step.
        """
        if not all(0 < q < 1 for q in quantiles):
            raise ValueError(f"'quantiles' must be between 0 and 1, got {list(quantiles)}")

        def columns(x: np.ndarray) -> dict[str, np.ndarray]:
            table = {}
            for d, name in enumerate(self.layout_.targets):
                table[name] = x[..., d].mean(0)
                table |= {f"{name}_q{q:g}": np.quantile(x[..., d], q, 0) for q in quantiles}
            return table

        parts = self.continued(frame, horizon, future, draws, seed)
        return self.layout_.frame(frame, [(n, t, columns(x)) for n, t, x in parts])

    def sample(
        self, frame: Any, steps: int, num: int = 10, future: Any = None, seed: int = 0
    ) -> Any:
        """Returns draws of how each series goes on, with a column ``draw`` from 0 to ``num`` - 1.

        Each draw is a path: its steps belong together. Arguments are as for :meth:`forecast`.
        """
        targets = self.layout_.targets
        parts = [
            (name, times, {"draw": np.full(len(times), k), **dict(zip(targets, x[k].T))})
            for name, times, x in self.continued(frame, steps, future, num, seed)
            for k in range(num)
        ]
        return self.layout_.frame(frame, parts)

    def continued(
        self, frame: Any, horizon: int, future: Any, draws: int, seed: int
    ) -> list[tuple[Any, np.ndarray, np.ndarray]]:
        """Returns id, later times and draws, ``(draws, horizon, targets)``, of each series."""
        check_range(1, horizon=horizon, draws=draws)
        series = self.read(frame)
        later = self.layout_.continued(series, horizon, future)
        x = future_draws(
            self.net_, self.coding_, self.layout_.targets, series, later, max(draws, FEWEST), seed,
            CONTEXT * self.window_,
        )  # fmt: skip
        return [(s.name, s.times, v[:: len(v) // draws][:draws]) for s, v in zip(later, x)]

    def impute(self, frame: Any, draws: int = 0, lag: int = 16, seed: int = 0) -> Any:
        """Returns the frame with the mean of each missing value given what is observed around it.

        Rows that are missing between others are there in the result, which then has the columns of
        ids, times and targets alone.

        Args:
            frame: The series.
            draws: Number of draws to return instead of means, with a column ``draw``.
            lag: Steps after a missing value that weigh its draws.
        """
        check_range(0, draws=draws, lag=lag)
        series = self.read(frame)
        parts = self.told(series, max(draws, FEWEST), lag, seed)
        columns, complete = self.layout_.targets, all((s.rows >= 0).all() for s in series)

        def filled(s: Series, x: np.ndarray) -> dict[str, np.ndarray]:
            values = s.values.items()
            table = {n: x[:, d] for d, n in enumerate(columns)}
            return table | {n: np.where(np.isnan(v), table[n], v) for n, v in values if n in table}

        if draws:
            return self.layout_.frame(frame, [
                (s.name, s.times, {"draw": np.full(len(s.times), k)}
                 | filled(s, part.draws[k * len(part.draws) // draws]))
                for s, part in zip(series, parts) for k in range(draws)
            ])  # fmt: skip
        means = [filled(s, part.draws.mean(0)) for s, part in zip(series, parts)]
        if complete:
            return self.layout_.replaced(frame, series, means)
        return self.layout_.frame(frame, [(s.name, s.times, m) for s, m in zip(series, means)])

    def score(self, frame: Any, seed: int = 0) -> Any:
        """Returns how surprising each row is, with the rows and the index of ``frame``.

        Columns are ``surprise``, -log p(row given the rows before) in nats of the data's own units;
        ``NAME_surprise``, the same of each target; ``unusual``, how far the surprise of the row, or
        the mean of the last 12, is off validation's median, in deviations to that side; and
        ``is_unusual`` above the threshold of validation, its 99 % quantile. A frozen sensor is less
        surprising than usual. NaN is a row without observations; the first 8 rows of a series, in
        which the filter settles, have no ``unusual``. ``thresholds_`` has each column's threshold.
        """
        series = self.read(frame)
        parts, columns = self.told(series, 64, 0, seed), []
        for part in parts:
            score = unusual(part.surprise, self.calm_)
            score[: min(WARM_UP, len(score) // 2)] = np.nan
            table = {"surprise": part.surprise}
            for d, name in enumerate(self.layout_.targets):
                table[f"{name}_surprise"] = part.by_feature[:, d]
            is_unusual = score > self.thresholds_["unusual"]
            columns.append(table | {"unusual": score, "is_unusual": is_unusual})
        return self.layout_.beside(frame, series, columns)

    def told(self, series: Sequence[Series], draws: int, lag: int, seed: int = 0) -> list[Told]:
        """Returns what the net's filter tells of each series."""
        return told(self.net_, self.coding_, self.layout_.targets, series, draws, lag, seed)

    def read(self, frame: Any) -> list[Series]:
        """Returns the series of a frame; ValueError before :meth:`fit`."""
        if not hasattr(self, "net_"):
            raise ValueError("a SequenceModel must be fitted or loaded before it is used")
        return self.layout_.read(frame)

    def save(self, path: str | Path) -> None:
        """Writes the model to one safetensors file, which holds tensors and JSON alone.

        ``zf.load`` returns the net of the file, :meth:`load` the model.
        """
        names = ("choices_", "bound_", "window_", "calm_", "thresholds_")
        about = {
            "options": self.get_params(),
            "layout": dataclasses.asdict(self.layout_),
            "coding": dataclasses.asdict(self.coding_),
            "learnt": {name: getattr(self, name) for name in names},
        }
        save_net(self.net_, path, series=about)

    @classmethod
    def load(cls, path: str | Path) -> SequenceModel:
        """Returns a model that :meth:`save` wrote; nothing in the file is executed.

        Raises ValueError for another file.
        """
        net, about = load_net(path), description_of(path).get("series")
        try:
            model = cls(**about["options"])
            about["layout"]["grid"] = Grid(**about["layout"]["grid"])
            model.layout_, model.coding_ = Layout(**about["layout"]), Coding(**about["coding"])
            vars(model).update(about["learnt"])
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(
                f"'{path}' must be a file that SequenceModel.save wrote, got one of a net alone"
            ) from error
        model.net_ = net
        return model


def cut_off(series: Series, cut: int) -> Series:
    """Returns the first steps of a series."""
    values = {name: v[:cut] for name, v in series.values.items()}
    return Series(series.name, series.times[:cut], series.rows[:cut], values)
