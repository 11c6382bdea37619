"""The time loops of the recurrence in C++, where somebody has built them.

``zforcing build`` does, in about half a minute; it needs a C++ compiler and ninja. Everything works
without. What was built is found by the versions of PyTorch and of the source and by what the
processor can do, and the ``fused`` backend takes it from then on for float32 and float64 on a CPU.
"""

from __future__ import annotations

import hashlib
import os
import platform
import tempfile
from functools import cache
from pathlib import Path

import torch

SOURCE = Path(__file__).with_name("recurrence.cpp")
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros")


def library() -> Path:
    """Where what is built for this machine lies, or would."""
    facts = [SOURCE.read_text(), torch.__version__, platform.machine(), *FLAGS, processor()]
    digest = hashlib.blake2b("\n".join(facts).encode(), digest_size=8).hexdigest()
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root, "zforcing_pyro", digest, "zforcing_pyro_recurrence.so")


def processor() -> str:
    """What this processor can do, as far as the system tells: code is built for it alone."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def build() -> Path:
    """Compiles the loops, if that has not been done for this machine.

    Raises:
        RuntimeError: If there is no compiler or no ninja, or the compiler fails.
    """
    file = library()
    if not file.exists():
        from torch.utils.cpp_extension import load  # looks for compilers: costs a second

        file.parent.mkdir(parents=True, exist_ok=True)
        # Moved when it is whole: what is killed on the way leaves nothing that would be loaded.
        with tempfile.TemporaryDirectory(dir=file.parent) as folder:
            load(
                file.stem,
                [str(SOURCE)],
                extra_cflags=list(FLAGS),
                build_directory=folder,
                is_python_module=False,
            )
            os.replace(Path(folder, file.name), file)
    loops.cache_clear()
    return file


@cache
def loops():
    """The operators of :mod:`.fused`'s loops; None where there are none that can be loaded."""
    try:
        file = library()
        if not file.exists():
            return None
        if not hasattr(torch.ops.zforcing_pyro, "forward"):
            torch.ops.load_library(str(file))
        return torch.ops.zforcing_pyro
    except (OSError, RuntimeError):
        return None
