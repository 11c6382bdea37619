"""Waves as sequences of frames, and what audio data sets make of them."""

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
from zforcing_pyro.data.formats.audio import AudioCorpus
from zforcing_pyro.data.formats.tree import open_tree
from zforcing_pyro.data.formats.waves import Waves, read_audio, read_waves

LENGTHS = [11, 4, 9]  # samples; in frames of 2: 5, 2 and 4
RAMPS = [np.arange(100 * i, 100 * i + n, dtype=np.int16) for i, n in enumerate(LENGTHS)]
MEAN, STD = 3.0, 0.5


def reference(score_first=True, labels=None):
    """The same frames held in memory."""
    frames = [torch.tensor((w[: len(w) // 2 * 2] - MEAN) / STD).float().view(-1, 2) for w in RAMPS]
    if score_first:
        return Sequences(frames, labels=labels)
    return Sequences([f[1:] for f in frames], [f[0] for f in frames], labels)


def assert_same(data, expected):
    assert len(data) == len(list(data)) == len(expected)
    assert data.lengths.tolist() == expected.lengths.tolist() and data.lengths.dtype == torch.int64
    for (x, start), (wanted, wanted_start) in zip(data, expected):
        assert x.dtype == torch.float32
        assert_close(x, wanted, rtol=0, atol=0)
        assert (start is None) == (wanted_start is None)
        if start is not None:
            assert_close(start, wanted_start, rtol=0, atol=0)
    if expected.labels is not None:
        assert data.labels.tolist() == expected.labels.tolist()


@pytest.mark.parametrize("score_first", [True, False])
@pytest.mark.parametrize(
    "view",
    [
        lambda data: data,
        lambda data: data.subset([2, 0]),
        lambda data: data.windows(2),
        lambda data: data.windows(3).subset([3, 1, 0]).windows(2),
        lambda data: data.subset([2]).windows(99),
    ],
    ids=["whole", "subset", "windows", "windows of a subset of windows", "one window"],
)
def test_recordings_are_sequences_that_are_cut_on_reading(view, score_first):
    labels = torch.tensor([7, 8, 9])
    data = Recordings(RAMPS, 2, MEAN, STD, labels, score_first)
    assert_same(view(data), view(reference(score_first, labels)))


def test_windows_are_slices_of_the_wave():
    long = wave(4321)
    windows = Recordings([long], 20, 1.5, 700.0).windows(40)
    assert windows.lengths.tolist() == [40, 40, 40, 40, 40, 16]  # 216 frames, and a rest of 1
    for i, (x, start) in enumerate(windows):
        samples = long[800 * i : 800 * i + 20 * len(x)]
        assert_close(x.flatten(), torch.tensor((samples - 1.5) / 700).float(), rtol=1e-6, atol=1e-6)
        if i:
            before = (long[800 * i - 20 : 800 * i] - 1.5) / 700
            assert_close(start, torch.tensor(before).float(), rtol=1e-6, atol=1e-6)


def test_a_window_reads_its_own_samples_only():
    class Watched(np.ndarray):
        def __getitem__(self, key):
            read.append((key.start, key.stop))
            return np.asarray(self)[key]

    read = []
    data = Recordings([RAMPS[0].view(Watched)], 2, 0.0, 1.0).windows(2)
    assert data[1].x.tolist() == [[4, 5], [6, 7]]
    assert read == [(2, 8)]  # with the frame before it


def test_a_recording_without_a_step_is_left_out_and_counted():
    labels = torch.tensor([7, 8, 9])
    waves = Waves(["a.wav", "b.wav", "c.wav"], RAMPS, 8000)
    with pytest.warns(UserWarning) as warned:
        data = Recordings(waves, 5, 0.0, 1.0, labels)
    (warning,) = warned
    assert str(warning.message) == (
        "1 of 3 recordings, the first 'b.wav', have fewer than 5 samples and are left out"
    )
    assert data.lengths.tolist() == [2, 1] and data.labels.tolist() == [7, 9]
    assert data[1].x.tolist() == [[200, 201, 202, 203, 204]]
    with pytest.warns(UserWarning, match=r"2 of 3 .*'waves\[1\]', have fewer than 10"):
        data = Recordings(RAMPS, 5, 0.0, 1.0, score_first=False)
    assert data[0].start.tolist() == [0, 1, 2, 3, 4] and data.lengths.tolist() == [1]


BAD_RECORDINGS = {
    "no frame": ({"frame": 0}, "'frame' must be at least 1, got 0"),
    "long frame": ({"frame": 12}, "'frame' must be shorter than a recording, got 12: 3 of 3"),
    "no deviation": ({"std": 0.0}, "'std' must be positive and 'mean' finite, got 0.0 and 3.0"),
    "no mean": ({"mean": math.nan}, "'std' must be positive and 'mean' finite, got 0.5 and nan"),
    "labels": ({"labels": torch.ones(2)}, "'labels' must have one entry for each of 3 .*, got 2"),
    "none": ({"waves": []}, "'waves' must hold at least one recording, got none"),
}


@pytest.mark.parametrize("change, message", BAD_RECORDINGS.values(), ids=BAD_RECORDINGS)
def test_bad_recordings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Recordings(**{"waves": RAMPS, "frame": 2, "mean": MEAN, "std": STD} | change)
    data = Recordings(RAMPS, 2, MEAN, STD)
    with pytest.raises(ValueError, match="'size' must be at least 1, got 0"):
        data.windows(0)
    with pytest.raises(ValueError, match=r"'indices' must be in 0\.\.2, got 3\.\.3"):
        data.subset([3])
    with pytest.raises(IndexError):
        data[3]


def test_recordings_go_to_other_processes():
    data = Recordings(Waves(list("abc"), RAMPS, 8000), 2, MEAN, STD).windows(3)
    assert_same(pickle.loads(pickle.dumps(data)), reference().windows(3))


def test_mean_and_deviation_are_those_of_all_samples():
    waves = Waves(list("abc"), [wave(1000), np.full(10, 32767, np.int16), wave(7)], 8000)
    together = np.concatenate([waves[i] for i in range(3)]).astype(float)
    mean, std = waves.mean_and_std()
    assert mean == pytest.approx(together.mean(), rel=1e-12)
    assert std == pytest.approx(together.std(), rel=1e-12)
    with pytest.raises(ValueError, match="'waves' must have samples, got 1 recordings without any"):
        Waves(["a"], [wave(0)], 8000).mean_and_std()


class Hum(AudioCorpus):
    """Three recordings, one a split."""

    title, source, licence, size, version = "hum", "here", "free", "1 / 1 / 1", "1"
    sample_rate = 8000
    parts = {"train": wave(5000), "valid": wave(700), "test": wave(1010, scale=500)}

    def waves(self, split):
        return Waves([f"{split}.wav"], [self.parts[split]], 8000), None


def test_every_split_is_normalised_by_the_training_part():
    hum = Hum(frame=100)
    train = hum.parts["train"].astype(float)
    for split, samples in hum.parts.items():
        x = torch.tensor((samples - train.mean()) / train.std()).float()
        got = hum.split(split)[0].x
        assert_close(got.flatten(), x[: len(x) // 100 * 100], rtol=1e-6, atol=1e-6)
    x = Hum(frame=100).split("train")[0].x
    assert x.mean().abs() < 1e-6 and (x.std(correction=0) - 1).abs() < 1e-6


def test_facts_replace_the_training_part(monkeypatch):
    learnt = Hum(frame=100)
    facts, test = learnt.facts(), learnt.split("test")[0].x
    assert set(facts) == {"mean", "std", "frame", "sample_rate"}
    restored = Hum(frame=100)
    restored.restore(facts)
    monkeypatch.setitem(Hum.parts, "train", wave(0))
    assert_close(restored.split("test")[0].x, test, rtol=0, atol=0)
    assert restored.facts() == facts


BAD_FACTS = {
    "frame": ({"frame": 200}, "'frame' must be 100, got 200"),
    "rate": ({"sample_rate": 16000}, "'sample_rate' must be 8000, got 16000"),
    "std": ({"std": 0}, "'std' must be positive and 'mean' finite, got 0.0 and"),
    "mean": ({"mean": math.nan}, "'std' must be positive and 'mean' finite, got .* and nan"),
}


@pytest.mark.parametrize("change, message", BAD_FACTS.values(), ids=BAD_FACTS)
def test_facts_that_do_not_fit_are_refused(change, message):
    facts = {"mean": 0.0, "std": 1.0, "frame": 100, "sample_rate": 8000}
    with pytest.raises(ValueError, match=message):
        Hum(frame=100).restore(facts | change)


def test_silence_cannot_be_normalised(monkeypatch):
    monkeypatch.setitem(Hum.parts, "train", np.zeros(500, np.int16))
    with pytest.raises(ValueError, match="training samples of hum must not be silence"):
        Hum(frame=100).split("test")


@pytest.mark.parametrize("score_first", [True, False])
def test_writing_undoes_the_normalisation_exactly(tmp_path, monkeypatch, score_first):
    loud = np.arange(-32768, 32768, dtype=np.int16)  # every value there is
    monkeypatch.setitem(Hum.parts, "test", loud)
    hum = Hum(frame=64, score_first=score_first)
    x, start = hum.split("test")[0]
    hum.write(x if start is None else torch.cat([start[None], x]), tmp_path / "a.wav")
    samples, rate = soundfile.read(tmp_path / "a.wav", dtype="int16")
    assert rate == 8000 and (samples == loud).all()
    assert soundfile.info(tmp_path / "a.wav").subtype == "PCM_16"


def test_what_is_louder_than_a_file_can_be_is_clipped(tmp_path):
    hum = Hum(frame=2)
    hum.write(torch.tensor([[1e6, -1e6]]), tmp_path / "a.wav")
    assert soundfile.read(tmp_path / "a.wav", dtype="int16")[0].tolist() == [32767, -32768]


def test_floor_is_a_standard_normal_on_the_test_part():
    hum = Hum(frame=100)
    x = hum.split("test")[0].x.double().numpy()  # ten frames, a rest of ten samples dropped
    nats = (0.5 * x**2 + 0.5 * np.log(2 * np.pi)).sum()
    floor = hum.floor()
    assert floor.nats_per_sequence == pytest.approx(nats)
    assert floor.nats_per_step == pytest.approx(nats / 10)
    assert f"{nats / 1000:.4f} nats a sample; on training samples 1.4189" in floor.description
    # What the description says of the training part is so.
    train = Hum(frame=1).split("train")[0].x.double().numpy()
    assert f"{(0.5 * train**2 + 0.5 * np.log(2 * np.pi)).mean():.4f}" == "1.4189"


def test_a_recording_as_text_is_its_envelope(monkeypatch):
    burst = np.concatenate([np.zeros(4000), np.full(4000, 16384), np.full(8000, 8192)])
    monkeypatch.setitem(Hum.parts, "test", burst.astype(np.int16))
    hum = Hum(frame=100)
    line, picture = hum.as_text(hum.split("test")[0].x).split("\n")
    assert line == "2.00 s at 8,000 Hz, level -10.3 dB, peak 0.500 of full scale"
    assert picture == 16 * " " + 16 * "█" + 32 * "▄"
    assert hum.as_text(torch.full((1, 100), -MEAN / STD)).count("\n") == 1


def test_silence_has_a_text(monkeypatch):
    monkeypatch.setitem(Hum.parts, "test", np.zeros(200, np.int16))
    hum = Hum(frame=100)
    line, picture = hum.as_text(hum.split("test")[0].x).split("\n")
    assert "level -90.3 dB, peak 0.000" in line and not picture.strip()


EXACT = {
    "wav": encoded(RAMPS[0]),
    "flac": encoded(RAMPS[0], format="FLAC"),
    "aiff": encoded(RAMPS[0], format="AIFF", subtype="PCM_16"),
    "au": encoded(RAMPS[0], format="AU", subtype="PCM_16"),
    "24 bit": encoded(RAMPS[0], subtype="PCM_24"),
    "float": encoded(RAMPS[0] / 32768),
    "double": encoded(RAMPS[0] / 32768, subtype="DOUBLE"),
    "sphere": sphere(RAMPS[0]),
}


@pytest.mark.parametrize("content", EXACT.values(), ids=EXACT)
def test_samples_are_those_of_the_file(tmp_path, content):
    tree = open_tree(write_files(tmp_path, {"a.wav": content}))
    samples, rate = read_audio(tree, "a.wav")
    assert rate == 16000 and samples.dtype == np.int16
    assert samples[:, 0].tolist() == RAMPS[0].tolist()


@pytest.mark.parametrize("format, subtype", [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None)])
def test_lossy_files_are_near_what_was_written(tmp_path, format, subtype):
    tone = (8000 * np.sin(np.arange(16000) / 20)).astype(np.int16)
    tree = open_tree(write_files(tmp_path, {"a": encoded(tone, 16000, format, subtype)}))
    samples, rate = read_audio(tree, "a")
    assert rate == 16000 and abs(len(samples) - 16000) <= 1
    error = samples[1000:15000, 0].astype(float) - tone[1000:15000]
    assert np.square(error).mean() < 0.01 * np.square(tone.astype(float)).mean()


def test_what_is_beyond_full_scale_is_clipped(tmp_path):
    content = encoded(np.array([1.5, -1.5, 0.5]))
    tree = open_tree(write_files(tmp_path, {"a.wav": content}))
    assert read_audio(tree, "a.wav")[0][:, 0].tolist() == [32767, -32768, 16384]


def test_a_size_that_a_header_does_not_know_is_no_error(tmp_path):
    content = bytearray(encoded(RAMPS[0]))
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"  # as a program writes it into a pipe
    tree = open_tree(write_files(tmp_path, {"a.wav": bytes(content)}))
    assert len(read_audio(tree, "a.wav")[0]) == LENGTHS[0]


def test_channels_and_rates_are_changed_only_on_request(tmp_path):
    tone = (8000 * np.sin(2 * np.pi * 200 * np.arange(8000) / 8000)).astype(np.int16)
    stereo = np.stack([tone, np.zeros_like(tone)], axis=1)
    tree = open_tree(write_files(tmp_path, {"a.wav": encoded(stereo, rate=8000)}))
    with pytest.raises(ValueError, match=r"a.wav' must have one channel, got 2; the option 'mono'"):
        read_waves(tree, ["a.wav"], 8000)
    assert (read_waves(tree, ["a.wav"], 8000, mono=True)[0] == np.rint(tone / 2)).all()
    with pytest.raises(ValueError, match=r"a.wav' must have 16000 samples a second, got 8000; the"):
        read_waves(tree, ["a.wav"], 16000, mono=True)
    resampled = read_waves(tree, ["a.wav"], 12000, mono=True, resample=True)[0]
    assert resampled.dtype == np.int16 and len(resampled) == 12000
    wanted = 4000 * np.sin(2 * np.pi * 200 * np.arange(12000) / 12000)
    assert np.abs(resampled - wanted)[100:-100].max() < 20


def test_a_missing_library_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    tree = open_tree(write_files(tmp_path, {"a.wav": encoded(RAMPS[0])}))
    with pytest.raises(ValueError, match=r"pip install 'zforcing_pyro\[audio\]'"):
        read_audio(tree, "a.wav")
