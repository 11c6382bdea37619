"""Piano-rolls from MIDI files and back."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

LOWEST, NUM_KEYS = 21, 88
"""MIDI note of the first key of a piano, and the number of keys."""
DRUMS = 9
"""Channel 10, as people count, whose notes are drums without a pitch."""
MAX_STEPS = 100_000
"""Most steps of a file; one that says it lasts for weeks is broken, and would fill the memory."""
SILENCE = 16
"""Beats after the last note that belong to a song; a longer silence is left out."""
TICKS = 120
"""Ticks of a step in files that are written."""
OPERANDS = {8: 2, 9: 2, 10: 2, 11: 2, 12: 1, 13: 1, 14: 2} | {
    0xF1: 1, 0xF2: 2, 0xF3: 1, 0xF6: 0, **dict.fromkeys(range(0xF8, 0xFF), 0)
}  # fmt: skip
"""Bytes after a status: of a channel by its upper four bits, of the system by the status."""


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

    A note covers the steps between its beginning and its end, both rounded to a whole step, and
    at least one. A roll does not show that a note is struck again: two notes of a key of which one
    begins where the other ends are one long one. The end of a note (a note-on of velocity 0 as
    well) ends its key in its track and channel, however often that was struck; a note without an
    end lasts to the end of the track. Pedals are not read. The roll ends where the last track
    does, or with the last note if more than 16 beats of silence follow. Everything else in a file
    is skipped, broken or not: other events, other chunks, the RIFF shell of ``.rmi`` files.

    Args:
        content: The file, of format 0 or 1.
        name: Name of the file, for an error.
        steps_per_beat: Steps of a quarter note, whatever the tempo.
        step_seconds: Or a step has this many seconds, as the file's tempi have it; 0 is beats.

    Raises:
        ValueError: If the file is cut short or broken where notes are, of format 2, not timed in
            beats, or of more than 100,000 steps.
    """
    ticks_per_beat, tracks = read_chunks(content, name)
    try:
        events = [read_track(track) for track in tracks]
    except IndexError as error:
        raise ValueError(f"'{name}' must be a MIDI file, got a track that is cut short") from error
    except ValueError as error:
        raise ValueError(f"'{name}' must be a MIDI file, got {error}") from error
    notes = [note for track in events for note in track.notes]
    outside = sum(track.outside for track in events)
    if not notes:
        return Roll(np.zeros((0, NUM_KEYS), np.uint8), outside)
    tempi = sorted((t for track in events for t in track.tempi), key=lambda tempo: tempo[0])
    step = clock(ticks_per_beat, [(0, 500_000), *tempi], steps_per_beat, step_seconds)
    spans = [(note, step(begin), step(end)) for note, begin, end in notes]
    end, last = max(track.end for track in events), max(end for *_, end in notes)
    kept = step(end if end <= last + SILENCE * ticks_per_beat else last)
    num_steps = max(kept, *(max(end, begin + 1) for _, begin, end in spans), 1)
    if num_steps > MAX_STEPS:
        raise ValueError(f"'{name}' must be of at most {MAX_STEPS:,} steps, got {num_steps:,}")
    keys = np.zeros((num_steps, NUM_KEYS), np.uint8)
    for note, begin, end_ in spans:
        keys[begin : max(end_, begin + 1), note - LOWEST] = 1
    return Roll(keys, outside, step(end) - kept)


def read_chunks(content: bytes, name: str) -> tuple[int, list[bytes]]:
    """Returns the ticks of a beat and the tracks of a MIDI file.

    Raises:
        ValueError: If there is no header or no track, a track is cut short, or the file is of
            format 2 or not timed in beats.
    """
    if content[:4] == b"RIFF" and content[8:12] == b"RMID":
        content = dict(chunks(content[12:], "little")).get(b"data") or b""
    parts = list(chunks(content, "big"))
    header = parts[0][1] or b"" if parts and parts[0][0] == b"MThd" else b""
    if len(header) < 6:
        raise ValueError(f"'{name}' must be a MIDI file, got {content[:4]!r} at its beginning")
    kind, _, ticks = (int.from_bytes(header[i : i + 2], "big") for i in (0, 2, 4))
    if kind not in (0, 1):
        raise ValueError(
            f"'{name}' must be of MIDI format 0 or 1, got {kind}: tracks without a common time"
        )
    if ticks & 0x8000 or not ticks:
        got = f"SMPTE frames, {256 - (ticks >> 8)} a second" if ticks else "0 ticks in a beat"
        raise ValueError(f"'{name}' must be timed in beats, got {got}")
    tracks = [data for kind, data in parts if kind == b"MTrk"]
    if not tracks:
        raise ValueError(f"'{name}' must be a MIDI file with a track, got none")
    if None in tracks:
        raise ValueError(f"'{name}' must be a MIDI file, got a track that is cut short")
    return ticks, tracks


def chunks(content: bytes, order: str) -> Iterator[tuple[bytes, bytes | None]]:
    """Yields names and contents of chunks; None for the content of one that is cut short."""
    begin = 0
    while begin + 8 <= len(content):
        size = int.from_bytes(content[begin + 4 : begin + 8], order)
        end = begin + 8 + size
        yield content[begin : begin + 4], content[begin + 8 : end] if end <= len(content) else None
        begin = end + (size % 2 if order == "little" else 0)  # RIFF pads to even sizes


def read_track(data: bytes) -> Events:
    """Reads the notes and tempi of a track.

    Raises:
        IndexError: If the track is cut short.
        ValueError: If a status or a note is impossible.
    """
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
        if byte >= 0xF0 and byte not in OPERANDS:
            raise ValueError(f"the status {byte:#x}")
        if byte >= 0xF0:
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


def clock(
    ticks_per_beat: int, tempi: list[tuple[int, int]], steps_per_beat: int, step_seconds: float
) -> Callable[[int], int]:
    """Returns the function from ticks to the nearest step.

    Args:
        ticks_per_beat: Ticks of a beat in the file.
        tempi: Ticks, and microseconds of a beat from each on; sorted by ticks.
        steps_per_beat, step_seconds: As of :func:`read_midi`.
    """
    passed = [0]  # microseconds times ticks of a beat, at each change of the tempo
    for (begin, tempo), (end, _) in pairwise(tempi):
        passed.append(passed[-1] + (end - begin) * tempo)

    def step(tick: int) -> int:
        if not step_seconds:
            return (2 * tick * steps_per_beat + ticks_per_beat) // (2 * ticks_per_beat)
        i = bisect_right(tempi, tick, key=lambda tempo: tempo[0]) - 1
        begin, tempo = tempi[i]
        microseconds = (passed[i] + (tick - begin) * tempo) / ticks_per_beat
        return int(microseconds / (step_seconds * 1e6) + 0.5)

    return step


def write_midi(
    keys: np.ndarray, file: Path, steps_per_beat: int, step_seconds: float = 0.0
) -> None:
    """Writes a piano-roll as a MIDI file of one piano.

    :func:`read_midi` gives the roll back exactly, but for more than 16 silent beats at the end. A
    key that is held for several steps is one note. Steps in beats are written at 120 beats a
    minute; a step in seconds is one beat of that length, to the microsecond.

    Args:
        keys: True or 1 where a key is held. Shape ``(time, 88)``.
        file: The file.
        steps_per_beat: Steps of a quarter note.
        step_seconds: Or seconds of a step, below 16.7; 0 is beats.
    """
    tempo = round(step_seconds * 1e6) or 500_000
    ticks = TICKS * (1 if step_seconds else steps_per_beat)
    edges = np.diff(np.pad(keys.astype(np.int8), ((1, 1), (0, 0))), axis=0)
    track, last = bytearray(b"\0\xff\x51\x03" + tempo.to_bytes(3, "big")), 0
    for step, changes in enumerate(edges):
        for key in np.flatnonzero(changes).tolist():
            status = 0x90 if changes[key] > 0 else 0x80
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
