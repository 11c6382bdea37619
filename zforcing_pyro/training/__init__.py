"""Training on PyTorch Lightning; ``options`` and ``schedules`` import without it."""

from .options import TrainingOptions

__all__ = ["TrainingOptions"]
