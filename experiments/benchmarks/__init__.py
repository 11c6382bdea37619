"""How long a training step takes, next to other ways to take the same step."""
