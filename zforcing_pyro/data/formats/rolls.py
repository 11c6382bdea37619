"""Piano-rolls from MIDI files and back, by mido."""

from __future__ import annotations

import io
from bisect import bisect_right
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

LOWEST, NUM_KEYS = 21, 88
"""MIDI note of the first key of a piano, and their number."""

DRUMS = 9
"""Channel 10, as people count, whose notes are drums and no pitches."""

MAX_STEPS = 100_000
"""Of a file; one that says it lasts for weeks is broken, and would fill the memory."""

TICKS = 120
"""Ticks of a step in files that are written."""


class Roll(NamedTuple):
    """What is read of a MIDI file."""

    keys: np.ndarray  # uint8, 1 where a key is held, (time, 88); of no notes: no time
    outside: int  # notes that no piano has, left out


def mido_module() -> ModuleType:
    """mido; without it, one line says what to install.

    Raises:
        ValueError: If it is not installed.
    """
    try:
        import mido
    except ImportError as error:
        raise ValueError("MIDI files need mido: pip install 'zforcing_pyro[music]'") from error
    return mido


def read_midi(content: bytes, name: str, steps_per_beat: int, step_seconds: float = 0.0) -> Roll:
    """A MIDI file as a piano-roll: 1 where a key is held by any track that is not drums.

    A note covers the steps between its beginning and its end, both rounded to a whole step, and
    at least one. A roll does not say where a note is struck again: two notes of a key of which one
    begins where the other ends are one long one. The end of a note (a note-on of velocity 0 as
    well) ends its key in its track and channel, however often that was struck; what nobody ends
    lasts to the end of the track. Pedals are not read. The roll ends where the last track does.

    Args:
        content: The file, of format 0 or 1.
        name: What it is called, for an error.
        steps_per_beat: Steps of a quarter note, whatever the tempo.
        step_seconds: Or a step has this many seconds, as the file's tempi have it; 0 is beats.

    Raises:
        ValueError: If it is broken, of format 2, without beats, or of more than 100,000 steps.
    """
    mido = mido_module()
    try:
        file = mido.MidiFile(file=io.BytesIO(content))
    except Exception as error:  # mido lets out what it stumbles over
        reason = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
        raise ValueError(f"'{name}' must be a MIDI file, got {reason}") from error
    if file.type == 2:
        raise ValueError(
            f"'{name}' must be of MIDI format 0 or 1, got 2: tracks without a common time"
        )
    if file.ticks_per_beat <= 0:
        raise ValueError(f"'{name}' must be timed in beats, got SMPTE frames")
    tempi, notes, ends, outside = [(0, 500_000)], [], [0], 0
    for track in file.tracks:
        tick, held = 0, {}
        for message in track:
            tick += message.time
            if message.type == "set_tempo":
                tempi.append((tick, message.tempo))
            if message.type not in ("note_on", "note_off") or message.channel == DRUMS:
                continue
            key = message.channel, message.note
            if message.type == "note_on" and message.velocity:
                if 0 <= message.note - LOWEST < NUM_KEYS:
                    held.setdefault(key, tick)
                else:
                    outside += 1
            elif key in held:
                notes.append((message.note, held.pop(key), tick))
        notes += [(note, begin, tick) for (_, note), begin in held.items()]
        ends.append(tick)
    if not notes:
        return Roll(np.zeros((0, NUM_KEYS), np.uint8), outside)
    clock = Clock(
        file.ticks_per_beat, sorted(tempi, key=lambda t: t[0]), steps_per_beat, step_seconds
    )
    spans = [(note, clock.step(begin), clock.step(end)) for note, begin, end in notes]
    num_steps = max(clock.step(max(ends)), *(max(end, begin + 1) for _, begin, end in spans), 1)
    if num_steps > MAX_STEPS:
        raise ValueError(f"'{name}' must be of at most {MAX_STEPS:,} steps, got {num_steps:,}")
    keys = np.zeros((num_steps, NUM_KEYS), np.uint8)
    for note, begin, end in spans:
        keys[begin : max(end, begin + 1), note - LOWEST] = 1
    return Roll(keys, outside)


class Clock:
    """The step that is nearest to a tick.

    Args:
        ticks_per_beat: Of the file.
        tempi: Ticks, and microseconds of a beat from each on.
        steps_per_beat, step_seconds: As of :func:`read_midi`.
    """

    def __init__(
        self,
        ticks_per_beat: int,
        tempi: list[tuple[int, int]],
        steps_per_beat: int,
        step_seconds: float,
    ):
        self.ticks, self.steps_per_beat = ticks_per_beat, steps_per_beat
        self.step_seconds, self.tempi = step_seconds, tempi
        self.passed = [0]  # microseconds times ticks of a beat, at each change of the tempo
        for (begin, tempo), (end, _) in pairwise(tempi):
            self.passed.append(self.passed[-1] + (end - begin) * tempo)

    def step(self, tick: int) -> int:
        if not self.step_seconds:
            return (2 * tick * self.steps_per_beat + self.ticks) // (2 * self.ticks)
        i = bisect_right(self.tempi, tick, key=lambda t: t[0]) - 1
        begin, tempo = self.tempi[i]
        microseconds = (self.passed[i] + (tick - begin) * tempo) / self.ticks
        return int(microseconds / (self.step_seconds * 1e6) + 0.5)


def write_midi(
    keys: np.ndarray, file: Path, steps_per_beat: int, step_seconds: float = 0.0
) -> None:
    """Writes a piano-roll as a MIDI file of one piano; :func:`read_midi` gives it back exactly.

    A key that is held for several steps is one note. Steps in beats are written at 120 beats a
    minute; a step in seconds is one beat of that length, to the microsecond.

    Args:
        keys: True or 1 where a key is held. Shape ``(time, 88)``.
        file: Its name.
        steps_per_beat: Steps of a quarter note.
        step_seconds: Or seconds of a step, below 16.7; 0 is beats.
    """
    mido = mido_module()
    tempo = round(step_seconds * 1e6) or 500_000
    steps_per_beat = 1 if step_seconds else steps_per_beat
    edges = np.diff(np.pad(keys.astype(np.int8), ((1, 1), (0, 0))), axis=0)
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=tempo)])
    last = 0
    for step, changes in enumerate(edges):
        for key in np.flatnonzero(changes).tolist():
            kind = "note_on" if changes[key] > 0 else "note_off"
            time, last = (step - last) * TICKS, step
            track.append(mido.Message(kind, note=LOWEST + key, velocity=64, time=time))
    track.append(mido.MetaMessage("end_of_track", time=(len(keys) - last) * TICKS))
    mido.MidiFile(type=0, ticks_per_beat=TICKS * steps_per_beat, tracks=[track]).save(file)
