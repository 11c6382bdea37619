"""A net as one file: weights as safetensors, and as JSON what rebuilds the net around them."""

from __future__ import annotations

import functools
import inspect
import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.writing import replacing
from ..emissions import EMISSIONS

if TYPE_CHECKING:
    from .base import StochasticRNN

FORMAT = 1
"""Of the description; those of a higher one are refused."""


def save_net(net: StochasticRNN, file: str | Path) -> None:
    """Writes a net to a file, in the place of an older one.

    Raises:
        ValueError: If its model or its emission is none of the registries', or an option is no
            plain value: it could not be loaded again.
    """
    from safetensors.torch import save

    from . import MODELS

    given = dict(inspect.signature(type(net)).bind(*net.given_args, **net.given_options).arguments)
    emission = given.pop("emission")
    families = {"name": emission}
    if isinstance(emission, functools.partial):
        families = {**emission.keywords, "name": emission.func}
    description = {
        "format": FORMAT,
        "version": version("zforcing_pyro"),
        "model": {**given, "name": registered(MODELS, type(net), "model")},
        "emission": {**families, "name": registered(EMISSIONS, families["name"], "emission")},
    }
    try:
        text = json.dumps(description)
    except TypeError as error:
        raise ValueError(f"options of the net must be plain values to be saved: {error}") from error
    weights = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
    with replacing(file) as new:
        new.write(save(weights, metadata={"zforcing_pyro": text}))


def registered(registry: dict[str, Any], entry: Any, kind: str) -> str:
    """The name of a registry's entry."""
    for name, other in registry.items():
        if other is entry:
            return name
    got = getattr(entry, "__name__", entry)
    raise ValueError(f"'{kind}' must be one of {list(registry)} to be saved, got {got}")


def load_net(file: str | Path) -> StochasticRNN:
    """A net that :func:`save_net` wrote, in evaluation mode on the CPU. Nothing is executed.

    Raises:
        ValueError: If the file is none such, is broken, or of a newer version.
    """
    from safetensors import SafetensorError, safe_open

    from . import MODELS

    try:
        with safe_open(file, "pt") as opened:
            description = json.loads((opened.metadata() or {})["zforcing_pyro"])
            weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        if description["format"] > FORMAT:
            raise ValueError(
                f"format {description['format']}, of zforcing_pyro {description['version']}: a "
                "newer version reads it"
            )
        model, emission = description["model"], description["emission"]
        family = functools.partial(EMISSIONS[emission.pop("name")], **emission)
        net = MODELS[model.pop("name")](family, **model)
        net.to(next(iter(weights.values())).dtype).load_state_dict(weights)
    except (
        SafetensorError,
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
        RuntimeError,
    ) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"'{file}' must be a net that 'save' wrote, got {reason}") from error
    return net.eval()
