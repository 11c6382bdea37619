"""Adapter for arviz 0.2x and 1.x: the only file that depends on arviz's version."""

import os
import tempfile
import warnings
from typing import Any

import numpy as np


def imported_arviz() -> Any:
    """Returns the module arviz, imported without the warning about its refactoring."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import arviz
        except OSError:  # arviz notes the day of its last warning in a cache folder
            os.environ["XDG_CACHE_HOME"] = tempfile.gettempdir()
            import arviz
    return arviz


def pareto_shapes(log_weight: np.ndarray) -> np.ndarray:
    """Returns k-hat of each row of log-weights, ``(rows, particles)`` to ``(rows,)``."""
    if (arviz := imported_arviz()).__version__.startswith("0."):
        return np.asarray(arviz.psislw(log_weight)[1])
    from arviz_stats.base import array_stats

    return np.asarray(array_stats.psislw(-log_weight)[1])  # takes minus the log-weights


def to_arviz(tree: Any) -> Any:
    """Returns the tree as arviz's functions take it: ``InferenceData`` before 1.0, then itself."""
    arviz = imported_arviz()
    is_old = arviz.__version__.startswith("0.")
    return arviz.InferenceData.from_datatree(tree) if is_old else tree
