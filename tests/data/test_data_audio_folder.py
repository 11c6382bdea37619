"""Recordings of one's own: which are train, valid and test, and how they may be broken."""

import json

import numpy as np
import pytest
import torch
from audio_files import encoded, wave, write_files, write_zip
from torch.testing import assert_close

from zforcing_pyro.data import AudioFolder, corpus
from zforcing_pyro.data.formats.waves import AudioFiles
from zforcing_pyro.data.store.prepare import prepare

SPLITS = ("train", "valid", "test")
WAVES = {f"{letter}.wav": wave(1000 + 50 * i) for i, letter in enumerate("abcdefghij")}
FILES = {name: encoded(samples, rate=8000) for name, samples in WAVES.items()}


def names_of(audio):
    """Names of the files of each split, by their lengths, each of which is another."""
    by_length = {len(samples) // 50: name for name, samples in WAVES.items()}
    return {s: [by_length[n] for n in audio.split(s).lengths.tolist()] for s in SPLITS}


@pytest.mark.parametrize("write", [write_files, write_zip])
def test_audio_files_are_dealt_at_random_and_always_the_same(tmp_path, write):
    path = str(write(tmp_path / "mine.zip", FILES | {"notes.txt": b"x", "cover.jpg": b"x"}))
    audio = corpus("audio", path="mine.zip", data_dir=tmp_path, frame=50)
    names = names_of(audio)
    assert audio.found() and [len(names[split]) for split in SPLITS] == [8, 1, 1]
    assert sorted(name for split in SPLITS for name in names[split]) == sorted(FILES)
    assert names_of(AudioFolder(path, frame=50)) == names
    assert names_of(AudioFolder(path, frame=50, seed=1)) != names
    halves = AudioFolder(path, frame=50, valid_share=0.3, test_share=0.2)
    assert [len(n) for n in names_of(halves).values()] == [5, 3, 2]
    assert audio.version == "10 files at 8,000 Hz, split at random (seed 0)"
    assert audio.title == "recordings of 'mine.zip'" and audio.sample_rate == 8000


@pytest.mark.parametrize("top", ["", "corpus/"])
def test_audio_folders_of_splits_are_kept(tmp_path, top):
    places = {"a.wav": "train", "b.wav": "test", "c.wav": "valid", "d.wav": "train/deeper"}
    files = {f"{top}{place}/{name}": FILES[name] for name, place in places.items()}
    audio = AudioFolder(str(write_zip(tmp_path / "a.zip", files)), frame=50)
    assert names_of(audio) == {"train": ["a.wav", "d.wav"], "valid": ["c.wav"], "test": ["b.wav"]}
    assert audio.version.endswith("split by folders")


def test_audio_options_and_folders_that_do_not_fit_are_named(tmp_path):
    mine = write_files(tmp_path / "mine", FILES)
    halved = write_files(tmp_path / "halved", {"train/a.wav": b"", "test/b.wav": b""})
    none = write_files(tmp_path / "none", {"a.txt": b"x", ".b.wav": b"x"})
    for path, options, message in (
        (mine, {"sample_rate": 0}, r"'sample_rate' must be in 1..768,000, got 0"),
        (mine, {"frame": 0}, "'frame' must be positive, got 0"),
        (mine, {"test_share": 0.5, "valid_share": 0.5}, "recordings of '.*mine' must be enough"),
        (halved, {"sample_rate": 8000}, "halved' must have recordings in each .* none in valid"),
        (none, {}, r"none' must have files .wav, .flac, .*, got none"),
    ):
        with pytest.raises(ValueError, match=message):
            AudioFolder(str(path), **options).split("train")


STEREO = encoded(np.stack([WAVES["a.wav"], WAVES["a.wav"]], axis=1), rate=8000)
ENDLESS = bytearray(encoded(wave(1000), 8000, "FLAC"))
ENDLESS[21] &= 0xF0
ENDLESS[22:26] = bytes(4)  # as an encoder that writes into a pipe leaves it
BROKEN = [  # name and content of a file, and the message
    ("a.wav", FILES["a.wav"][:-500], r"a.wav' must have the 2000 bytes that it"),
    ("a.wav", bytes(ENDLESS), r"a.wav' must be .* does not say how many samples"),
    ("a.wav", encoded(wave(9000), 8000, "MP3")[:900], r"a.wav' must have the"),
    ("j.wav", encoded(wave(900), 44100), r"j.wav' must have 8000 .* the others, got 44100; the"),
    ("a.wav", STEREO, r"a.wav' must have one channel, got 2; the option 'mono'"),
    ("a.wav", encoded(np.full(9, np.nan), 8000), r"a.wav' must have samples in -1..1, got"),
    ("a.wav", encoded(wave(900), 10**9), r"a.wav' must be audio .* in 1..768,000, got 1000000000"),
    ("a.flac", b"", r"a.wav' and .*a.flac' must not be the same recording"),
]


def test_audio_that_is_broken_is_named(tmp_path):
    for i, (name, content, message) in enumerate(BROKEN):
        write = write_zip if i % 2 else write_files
        path = write(tmp_path / f"{i}.zip", FILES | {name: content})
        audio = AudioFolder(str(path), frame=50)
        with pytest.raises(ValueError, match=message) as error:
            for split in SPLITS:
                audio.split(split)
        assert f"'{path}/" in str(error.value) and "\n" not in str(error.value)
    (tmp_path / "0.zip" / "a.wav").unlink()
    (tmp_path / "0.zip" / "a.wav").symlink_to(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match=r"a.wav'"):
        names_of(AudioFolder(str(tmp_path / "0.zip"), frame=50))


def test_audio_that_is_broken_is_left_out_on_request(tmp_path):
    broken = {"a.wav": b"", "d.wav": b"hello", "f.wav": FILES["f.wav"][:-500]}
    path = str(write_files(tmp_path / "mine", FILES | broken))
    options = {"frame": 50, "valid_share": 0.3, "test_share": 0.3}
    audio = AudioFolder(path, skip_broken=True, **options)
    with pytest.warns(UserWarning, match="recordings, the first .* are broken and are") as warned:
        names = names_of(audio)
    assert sum(int(str(w.message).split()[0]) for w in warned) == 3
    intact = names_of(AudioFolder(str(write_files(tmp_path / "intact", FILES)), **options))
    # Nothing moves to another split.
    assert names == {s: [n for n in intact[s] if n not in broken] for s in SPLITS}
    write_files(tmp_path / "mine", {"j.wav": encoded(wave(900), 44100)})
    with pytest.raises(ValueError, match=r"j.wav' must have 8000 .* got 44100"):
        names_of(AudioFolder(path, frame=50, skip_broken=True))
    write_files(tmp_path / "mine", dict.fromkeys(FILES, b""))
    with pytest.raises(ValueError, match="must be an audio file, got an empty file"):
        AudioFolder(path, frame=50, sample_rate=8000, skip_broken=True).split("train")


@pytest.mark.parametrize("score_first", [True, False])
def test_audio_store_is_as_the_files_that_it_was_prepared_from(tmp_path, score_first):
    folder = write_files(tmp_path / "mine", FILES)
    prepare(AudioFiles(folder, "mine"), tmp_path / "store")
    options = {"frame": 50, "score_first": score_first}
    stored, read = (AudioFolder(str(p), **options) for p in (tmp_path / "store", folder))
    for split in SPLITS:
        pairs = zip(stored.split(split).windows(7), read.split(split).windows(7), strict=True)
        for (x, start, *_), (wanted, wanted_start, *_) in pairs:
            assert_close(x, wanted, rtol=0, atol=0)
            assert (start is None) == (wanted_start is None)
            assert start is None or torch.equal(start, wanted_start)
    assert stored.facts() == read.facts()
    with pytest.raises(ValueError, match=r"'sample_rate' must be .*store', 8000, got 16000"):
        AudioFolder(str(tmp_path / "store"), sample_rate=16000).split("train")


def test_audio_run_notices_other_files(tmp_path):
    """Fault W10."""
    path = str(write_files(tmp_path / "mine", FILES))
    first, again = AudioFolder(path, frame=50), AudioFolder(path, frame=50)
    fingerprint = first.fingerprint()
    again.restore(json.loads(json.dumps(first.facts())))
    again.check_unchanged(fingerprint)
    assert_close(again.split("test")[0].x, first.split("test")[0].x, rtol=0, atol=0)
    write_files(tmp_path / "mine", {"notes.txt": b"not read"})
    AudioFolder(path).check_unchanged(fingerprint)
    for change in ({"k.wav": encoded(wave(800), 8000)}, {"a.wav": FILES["b.wav"]}):
        write_files(tmp_path / "mine", change)
        with pytest.raises(ValueError, match="training: 'mine' has other"):
            AudioFolder(path).check_unchanged(fingerprint)
        write_files(tmp_path / "mine", FILES)
        (tmp_path / "mine" / "k.wav").unlink(missing_ok=True)
