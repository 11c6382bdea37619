"""Checkpoints: written whole or not at all, and read without executing anything."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..data.writing import replacing

FORMAT = 1
"""Of checkpoints; those of a higher one are refused."""


def save_checkpoint(checkpoint: dict[str, Any], file: str | Path) -> None:
    """Writes a checkpoint in the place of the one that is there.

    Raises:
        OSError: If it cannot be written; the old one is left as it was.
    """
    whole = io.BytesIO()  # since torch.save ends the process where a file's write fails
    torch.save(checkpoint, whole)
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    try:
        with replacing(file) as new:
            new.write(whole.getbuffer())
    except OSError as error:
        raise OSError(
            f"'{file}' could not be written: {error.strerror}; the one before it is whole, and "
            "--resume goes on from there"
        ) from error


def load_checkpoint(file: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Reads a checkpoint; nothing but tensors and plain types.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is none of this package's, or of a newer version.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"'{file}' must be a checkpoint, and is not there")
    try:
        with warnings.catch_warnings():  # our error says what a foreign pickle is
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            checkpoint = torch.load(file, map_location=map_location, weights_only=True)
    except Exception as error:
        reason = " ".join(str(error).split()) or "an empty file"
        if "weights_only" in reason:  # torch's advice there is how to have it executed
            reason = "another file, or a pickle of more than tensors; nothing of it was executed"
        elif isinstance(error, OSError):  # torch's word for it is "invalid argument"
            reason = "a file that is cut off or cannot be read"
        raise ValueError(f"'{file}' must be a checkpoint, got: {reason[:300]}") from error
    about = checkpoint.get("zforcing_pyro") if isinstance(checkpoint, dict) else None
    if not isinstance(about, dict) or not isinstance(about.get("format"), int):
        raise ValueError(f"'{file}' must be a checkpoint of zforcing_pyro, got another file")
    if about["format"] > FORMAT:
        raise ValueError(
            f"'{file}' must be of format {FORMAT} or older, got {about['format']}, of "
            f"zforcing_pyro {about.get('version')}: a newer version reads it"
        )
    return checkpoint


def load_weights(net: nn.Module, file: str | Path) -> None:
    """Puts a checkpoint's weights into ``net``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no checkpoint of such a net; says in what they differ.
    """
    checkpoint = load_checkpoint(file)
    state = checkpoint.get("state_dict", {})
    weights = {k.removeprefix("net."): v for k, v in state.items() if k.startswith("net.")}
    check_weights(net, weights, file, checkpoint["zforcing_pyro"].get("net", "another net"))
    net.load_state_dict(weights)


def check_weights(net: nn.Module, weights: dict[str, Tensor], file: Any, of: str) -> None:
    """Raises ValueError, with the first difference, unless weights are those of such a net."""
    own = net.state_dict()
    for name in sorted(own.keys() | weights.keys()):
        ours, theirs = (
            f"of shape {tuple(w[name].shape)}" if name in w else "missing" for w in (own, weights)
        )
        if ours != theirs:
            raise ValueError(
                f"'{file}' must be a checkpoint of this net, a {type(net).__name__} whose "
                f"'{name}' is {ours}, got one of {of} where it is {theirs}"
            )
