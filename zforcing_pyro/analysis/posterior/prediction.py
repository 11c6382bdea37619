"""Linear maps from latents to the future, and to labels."""

from __future__ import annotations

from collections.abc import Sequence as Series
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ...data import SequenceSet
from ...models.checks import check_positive

if TYPE_CHECKING:
    import xarray as xr

PENALTY = 0.03
"""Ridge penalty per row: a single feature of variance 1 loses 3 %."""

MOST_SYMBOLS = 32


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
    num_folds: int = 5,
    max_steps: int = 5_000,
    seed: int = 0,
) -> xr.Dataset:
    """Returns R^2 of ridge regressions of the future on z and h, cross-validated by sequence.

    R^2 is the share of a target's variance explained on held-out sequences, over all its
    dimensions; below 0, the prediction is worse than the mean. Sources are a draw of z_t, the state
    h_{t-1} before it, and both: z_t adds "h and z" minus "h" to the past. Draws are used, because a
    mean that hardly moves would predict as well as a mean that matters.

    Args:
        codes: From :func:`latent_codes`, for the same ``data``.
        data: The sequences; symbols are one-hot targets of the 32 commonest.
        horizons: Numbers k of steps ahead.
        num_folds: Folds of cross-validation; at most the number of sequences.
        max_steps: Largest number of steps used, drawn at random.

    Returns:
        ``x``, R^2 of x_{t+k}, ``(source, horizon)``; and ``b``, R^2 of the backward state b_{t+k}
        in models that have one. Coordinates ``source`` ("z", "h", "h and z"; "z" alone without h)
        and ``horizon`` (steps). NaN where no sequence is long enough.

    Raises:
        ValueError: If ``codes`` are of other sequences, there are fewer than 2, or a number is out
            of its range.
    """
    import xarray as xr

    check_positive(num_folds=num_folds, max_steps=max_steps)
    if len(data) < 2 or not np.array_equal(codes["lengths"].values, data.lengths.numpy()):
        raise ValueError(
            "'codes' must be of the sequences of 'data', two or more of the same lengths, got "
            f"{codes.sizes['sequence']} and {len(data)}"
        )
    if not horizons or min(horizons) < 0:
        raise ValueError(f"'horizons' must not be negative, and not empty, got {list(horizons)}")
    generator, lengths = np.random.default_rng(seed), data.lengths.numpy()
    sources = {"z": codes["z"].values}
    if "h" in codes:
        sources["h"] = codes["h"].values
        sources["h and z"] = np.concatenate([sources["h"], sources["z"]], -1)
    targets = {"x": target_frames(data)} | ({"b": codes["b"].values} if "b" in codes else {})
    fold = generator.permutation(len(data)) % min(num_folds, len(data))
    r2 = {name: np.full((len(sources), len(horizons)), np.nan) for name in targets}
    for j, k in enumerate(horizons):
        sequence, step = np.nonzero(np.arange(codes.sizes["time"]) + k < lengths[:, None])
        if len(sequence) > max_steps:
            index = np.sort(generator.choice(len(sequence), max_steps, replace=False))
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
    xs = [x for x, _ in data]
    if xs[0].dim() == 1:
        symbols, counts = torch.cat(xs).unique(return_counts=True)
        common = symbols[counts.argsort(descending=True, stable=True)[:MOST_SYMBOLS]]
        xs = [x[:, None] == common for x in xs]
    padded = pad_sequence([x.float() for x in xs], batch_first=True, padding_value=torch.nan)
    return padded.cpu().numpy()


def r_squared(x: np.ndarray, y: np.ndarray, fold: np.ndarray) -> float:
    """Returns the explained share of the variance of ``y``, ``(rows, dims)``, in held-out folds."""
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import PredefinedSplit, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(np.unique(fold)) < 2 or (y == y[0]).all():
        return float("nan")
    ridge = make_pipeline(StandardScaler(), Ridge(alpha=PENALTY * len(x)))
    predicted = cross_val_predict(ridge, x, y, cv=PredefinedSplit(fold)).reshape(y.shape)
    error, total = (np.square(y - v, dtype=np.float64).sum() for v in (predicted, y.mean(0)))
    return float(1 - error / total)


def linear_probes(
    codes: xr.Dataset,
    labels: Tensor,
    label_names: Series[str] = (),
    num_folds: int = 5,
    seed: int = 0,
) -> list[Probe]:
    """Returns logistic regressions of labels on the mean of z, and of h, over a sequence.

    Sequences with an unknown label (negative) and classes of fewer than ``num_folds`` sequences are
    left out. A label that then has fewer than two classes has no probe.

    Args:
        labels: ``(sequence,)`` or ``(sequence, label)``, for the same sequences.
        label_names: Name of each column, such as ``Corpus.label_names``.
        num_folds: Folds of stratified cross-validation.

    Returns:
        For each label a probe of "z" and, where there is a state, a probe of "h".

    Raises:
        ValueError: If there is not one row of labels per sequence, or one name per column.
    """
    columns = labels.reshape(len(labels), -1).cpu().numpy().T
    names = list(label_names) or [f"label {i}" for i in range(len(columns))]
    if len(labels) != codes.sizes["sequence"] or len(names) != len(columns):
        raise ValueError(
            f"'labels' must have {codes.sizes['sequence']} rows and {len(names)} columns, got "
            f"shape {tuple(labels.shape)}"
        )
    if num_folds < 2:
        raise ValueError(f"'num_folds' must be 2 or more, got {num_folds}")
    sources = {"z": np.nanmean(codes["z_mean"].values, 1)}
    if "h" in codes:
        sources["h"] = np.nanmean(codes["h"].values, 1)
    probes = []
    for name, column in zip(names, columns):
        classes, counts = np.unique(column[column >= 0], return_counts=True)
        used = np.isin(column, classes[counts >= num_folds])
        if len(np.unique(column[used])) > 1:
            probes += [
                probe(name, source, x[used], column[used], num_folds, seed)
                for source, x in sources.items()
            ]
    return probes


def probe(
    label: str, source: str, x: np.ndarray, y: np.ndarray, num_folds: int, seed: int
) -> Probe:
    """Returns the accuracy of one classifier of ``x``, ``(sequence, features)``."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5_000))
    folds = StratifiedKFold(num_folds, shuffle=True, random_state=seed)
    accuracy = cross_val_score(classifier, x, y, cv=folds)
    counts = np.unique(y, return_counts=True)[1]
    return Probe(
        label=label,
        source=source,
        accuracy=float(accuracy.mean()),
        standard_error=float(accuracy.std(ddof=1) / num_folds**0.5),
        chance=float(counts.max() / len(y)),
        num_classes=len(counts),
        num_sequences=len(y),
    )
