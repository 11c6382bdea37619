"""Nets of experiments, trained once and kept."""

import functools
import json
import time
from pathlib import Path
from typing import Any

import torch

from zforcing_pyro.data import Corpus
from zforcing_pyro.emissions import EMISSIONS
from zforcing_pyro.models import MODELS, StochasticRNN
from zforcing_pyro.models.files import load_net
from zforcing_pyro.training import TrainingOptions
from zforcing_pyro.training.fit import fit


def trained(
    folder: Path,
    data: Corpus,
    model: str,
    sizes: dict[str, Any],
    training: dict[str, Any],
    max_updates: int,
    seed: int,
    emission: dict[str, Any] | None = None,
) -> tuple[StochasticRNN, dict[str, Any]]:
    """Returns a net and facts of its training, as far as that has not been done.

    Args:
        folder: Folder of the run, which goes on where it was killed.
        data: The data set.
        model, sizes: Name of a model and its options.
        training: Options of training.
        max_updates: Most updates.
        seed: Of weights, batches and noise.
        emission: Options of the emission; a ``name`` replaces the one that suits the data.
    """
    file, facts_file = folder / "net.safetensors", folder / "trained.json"
    if not file.exists():
        torch.manual_seed(seed)
        family = {"name": data.emission} | (emission or {})
        family = functools.partial(EMISSIONS[family.pop("name")], **family)
        net = MODELS[model](family, data.x_dim, **sizes)
        options = TrainingOptions(**training, loggers=[], checkpoint_minutes=1.0)
        begun, splits = time.process_time(), (data.split("train"), data.split("valid"))
        fitted = fit(net, *splits, None, folder, options, max_updates, seed, resume=True)
        facts = {"parameters": sum(p.numel() for p in net.parameters())}
        facts |= {"updates": int(fitted.curves[-1]["step"]), "valid_elbo": fitted.bound}
        facts["train_seconds"] = time.process_time() - begun
        facts_file.write_text(json.dumps(facts))
        net.save(file)
    return load_net(file), json.loads(facts_file.read_text())


def write_rows(file: Path, key: dict[str, Any], rows: Any) -> None:
    """Writes the rows of a key, a data frame, into a table, in place of older ones of that key."""
    import pandas as pd

    for place, (column, value) in enumerate(key.items()):
        rows.insert(place, column, value)
    if file.exists():
        old = pd.read_csv(file)
        rows = pd.concat([old[(old[list(key)] != list(key.values())).any(axis=1)], rows])
    file.parent.mkdir(parents=True, exist_ok=True)
    rows.sort_values(list(key), kind="stable").to_csv(file, index=False, float_format="%.6g")
