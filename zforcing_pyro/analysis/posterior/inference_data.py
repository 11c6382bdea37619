"""Draws of a model and its guide as arviz sees them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...data import Corpus, SequenceSet
from ...layers.blocks import length_mask
from ...models import StochasticRNN, evaluating
from ...models.checks import check_not_negative, check_positive
from .arrays import Layout, Variable, blank, dataset, netcdf
from .batches import NetBatch, batches, most_rows, repeated
from .codes import check_latents
from .decoding import generated

if TYPE_CHECKING:
    import arviz as az

BLOCK = 4_000_000
"""Numbers of an array of draws that are in memory at once when they go to a file: 16 MB."""

DRAWS = ("chain", "draw", "sequence")


def to_inference_data(
    net: StochasticRNN,
    data: SequenceSet,
    num_draws: int = 100,
    corpus: Corpus | None = None,
    file: str | Path | None = None,
    num_predictive: int | None = None,
    max_rows: int = 1_024,
    seed: int = 0,
) -> az.InferenceData:
    """Draws of the guide and of the model, with named dims; NaN past the length of a sequence.

    Draws of a guide are independent: there is one chain, and r_hat and the ESS of chains say
    nothing. Look at the ESS and k-hat of the importance weights, see :func:`importance`.

    Groups and their variables, float32 (weights and log-likelihoods float64):

    - ``posterior``: ``z`` (chain, draw, sequence, time, latent), from q(z | x);
    - ``sample_stats``: ``log_weight`` (chain, draw, sequence), log p(x, z) - log q(z | x) in nats;
      ``kl_per_step`` (chain, draw, sequence, time), nats;
    - ``log_likelihood``, nats: ``log_weight`` (chain, draw, sequence), as above;
      ``x_given_z`` (chain, draw, sequence), log p(x | z);
      ``x_given_z_per_step`` (chain, draw, sequence, time), log p(x_t | z, x before t);
    - ``posterior_predictive``: ``x`` (chain, draw, sequence, time, feature), drawn by the model fed
      with its own output, given the latents of ``posterior``;
    - ``prior``: ``z``, and ``prior_predictive``: ``x``: what the model itself generates, in as many
      steps;
    - ``observed_data``: ``x`` (sequence, time, feature);
    - ``constant_data``: ``lengths`` (sequence), ``mask`` (sequence, time), and ``labels``
      (sequence, label) where the data have some.

    Symbols have no dim ``feature``, and are floats as NaN needs it. Coordinates are indices;
    ``feature`` and ``label`` have the corpus's names where it has some.

    ``az.loo(found, var_name="log_weight")`` is the one to use: it estimates log p(x) of each
    sequence with the parameters as they are (there are none to leave out a sequence from), exactly
    so at an exact posterior, and less by log(1 + chi^2(q || p)) else; compare the bound, which
    is the log of the mean weight. ``x_given_z`` is what predictive checks look at: with it
    ``az.loo`` is the harmonic mean estimate, which needs exact posterior draws and has a high k-hat
    even then.

    Args:
        net: A model with latents.
        data: Sequences, such as a hundred or two of a split.
        num_draws: Draws of each sequence.
        corpus: Where the data come from, for names and attributes.
        file: A netCDF file to write in blocks of sequences, so that memory does not grow with their
            number; it is overwritten. The result then reads from it, and any arviz can.
        num_predictive: Draws of ``posterior_predictive``, ``prior`` and ``prior_predictive``, which
            are the first; None is ``num_draws``, 0 leaves these groups out.
        max_rows: Draws times sequences that pass through the net at once.
        seed: Of the draws; they do not depend on ``file``.

    Returns:
        ``az.InferenceData``; from arviz 1.0 on ``xarray.DataTree``, which is what it has become.

    Raises:
        ValueError: If the net has no latents, or a number is out of its range.
    """
    check_positive(num_draws=num_draws, max_rows=max_rows)
    num_predictive = num_draws if num_predictive is None else num_predictive
    check_not_negative(num_predictive=num_predictive)
    if num_predictive > num_draws:
        raise ValueError(f"'num_predictive' must be at most {num_draws}, got {num_predictive}")
    layout = layout_of(net, data, num_draws, num_predictive, corpus)
    widest = max(layout.sizes["latent"], layout.sizes.get("feature", 1))
    size = BLOCK // (num_draws * layout.sizes["time"] * widest)
    rows = most_rows(net, layout.sizes["time"], max_rows)
    with evaluating(net, seed):
        blocks = (
            draws_of_block(net, given, num_draws, num_predictive, rows)
            for given in batches(net, data, max(1, min(size, rows)))
        )
        if file is not None:
            with netcdf(layout, file) as target:
                fill(layout, target, blocks)
            return arviz_without_warning().from_netcdf(str(file))
        target = blank(layout)
        fill(layout, target, blocks)
    return from_datasets({group: dataset(layout, group, target[group]) for group in layout.groups})


def layout_of(
    net: StochasticRNN,
    data: SequenceSet,
    num_draws: int,
    num_predictive: int,
    corpus: Corpus | None,
) -> Layout:
    """Groups, variables, sizes and coordinates."""
    sizes = {"chain": 1, "draw": num_draws, "sequence": len(data), "latent": check_latents(net)}
    sizes["time"] = int(data.lengths.max())
    frame = ("sequence", "time")
    coords: dict[str, Any] = {}
    if not net.emission.symbols:
        sizes["feature"], frame = net.emission.x_dim, (*frame, "feature")
        coords["feature"] = getattr(corpus, "columns", None)
    number, nats = np.dtype(np.float32), {"units": "nats"}
    z = Variable((*DRAWS, "time", "latent"), number)
    x = Variable(("chain", "draw", *frame), number)
    weight = Variable(DRAWS, np.dtype(np.float64), nats)
    per_step = Variable((*DRAWS, "time"), np.dtype(np.float64), nats)
    groups = {
        "posterior": {"z": z},
        "sample_stats": {"log_weight": weight, "kl_per_step": per_step},
        "log_likelihood": {
            "log_weight": weight,
            "x_given_z": weight,
            "x_given_z_per_step": per_step,
        },
    }
    if num_predictive:
        groups |= {
            "posterior_predictive": {"x": x},
            "prior": {"z": z},
            "prior_predictive": {"x": x},
        }
    constant = {
        "lengths": Variable(("sequence",), np.dtype(np.int64), {"units": "steps"}),
        "mask": Variable(("sequence", "time"), np.dtype(bool)),
    }
    known = {"lengths": data.lengths.numpy()}
    known["mask"] = length_mask(data.lengths, sizes["time"]).numpy()
    if data.labels is not None:
        labels = data.labels.reshape(len(data), -1).cpu().numpy()
        sizes["label"] = labels.shape[1]
        names = () if corpus is None else corpus.label_names
        coords["label"] = names if len(names) == labels.shape[1] else None
        constant["labels"] = Variable(("sequence", "label"), labels.dtype)
        known["labels"] = labels
    groups |= {"observed_data": {"x": Variable(frame, number)}, "constant_data": constant}
    attributes = {"model": type(net).__name__, "emission": type(net.emission).__name__}
    if corpus is not None:
        attributes |= {"data": corpus.title, "data_version": corpus.version}
    draws = {g: {"draw": num_predictive} for g in groups if g.startswith(("prior", "posterior_"))}
    return Layout(groups, sizes, draws, coords, {"constant_data": known}, attributes)


def draws_of_block(
    net: StochasticRNN, given: NetBatch, num_draws: int, num_predictive: int, max_rows: int
) -> tuple[slice, dict[tuple[str, str], Tensor]]:
    """Which sequences these are, and their draws by group and variable, NaN at padding."""
    indices, x, lengths, state = given
    chunk = max(1, max_rows // len(x))
    mask, found = length_mask(lengths, x.shape[1]), {}

    def keep(group: str, name: str, value: Tensor) -> None:
        # (draw, sequence, ...), or with time and perhaps one dim more
        if value.dim() > 2:
            keeps = mask.reshape(1, *mask.shape, *[1] * (value.dim() - 3))
            value = torch.where(keeps, value.to(torch.get_default_dtype()), torch.nan)
        dtype = torch.float64 if group in ("sample_stats", "log_likelihood") else torch.float32
        found.setdefault((group, name), []).append(value.to("cpu", dtype))

    for first in range(0, num_draws, chunk):
        num = min(chunk, num_draws - first)
        terms = net.terms(x, lengths, num, state=state)
        keep("posterior", "z", terms.latents)
        keep("sample_stats", "log_weight", terms.log_weight)
        keep("sample_stats", "kl_per_step", terms.kl_or_estimate)
        keep("log_likelihood", "log_weight", terms.log_weight)
        keep("log_likelihood", "x_given_z", terms.log_emission.sum(-1))
        keep("log_likelihood", "x_given_z_per_step", terms.log_emission)
        num = min(num, num_predictive - first)
        if num < 1:
            continue
        rows, start = lengths.repeat(num), repeated(state, num)
        replicated, _ = generated(net, rows, start, z=terms.latents[:num].flatten(0, 1))
        keep("posterior_predictive", "x", replicated.unflatten(0, (num, len(x))))
        x_new, z_new = generated(net, rows, start)
        keep("prior_predictive", "x", x_new.unflatten(0, (num, len(x))))
        keep("prior", "z", z_new.unflatten(0, (num, len(x))))
    keep("observed_data", "x", x[None])
    return slice(indices[0], indices[-1] + 1), {name: torch.cat(v) for name, v in found.items()}


def fill(
    layout: Layout,
    target: Mapping[str, Mapping[str, Any]],
    blocks: Iterator[tuple[slice, dict[tuple[str, str], Tensor]]],
) -> None:
    """Writes blocks of sequences into arrays, or into variables of a file."""
    for sequences, values in blocks:
        for (group, name), value in values.items():
            dims = layout.groups[group][name].dims
            value = value[None] if dims[0] == "chain" else value[0]
            steps = slice(0, value.shape[dims.index("time")]) if "time" in dims else None
            place = {"sequence": sequences, "time": steps}
            index = tuple(place.get(dim, slice(None)) for dim in dims)
            target[group][name][index] = value.numpy()


def from_datasets(datasets: dict[str, Any]) -> az.InferenceData:
    """The groups as the installed arviz has them; all that depends on its version is here."""
    import xarray as xr

    tree = xr.DataTree.from_dict(datasets)
    arviz = arviz_without_warning()
    return arviz.InferenceData.from_datatree(tree) if arviz.__version__[:2] == "0." else tree


def arviz_without_warning():
    """arviz, whose import would tell every user of its refactoring."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import arviz
    return arviz
