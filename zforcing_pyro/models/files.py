"""A net as one file: weights as safetensors, and the JSON that rebuilds the net around them."""

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from .._version import __version__
from ..data.writing import replacing
from ..emissions import EMISSIONS
from .hub import local

FORMAT = 2
"""Version of the description; files of another one are refused."""
MODELS: dict[str, type] = {}
"""Models by their names; the package fills it where it has them all."""


def save_net(net: Any, file: str | Path, **more: Any) -> None:
    """Writes a net to a file, in place of an older one; ``more`` joins its description.

    Raises ValueError if model or emission is in no registry, or an option is no plain value: the
    net could not be loaded again.
    """
    from safetensors.torch import save

    try:
        facts = {"format": FORMAT, "version": __version__} | description(net) | more
        text = json.dumps(facts)
    except TypeError as error:
        raise ValueError(f"options of the net must be plain values to be saved: {error}") from error
    weights = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
    with replacing(file) as new:
        new.write(save(weights, metadata={"zforcing_pyro": text}))


def description(net: Any) -> dict[str, Any]:
    """Returns what a net is built from; ValueError if model or emission is in no registry."""
    options = dict(net.given_options)
    emission = options.pop("emission")
    families = {"name": emission}
    if isinstance(emission, functools.partial):
        families = {**emission.keywords, "name": emission.func}
    parts = {
        "model": {**options, "name": registered(MODELS, type(net), "model")},
        "emission": {**families, "name": registered(EMISSIONS, families["name"], "emission")},
    }
    if net.twist is not None:
        parts["twist"] = {"form": net.twist.form, "hidden_dim": net.twist.hidden_dim}
    return parts


def net_digest(net: Any) -> str:
    """Returns the SHA-256 of a net's description and weights: equal nets have equal ones."""
    sha = hashlib.sha256(json.dumps(description(net), sort_keys=True).encode())
    for name, value in sorted(net.state_dict().items()):
        value = value.detach().cpu().contiguous()
        sha.update(f"{name} {value.dtype} {tuple(value.shape)}".encode() + value.numpy().tobytes())
    return sha.hexdigest()


def registered(registry: dict[str, Any], entry: Any, kind: str) -> str:
    """Returns the name of a registry's entry.

    Raises ValueError if the registry does not have it.
    """
    for name, other in registry.items():
        if other is entry:
            return name
    got = getattr(entry, "__name__", entry)
    raise ValueError(f"'{kind}' must be one of {list(registry)} to be saved, got {got}")


def description_of(file: str | Path) -> dict[str, Any]:
    """Returns the description in a file that :func:`save_net` wrote, see :func:`.local`."""
    from safetensors import safe_open

    with safe_open(local(file), "pt") as opened:
        return json.loads(opened.metadata()["zforcing_pyro"])


def load_net(file: str | Path) -> Any:
    """Returns a net that :func:`save_net` wrote, in evaluation mode on the CPU.

    ``file`` may be ``hub:OWNER/NAME``, see :func:`.local`. Nothing in the file is executed. Raises
    ValueError for another, broken or older file.
    """
    from safetensors import safe_open

    path = local(file)
    try:
        with safe_open(path, "pt") as opened:
            description = json.loads((opened.metadata() or {})["zforcing_pyro"])
            weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        if description["format"] != FORMAT:
            raise ValueError(
                f"format {description['format']}, which zforcing_pyro {description['version']} "
                f"reads; this is {__version__}"
            )
        dtypes = {weight.dtype for weight in weights.values()}
        if len(dtypes) != 1 or not dtypes <= {torch.float32, torch.float64}:
            raise ValueError(f"weights of {sorted(map(str, dtypes))}, not of float32 or float64")
        model, emission = description["model"], description["emission"]
        family = functools.partial(EMISSIONS[emission.pop("name")], **emission)
        net = MODELS[model.pop("name")](family, **model)
        if "twist" in description:
            net.add_twist(**description["twist"])
        net.to(dtypes.pop()).load_state_dict(weights)
    except OSError:
        raise
    except Exception as error:  # whatever a broken file makes of it
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"'{file}' must be a net that 'save' wrote, got {reason}") from error
    return net.eval()
