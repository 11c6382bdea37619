"""Checkpoints: written whole or not at all, and read without executing anything."""

import io
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..data.formats.files import check_regular
from ..data.writing import refuse_links, replacing

FORMAT = 2
"""Format of checkpoints; another one is refused."""
COUNTERS = "update", "validated_at", "skipped", "skipped_in_a_row", "stale", "collapsed"
BOUNDS = "best_bound", "last_bound", "best_annealed"
"""Numbers of the loop that a checkpoint holds; a bound may be None."""


def save_checkpoint(checkpoint: dict[str, Any], file: Path, folder: Path) -> None:
    """Writes a checkpoint below a run's folder; an older file is replaced by a whole new one.

    Raises:
        ValueError: If a link in the folder would lead the file out of the folder.
        OSError: If the file cannot be written; the older file is left as it was.
    """
    buffer = io.BytesIO()  # because torch.save ends the process where a file's write fails
    torch.save(checkpoint, buffer)
    refuse_links(file.parent, folder)
    file.parent.mkdir(exist_ok=True)
    try:
        with replacing(file, inside=folder) as new:
            new.write(buffer.getbuffer())
    except OSError as error:
        rest = "there is none before it, and --resume begins anew"
        if file.with_stem("last").exists():
            rest = "the one before it is whole, and --resume goes on from there"
        raise OSError(f"'{file}' could not be written: {error.strerror}; {rest}") from error


def load_checkpoint(file: str | Path) -> dict[str, Any]:
    """Reads a checkpoint to the CPU: nothing but tensors and plain types.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not a checkpoint of this package and format.
    """
    file = Path(file)
    if not file.exists():
        raise FileNotFoundError(f"'{file}' must be a checkpoint, and is not there")
    check_regular(file)
    try:
        with warnings.catch_warnings():  # the error says what a foreign pickle is
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = " ".join(str(error).split()) or "an empty file"
        if "weights_only" in reason:  # torch's advice is how to have the pickle executed
            reason = "another file, or a pickle of more than tensors; nothing of it was executed"
        elif isinstance(error, OSError):  # torch's word for it is "invalid argument"
            reason = "a file that is cut off or cannot be read"
        raise ValueError(f"'{file}' must be a checkpoint, got: {reason[:300]}") from error
    about = checkpoint.get("zforcing_pyro") if isinstance(checkpoint, dict) else None
    if not isinstance(about, dict) or not isinstance(about.get("format"), int):
        raise ValueError(f"'{file}' must be a checkpoint of zforcing_pyro, got another file")
    if about["format"] != FORMAT:
        raise ValueError(
            f"'{file}' must be of format {FORMAT}, got {about['format']}, of zforcing_pyro "
            f"{str(about.get('version'))[:20]}: that version reads it"
        )
    numbers = [about.get(name) for name in (*COUNTERS, *BOUNDS)]
    kinds = [int] * len(COUNTERS) + [float | None] * len(BOUNDS)
    if not all(map(isinstance, numbers, kinds)):
        raise ValueError(f"'{file}' must be a checkpoint, got counters or bounds that are none")
    return checkpoint


def load_weights(net: nn.Module, file: str | Path) -> None:
    """Puts the weights that a checkpoint keeps into ``net``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not a checkpoint of such a net; says in what they differ.
    """
    checkpoint = load_checkpoint(file)
    try:
        weights = dict(checkpoint["players"]["net"]["weights"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"'{file}' must be a checkpoint of a net, got no weights") from error
    check_weights(net, weights, file, checkpoint["zforcing_pyro"].get("net"))
    net.load_state_dict(weights)


def check_weights(net: nn.Module, weights: dict[str, Tensor], file: Any, name: Any) -> None:
    """Raises ValueError, with the first difference, unless a ``file``'s weights fit the net.

    ``name`` is the class that the weights come from.
    """
    expected = net.state_dict()
    for key in sorted(expected.keys() | weights.keys(), key=str):
        ours, theirs = shape_of(expected.get(key)), shape_of(weights.get(key))
        if ours != theirs:
            raise ValueError(
                f"'{file}' must be a checkpoint of this net, a {type(net).__name__} whose "
                f"'{key}' is {ours}, got one of {str(name)[:40]} where it is {theirs}"
            )


def shape_of(value: Any) -> str:
    """Describes a weight for an error."""
    if value is None:
        return "missing"
    floats = isinstance(value, Tensor) and value.is_floating_point()
    return f"of shape {tuple(value.shape)}" if floats else "not a tensor of floats"
