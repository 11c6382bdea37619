"""Training on PyTorch Lightning; ``options`` and ``checkpoint`` import without it."""

from .options import TrainingOptions

__all__ = ["TrainingOptions"]
