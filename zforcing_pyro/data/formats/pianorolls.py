"""Base class of music data sets: piano-rolls."""

from pathlib import Path

from torch import Tensor

from ..corpus import Corpus, Floor
from .floors import bernoulli_floor
from .rolls import LOWEST, write_midi

NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
COLUMNS = 72  # of a roll in a terminal, beside the names of keys


class PianorollCorpus(Corpus):
    """Music as 88 keys a step, of which key k is MIDI note 21 + k.

    A key that is struck again in the next step is, in a roll, one that is held on.
    """

    view = "pianoroll"
    suffix = ".mid"
    x_dim = 88
    emission = "bernoulli"
    steps_per_beat = 1  # steps of a quarter note in a MIDI file, whose tempo is then 120
    step_seconds = 0.0  # or seconds of a step; 0 is beats

    def floor(self) -> Floor:
        return bernoulli_floor(self.split("train"), self.split("test"), 88, "keys")

    def write(self, x: Tensor, file: Path) -> None:
        write_midi((x > 0.5).cpu().numpy(), file, self.steps_per_beat, self.step_seconds)

    def as_text(self, x: Tensor) -> str:
        """Returns 72 steps to the right, and two keys a line upwards, of the keys that are used."""
        keys = x[:COLUMNS] > 0.5
        used = keys.any(0).nonzero().flatten().tolist() or [0]
        rows = []
        for key in range(used[-1] // 2 * 2, used[0] // 2 * 2 - 1, -2):
            halves = [2 * upper + lower for lower, upper in keys[:, key : key + 2].tolist()]
            octave, note = divmod(LOWEST + key, 12)
            rows.append(f"{NAMES[note] + str(octave - 1):>4} |{''.join(' ▄▀█'[h] for h in halves)}")
        rest = len(x) - len(keys)
        return "\n".join([*rows, *([f"     {rest} more steps"] if rest else [])])
