"""NumPy arrays and torch tensors of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from ..corpus import SPLITS, random_split, reason_of
from ..formats.columns import ColumnsCorpus, Kind, Read, by_split


class Arrays(ColumnsCorpus):
    """Sequences in a ``.npz`` or ``.npy`` file. Nothing in it is ever unpickled.

    The values are an array ``x`` (a ``.npy`` file is one), in one of these layouts:

    - ``(sequences, time, x_dim)``, or ``(sequences, time)`` for a single column. With ``len``, of
      shape ``(sequences,)``, steps from there on are padding, whatever is in them; without it,
      steps at the end of a sequence that are NaN in all columns are.
    - ``(steps, x_dim)``, or ``(steps,)`` for a single column: the sequences end to end, with their
      lengths ``len``, which sum to the steps.

    One that is much longer than the rest is fine: buckets keep it from padding others, and
    ``training.window`` cuts it.

    Either ``x_train``, ``x_valid`` and ``x_test`` (with ``len_train``, ... where there is ``len``)
    are the splits; or there is one ``x``, and ``split``, ``(sequences,)``, says "train", "valid" or
    "test" of each; or, without it, 80, 10 and 10 % are by chance: see :func:`random_split`. See
    :class:`ColumnsCorpus` for what the values may be, and for missing ones.

    Args:
        path: The file.
        kind: What the values are, in place of looking: 0 and 1, symbols, or real numbers.
        standardize: Real numbers minus their mean, by their deviation, in train.
        seed: Of the split by chance.
        data_dir: Folder in which a relative ``path`` is looked for as well.

    Raises:
        ValueError: If an option is out of its range; on reading, if the file or an array is not as
            above.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "waves.npz")
        ...     np.savez(file, x=np.sin(np.arange(60.0)).reshape(60, 1), len=[30, 20, 10])
        ...     waves = Arrays(file)
        ...     [waves.split(name).lengths.tolist() for name in ("train", "valid", "test")]
        [[30], [20], [10]]
    """

    title = "arrays"
    source = "your own: --data.path a .npz or .npy file"

    def __init__(
        self,
        path: str | Path = "",
        kind: Kind = "auto",
        standardize: bool = True,
        seed: int = 0,
        data_dir: str | Path | None = None,
    ):
        super().__init__(path, kind, standardize, seed, data_dir)
        self._tensors: list[Tensor] | dict[str, list[Tensor]] | None = None

    @classmethod
    def from_tensors(
        cls,
        sequences: list[Tensor] | dict[str, list[Tensor]],
        kind: Kind = "auto",
        standardize: bool = True,
        seed: int = 0,
    ) -> Arrays:
        """Sequences that are in memory as tensors.

        Args:
            sequences: Each ``(time_i, x_dim)`` or ``(time_i,)``, NaN where a value is missing: a
                list, which is split by chance, or lists by split.
            kind, standardize, seed: As of the class.

        Raises:
            ValueError: If an option is out of its range; on reading, if a split is missing or
                values do not fit.

        Example:
            >>> import torch
            >>> walks = [torch.randn(n, 2).cumsum(0) for n in range(5, 25)]
            >>> corpus = Arrays.from_tensors(walks)
            >>> len(corpus.split("train")), corpus.x_dim, corpus.emission
            (16, 2, 'gaussian')
            >>> bits = [torch.tensor([0, 1, 1]), torch.tensor([1, 0])]
            >>> Arrays.from_tensors({"train": bits, "valid": bits, "test": bits}).emission
            'bernoulli'
        """
        arrays = cls(kind=kind, standardize=standardize, seed=seed)
        arrays._tensors = sequences
        return arrays

    def found(self) -> bool:
        return self._tensors is not None or self.is_there(self.given)

    def read(self) -> Read:
        if self._tensors is None:
            file = self.own(self.given)
            where, found = f"'{file}'", read_arrays(file)
            splits = {s: cut(found, f"_{s}", where) for s in SPLITS if f"x_{s}" in found}
            sequences = cut(found, "", where) if "x" in found else []
        else:
            given, found, where = self._tensors, {}, "the tensors"
            given = given if isinstance(given, dict) else {"": given}
            lists = {s: [x.detach().cpu().numpy() for x in v] for s, v in given.items()}
            sequences, splits = lists.pop("", []), lists
        if sequences:
            index = self.chosen(found.get("split"), len(sequences), where)
            parts, names = by_split(sequences, [str(i) for i in range(len(sequences))], index)
        elif set(splits) == set(SPLITS):
            parts = splits
            names = {s: [f"{i} in '{s}'" for i in range(len(v))] for s, v in splits.items()}
        else:
            raise ValueError(
                f"{where} must hold sequences, as 'x' or as train, valid and test ('x_train', "
                f"...), got {sorted(found or splits)}"
            )
        if empty := [split for split in SPLITS if not parts[split]]:
            raise ValueError(f"{where} must have sequences in every split, got none in {empty}")
        first = parts["train"][0]
        x_dim = first.shape[1] if first.ndim == 2 else 1
        return Read(parts, names, [f"x{i}" for i in range(x_dim)], where)

    def chosen(self, split: np.ndarray | None, num: int, where: str) -> dict[str, np.ndarray]:
        """Indices by split, as the file says, or by chance."""
        if split is None:
            return random_split(num, self.seed, f"the sequences of {where}")
        if split.shape != (num,) or split.dtype.kind != "U" or not np.isin(split, SPLITS).all():
            raise ValueError(
                f"'split' of {where} must be {num} of {list(SPLITS)}, got {split.dtype} of shape "
                f"{split.shape}, {sorted(set(split.reshape(-1).tolist()))[:5]}"
            )
        return {name: np.flatnonzero(split == name) for name in SPLITS}


def read_arrays(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a ``.npz`` file by their names, or that of a ``.npy`` file as ``x``.

    Raises:
        ValueError: If it is broken, or an array has Python objects, which would be unpickled.
    """
    try:
        with open(file, "rb") as stream:
            found = np.load(stream, allow_pickle=False)
            if isinstance(found, np.ndarray):
                return {"x": found}
            return {
                name: found[name] for name in found.files if isinstance(found[name], np.ndarray)
            }
    except Exception as error:  # zipfile, zlib and numpy have a dozen ways to say "broken"
        raise ValueError(
            f"'{file}' must be an npz or npy file of plain arrays, got {reason_of(error)}"
        ) from error


def cut(found: dict[str, np.ndarray], suffix: str, where: str) -> list[np.ndarray]:
    """The sequences of ``x`` and ``len``, or of those of a split, in any layout of :class:`Arrays`.

    Raises:
        ValueError: If they do not fit each other.
    """
    x, lengths = found[f"x{suffix}"], found.get(f"len{suffix}")
    name = f"'x{suffix}' of {where}"
    if x.dtype.kind not in "buif" or x.ndim not in (1, 2, 3) or not x.size:
        raise ValueError(
            f"{name} must be numbers of shape (sequences, time[, x_dim]) or (steps[, x_dim]), not "
            f"empty, got {x.dtype} of shape {x.shape}"
        )
    if lengths is None:
        if x.ndim == 1:
            raise ValueError(f"{name} must have 'len{suffix}' beside it, being of shape {x.shape}")
        return [observed(v) for v in x] if x.dtype.kind == "f" else list(x)
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or not len(lengths) or lengths.min() < 1:
        raise ValueError(
            f"'len{suffix}' of {where} must be positive integers, got {lengths.dtype} of shape "
            f"{lengths.shape}" + (f", least {lengths.min()}" if lengths.size else "")
        )
    if x.ndim < 3 and lengths.sum() == len(x):
        return np.split(x, lengths.cumsum()[:-1])
    if x.ndim > 1 and len(lengths) == len(x) and lengths.max() <= x.shape[1]:
        return [v[:n] for v, n in zip(x, lengths)]
    raise ValueError(
        f"'len{suffix}' of {where} must sum to the steps of 'x{suffix}', or be the length of each "
        f"of its sequences, got {len(lengths)} lengths, the longest {lengths.max()}, that sum to "
        f"{lengths.sum()} for shape {x.shape}"
    )


def observed(x: np.ndarray) -> np.ndarray:
    """A sequence without the steps at its end that are NaN in all columns; at least one step."""
    some = np.flatnonzero(~np.isnan(x.reshape(len(x), -1)).all(1))
    return x[: some[-1] + 1 if len(some) else 1]
