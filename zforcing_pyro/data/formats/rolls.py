"""Piano-rolls: the base class of music data sets, and MIDI files to rolls and back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..corpus import Corpus, Floor
from ..sequences import Sequence
from .floors import bernoulli_floor

NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
COLUMNS = 72  # of a roll in a terminal, beside the names of keys
LOWEST, NUM_KEYS = 21, 88  # MIDI note of the first key of a piano, and the number of keys
DRUMS = 9  # channel 10, as people count, whose notes are drums without a pitch
MAX_STEPS = 100_000  # of a file: more would fill the memory
SILENCE = 16  # beats after the last note that belong to a song; a longer silence is left out
TICKS = 120  # of a step in files that are written
OPERANDS = {8: 2, 9: 2, 10: 2, 11: 2, 12: 1, 13: 1, 14: 2} | {
    0xF1: 1, 0xF2: 2, 0xF3: 1, 0xF6: 0, **dict.fromkeys(range(0xF8, 0xFF), 0)
}  # fmt: skip
"""Bytes after a status: of a channel by its upper four bits, of the system by the status."""


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


def transposed(sequence: Sequence, most: int, rng: np.random.Generator) -> Sequence:
    """Returns a roll moved by up to ``most`` keys, up or down, drawn among moves that lose no key.

    Example:
        >>> roll = Sequence(torch.eye(88)[[0, 4]], None)
        >>> transposed(roll, 1, np.random.default_rng(3)).x.argmax(1).tolist()
        [1, 5]
    """
    frames = [frame for frame in sequence[:3] if frame is not None]
    used = torch.stack([(frame > 0).reshape(-1, NUM_KEYS).any(0) for frame in frames]).any(0)
    keys = used.nonzero().flatten().tolist() or [0]
    move = int(rng.integers(-min(most, keys[0]), min(most, NUM_KEYS - 1 - keys[-1]) + 1))
    moved = [None if frame is None else frame.roll(move, -1) for frame in sequence[:3]]
    return Sequence(*moved, sequence.scored)


class Roll(NamedTuple):
    """Content of a MIDI file."""

    keys: np.ndarray  # uint8, 1 where a key is held, (time, 88); without notes: no time
    outside: int  # notes that no piano has, left out
    cut: int = 0  # silent steps after the last note, left out


class Events(NamedTuple):
    """Events of a track that a roll needs, their times in ticks."""

    notes: list[tuple[int, int, int]]  # note, begin, end
    tempi: list[tuple[int, int]]  # time, microseconds of a beat
    end: int
    outside: int


def read_midi(content: bytes, name: str, steps_per_beat: int, step_seconds: float = 0.0) -> Roll:
    """Reads a MIDI file as a piano-roll: 1 where a key is held by any track that is not drums.

    A note covers the steps between its beginning and its end, both rounded, and at least one. The
    end of a note ends its key in its track and channel, however often that was struck; a note
    without an end lasts to the end of the track. The roll ends where the last track does, or with
    the last note if more than 16 beats of silence follow. Everything else in a file is skipped.
    Raises ValueError if notes are broken, or are not timed in beats, or steps are too many.

    Args:
        content: The file, of format 0 or 1, maybe in the RIFF shell of ``.rmi`` files.
        name: Name of the file, for an error.
        steps_per_beat: Steps of a quarter note, whatever the tempo.
        step_seconds: Or a step has this many seconds, as the file's tempi have it; 0 is beats.
    """
    try:
        ticks_per_beat, tracks = read_chunks(content)
        events = [read_track(track) for track in tracks]
    except (IndexError, ValueError) as error:
        reason = "a track that is cut short" if isinstance(error, IndexError) else error
        raise ValueError(f"'{name}' must be a MIDI file of notes in beats, got {reason}") from error
    notes = np.array([note for track in events for note in track.notes]).reshape(-1, 3).T
    outside = sum(track.outside for track in events)
    if not notes.size:
        return Roll(np.zeros((0, NUM_KEYS), np.uint8), outside)
    ends = max(track.end for track in events), notes[2].max()
    cuts = ends[0] > ends[1] + SILENCE * ticks_per_beat
    times = np.array([*ends, *notes[1], *notes[2]])
    if step_seconds:
        tempi = sorted((t for track in events for t in track.tempi), key=lambda tempo: tempo[0])
        seconds = seconds_at(times, [(0, 500_000), *tempi], ticks_per_beat)
        steps = (seconds / step_seconds + 0.5).astype(int)
    else:
        steps = (2 * times * steps_per_beat + ticks_per_beat) // (2 * ticks_per_beat)
    (end, last), (begins, afters) = steps[:2], steps[2:].reshape(2, -1)
    afters = np.maximum(afters, begins + 1)
    kept = last if cuts else end
    num_steps = max(kept, afters.max())
    if num_steps > MAX_STEPS:
        raise ValueError(f"'{name}' must be of at most {MAX_STEPS:,} steps, got {num_steps:,}")
    keys = np.zeros((num_steps, NUM_KEYS), np.uint8)
    for note, begin, after in zip(notes[0], begins, afters):
        keys[begin:after, note - LOWEST] = 1
    return Roll(keys, outside, int(end - kept))


def seconds_at(times: np.ndarray, tempi: list[tuple[int, int]], ticks_per_beat: int) -> np.ndarray:
    """Returns times in ticks as seconds; ``tempi`` (begin, microseconds of a beat) are in order."""
    begins, beats = np.array(tempi, dtype=float).T
    passed = np.cumsum([0.0, *np.diff(begins) * beats[:-1]])
    i = np.searchsorted(begins, times, side="right") - 1
    return (passed[i] + (times - begins[i]) * beats[i]) / ticks_per_beat / 1e6


def read_chunks(content: bytes) -> tuple[int, list[bytes]]:
    """Returns the ticks of a beat and the tracks; raises IndexError if a track is cut short."""
    if content[:4] == b"RIFF" and content[8:12] == b"RMID":
        content = dict(chunks(content[12:], "little")).get(b"data") or b""
    parts = list(chunks(content, "big"))
    header = parts[0][1] or b"" if parts and parts[0][0] == b"MThd" else b""
    if len(header) < 6:
        raise ValueError(f"{content[:4]!r} at its beginning")
    kind, _, ticks = np.frombuffer(header[:6], ">u2").tolist()
    if kind > 1:
        raise ValueError(f"format {kind}: tracks without a common time")
    if ticks & 0x8000:
        raise ValueError(f"SMPTE frames, {256 - (ticks >> 8)} a second")
    if not ticks:
        raise ValueError("0 ticks in a beat")
    tracks = [data for name, data in parts if name == b"MTrk"]
    if not tracks:
        raise ValueError("no track")
    if None in tracks:
        raise IndexError
    return ticks, tracks


def chunks(content: bytes, order: Literal["little", "big"]) -> Iterator[tuple[bytes, bytes | None]]:
    """Yields names and contents of chunks; None for the content of one that is cut short."""
    begin = 0
    while begin + 8 <= len(content):
        size = int.from_bytes(content[begin + 4 : begin + 8], order)
        end = begin + 8 + size
        yield content[begin : begin + 4], content[begin + 8 : end] if end <= len(content) else None
        begin = end + (size % 2 if order == "little" else 0)  # RIFF pads to even sizes


def read_track(data: bytes) -> Events:
    """Reads the notes and tempi of a track; raises IndexError if the track is cut short."""
    at, tick, status, outside = 0, 0, 0, 0
    notes: list[tuple[int, int, int]] = []
    tempi: list[tuple[int, int]] = []
    held: dict[tuple[int, int], int] = {}
    while at < len(data):
        delta, at = read_number(data, at)
        tick, byte = tick + delta, data[at]
        if byte in (0xF0, 0xF7, 0xFF):  # system exclusive, or a meta event with its kind
            kind = data[at + 1] if byte == 0xFF else None
            size, begin = read_number(data, at + (2 if byte == 0xFF else 1))
            at = begin + size
            if kind == 0x51 and size == 3 and any(data[begin:at]):
                tempi.append((tick, int.from_bytes(data[begin:at], "big")))
            if kind == 0x2F:
                break
            continue
        if byte >= 0xF0:
            if byte not in OPERANDS:
                raise ValueError(f"the status {byte:#x}")
            at += 1 + OPERANDS[byte]
            continue
        if byte >= 0x80:
            status, at = byte, at + 1
        if not status:
            raise ValueError("an event without a status")
        note, at = data[at], at + OPERANDS[status >> 4]
        velocity, key = data[at - 1], (status & 15, note)
        if status >> 4 not in (8, 9) or status & 15 == DRUMS:
            continue
        if note > 127:
            raise ValueError(f"the note {note}")
        if status >> 4 == 9 and velocity and 0 <= note - LOWEST < NUM_KEYS:
            held.setdefault(key, tick)
        elif status >> 4 == 9 and velocity:
            outside += 1
        elif key in held:
            notes.append((note, held.pop(key), tick))
    if at > len(data):
        raise IndexError
    notes += [(note, begin, tick) for (_, note), begin in held.items()]
    return Events(notes, tempi, tick, outside)


def read_number(data: bytes, at: int) -> tuple[int, int]:
    """Returns a number of 7 bits a byte, and the place after it; reverses :func:`coded`."""
    value = 0
    for byte in data[at : at + 4]:
        value, at = value << 7 | byte & 127, at + 1
        if byte < 128:
            return value, at
    raise IndexError


def write_midi(
    keys: np.ndarray, file: Path, steps_per_beat: int, step_seconds: float = 0.0
) -> None:
    """Writes a piano-roll, True or 1 where a key is held, ``(time, 88)``, as a MIDI file.

    :func:`read_midi` gives the roll back exactly, but for more than 16 silent beats at the end. A
    key that is held for several steps is one note. Steps in beats are written at 120 beats a
    minute; a step in seconds, below 16.7, is one beat of that length, to the microsecond.
    """
    tempo = round(step_seconds * 1e6) or 500_000
    ticks = TICKS * (1 if step_seconds else steps_per_beat)
    edges = np.diff(np.pad(keys.astype(np.int8), ((1, 1), (0, 0))), axis=0)
    track, last = bytearray(b"\0\xff\x51\x03" + tempo.to_bytes(3, "big")), 0
    for step, key in np.argwhere(edges).tolist():
        status = 0x90 if edges[step, key] > 0 else 0x80
        track += coded((step - last) * TICKS) + bytes([status, LOWEST + key, 64])
        last = step
    track += coded((len(keys) - last) * TICKS) + b"\xff\x2f\0"
    header = b"MThd" + b"".join(n.to_bytes(2, "big") for n in (0, 6, 0, 1, ticks))
    file.write_bytes(header + b"MTrk" + len(track).to_bytes(4, "big") + track)


def coded(number: int) -> bytes:
    """Returns a number in MIDI's code of 7 bits a byte, of which all but the last have bit 7."""
    code = [number & 127]
    while number := number >> 7:
        code.insert(0, number & 127 | 128)
    return bytes(code)
