"""NumPy arrays and torch tensors that a person has, in files or in memory."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..corpus import SPLITS, random_split
from ..formats.columns import ColumnsCorpus, Kind
from ..formats.files import available_memory, check_regular
from ..formats.packed import reason_of
from ..formats.rows import Part, Read


class Arrays(ColumnsCorpus):
    """Sequences in a ``.npz`` file, or in a ``.npy`` file, which is read from the disk as needed.

    Nothing in the file is ever unpickled. The values are an array ``x`` in one of these layouts:

    - ``(sequences, time, x_dim)``, or ``(sequences, time)`` for a single column. With ``len``, of
      shape ``(sequences,)``, steps from there on are padding, whatever is in them; without it,
      steps at the end of a sequence that are NaN in all columns are.
    - ``(steps, x_dim)``, or ``(steps,)`` for a single column: the sequences end to end, with their
      lengths ``len``, which sum to the steps.

    Either ``x_train``, ``x_valid`` and ``x_test`` (with ``len_train``, ... where there is ``len``)
    are the splits; or there is one ``x``, and ``split``, ``(sequences,)``, says "train", "valid" or
    "test" of each; or, without it, 80, 10 and 10 % are by chance: see :func:`random_split`.

    Args:
        path: The file.
        kind: Family of the values; "auto" looks at them, see :class:`.ColumnsCorpus`.
        standardize: Real numbers minus their mean, by their deviation, in train.
        seed: Seed of a split by chance.
        data_dir: Folder in which a relative ``path`` is looked for as well.

    Raises:
        ValueError: If an option is out of its range; on reading, if the file or an array is not as
            above.
    """

    title = "arrays"
    source = "your own: --data.path a .npz or .npy file"

    @classmethod
    def from_tensors(
        cls, sequences: Any, kind: Kind = "auto", standardize: bool = True, seed: int = 0
    ) -> Arrays:
        """Returns sequences that are in memory.

        Args:
            sequences: Tensors, NumPy arrays or lists, each ``(time_i, x_dim)`` or ``(time_i,)``,
                NaN where a value is missing: a list, which is split by chance, or lists by split.
            kind, standardize, seed: Options of the class, which raises the same errors.

        Example:
            >>> import torch
            >>> walks = [torch.randn(n, 2).cumsum(0) for n in range(5, 25)]
            >>> corpus = Arrays.from_tensors(walks)
            >>> len(corpus.split("train")), corpus.x_dim, corpus.emission
            (16, 2, 'gaussian')
            >>> bits = [[0, 1, 1], [1, 0]]
            >>> Arrays.from_tensors({"train": bits, "valid": bits, "test": bits}).emission
            'bernoulli'
        """
        arrays = cls(kind=kind, standardize=standardize, seed=seed)
        arrays._memory = sequences
        return arrays

    def read(self) -> Read:
        if self._memory is None:
            file = self.own(self.file)
            where, arrays = f"'{file}'", read_arrays(file)
        else:
            where, arrays = "the tensors", in_memory(self._memory)
        suffixes = [""] if "x" in arrays else [f"_{split}" for split in SPLITS]
        allowed = {f"{name}{suffix}" for name in ("x", "len") for suffix in suffixes}
        unknown = arrays.keys() - allowed - ({"split"} if "x" in arrays else set())
        if unknown or not all(f"x{suffix}" in arrays for suffix in suffixes):
            raise ValueError(
                f"{where} must hold sequences as 'x' (and 'split') or as 'x_train', 'x_valid' and "
                "'x_test', with lengths as 'len' or 'len_train', ..., which mask.sum(1) makes of a "
                f"mask, got {sorted(unknown or arrays)}"
            )
        parts = {suffix[1:]: part_of(arrays, suffix, where) for suffix in suffixes}
        if "" in parts:
            split, part = arrays.get("split"), parts[""]
            num = len(part.lengths)
            if split is None:
                index = random_split(num, self.seed, f"the sequences of {where}")
            elif split.shape != (num,) or {*map(str, split)} != {*SPLITS}:
                raise ValueError(
                    f"'split' of {where} must be {num} times one of {list(SPLITS)}, each at least "
                    f"once, got {split.dtype} of shape {split.shape}, {np.unique(split)[:5]}"
                )
            else:
                index = {name: np.flatnonzero(split == name) for name in SPLITS}
            parts = {split: part.subset(index[split]) for split in SPLITS}
        widths = {split: part.rows.shape[1] for split, part in parts.items()}
        if len(set(widths.values())) > 1:
            raise ValueError(f"{where} must have as many columns in every split, got {widths}")
        return Read(parts, [f"x{i}" for i in range(widths["train"])], where)


def read_arrays(file: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a ``.npz`` file, or that of a ``.npy`` file, memory-mapped, as ``x``.

    Raises:
        ValueError: If the file is broken, does not fit in memory, or has pickled Python objects.
    """
    check_regular(file)
    try:
        if not zipfile.is_zipfile(file):
            return {"x": np.asarray(np.lib.format.open_memmap(file, mode="r"))}
        with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
            size = sum(member.file_size for member in archive.zip.infolist())
            if size <= available_memory():
                return {name: np.asarray(archive[name]) for name in archive.files}
    except Exception as error:  # zipfile, zlib and numpy have a dozen ways to say "broken"
        reason = reason_of(error).replace(": Python", ": pickled Python")
        raise ValueError(
            f"'{file}' must be an npz or npy file of plain arrays, got {reason}"
        ) from error
    raise ValueError(f"'{file}' must fit in memory, got {size / 1e9:.1f} GB: save 'x' as x.npy")


def in_memory(sequences: Any) -> dict[str, np.ndarray]:
    """Returns sequences of Python as the arrays that a file would have.

    Raises:
        ValueError: If a sequence is not numbers, or has other columns than the first.
    """
    arrays = {}
    for split, part in (sequences if isinstance(sequences, dict) else {"": sequences}).items():
        suffix = f"_{split}" if split else ""
        if isinstance(part, (Tensor, np.ndarray)):  # a batch
            arrays[f"x{suffix}"] = as_array(part)
            continue
        rows = [as_array(x) for x in part]
        for i, x in enumerate(rows):
            numbers = x.dtype.kind in "buif" and x.ndim in (1, 2) and x.size
            if not numbers or x.shape[1:] != rows[0].shape[1:]:
                raise ValueError(
                    f"sequence {i} of the tensors must be numbers of shape (time,) or "
                    f"(time, x_dim), of one x_dim, got {x.dtype} of shape {x.shape}"
                )
        arrays[f"x{suffix}"] = np.concatenate(rows) if rows else np.empty(0)
        arrays[f"len{suffix}"] = np.array([len(x) for x in rows])
    return arrays


def as_array(x: Any) -> np.ndarray:
    """Returns a tensor, an array or a list as an array; of objects if a list is ragged."""
    if isinstance(x, Tensor):
        x = x.detach().cpu()
        return (x.float() if x.dtype == torch.bfloat16 else x).numpy()
    try:
        return np.asarray(x)
    except ValueError:
        return np.empty(len(x), dtype=object)


def part_of(arrays: dict[str, np.ndarray], suffix: str, where: str) -> Part:
    """Returns the sequences of ``x`` and ``len``, in any layout of :class:`Arrays`.

    Raises:
        ValueError: If the two do not fit each other.
    """
    x, lengths = arrays[f"x{suffix}"], arrays.get(f"len{suffix}")
    name, flat = f"'x{suffix}' of {where}", lengths is not None and x.ndim < 3
    if x.dtype.kind not in "buif" or x.ndim not in (1, 2, 3) or not x.size:
        raise ValueError(
            f"{name} must be numbers of shape (sequences, time[, x_dim]) or (steps[, x_dim]), not "
            f"empty, got {x.dtype} of shape {x.shape}"
        )
    if lengths is None and x.ndim == 1:
        raise ValueError(f"{name} must have 'len{suffix}' beside it, being of shape {x.shape}")
    if lengths is None:
        lengths = observed_steps(x)
        if x.ndim == 3 and x.shape[2] > 3 * x.shape[1]:
            warnings.warn(
                f"{name} of shape {x.shape} is read as {x.shape[1]} steps of {x.shape[2]} columns: "
                "x.transpose(0, 2, 1) is right for (sequences, channels, time), and "
                f"'len{suffix}' beside it says that the steps are",
                stacklevel=2,
            )
    elif lengths.ndim != 1 or lengths.dtype.kind not in "iu" or not (lengths > 0).all():
        raise ValueError(
            f"'len{suffix}' of {where} must be positive integers, got {lengths.dtype} of shape "
            f"{lengths.shape}, least {lengths.min(initial=1)}"
        )
    lengths = lengths.astype(np.int64)
    names = [f"{i} in '{suffix[1:]}'" if suffix else f"{i}" for i in range(len(lengths))]
    if flat and lengths.sum() == len(x):
        return Part(x.reshape(len(x), -1), lengths.cumsum() - lengths, lengths, names)
    if x.ndim > 1 and len(lengths) == len(x) and lengths.max() <= x.shape[1]:
        begins = np.arange(len(x)) * x.shape[1]
        return Part(x.reshape(x.shape[0] * x.shape[1], -1), begins, lengths, names)
    raise ValueError(
        f"'len{suffix}' of {where} must sum to the steps of 'x{suffix}', or be the length of each "
        f"of its sequences, got {len(lengths)} lengths, the longest {lengths.max(initial=0)}, that "
        f"sum to {lengths.sum()} for shape {x.shape}"
    )


def observed_steps(x: np.ndarray) -> np.ndarray:
    """Returns the steps of each sequence up to its last value that is not NaN; at least one."""
    lengths = np.full(len(x), x.shape[1])
    size = max(1, 2**20 // x[0].size)  # sequences at a time
    for begin in range(0, len(x) if x.dtype.kind == "f" else 0, size):
        part = x[begin : begin + size].reshape(-1, x.shape[1], x[0, 0].size)
        empty = np.isnan(part).all(2)[:, ::-1]
        lengths[begin : begin + size] -= np.where(empty.all(1), x.shape[1] - 1, empty.argmin(1))
    return lengths
