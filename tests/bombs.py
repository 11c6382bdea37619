"""An object that runs something when it is unpickled."""

from pathlib import Path


class Bomb:
    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)
