"""Figures: each function draws on ``axes``, or on a new figure if it is None, and returns the axes.

Colours are told apart by colour-blind people, axes have units, and names are never formulas.
"""

from .axes import COLOURS
from .meaning import (
    attention_map,
    gallery,
    kl_by_latent,
    kl_by_step,
    kl_heat_map,
    kl_image,
    r2_by_horizon,
    trajectories,
    walks,
)
from .sequences import (
    curves,
    images,
    pianorolls,
    real_and_generated,
    sentences,
    sequences,
    spectrogram,
    spectrum_and_wave,
    waveforms,
)
from .training import curves_over_seeds, intervals, training_curves
from .trust import bound_against_particles, pareto_k, predictive_check, rank_histogram

__all__ = [
    "COLOURS", "attention_map", "bound_against_particles", "curves", "curves_over_seeds", "gallery",
    "images", "intervals", "kl_by_latent",
    "kl_by_step", "kl_heat_map", "kl_image", "pareto_k", "pianorolls",
    "predictive_check", "r2_by_horizon", "rank_histogram", "real_and_generated", "sentences",
    "sequences", "spectrogram", "spectrum_and_wave", "training_curves", "trajectories", "walks",
    "waveforms",
]  # fmt: skip
