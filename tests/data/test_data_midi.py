"""MIDI files to piano-rolls and back; mido is the independent reader and writer."""

import io
from itertools import chain

import mido
import numpy as np
import pytest
import torch
from audio_files import write_files, write_zip

from zforcing_pyro.data import MidiFiles, Pianoroll, PianorollSRNN
from zforcing_pyro.data.formats.rolls import read_midi, write_midi

SPLITS = ("train", "valid", "test")


def midi(*tracks, ticks=480, kind=1):
    """A file that mido writes, of tracks of (ticks since the last, message)."""
    made = [mido.MidiTrack(m.copy(time=delta) for delta, m in events) for events in tracks]
    file = io.BytesIO()
    mido.MidiFile(type=kind, ticks_per_beat=ticks, tracks=made).save(file=file)
    return file.getvalue()


def on(delta, note, channel=0, velocity=80):
    return delta, mido.Message("note_on", channel=channel, note=note, velocity=velocity)


def off(delta, note, channel=0):
    return delta, mido.Message("note_off", channel=channel, note=note)


def tempo(delta, microseconds):
    return delta, mido.MetaMessage("set_tempo", tempo=microseconds)


def held(content, steps_per_beat=4, **options):
    """The number of steps, and the steps in which each note is held."""
    keys = read_midi(content, "song.mid", steps_per_beat, **options).keys
    return len(keys), {
        21 + k: np.flatnonzero(keys[:, k]).tolist() for k in np.flatnonzero(keys.any(0))
    }


def song(seed, steps=40, density=0.1):
    return (np.random.default_rng(seed).random((steps, 88)) < density).astype(np.uint8)


ROLLS = (
    song(0, density=0.5),
    song(1, density=0.02),
    song(2, steps=1),
    np.eye(88, dtype=np.uint8)[[0, 0, 87, 87, 0]],
    np.ones((7, 88), np.uint8),
    np.pad(song(3, steps=5), ((3, 6), (0, 0))),  # silence around
)


@pytest.mark.parametrize("step", [(4, 0.0), (24, 0.0), (1, 0.3), (1, 0.0217)])
def test_rolls_come_back_exactly_and_are_what_mido_reads(step, tmp_path):
    for roll in ROLLS:
        write_midi(roll, tmp_path / "song.mid", *step)
        keys, outside, cut = read_midi((tmp_path / "song.mid").read_bytes(), "song.mid", *step)
        assert keys.dtype == np.uint8 and keys.shape == roll.shape
        assert (keys == roll).all() and outside == cut == 0
        written = mido.MidiFile(tmp_path / "song.mid")
        assert written.length == pytest.approx(len(roll) * (step[1] or 0.5 / step[0]), rel=1e-5)
    roll = np.zeros((6, 88), np.uint8)
    roll[1:4, 39] = roll[2:3, 43] = 1
    write_midi(roll, tmp_path / "song.mid", *step)
    (track,) = mido.MidiFile(tmp_path / "song.mid").tracks
    assert [(m.type, m.note, m.time) for m in track if not m.is_meta] == [
        ("note_on", 60, 120), ("note_on", 64, 120), ("note_off", 64, 120), ("note_off", 60, 120)
    ]  # fmt: skip


def test_rolls_of_the_named_corpora_are_written_in_their_steps_and_seen_in_a_terminal(tmp_path):
    music = [Pianoroll("jsb"), Pianoroll("nottingham"), PianorollSRNN("jsb")]
    for corpus_, seconds in zip(music, (0.5, 0.25, 0.3)):
        corpus_.write(torch.ones(10, 88), tmp_path / "song.mid")
        assert mido.MidiFile(tmp_path / "song.mid").length == pytest.approx(10 * seconds)
    roll = torch.zeros(80, 88)
    roll[0, 39] = roll[1, 40] = roll[2, 39:41] = roll[79, 0] = 1  # C4, C#4, both, and A0 late
    text = music[0].as_text(roll).splitlines()
    assert [line.rstrip() for line in text] == [" C#4 | ▄▄", "  B3 |▀ ▀", "     8 more steps"]
    assert max(map(len, music[0].as_text(torch.ones(200, 88)).splitlines())) <= 80
    assert music[0].as_text(torch.zeros(3, 88)) == "  A0 |   "


def test_midi_tracks_are_taken_together():
    end = (480, mido.MetaMessage("end_of_track"))
    for second, expected in (  # the second track, and the steps of the notes of both
        ([on(240, 64), on(480, 64, velocity=0)], {60: [0, 1, 2, 3], 64: [2, 3, 4, 5]}),
        ([on(0, 38, channel=9), off(480, 38, channel=9)], {60: [0, 1, 2, 3]}),  # drums
        ([on(480, 60, channel=1), off(480, 60, channel=1)], {60: list(range(8))}),
        ([on(240, 60), off(120, 60)], {60: [0, 1, 2, 3]}),  # tracks do not end each other's notes
        ([on(240, 64)], {60: [0, 1, 2, 3], 64: [2]}),  # nobody ends it: at least a step
        ([on(240, 64), end], {60: [0, 1, 2, 3], 64: [2, 3, 4, 5]}),
        ([on(170, 64), off(200, 64)], {60: [0, 1, 2, 3], 64: [1, 2]}),  # 1.4 to 3.1
    ):
        steps, notes = held(midi([on(0, 60), off(480, 60)], second))
        assert notes == expected and steps == 1 + max(max(v) for v in expected.values())


def test_midi_notes_struck_twice_tempi_and_notes_that_no_piano_has():
    assert held(midi([on(0, 60), on(240, 60), off(240, 60), on(480, 62), off(480, 62)])) == (
        12, {60: [0, 1, 2, 3], 62: [8, 9, 10, 11]}
    )  # fmt: skip
    tempi = [tempo(0, 1_000_000), tempo(480, 250_000)]
    content = midi(tempi, [on(0, 60), off(480, 60), on(0, 64), off(960, 64)])
    assert held(content, 1) == (3, {60: [0], 64: [1, 2]})  # beats have no tempo
    # One beat of a second, two of a quarter of one.
    assert held(content, step_seconds=0.25) == (6, {60: [0, 1, 2, 3], 64: [4, 5]})
    # Changes are in order of time, whatever track they are in.
    late, early = [tempo(480, 250_000)], [tempo(0, 1_000_000)]
    assert held(midi(late, early, [on(0, 60), off(960, 60)]), step_seconds=0.25)[0] == 5
    assert held(midi([on(0, 60), off(960, 60)]), step_seconds=0.1)[0] == 10  # 120 a minute
    content = midi([on(0, 20), on(0, 21), on(0, 108), on(0, 109), off(480, 21), off(0, 108)])
    assert read_midi(content, "song.mid", 4).outside == 2
    assert held(content) == (4, {21: [0, 1, 2, 3], 108: [0, 1, 2, 3]})
    assert held(midi([on(0, 36, channel=9), off(96, 36, channel=9)])) == (0, {})


def raw(*events, division=96, header=b""):
    """A file of one track, byte by byte, from pairs of ticks (below 128) and an event."""
    data = b"".join(bytes([ticks]) + event for ticks, event in events)
    numbers = (0, 6 + len(header), 0, 1, division)
    start = b"MThd" + b"".join(n.to_bytes(2, "big") for n in numbers) + header
    return start + chunk(b"MTrk", data)


def chunk(name, data, order="big"):
    return name + len(data).to_bytes(4, order) + data


ON, OFF = bytes([0x90, 60, 64]), bytes([0x80, 60, 0])
NEXT = [(0, bytes([0x90, 62, 64])), (96, bytes([0x80, 62, 0])), (0, b"\xff\x2f\0")]
SONG = [(0, ON), (96, OFF), *NEXT]
PLAIN = raw(*SONG)
ODD = {  # fault C8: files that players play; each is a beat of C4 and a beat of D4
    "plain": PLAIN,
    "18 flats": raw((0, b"\xff\x59\2\xee\1"), *SONG),
    "tempo 0": raw((0, b"\xff\x51\3\0\0\0"), *SONG),
    "text": raw((0, b"\xff\3\5" + "Für!".encode()), *SONG),
    "controller 255": raw((0, bytes([0xB0, 7, 255])), *SONG),
    "program, bend, pressure": raw((0, b"\xc0\5"), (0, b"\xe0\0\x40"), (0, b"\xd0\1"), *SONG),
    "exclusive": raw((0, b"\xf0\3\x43\x12\xf7"), (0, b"\xf7\1\0"), *SONG),
    "clock, song position": raw((0, b"\xf8"), (0, b"\xf2\0\0"), *SONG),
    "velocity 200": raw((0, bytes([0x90, 60, 200])), (96, OFF), *NEXT),
    "running status": raw((0, ON), (96, b"\x3c\0"), (0, b"\x3e\x40"), (96, b"\x3e\0")),
    "no end": raw(*SONG[:-1]),
    "late end": raw(*SONG[:-1], *[(127, b"\xff\x51\3\7\xa1\x20")] * 60),
    "long header": raw(*SONG, header=b"\0\0"),
    "other chunks": PLAIN[:14] + chunk(b"XFIH", b"abc") + PLAIN[14:] + chunk(b"junk", b"") + b"\0",
    "more tracks said": PLAIN[:11] + b"\x09" + PLAIN[12:],
    "RIFF": chunk(b"RIFF", b"RMID" + chunk(b"DISP", b"x", "little") + b"\0"
                  + chunk(b"data", PLAIN, "little"), "little"),
}  # fmt: skip


def test_midi_reads_what_players_play():
    for name, content in ODD.items():
        assert held(content) == (8, {60: [0, 1, 2, 3], 62: [4, 5, 6, 7]}), name
        cut = read_midi(content, "song.mid", 4).cut
        assert cut == (round(60 * 127 / 24) if name == "late end" else 0), name  # fault W18


def test_midi_that_is_broken_is_named():
    for content, message in (
        (b"", "got b'' at its beginning"),
        (PLAIN[:-6], "got a track that is cut short"),
        (raw((0, b"\x3c\x40")), "got an event without a status"),
        (PLAIN.replace(b"\x90", b"\xf5"), "got the status 0xf5"),
        (PLAIN.replace(bytes([0x90, 60]), bytes([0x90, 200])), "got the note 200"),
        (midi([on(0, 60)], [on(0, 62)], kind=2), "got format 2: tracks without a common time"),
        (raw(*SONG, division=0xE728), "got SMPTE frames, 25 a second"),
        (raw(*SONG, division=0), "got 0 ticks in a beat"),
        (midi([on(0, 60), off(2**28 - 1, 60)]), "at most 100,000 steps, got 2,236,962"),
    ):
        with pytest.raises(ValueError, match=f"'x/song.mid' .*{message}") as error:
            read_midi(content, "x/song.mid", 4)
        assert "\n" not in str(error.value)


def test_midi_that_is_cut_short_or_damaged_is_read_or_named():
    content, rng, refused = midi([on(0, 60), off(480, 60)] * 20), np.random.default_rng(0), 0
    damaged = [content[:end] for end in range(0, len(content), 3)]
    for position in rng.integers(0, len(content), 200):
        damaged.append(bytearray(content))
        damaged[-1][position] ^= 1 << rng.integers(8)
    for broken in damaged:
        try:
            keys = read_midi(bytes(broken), "song.mid", 4).keys
            assert keys.shape[1] == 88 and len(keys) <= 100_000
        except ValueError as error:
            assert "'song.mid'" in str(error)
            refused += 1
    assert len(damaged) > refused > 40


@pytest.fixture
def folder(tmp_path):
    """Ten songs in folders, and files of other kinds."""
    write_files(tmp_path / "music", {"README.txt": b"songs", "a/x": b"", "b/x": b""})
    for i in range(10):
        file = tmp_path / "music" / f"{'ab'[i % 2]}" / f"{i}{['.mid', '.MID', '.midi'][i % 3]}"
        write_midi(song(i, steps=10 + i), file, 4)
    return tmp_path / "music"


def lengths(music):
    return {split: music.split(split).lengths.tolist() for split in SPLITS}


def test_midi_songs_of_a_folder_or_an_archive_are_split_by_the_seed(folder, tmp_path):
    music = MidiFiles(folder)
    songs = lengths(music)
    assert music.found() and [len(v) for v in songs.values()] == [8, 1, 1]
    assert sorted(chain(*songs.values())) == list(range(10, 20))
    files = {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*.*")}
    write_zip(tmp_path / "music.zip", files)
    assert lengths(MidiFiles("music.zip", data_dir=tmp_path)) == songs
    assert len({str(lengths(MidiFiles(folder, seed=seed))) for seed in range(5)}) > 2
    x = music.split("test")[0].x
    assert x.dtype == torch.float32 and (x.numpy() == song(len(x) - 10, steps=len(x))).all()
    assert lengths(MidiFiles(folder, steps_per_beat=8))["test"] == [2 * len(x)]
    assert music.floor().nats_per_step > 0 and MidiFiles(folder).version == music.version


def test_midi_left_out_is_counted_once(folder):
    outside, drums = [on(0, 60), on(0, 10), on(0, 120), off(480, 60)], [on(0, 38, channel=9)]
    files = dict.fromkeys(("0.mid", "1.mid"), midi(outside))
    files |= {f"drums{i}.mid": midi(drums) for i in range(3)}
    write_files(folder, files | {"late.mid": ODD["late end"], "a/0.mid": b""})
    with pytest.raises(ValueError, match=f"'{folder}/a/0.mid' must be a MIDI file"):
        MidiFiles(folder).split("train")
    with pytest.warns(UserWarning) as warned:
        music = MidiFiles(folder, skip_broken=True)
        assert sum(map(len, lengths(music).values())) == 12
    assert [str(w.message) for w in warned] == [
        f"left out: {what}, the first '{folder}/{name}'"
        for what, name in (
            ("4 notes outside of MIDI 21..108, in files: 2", "0.mid"),
            ("318 silent steps after the last note, in files: 1", "late.mid"),
            ("files without a note of a piano: 3", "drums0.mid"),
            ("broken files: 1", "a/0.mid"),
        )
    ]


def test_midi_paths_and_options_that_do_not_fit_are_named(tmp_path):
    write_midi(song(0), tmp_path / "one.mid", 4)
    for options, message in (
        ({}, f"MIDI files in '{tmp_path}' must be enough .* got 1"),
        ({"steps_per_beat": 0}, r"'steps_per_beat' must be in 1\.\.100, got 0"),
        ({"step_seconds": -1.0}, "'step_seconds' must be 0 or in"),
    ):
        with pytest.raises(ValueError, match=message):
            MidiFiles(tmp_path, **options).split("train")
