"""Groups of named arrays, in memory or in a netCDF file that is written piece by piece."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

CHUNK = {"draw": 128, "sequence": 1, "time": 64}
"""Of the arrays in a file, so that a sequence is read alone and padding takes no place."""


class Variable(NamedTuple):
    """What an array is."""

    dims: tuple[str, ...]
    dtype: np.dtype
    attributes: Mapping[str, str] = {}


@dataclass(frozen=True)
class Layout:
    """What is in each group, before there is any of it."""

    groups: dict[str, dict[str, Variable]]
    sizes: dict[str, int]
    group_sizes: dict[str, dict[str, int]]
    """Sizes that differ in a group."""
    coords: dict[str, Any]
    """Names along a dim; None, or none at all, is 0, 1, ..."""
    known: dict[str, dict[str, np.ndarray]]
    """Values that are there already, by group and variable."""
    attributes: dict[str, str] = field(default_factory=dict)

    def dims(self, group: str) -> dict[str, int]:
        """Sizes of the dims of a group."""
        names = dict.fromkeys(dim for v in self.groups[group].values() for dim in v.dims)
        return {dim: self.group_sizes.get(group, {}).get(dim, self.sizes[dim]) for dim in names}

    def shape(self, group: str, name: str) -> tuple[int, ...]:
        """Of an array."""
        dims = self.dims(group)
        return tuple(dims[dim] for dim in self.groups[group][name].dims)

    def coordinate(self, dim: str, size: int) -> np.ndarray:
        """What stands along a dim."""
        names = self.coords.get(dim)
        return np.arange(size) if names is None else np.array(list(names))


def blank(layout: Layout) -> dict[str, dict[str, np.ndarray]]:
    """Arrays in memory: those that are known, and NaN."""
    return {
        group: {
            name: layout.known[group][name]
            if name in layout.known.get(group, {})
            else np.full(layout.shape(group, name), np.nan, variable.dtype)
            for name, variable in variables.items()
        }
        for group, variables in layout.groups.items()
    }


def dataset(layout: Layout, group: str, values: Mapping[str, np.ndarray]) -> xr.Dataset:
    """One group in memory."""
    import xarray as xr

    variables = layout.groups[group]
    return xr.Dataset(
        {name: (v.dims, values[name], dict(v.attributes)) for name, v in variables.items()},
        coords={dim: layout.coordinate(dim, n) for dim, n in layout.dims(group).items()},
        attrs=layout.attributes,
    )


@contextmanager
def netcdf(layout: Layout, file: str | Path) -> Iterator[Mapping[str, Mapping[str, Any]]]:
    """A file with all groups, whose variables take slices; NaN where nothing was written.

    An error, or a kill, leaves an unfinished file of another name, and ``file`` as it was.
    """
    import h5netcdf

    unfinished = Path(f"{file}.unfinished")
    with h5netcdf.File(unfinished, "w") as root:
        root.attrs.update(layout.attributes)
        for group in layout.groups:
            create_group(root, layout, group)
        yield root
    unfinished.replace(file)


def create_group(root: Any, layout: Layout, name: str) -> None:
    """A group of a file, with its coordinates and what is known."""
    import h5py

    group, dims = root.create_group(name), layout.dims(name)
    group.attrs.update(layout.attributes)
    group.dimensions = dims
    for dim, size in dims.items():
        values = layout.coordinate(dim, size)
        is_text = values.dtype.kind == "U"
        dtype = h5py.string_dtype() if is_text else values.dtype
        group.create_variable(dim, (dim,), dtype, data=values.astype(object) if is_text else values)
    for variable, (names, dtype, attributes) in layout.groups[name].items():
        value = layout.known.get(name, {}).get(variable)
        if value is not None:
            # As xarray writes it: netCDF has no bool.
            attributes = {**attributes, **({"dtype": "bool"} if value.dtype == bool else {})}
            value = value.astype(np.int8) if value.dtype == bool else value
            created = group.create_variable(variable, names, value.dtype, data=value)
        else:
            chunks = tuple(min(dims[dim], CHUNK.get(dim, dims[dim])) for dim in names)
            created = group.create_variable(variable, names, dtype, fillvalue=np.nan, chunks=chunks)
        created.attrs.update(attributes)
