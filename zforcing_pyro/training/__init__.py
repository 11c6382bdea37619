"""Training on Lightning Fabric; the options and the checkpoints import without it."""

from .options import GROUPS, TrainingOptions
from .schedules import Schedule

__all__ = ["GROUPS", "Schedule", "TrainingOptions"]
