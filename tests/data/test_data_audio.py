"""Waves as sequences of frames, what audio data sets make of them, and the formats of files."""

import math
import pickle
import sys

import numpy as np
import pytest
import soundfile
import torch
from audio_files import encoded, sphere, wave, write_files
from torch.testing import assert_close

from zforcing_pyro.data import Recordings, Sequences
from zforcing_pyro.data.formats.audio import AudioCorpus, Listing
from zforcing_pyro.data.formats.tree import Tree
from zforcing_pyro.data.formats.waves import Waves, decode_audio, read_waves

LENGTHS = [11, 4, 9]  # samples; in frames of 2: 5, 2 and 4
RAMPS = [np.arange(100 * i, 100 * i + n, dtype=np.int16) for i, n in enumerate(LENGTHS)]
MEAN, STD = 3.0, 0.5


@pytest.mark.parametrize("score_first", [True, False])
def test_recordings_are_sequences_that_are_cut_on_reading(score_first):
    labels = torch.tensor([7, 8, 9])
    frames = [torch.tensor((w[: len(w) // 2 * 2] - MEAN) / STD).float().view(-1, 2) for w in RAMPS]
    in_memory = Sequences(frames, labels=labels)
    if not score_first:
        in_memory = Sequences([f[1:] for f in frames], [f[0] for f in frames], labels)
    recordings = Recordings(Waves(list("abc"), RAMPS), 2, MEAN, STD, labels, score_first)
    for view in (
        lambda data: data,
        lambda data: data.subset([2, 0]),
        lambda data: data.windows(3).subset([3, 1, 0]).windows(2),
        lambda data: data.subset([2]).windows(99),
    ):
        expected = view(in_memory)
        for data in (view(recordings), pickle.loads(pickle.dumps(view(recordings)))):
            assert data.lengths.tolist() == expected.lengths.tolist()
            assert data.labels.tolist() == expected.labels.tolist()
            assert data[0].x.dtype == torch.float32
            for got, wanted in zip(data, expected, strict=True):
                assert_close(got.x, wanted.x, rtol=0, atol=0)
                assert (got.start is None) == (wanted.start is None)
                assert got.start is None or torch.equal(got.start, wanted.start)


def test_recordings_windows_read_their_own_samples_only():
    class Watched(np.ndarray):
        def __getitem__(self, key):
            read.append((key.start, key.stop))
            return np.asarray(self)[key]

    read = []
    data = Recordings([RAMPS[0].view(Watched)], 2, 0.0, 1.0).windows(2)
    assert data[1].x.tolist() == [[4, 5], [6, 7]]
    assert read == [(2, 8)]  # with the frame before it


def test_recordings_without_a_step_are_left_out_and_counted():
    labels = torch.tensor([7, 8, 9])
    waves = Waves(["a.wav", "b.wav", "c.wav"], RAMPS)
    message = "^1 of 3 recordings, the first 'b.wav', have fewer than 5 samples and are left out$"
    with pytest.warns(UserWarning, match=message):
        data = Recordings(waves, 5, 0.0, 1.0, labels)
    assert data.lengths.tolist() == [2, 1] and data.labels.tolist() == [7, 9]
    assert data[1].x.tolist() == [[200, 201, 202, 203, 204]]
    with pytest.warns(UserWarning, match=r"2 of 3 .*'waves\[1\]', have fewer than 10"):
        data = Recordings(RAMPS, 5, 0.0, 1.0, score_first=False)
    assert data[0].start.tolist() == [0, 1, 2, 3, 4] and data.lengths.tolist() == [1]


def test_recordings_refuse():
    for change, message in (
        ({"frame": 0}, "'frame' must be positive, got 0"),
        ({"frame": 12}, "'frame' must be shorter than a recording, got 12: 3 of 3"),
        ({"mean": math.nan}, "'std' must be positive and 'mean' finite, got 0.5 and nan"),
        ({"labels": torch.ones(2)}, "'labels' must have one entry for each of 3 .*, got 2"),
        ({"waves": []}, "'waves' must hold at least one recording, got none"),
    ):
        with pytest.raises(ValueError, match=message):
            Recordings(**{"waves": RAMPS, "frame": 2, "mean": MEAN, "std": STD} | change)


class Hum(AudioCorpus):
    """Three recordings, one a split."""

    title, source, licence, size, version = "hum", "here", "free", "1 / 1 / 1", "1"
    sample_rate = 8000
    parts = {"train": wave(5000), "valid": wave(700), "test": wave(1010, scale=500)}

    def find_recordings(self):
        return Listing(None, {split: [f"{split}.wav"] for split in self.parts})

    def waves(self, split):
        return Waves(self.listing.splits[split], [self.parts[split]])


def test_audio_is_normalised_by_the_training_part_and_by_facts(monkeypatch):
    hum = Hum(frame=100)
    train = hum.parts["train"].astype(float)
    for split, samples in hum.parts.items():
        x = torch.tensor((samples - train.mean()) / train.std()).float()
        got = hum.split(split)[0].x
        assert_close(got.flatten(), x[: len(x) // 100 * 100], rtol=1e-6, atol=1e-6)
    facts = hum.facts()
    assert set(facts) == {"mean", "std", "frame", "sample_rate"}
    restored = Hum(frame=100)
    restored.restore(facts)
    monkeypatch.setitem(Hum.parts, "train", np.zeros(500, np.int16))
    assert_close(restored.split("test")[0].x, hum.split("test")[0].x, rtol=0, atol=0)
    assert restored.facts() == facts
    with pytest.raises(ValueError, match="training samples of hum must not be silence"):
        Hum(frame=100).split("test")
    for change, message in (
        ({"frame": 200}, "'frame' must be 100, got 200"),
        ({"sample_rate": 16000}, "'sample_rate' must be 8000, got 16000"),
        ({"std": 0}, "'std' must be positive, got 0"),
        ({"mean": math.nan}, "'mean' must be a number, got nan"),
        ({"mean": "0"}, "'mean' must be a number, got '0'"),  # C1: types are checked
        ({"frame": [100] * 99}, r"'frame' must be a number, got \[100"),
    ):
        with pytest.raises(ValueError, match=message):
            Hum(frame=100).restore(facts | change)


@pytest.mark.parametrize("score_first", [True, False])
def test_audio_writing_undoes_the_normalisation_exactly(tmp_path, monkeypatch, score_first):
    every_value = np.arange(-32768, 32768, dtype=np.int16)
    monkeypatch.setitem(Hum.parts, "test", every_value)
    hum = Hum(frame=64, score_first=score_first)
    x, start, *_ = hum.split("test")[0]
    hum.write(x if start is None else torch.cat([start[None], x]), tmp_path / "a.wav")
    samples, rate = soundfile.read(tmp_path / "a.wav", dtype="int16")
    assert rate == 8000 and (samples == every_value).all()
    assert soundfile.info(tmp_path / "a.wav").subtype == "PCM_16"
    hum.write(torch.tensor([[1e6, -1e6]]), tmp_path / "a.wav")
    assert soundfile.read(tmp_path / "a.wav", dtype="int16")[0].tolist() == [32767, -32768]


def test_audio_floor_and_envelope(monkeypatch):
    hum = Hum(frame=100)
    x = hum.split("test")[0].x.double().numpy()  # ten frames, a rest of ten samples dropped
    nats = (0.5 * x**2 + 0.5 * np.log(2 * np.pi)).sum()
    floor = hum.floor()
    assert floor.nats_per_sequence == pytest.approx(nats)
    assert floor.nats_per_step == pytest.approx(nats / 10)
    assert f"{nats / 1000:.4f} nats a sample; on training samples 1.4189" in floor.description
    train = Hum(frame=1).split("train")[0].x.double().numpy()
    assert f"{(0.5 * train**2 + 0.5 * np.log(2 * np.pi)).mean():.4f}" == "1.4189"
    burst = np.concatenate([np.zeros(4000), np.full(4000, 16384), np.full(8000, 8192)])
    monkeypatch.setitem(Hum.parts, "test", burst.astype(np.int16))
    hum = Hum(frame=100)
    line, picture = hum.as_text(hum.split("test")[0].x).split("\n")
    assert line == "2.00 s at 8,000 Hz, level -10.3 dB, peak 0.500 of full scale"
    assert picture == 16 * " " + 16 * "█" + 32 * "▄"


def read(folder, content):
    return decode_audio(Tree(write_files(folder, {"a.wav": content})), "a.wav")[:2]


def piped(riff, data):
    """A WAV file with other sizes in its header, as a program writes them into a pipe."""
    content = bytearray(encoded(RAMPS[0]))
    content[4:8], content[40:44] = riff.to_bytes(4, "little"), data.to_bytes(4, "little")
    return bytes(content)


EXACT = {
    "wav": encoded(RAMPS[0]),
    "flac": encoded(RAMPS[0], format="FLAC"),
    "24 bit": encoded(RAMPS[0], subtype="PCM_24"),
    "float": encoded(RAMPS[0] / 32768),
    "sphere": sphere(RAMPS[0]),
    "pipe": piped(2**32 - 1, 2**32 - 1),  # C8
    "pipe of sox": piped(0x7FFFF024, 0x7FFFF000),
    "killed recorder": piped(0, 0),
    "killed Python": piped(36, 0),
}


def test_audio_files_have_their_samples(tmp_path):
    for name, content in EXACT.items():
        samples, rate = read(tmp_path, content)
        assert rate == 16000 and samples.dtype == np.int16, name
        assert samples[:, 0].tolist() == RAMPS[0].tolist(), name
    tone = (8000 * np.sin(np.arange(16000) / 20)).astype(np.int16)
    for format, subtype in (("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None)):
        samples, rate = read(tmp_path, encoded(tone, 16000, format, subtype))
        assert rate == 16000 and abs(len(samples) - 16000) <= 1
        error = samples[1000:15000, 0].astype(float) - tone[1000:15000]
        assert np.square(error).mean() < 0.01 * np.square(tone.astype(float)).mean()


def test_audio_beyond_full_scale_is_clipped_with_a_word(tmp_path):
    """Fault W18."""
    loud, quiet = encoded(np.array([1.5, -1.5, 0.5, 1.0])), encoded(np.array([0.5]))
    files = {"a.wav": quiet, "b.wav": loud, "c.wav": loud, "d.wav": encoded(RAMPS[0][:0])}
    tree = Tree(write_files(tmp_path, files))
    message = r"^2 of 4 recordings, the first '.*b.wav', have samples beyond 1.0, 50.00% of .* cli"
    with pytest.warns(UserWarning, match=message) as warned:
        waves = read_waves(tree, tree.names(), 16000)
    assert len(warned) == 1
    assert [w.tolist() for w in waves[1:]] == 2 * [[32767, -32768, 16384, 32767]] + [[]]


def test_audio_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    """Fault C2: silence packs a hundred thousandfold."""
    content = encoded(np.zeros(400_000, np.int16), format="FLAC")
    assert len(read(tmp_path, content)[0]) == 400_000 > 100 * len(content)
    monkeypatch.setattr("zforcing_pyro.data.formats.files.available_memory", lambda: 10**6)
    with pytest.raises(ValueError, match=r"a.wav' must fit in memory, got"):
        read(tmp_path, content)


def test_audio_channels_and_rates_are_changed_only_on_request(tmp_path):
    tone = (8000 * np.sin(2 * np.pi * 200 * np.arange(8000) / 8000)).astype(np.int16)
    stereo = np.stack([tone, np.zeros_like(tone)], axis=1)
    tree = Tree(write_files(tmp_path, {"a.wav": encoded(stereo, rate=8000)}))
    assert (read_waves(tree, ["a.wav"], 8000, mono=True)[0] == np.rint(tone / 2)).all()
    resampled = read_waves(tree, ["a.wav"], 12000, mono=True, resample=True)[0]
    assert resampled.dtype == np.int16 and len(resampled) == 12000
    wanted = 4000 * np.sin(2 * np.pi * 200 * np.arange(12000) / 12000)
    assert np.abs(resampled - wanted)[100:-100].max() < 20


def test_audio_library_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(ValueError, match=r"pip install 'zforcing_pyro\[audio\]'"):
        read(tmp_path, encoded(RAMPS[0]))
