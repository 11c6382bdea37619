"""Weights from files, of which nothing is ever executed."""

from pathlib import Path

import torch
from torch import nn


def load_weights(net: nn.Module, checkpoint: Path) -> None:
    """Puts a checkpoint's weights into ``net``. Nothing but tensors and plain types is read.

    Raises:
        ValueError: If the file is no checkpoint of such a net.
    """
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
        weights = {k.removeprefix("net."): v for k, v in state.items() if k.startswith("net.")}
        net.load_state_dict(weights)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"'{checkpoint}' must be a checkpoint of this net, got: {reason}"
        ) from error
