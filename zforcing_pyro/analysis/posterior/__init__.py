"""What a trained model's latents are, whether they can be trusted, and what they mean.

Everything here leaves the global random stream and the net's mode as they were, and returns arrays,
dataclasses or xarray objects: nothing is drawn or printed.
"""

from .calibration import Calibration, calibration
from .checks import PredictiveCheck, predictive_checks
from .codes import latent_codes, num_latents
from .decoding import decode, posterior_path
from .inference_data import to_inference_data
from .information import MutualInformation, mutual_information
from .interpolation import Interpolation, interpolation, swap, traversal
from .meaning import LatentKL, latent_kl, trajectories
from .prediction import Probe, future_prediction, linear_probes
from .statistics import Statistic, statistics
from .trust import BoundCurve, Importance, bound_curve, importance, resampled

__all__ = [
    "BoundCurve",
    "Calibration",
    "Importance",
    "Interpolation",
    "LatentKL",
    "MutualInformation",
    "PredictiveCheck",
    "Probe",
    "Statistic",
    "bound_curve",
    "calibration",
    "decode",
    "future_prediction",
    "importance",
    "interpolation",
    "latent_codes",
    "latent_kl",
    "linear_probes",
    "mutual_information",
    "num_latents",
    "posterior_path",
    "predictive_checks",
    "resampled",
    "statistics",
    "swap",
    "to_inference_data",
    "trajectories",
    "traversal",
]
