"""NumPy arrays and torch tensors that a person has, in files or in memory."""

import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..corpus import SPLITS
from ..formats.columns import ColumnsCorpus
from ..formats.files import available_memory, reason_of
from ..formats.rows import Part


class Arrays(ColumnsCorpus):
    """Sequences in a ``.npz`` file, or in a ``.npy`` file, which is read from the disk as needed.

    The values are an array ``x``, ``(sequences, time[, x_dim])``, in which steps from ``len``,
    ``(sequences,)``, on are padding; without ``len``, steps at the end that are NaN in all columns
    are. Or ``x`` is ``(steps[, x_dim])``, the sequences end to end, and their lengths ``len`` sum
    to the steps. The splits are ``x_train``, ``x_valid`` and ``x_test`` (and ``len_train``, ...);
    or ``split``, ``(sequences,)``, says "train", "valid" or "test" of each; or 80, 10 and 10 % are
    by chance, see :func:`.random_split`. Nothing is ever unpickled.
    """

    title = "arrays"
    source = "your own: --data.path a .npz or .npy file"

    @classmethod
    def from_tensors(cls, sequences: Any, **options: Any) -> "Arrays":
        """Returns sequences that are in memory, NaN where a value is missing.

        ``sequences`` are tensors, NumPy arrays or lists, each ``(time_i, x_dim)`` or ``(time_i,)``:
        a list, which is split by chance, or lists by split. ``options`` are those of the class.

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
        arrays = cls(**options)
        arrays._memory = sequences
        return arrays

    def read_file(self, file: Path) -> dict[str, np.ndarray]:
        """Returns the arrays of a ``.npz`` file, or a ``.npy`` file, memory-mapped, as ``x``."""
        try:
            if not zipfile.is_zipfile(file):
                return {"x": np.asarray(np.lib.format.open_memmap(file, mode="r"))}
            with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
                if len({*archive.files}) < len(archive.files):
                    raise ValueError(f"two of one name: {archive.files}")
                size = sum(member.file_size for member in archive.zip.infolist())
                if size <= available_memory():
                    return {name: np.asarray(archive[name]) for name in archive.files}
        except Exception as error:  # zipfile, zlib and numpy have a dozen ways to say "broken"
            reason = reason_of(error).replace(": Python", ": pickled Python")
            raise ValueError(
                f"'{file}' must be an npz or npy file of plain arrays, got {reason}"
            ) from error
        raise ValueError(f"'{file}' must fit in memory, got {size / 1e9:.1f} GB: save 'x' as x.npy")

    def sequences(self, content: Any) -> tuple[dict[str, Part], list[str]]:
        arrays = content if self._memory is None else in_memory(content)
        suffixes = [""] if "x" in arrays else [f"_{split}" for split in SPLITS]
        allowed = {f"{name}{suffix}" for name in ("x", "len") for suffix in suffixes}
        unknown = arrays.keys() - allowed - ({"split"} if "x" in arrays else set())
        if unknown or not all(f"x{suffix}" in arrays for suffix in suffixes):
            raise ValueError(
                "sequences must be in 'x' (and 'split') or in 'x_train', 'x_valid' and 'x_test', "
                "and lengths in 'len' or 'len_train', ..., which mask.sum(1) makes of a mask, got "
                f"{sorted(unknown or arrays)}"
            )
        parts = {suffix[1:]: part_of(arrays, suffix) for suffix in suffixes}
        if "" in parts:
            parts = parts[""].split(arrays.get("split"), self.seed)
        widths = {split: part.rows.shape[1] for split, part in parts.items()}
        if len(set(widths.values())) > 1:
            raise ValueError(f"every split must have as many columns, got {widths}")
        return parts, [f"x{i}" for i in range(widths["train"])]


def in_memory(sequences: Any) -> dict[str, np.ndarray]:
    """Returns sequences of Python as the arrays that a file would have."""
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
                    f"sequence {i} must be numbers of shape (time,) or (time, x_dim), of one "
                    f"x_dim, got {x.dtype} of shape {x.shape}"
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


def part_of(arrays: dict[str, np.ndarray], suffix: str) -> Part:
    """Returns the sequences of ``x`` and ``len``, in any layout of :class:`Arrays`."""
    x, lengths, flat = arrays[f"x{suffix}"], arrays.get(f"len{suffix}"), False
    if x.dtype.kind not in "buif" or x.ndim not in (1, 2, 3) or not x.size:
        raise ValueError(
            f"'x{suffix}' must be numbers of shape (sequences, time[, x_dim]) or (steps[, x_dim]), "
            f"not empty, got {x.dtype} of shape {x.shape}"
        )
    if lengths is not None:
        positive = lengths.ndim == 1 and lengths.dtype.kind in "iu" and (lengths > 0).all()
        flat = positive and x.ndim < 3 and lengths.sum() == len(x)
        padded = positive and x.ndim > 1 and len(lengths) == len(x) and lengths.max() <= x.shape[1]
        if not (flat or padded):
            raise ValueError(
                f"'len{suffix}' must be positive integers that sum to the steps of 'x{suffix}', or "
                f"the length of each sequence, got {lengths.dtype} of shape {lengths.shape} for "
                f"{x.shape}, from {lengths.min(initial=0)} to {lengths.max(initial=0)}, with the "
                f"sum {lengths.sum()}"
            )
    elif x.ndim == 1:
        raise ValueError(f"'x{suffix}' must have 'len{suffix}' beside it, with shape {x.shape}")
    else:  # up to the last value that is not NaN
        steps = (np.flatnonzero(~np.isnan(s).all(-1)) for s in x.reshape(*x.shape[:2], -1))
        lengths = np.array([1 + observed.max(initial=0) for observed in steps])
        if x.ndim == 3 and x.shape[2] > 3 * x.shape[1]:
            warnings.warn(
                f"'x{suffix}' of shape {x.shape} is read as {x.shape[1]} steps of {x.shape[2]} "
                "columns: x.transpose(0, 2, 1) is right for (sequences, channels, time), and "
                f"'len{suffix}' beside it says that the steps are",
                stacklevel=2,
            )
    lengths = lengths.astype(np.int64)
    begins = lengths.cumsum() - lengths if flat else np.arange(len(x)) * x.shape[1]
    num_rows = len(x) if flat else x.shape[0] * x.shape[1]
    return Part(x.reshape(num_rows, -1), begins, lengths, np.arange(len(lengths)))
