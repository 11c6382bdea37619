"""Draws of a model and its guide as arviz takes them."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5netcdf
import torch
import xarray as xr

from ...data import Corpus, SequenceSet
from ...data.checks import check_range
from ...data.writing import replacing
from ...layers.blocks import length_mask
from ...models import StochasticRNN
from ...models.given import GivenSequences
from ..arviz_adapter import imported_arviz, to_arviz
from ..batches import Source, batches, check_latents, drawing, row_limit, with_nan
from .decoding import generated

BLOCK = 4_000_000
"""Largest number of values per array in memory while a file is written: 16 MB."""

DRAWS = ("chain", "draw", "sequence")
NATS = {"units": "nats"}

Groups = dict[str, dict[str, tuple]]
"""Variables by group: dims, values and attributes, as ``xarray.Dataset`` takes them."""
Datasets = dict[str, xr.Dataset]
"""Groups of a block. Nodes of a ``DataTree`` refer to each other, so blocks would not be freed."""


def to_inference_data(
    net: Source,
    data: SequenceSet | None = None,
    num_draws: int = 100,
    corpus: Corpus | None = None,
    file: str | Path | None = None,
    num_predictive: int | None = None,
    seed: int = 0,
) -> Any:
    """Returns draws of the guide and of the model with named dims; NaN past a sequence's length.

    Draws of a guide are independent: there is one chain, and r_hat and the ESS of chains mean
    nothing. See :func:`importance` for the ESS and k-hat of the importance weights.

    Groups and their variables, float32 (log-densities float64, nats):

    - ``posterior``: ``z`` (chain, draw, sequence, time, latent), from q(z | x);
    - ``log_likelihood``: ``log_weight`` (chain, draw, sequence), log p(x, z) - log q(z | x);
    - ``sample_stats``: ``log_weight`` again; ``kl_per_step`` and ``log_emission``, log p(x_t | z, x
      before t), (chain, draw, sequence, time);
    - ``posterior_predictive``: ``x`` (chain, draw, sequence, time, feature), drawn by the model fed
      with its own output, given the latents of ``posterior``;
    - ``prior``: ``z``, and ``prior_predictive``: ``x``, which the model generates in as many steps;
    - ``observed_data``: ``x``; ``constant_data``: ``lengths``, ``mask``, and ``labels`` if any.

    Symbols have no dim ``feature``. Coordinates are indices, or the corpus's names of features and
    labels. For programs, ``posterior`` has a variable per latent site; the other groups are
    ``log_likelihood`` and ``sample_stats``, with ``log_emission`` (chain, draw, sequence).

    ``az.loo(result)`` estimates log p(x) of each sequence: exactly at an exact posterior, and less
    by log(1 + chi^2(q || p)) otherwise. Parameters stay as they are, so that no sequence is left
    out. The bound is the log of the mean weight instead.

    Args:
        net: A model with latents; or programs with their arguments, ``(model, guide, args)``.
        data: The net's sequences, such as a hundred or two of a split; None for programs.
        file: A netCDF file to write in blocks of sequences, so that memory does not grow with their
            number. An existing file is replaced. The result reads from the file.
        num_predictive: Draws of ``posterior_predictive``, ``prior`` and ``prior_predictive``, for
            the first draws of ``posterior``; None is ``num_draws``, 0 leaves these groups out.

    Returns:
        ``az.InferenceData``; from arviz 1.0 on ``xarray.DataTree``, its successor.

    Raises:
        ValueError: If the net has no latents, or a number is out of its range.
        OSError: If the file cannot be written.
    """
    check_range(1, num_draws=num_draws)
    num_predictive = num_draws if num_predictive is None else num_predictive
    check_range(0, num_predictive=num_predictive)
    if num_predictive > num_draws:
        raise ValueError(f"'num_predictive' must be at most {num_draws}, got {num_predictive}")
    blocks = datasets(net, data, num_draws, num_predictive, corpus)
    with drawing(net, seed):
        if file is not None:
            write_blocks(blocks, file)
            return imported_arviz().from_netcdf(str(file))
        parts = list(blocks)
    options = {"data_vars": "minimal", "coords": "minimal", "compat": "override"}
    groups = {
        group: xr.concat([part[group] for part in parts], "sequence", join="override", **options)
        for group in parts[0]
    }
    return to_arviz(xr.DataTree.from_dict(groups))


def datasets(
    net: Source, data: Any, num_draws: int, num_predictive: int, corpus: Corpus | None
) -> Iterator[Datasets]:
    """Yields the groups of a block of sequences, or of two programs; draws are made on the way."""
    rows, z_dim = row_limit(net, data), check_latents(net)
    if not isinstance(net, StochasticRNN):
        (given,) = batches(net, data, rows)
        yield named(program_groups(given, num_draws), {})
        return
    num_steps = int(data.lengths.max())
    size = BLOCK // (num_draws * num_steps * max(z_dim, net.emission.x_dim))
    attributes = {"model": type(net).__name__, "emission": type(net.emission).__name__}
    names: dict[str, Any] = {}
    if corpus is not None:
        attributes |= {"data": corpus.title, "data_version": corpus.version}
        names = {"feature": getattr(corpus, "columns", None), "label": corpus.label_names}
    end = 0
    for given in batches(net, data, max(1, min(size, rows))):
        begin, end = end, end + len(given.x)
        groups = batch_groups(given, num_steps, num_draws, num_predictive, rows)
        if data.labels is not None:
            labels = data.labels[begin:end].reshape(len(given.x), -1).cpu().numpy()
            groups["constant_data"]["labels"] = (("sequence", "label"), labels)
        yield named(groups, names | {"sequence": range(begin, end)}, attributes)


def batch_groups(
    given: GivenSequences, num_steps: int, num_draws: int, num_predictive: int, max_rows: int
) -> Groups:
    """Returns the groups of a batch, drawn in chunks of at most ``max_rows`` rows."""
    net, x, lengths, state = given.net, given.x, given.lengths, given.state or {}
    parts, chunk = defaultdict(list), max(1, max_rows // len(x))
    for first in range(0, num_draws, chunk):
        num = min(chunk, num_draws - first)
        terms = given.terms(num)
        parts["posterior", "z"].append(terms.latents)
        parts["log_likelihood", "log_weight"].append(terms.log_weight)
        parts["sample_stats", "kl_per_step"].append(terms.kl_or_estimate)
        parts["sample_stats", "log_emission"].append(terms.log_emission)
        if (num := min(num, num_predictive - first)) < 1:
            continue
        rows = lengths.repeat(num)
        start = {k: v.repeat(num, *[1] * (v.dim() - 1)) for k, v in state.items()} or None
        replicated, _ = generated(net, rows, start, terms.latents[:num].flatten(0, 1))
        x_new, z_new = generated(net, rows, start)
        parts["posterior_predictive", "x"].append(replicated.unflatten(0, (num, -1)))
        parts["prior", "z"].append(z_new.unflatten(0, (num, -1)))
        parts["prior_predictive", "x"].append(x_new.unflatten(0, (num, -1)))
    frame = ("time",) if net.emission.symbols else ("time", "feature")
    dims, groups = {"z": ("time", "latent"), "x": frame, "log_weight": ()}, defaultdict(dict)
    for (group, name), values in parts.items():
        is_log = group in ("log_likelihood", "sample_stats")
        value = torch.cat(values).cpu().to(torch.float64 if is_log else torch.float32)
        value = value if value.dim() == 2 else with_nan(value, lengths, num_steps, dim=2)
        names, units = (*DRAWS, *dims.get(name, ("time",))), NATS if is_log else {}
        groups[group][name] = (names, value[None].numpy(), units)
    groups["sample_stats"]["log_weight"] = groups["log_likelihood"]["log_weight"]
    observed = with_nan(x.float(), lengths, num_steps).numpy()
    groups["observed_data"] = {"x": (("sequence", *frame), observed)}
    groups["constant_data"] = {
        "lengths": ("sequence", lengths.cpu().numpy(), {"units": "steps"}),
        "mask": (("sequence", "time"), length_mask(lengths, num_steps).cpu().numpy()),
    }
    return groups


def program_groups(given: Any, num_draws: int) -> Groups:
    """Returns draws of a guide, a variable per latent site, and their log-weights."""
    terms = given.terms(num_draws)
    sites = {}
    for name, value in terms.latents.items():
        dims = [f"{name}_dim_{i}" for i in range(value.dim() - 2)]
        dims.insert(given.sequence_dim - 1, "sequence")
        sites[name] = (("chain", "draw", *dims), value[None].cpu().numpy())
    logs = {"log_weight": terms.log_weight, "log_emission": terms.log_emission.sum(-1)}
    stats = {k: (DRAWS, v[None].cpu().double().numpy(), NATS) for k, v in logs.items()}
    likelihood = {"log_weight": stats["log_weight"]}
    return {"posterior": sites, "log_likelihood": likelihood, "sample_stats": stats}


def named(groups: Groups, names: dict[str, Any], attributes: dict | None = None) -> Datasets:
    """Returns the groups with coordinates: those in ``names`` whose sizes fit, or indices."""
    result = {}
    for group, variables in groups.items():
        dataset = xr.Dataset(variables, attrs=attributes)
        coords = {dim: range(size) for dim, size in dataset.sizes.items()}
        coords |= {d: list(v) for d, v in names.items() if v and len(v) == dataset.sizes.get(d)}
        result[group] = dataset.assign_coords(coords)
    return result


def write_blocks(blocks: Iterator[Datasets], file: str | Path) -> None:
    """Writes blocks of sequences to a netCDF file, which an error or a kill leaves as it was."""
    with replacing(file) as part:
        options = {"engine": "h5netcdf", "mode": "a", "unlimited_dims": ["sequence"]}
        for group, dataset in next(blocks).items():
            chunks = {  # a sequence can be read alone
                name: {"chunksizes": tuple(1 if d == "sequence" else n for d, n in v.sizes.items())}
                for name, v in dataset.data_vars.items()
            }
            dataset.to_netcdf(part.name, group=group, encoding=chunks, **options)
        for block in blocks:
            with h5netcdf.File(part.name, "a") as root:
                for group, dataset in block.items():
                    append(root[group], dataset)


def append(group: Any, dataset: xr.Dataset) -> None:
    """Appends the sequences of a dataset to a group of a netCDF file."""
    begin = len(group["sequence"])
    group.resize_dimension("sequence", begin + dataset.sizes["sequence"])
    for name, variable in dataset.variables.items():
        if "sequence" in variable.dims:
            before = (slice(None),) * variable.dims.index("sequence")
            group[name][(*before, slice(begin, None))] = variable.values
