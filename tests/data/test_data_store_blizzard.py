"""From audio files to a store, and Blizzard as it is trained on."""

import json
import os
import zipfile

import numpy as np
import pytest
import soundfile
import torch
from audio_files import encoded, write_files

from zforcing_pyro.data import corpus
from zforcing_pyro.data.formats.audio_files import AudioFiles, tree
from zforcing_pyro.data.formats.waves import resampled
from zforcing_pyro.data.store.prepare import prepare

NUM = 40


def noise(i: int, samples: int | None = None) -> np.ndarray:
    """Of recording ``i``, int16, louder with each."""
    rng = np.random.default_rng(i)
    return (rng.normal(2, 100 + i, samples or 300 + 37 * i)).astype(np.int16)


NAMES = [f"wavn/CB-{'ABCD'[i % 4]}-{i:02d}.wav" for i in range(NUM)]
WAVES = {name: noise(i) for i, name in enumerate(NAMES)}


@pytest.fixture(scope="module")
def wavs(tmp_path_factory):
    """A folder of segmented recordings with their text beside them."""
    files = {name: encoded(wave) for name, wave in WAVES.items()}
    return write_files(tmp_path_factory.mktemp("blizzard"), files | {"prompts.gui": b"( CB 01 )"})


@pytest.fixture(scope="module")
def data_dir(wavs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    prepare(AudioFiles(wavs, "blizzard"), folder / "blizzard", 5000)
    return folder


def test_blizzard_is_split_and_normalised(data_dir):
    data = corpus("blizzard", data_dir=data_dir, frame=50)
    assert data.found()
    names = {split: data.waves(split)[0].names for split in ("train", "valid", "test")}
    assert {split: len(part) for split, part in names.items()} == {
        "train": 36,
        "valid": 2,
        "test": 2,
    }
    assert sorted(name for part in names.values() for name in part) == sorted(NAMES)
    samples = np.concatenate([WAVES[name] for name in names["train"]])
    assert data.scale == pytest.approx((samples.mean(), samples.std()), rel=1e-14)
    for split, part in names.items():
        sequences = data.split(split)
        for i, name in enumerate(part):
            wave = WAVES[name][: len(WAVES[name]) // 50 * 50].astype(np.float32)
            expected = (wave - np.float32(samples.mean())) / np.float32(samples.std())
            np.testing.assert_array_equal(sequences[i].x, expected.reshape(-1, 50))
    assert data.sample_rate == 16_000 and data.x_dim == 50


def test_the_split_is_that_of_the_names_and_the_seed(data_dir):
    def test_names(**options):
        return corpus("blizzard", data_dir=data_dir, **options).waves("test")[0].names

    assert test_names() == ["wavn/CB-A-12.wav", "wavn/CB-B-05.wav"]
    assert test_names(seed=1) != test_names()
    assert corpus("blizzard", data_dir=data_dir / "blizzard").waves("test")[0].names == test_names()


def test_a_written_sequence_is_the_recording(data_dir, tmp_path):
    data = corpus("blizzard", data_dir=data_dir, frame=10)
    name, x = data.waves("valid")[0].names[0], data.split("valid")[0].x
    data.write(x, tmp_path / "a.wav")
    found, rate = soundfile.read(tmp_path / "a.wav", dtype="int16")
    assert rate == 16_000
    np.testing.assert_array_equal(found, WAVES[name][: x.numel()])


def test_a_run_keeps_its_scale_and_notices_other_recordings(data_dir, wavs, tmp_path):
    facts = json.loads(json.dumps(corpus("blizzard", data_dir=data_dir).facts()))
    again = corpus("blizzard", data_dir=data_dir)
    again.restore(facts)
    assert again.facts() == facts
    files = {name: (wavs / name).read_bytes() for name in NAMES[1:]}
    prepare(AudioFiles(write_files(tmp_path / "fewer", files), "blizzard"), tmp_path / "store")
    other = corpus("blizzard", data_dir=tmp_path / "store")
    other.restore(facts)
    with pytest.warns(UserWarning, match="has other recordings than when the run was trained"):
        other.split("test")


def test_without_a_store_it_is_said_how_to_prepare_one(tmp_path, wavs):
    data = corpus("blizzard", data_dir=tmp_path)
    assert not data.found()
    with pytest.raises(FileNotFoundError, match="zforcing data prepare blizzard --path"):
        data.split("train")
    prepare(AudioFiles(wavs, "audio"), tmp_path / "blizzard")
    with pytest.raises(ValueError, match="must be prepared from blizzard, got audio"):
        corpus("blizzard", data_dir=tmp_path).split("train")


def test_a_folder_of_ones_own_is_the_same_streamed_and_in_memory(wavs, data_dir, tmp_path):
    prepare(AudioFiles(wavs, "audio"), tmp_path / "store", 5000)
    streamed = corpus("audio", path=str(tmp_path / "store"), frame=20)
    in_memory = corpus("audio", path=str(wavs), frame=20)
    assert streamed.facts() == in_memory.facts()
    for split in ("train", "valid", "test"):
        windows = streamed.split(split).windows(7), in_memory.split(split).windows(7)
        for (x, start), (wanted, wanted_start) in zip(*windows, strict=True):
            torch.testing.assert_close(x, wanted, rtol=0, atol=0)
            assert (start is None) == (wanted_start is None)


def test_files_are_resampled_mixed_and_read_from_archives(tmp_path):
    stereo = np.stack([noise(1, 4410), noise(2, 4410)], 1)
    files = {
        "a/one.FLAC": encoded(noise(0, 4410), 44_100, "FLAC"),
        "a/two.wav": encoded(stereo, 44_100),
        "b/three.wav": encoded(noise(3, 1600)),
        "b/three.txt": b"words",
    }
    with zipfile.ZipFile(tmp_path / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    source = AudioFiles(tmp_path / "all.zip", "audio", 16_000, mono=True)
    store = prepare(source, tmp_path / "store", 1600, workers=2)
    assert store.names == ["a/one.FLAC", "a/two.wav", "b/three.wav"]
    assert [len(wave) for wave in store] == [source.samples(name) for name in store.names]
    np.testing.assert_array_equal(store[0], resampled(noise(0, 4410), 44_100, 16_000))
    np.testing.assert_array_equal(store[2], noise(3, 1600))
    assert store.sample_rate == 16_000


def test_a_worker_opens_an_archive_itself(wavs, monkeypatch):
    own = tree(str(wavs))
    assert tree(str(wavs)) is own
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert tree(str(wavs)) is not own


WAV = encoded(noise(0, 400))


@pytest.mark.parametrize(
    ("files", "options", "said"),
    [
        ({"a.wav": WAV, "b.wav": WAV[:-100]}, {}, "b.wav' must have the 700 bytes|b.wav' must"),
        ({"a.wav": WAV, "b.wav": b""}, {}, "b.wav' must be an audio file, got an empty file"),
        ({"a.wav": WAV, "b.wav": b"RIFFhello"}, {}, "b.wav' must be audio that libsndfile reads"),
        ({"a.wav": WAV, "b.wav": encoded(noise(0, 9), 8000)}, {}, "b.wav' must have 16000 samples"),
        (
            {"a.wav": WAV, "b.wav": encoded(np.zeros((9, 2), np.int16))},
            {},
            "b.wav' must have one ch",
        ),
        ({"a.wav": WAV, "b.wav": encoded(noise(0, 400)[:0])}, {}, "b.wav' must have samples"),
        ({"a.wav": WAV, "A.WAV": WAV}, {}, "must not be the same recording"),
        ({"a.wav": WAV, "a.flac": WAV}, {}, "must not be the same recording"),
        ({"a.txt": b"words"}, {}, "'path' must have files .wav"),
        ({"a.wav": WAV}, {"sample_rate": 0}, "'sample_rate' must be positive, got 0"),
    ],
)
def test_what_cannot_be_prepared_is_named(tmp_path, files, options, said):
    write_files(tmp_path / "wavs", files)
    with pytest.raises(ValueError, match=said):
        prepare(AudioFiles(tmp_path / "wavs", "audio", **options), tmp_path / "store")


@pytest.mark.parametrize("content", [b"", b"RIFFhello", WAV[:-100], encoded(noise(0, 9), 8000)])
def test_what_cannot_be_prepared_is_skipped_when_that_is_asked_for(tmp_path, content):
    write_files(tmp_path / "wavs", {"a.wav": WAV, "b.wav": content, "c.wav": WAV})
    store = prepare(AudioFiles(tmp_path / "wavs", "audio"), tmp_path / "store", skip_broken=True)
    assert (store.names, store.skipped) == (["a.wav", "c.wav"], ["b.wav"])
