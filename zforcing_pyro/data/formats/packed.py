"""Arrays of named data sets in npz files; nothing is ever unpickled."""

from pathlib import Path

import numpy as np

from .files import check_room


def read_npz(file: Path, **expected: tuple[type, tuple[int | None, ...]]) -> list[np.ndarray]:
    """Returns the arrays of an ``.npz`` file that are ``expected``; nothing is ever unpickled.

    ``expected`` has type and shape of each array, None where any size will do. Raises ValueError if
    the file is broken or too large, or an array is missing, empty or not as expected.
    """
    try:
        # Open the file here, because np.load leaves a broken file open.
        with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
            names = archive.files
            entries = {e.filename.removesuffix(".npy"): e for e in archive.zip.infolist()}
            for name in expected.keys() & entries:
                check_room(entries[name].file_size, f"{file}/{name}")
            # An entry that is not an array comes as bytes, which fail below by their type.
            arrays = {name: np.asarray(archive[name]) for name in expected if name in names}
    except Exception as error:  # zipfile, zlib and numpy have a dozen ways to say "broken"
        raise ValueError(
            f"'{file}' must be an npz file of plain arrays, got {reason_of(error)}"
        ) from error
    if len(arrays) < len(expected):
        raise ValueError(f"'{file}' must hold the arrays {list(expected)}, got {names}")
    for name, (kind, shape) in expected.items():
        got = arrays[name]
        fits = got.ndim == len(shape) and all(n in (m, None) for m, n in zip(got.shape, shape))
        if not (fits and got.size and np.issubdtype(got.dtype, kind)):
            sizes = ", ".join("any" if n is None else str(n) for n in shape)
            raise ValueError(
                f"'{name}' of '{file}' must be a non-empty {kind.__name__} array of shape "
                f"({sizes}), got {got.dtype} of shape {got.shape}"
            )
    return list(arrays.values())


def reason_of(error: Exception) -> str:
    """Returns why NumPy does not read a file, in one line, without its advice to unpickle.

    Example:
        >>> reason_of(ValueError("Object arrays cannot be loaded when allow_pickle=False"))
        'pickled Python objects, which are never loaded'
    """
    if "pickle" in str(error):
        return "pickled Python objects, which are never loaded"
    return " ".join(f"{type(error).__name__}: {error}".split())
