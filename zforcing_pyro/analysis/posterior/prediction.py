"""Linear maps from latents to the future, and to labels."""

from collections.abc import Sequence as Series
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    PredefinedSplit,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ...data import SequenceSet

PENALTY = 0.03
"""Ridge penalty per row: a single feature of variance 1 loses 3 %."""

NUM_FOLDS, MAX_STEPS, MAX_SYMBOLS = 5, 5_000, 32
"""Folds of cross-validation; steps drawn for a regression; commonest symbols that are targets."""


@dataclass(frozen=True)
class Probe:
    """Accuracy of a linear classifier of a label on held-out sequences."""

    label: str  # such as "digit"
    source: str  # features: "z" or "h", averaged over the steps of a sequence
    accuracy: float  # share of sequences, mean over folds
    standard_error: float  # over folds
    chance: float  # accuracy of always predicting the commonest class
    num_classes: int
    num_sequences: int


def future_prediction(
    codes: xr.Dataset,
    data: SequenceSet,
    horizons: Series[int] = (0, 1, 2, 4, 8, 16),
    seed: int = 0,
) -> xr.Dataset:
    """Returns R^2 of ridge regressions of the future on z and h, cross-validated by sequence.

    R^2 is the share of a target's variance explained on held-out sequences, over all its
    dimensions; below 0, the prediction is worse than the mean. Sources are a draw of z_t, the state
    h_{t-1} before it, and both: z_t adds "h and z" minus "h" to the past. Draws are used, because a
    mean that hardly moves would predict as well as a mean that matters. Raises ValueError if
    ``codes`` are of other sequences, there are fewer than 2, or a horizon is negative.

    Args:
        codes: From :func:`latent_codes`, for the same ``data``.
        data: The sequences; symbols are one-hot targets of the 32 commonest.
        horizons: Numbers k of steps ahead.

    Returns:
        ``x``, R^2 of x_{t+k}, ``(source, horizon)``; and ``b``, R^2 of the backward state b_{t+k}
        in models that have one. Coordinates ``source`` ("z", "h", "h and z"; "z" alone without h)
        and ``horizon`` (steps). NaN where no sequence is long enough.
    """
    lengths = data.lengths.numpy()
    if len(data) < 2 or not np.array_equal(codes["lengths"].values, lengths):
        got = f"{codes.sizes['sequence']} and {len(data)}"
        raise ValueError(f"'codes' must be of the sequences of 'data', two or more, got {got}")
    if not horizons or min(horizons) < 0:
        raise ValueError(f"'horizons' must not be negative, and not empty, got {list(horizons)}")
    sources = {"z": codes["z"].values}
    if "h" in codes:
        sources["h"] = codes["h"].values
        sources["h and z"] = np.concatenate([sources["h"], sources["z"]], -1)
    targets = {"x": target_frames(data)} | ({"b": codes["b"].values} if "b" in codes else {})
    generator = np.random.default_rng(seed)
    fold = generator.permutation(len(data)) % min(NUM_FOLDS, len(data))
    r2 = {name: np.full((len(sources), len(horizons)), np.nan) for name in targets}
    for j, k in enumerate(horizons):
        sequence, step = np.nonzero(np.arange(codes.sizes["time"]) + k < lengths[:, None])
        if len(sequence) > MAX_STEPS:
            index = np.sort(generator.choice(len(sequence), MAX_STEPS, replace=False))
            sequence, step = sequence[index], step[index]
        for name, target in targets.items():
            y = target[sequence, step + k]
            seen = ~np.isnan(y).any(-1)
            rows = sequence[seen], step[seen]
            for i, source in enumerate(sources.values()):
                r2[name][i, j] = r_squared(source[rows], y[seen], fold[rows[0]])
    coords = {"source": list(sources), "horizon": list(horizons)}
    return xr.Dataset({name: (("source", "horizon"), v) for name, v in r2.items()}, coords=coords)


def target_frames(data: SequenceSet) -> np.ndarray:
    """Returns all frames, ``(sequence, time, x_dim)``, NaN past a length; symbols are one-hot."""
    xs = [x for x, *_ in data]
    if xs[0].dim() == 1:
        symbols, counts = torch.cat(xs).unique(return_counts=True)
        common = symbols[counts.argsort(descending=True, stable=True)[:MAX_SYMBOLS]]
        xs = [x[:, None] == common for x in xs]
    padded = pad_sequence([x.float() for x in xs], batch_first=True, padding_value=torch.nan)
    return padded.cpu().numpy()


def r_squared(x: np.ndarray, y: np.ndarray, fold: np.ndarray) -> float:
    """Returns the explained share of the variance of ``y``, ``(rows, dims)``, in held-out folds."""
    if len(np.unique(fold)) < 2 or (y == y[0]).all():
        return float("nan")
    ridge, errors = make_pipeline(StandardScaler(), Ridge(alpha=PENALTY * len(x))), []
    for regressor in (ridge, DummyRegressor()):  # the latter predicts the mean of other folds
        predicted = cross_val_predict(regressor, x, y, cv=PredefinedSplit(fold)).reshape(y.shape)
        errors.append(np.square(y - predicted, dtype=np.float64).sum())
    return float(1 - errors[0] / errors[1])


def linear_probes(
    codes: xr.Dataset, labels: Tensor, label_names: Series[str] = (), seed: int = 0
) -> list[Probe]:
    """Returns logistic regressions of labels on the mean of z, and of h, over a sequence.

    Each is cross-validated in five stratified folds. Sequences with an unknown label (negative) and
    classes of fewer than five sequences are left out. A label that then has fewer than two classes
    has no probe. Raises ValueError if there is not one row of labels per sequence, or one name per
    column.

    Args:
        labels: ``(sequence,)`` or ``(sequence, label)``, for the same sequences.
        label_names: Name of each column, such as ``Corpus.label_names``.
    """
    columns = labels.reshape(len(labels), -1).cpu().numpy().T
    names = list(label_names) or [f"label {i}" for i in range(len(columns))]
    size = codes.sizes["sequence"], len(names)
    if (len(labels), len(columns)) != size:
        got = f"shape {tuple(labels.shape)}"
        raise ValueError(f"'labels' must have {size[0]} rows and {size[1]} columns, got {got}")
    sources = {"z": np.nanmean(codes["z_mean"].values, 1)}
    if "h" in codes:
        sources["h"] = np.nanmean(codes["h"].values, 1)
    folds = StratifiedKFold(NUM_FOLDS, shuffle=True, random_state=seed)
    classifier, probes = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5_000)), []
    for name, column in zip(names, columns):
        classes, counts = np.unique(column[column >= 0], return_counts=True)
        used = np.isin(column, classes[counts >= NUM_FOLDS])
        counts = counts[counts >= NUM_FOLDS]
        for source, x in sources.items() if len(counts) > 1 else ():
            accuracy = cross_val_score(classifier, x[used], column[used], cv=folds)
            error, chance = accuracy.std(ddof=1) / NUM_FOLDS**0.5, counts.max() / counts.sum()
            numbers = float(accuracy.mean()), float(error), float(chance)
            probes.append(Probe(name, source, *numbers, len(counts), int(used.sum())))
    return probes
