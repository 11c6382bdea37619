"""Latents of a trained model: what they are, whether to trust them, and what they mean.

The functions leave the global random state and the net's mode as they were. They return arrays,
dataclasses or xarray objects, and neither draw figures nor print. A net without latents and a
number out of its range are a ValueError.
"""

from ..batches import num_latents
from .checks import PredictiveCheck, Statistic, predictive_checks, statistics
from .codes import LatentKL, latent_codes, latent_kl, trajectories
from .decoding import Interpolation, decode, interpolation, posterior_path, swap, traversal
from .inference_data import to_inference_data
from .information import MutualInformation, mutual_information
from .prediction import Probe, future_prediction, linear_probes
from .trust import (
    BoundCurve,
    Calibration,
    Importance,
    bound_curve,
    calibration,
    importance,
    resampled,
)

__all__ = [
    "BoundCurve", "Calibration", "Importance", "Interpolation", "LatentKL", "MutualInformation",
    "PredictiveCheck", "Probe", "Statistic", "bound_curve", "calibration", "decode",
    "future_prediction", "importance", "interpolation", "latent_codes", "latent_kl",
    "linear_probes", "mutual_information", "num_latents", "posterior_path", "predictive_checks",
    "resampled", "statistics", "swap", "to_inference_data", "trajectories", "traversal",
]  # fmt: skip
