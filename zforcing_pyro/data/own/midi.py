"""MIDI files of one's own as piano-rolls."""

import warnings
from pathlib import Path

import torch

from ..checks import check_range
from ..corpus import digest, random_split
from ..formats.rolls import PianorollCorpus, read_midi
from ..formats.tree import Tree
from ..sequences import Sequences, SequenceSet

SUFFIXES = (".mid", ".midi", ".kar", ".rmi")


class MidiFiles(PianorollCorpus):
    """The MIDI files below a folder, or in a zip archive, each a song: 88 keys a step.

    All tracks are taken together but drums (channel 10); see :func:`read_midi`. Left out, each with
    a counted warning, are notes that no piano has (outside of MIDI 21..108), a long silence after
    the last note, and songs without notes. The rest is dealt by :func:`.random_split`.

    Args:
        path: Folder or zip archive with files ``*.mid`` or ``*.midi``, in folders as may be.
        steps_per_beat: Steps of a quarter note, whatever the tempo: 4 are sixteenth notes.
        step_seconds: Or a step has this many seconds, as the files' tempi have it; 0 is beats.
        seed: Seed of the split.
        skip_broken: Leaves broken files out, and counts them in a warning.
        data_dir: Folder in which a relative ``path`` is looked for as well.
    """

    title = "MIDI files"
    source = "your own: --data.path a folder or a zip archive of .mid files"
    licence = "yours"
    size = "any"
    is_own = True

    def __init__(
        self,
        path: str = "",
        steps_per_beat: int = 4,
        step_seconds: float = 0.0,
        seed: int = 0,
        skip_broken: bool = False,
        data_dir: str | Path | None = None,
    ):
        super().__init__(data_dir)
        check_range(1, 100, steps_per_beat=steps_per_beat)
        check_range(0, seed=seed)
        if not (step_seconds == 0 or 0.001 <= step_seconds <= 10):
            raise ValueError(f"'step_seconds' must be 0 or in 0.001..10, got {step_seconds}")
        self.user_path = path
        self.steps_per_beat, self.step_seconds = steps_per_beat, step_seconds
        self.seed, self.skip_broken = seed, skip_broken
        self.step = f"{step_seconds:g} s" if step_seconds else f"1/{steps_per_beat} beat"
        name = Path(path).name
        self.version = f"MIDI files of '{name}', a step {self.step}, split by seed {seed}"

    def _songs(self) -> tuple[Tree, list[str]]:
        tree = Tree(self.own(self.user_path))
        return tree, [name for name in tree.names() if name.lower().endswith(SUFFIXES)]

    def load(self, split: str) -> SequenceSet:
        tree, names = self._songs()
        songs, outside, cut, silent, broken = [], {}, {}, {}, {}
        for name in names:
            place = tree.place(name)
            try:
                roll = read_midi(tree.read(name), place, self.steps_per_beat, self.step_seconds)
            except (ValueError, OSError):
                if not self.skip_broken:
                    raise
                broken[place] = 1
                continue
            outside[place], cut[place], silent[place] = roll.outside, roll.cut, not len(roll.keys)
            if len(roll.keys):
                songs.append(torch.from_numpy(roll.keys))
        for what, counts in (
            ("{:,} notes outside of MIDI 21..108, in files", outside),
            ("{:,} silent steps after the last note, in files", cut),
            ("files without a note of a piano", silent),
            ("broken files", broken),
        ):
            if places := [place for place, count in counts.items() if count]:
                text = f"{what.format(sum(counts.values()))}: {len(places)}"
                warnings.warn(f"left out: {text}, the first '{places[0]}'", stacklevel=2)
        index = random_split(len(songs), self.seed, f"the MIDI files in '{tree.path}'")
        for name, chosen in index.items():
            self._splits[name] = Sequences([songs[i] for i in chosen])
        return self._splits[split]

    def fingerprint(self) -> dict[str, str]:
        tree, names = self._songs()
        return {tree.path.name: digest(tree.path, names)}
