"""Nets on the Hugging Face Hub, each one safetensors file in a repository."""

import re
from pathlib import Path
from typing import Any

PREFIX, FILE = "hub:", "model.safetensors"
NAME = re.compile(r"[\w-][\w.-]{0,95}/[\w-][\w.-]{0,95}", re.ASCII)


def local(file: str | Path) -> str | Path:
    """Returns a file, or the local copy of a net at ``hub:OWNER/NAME`` or with ``@REVISION``.

    Only the safetensors file is asked for. Raises ValueError if the hub does not have it.
    """
    if not str(file).startswith(PREFIX):
        return file
    name, _, revision = str(file).removeprefix(PREFIX).partition("@")
    check_name(name)
    hub = package()
    try:
        return hub.hf_hub_download(name, FILE, revision=revision or None)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"'{file}' must be a net on the hub, got: {reason}") from error


def check_name(name: str) -> None:
    """Raises ValueError unless a name is OWNER/NAME, as the hub writes it."""
    if not NAME.fullmatch(name) or ".." in name or "--" in name or name.endswith(".git"):
        rule = "must be OWNER/NAME of ASCII letters, digits, '-', '_' and '.'"
        raise ValueError(f"'name' on the hub {rule}, got '{name}'")


def package() -> Any:
    """Returns the package that talks to the hub; ImportError with the way out if it is lacking."""
    try:
        import huggingface_hub
    except ImportError as error:
        rule = "the hub needs huggingface_hub: pip install 'zforcing_pyro[hub]'"
        raise ImportError(f"{rule} ({error})") from error
    return huggingface_hub
