"""Times a training step next to other ways to take the same step."""
