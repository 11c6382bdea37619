"""Trains a net on series that stand in memory: windows, validation by time, and early stopping."""

import contextlib
import functools
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data import Sequences
from ..data.own.coding import COUNTS, Coding, beside, start_frame
from ..emissions import Columns
from ..models import MODELS, StochasticRNN
from .fit import Fitted, fit
from .options import TrainingOptions

DEFAULTS: dict[str, Any] = {
    "batch_size": 32, "lr": 3e-3, "patience": 3, "lr_floor": 3e-4, "clip": 5.0,
    "weight_decay": 0.01, "kl_start": 0.1, "kl_updates": 100, "validate_every": 25,
    "early_stop": 10, "loggers": [],
}  # fmt: skip
"""Options of training on series; they suit hundreds to thousands of steps."""
MIN_SCALE = 0.02
"""Floor of the scale of a real number, in units of its deviation."""


def new_net(model: str, coding: Coding, num_given: int, sizes: dict[str, Any]) -> StochasticRNN:
    """Returns a new net for coded series beside ``num_given`` covariates.

    Raises ValueError for a model that reads no covariates, or has no steps to be filtered.
    """
    units = [s if f in COUNTS else 1.0 for f, s in zip(coding.families, coding.scale)]
    emission = functools.partial(
        Columns,
        families=coding.families,
        units=units,
        unscored=num_given,
        min_scale=MIN_SCALE,
        missing=True,
    )
    if model not in MODELS:
        raise ValueError(f"'model' must be one of {list(MODELS)}, got '{model}'")
    net = MODELS[model](emission, len(units) + num_given, **sizes)
    if not net.has_steps or net.of_vectors:
        raise ValueError(f"'model' must have steps that a filter takes, got '{model}'")
    if num_given and not net.reads_inputs:
        raise ValueError(
            f"'model' must read what came before to use covariates or a calendar, got '{model}': "
            "vrnn, srnn, storn, zforcing and rnn do"
        )
    return net


def windows(
    coding: Coding,
    coded: np.ndarray,
    given: np.ndarray,
    spans: Sequence[tuple[int, int, int]],
) -> list[dict[str, Tensor]]:
    """Returns stretches of a series as a net reads them; those without a scored value are left out.

    Args:
        coded: Targets, ``(time, targets)``.
        given: Covariates, ``(time, covariates)``.
        spans: Begin, end and first scored step of each stretch.
    """
    read = coding.read(coded)
    carried = coding.carried(read)
    x, inputs = (beside(v, given).astype(np.float32) for v in (read, carried))
    first = start_frame(read.shape[1], given).astype(np.float32)
    parts = []
    for begin, end, scored in spans:
        if np.isnan(read[scored:end]).all():
            continue
        mask = np.arange(begin, end) >= scored
        parts.append(
            {
                "sequences": torch.from_numpy(x[begin:end]),
                "starts": torch.from_numpy(first if begin == 0 else inputs[begin - 1]),
                "inputs": torch.from_numpy(inputs[begin:end]),
                "scored": torch.from_numpy(mask),
            }
        )
    return parts


def fit_series(
    net: StochasticRNN,
    coding: Coding,
    series: Sequence[tuple[np.ndarray, np.ndarray, int]],
    window: int,
    updates: int,
    seed: int,
    options: dict[str, Any],
) -> Fitted:
    """Trains a net on coded series, and keeps the weights that are best on validation.

    Args:
        series: Targets, covariates, and the first step of validation, of each series: its length
            for a series of training alone, 0 for one of validation alone.
        window: Steps of a window of training; windows overlap by three quarters.
    """
    train, valid = [], []
    for coded, given, cut in series:
        begins = range(0, max(1, cut - window + 1), max(1, window // 4)) if cut else ()
        spans = [(b, min(b + window, cut), b) for b in begins]
        if spans and spans[-1][1] < cut:
            spans.append((cut - window, cut, cut - window))
        train += windows(coding, coded, given, spans)
        if cut < len(coded):
            valid += windows(coding, coded, given, [(max(0, cut - window), len(coded), cut)])
    sets = []
    for name, parts in (("training", train), ("validation", valid)):
        if not parts:
            raise ValueError(f"'frame' must have more steps: {name} has no value")
        columns: Any = {key: [part[key] for part in parts] for key in parts[0]}
        sets.append(Sequences(**columns, missing=True))
    training = TrainingOptions(**DEFAULTS | options)
    with contextlib.redirect_stderr(io.StringIO()):
        return fit(net, sets[0], sets[1], options=training, max_updates=updates, seed=seed)
