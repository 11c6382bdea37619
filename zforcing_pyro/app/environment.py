"""Facts about the machine and the packages that a run is computed with."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .._version import __version__

CHECKOUT = Path(__file__).parents[2]


def environment() -> dict[str, Any]:
    """Returns versions of packages, the platform, the device and the commit of this package."""
    import torch

    packages = {"zforcing_pyro": __version__}
    for name in ("torch", "pyro-ppl", "numpy", "lightning", "scikit-learn"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "not installed"
    return {
        "packages": packages,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "git_commit": git_commit(CHECKOUT),
    }


def git_commit(folder: Path) -> str | None:
    """Returns the commit of a folder if it is a checkout of this package. No git is run."""
    try:
        if "name = zforcing_pyro" not in (folder / "setup.cfg").read_text(encoding="utf-8"):
            return None
        head = (folder / ".git" / "HEAD").read_text(encoding="utf-8").strip()
        if head.startswith("ref: "):
            head = (folder / ".git" / head[5:]).read_text(encoding="utf-8").strip()
        return head
    except (OSError, ValueError):
        return None
