"""TIMIT and spoken digits: trees as the publishers lay them out, and the real files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from audio_files import encoded, sphere, wave, write_files, write_zip
from torch.testing import assert_close

from zforcing_pyro.data import FSDD, Timit, corpus
from zforcing_pyro.data.formats.waves import read_waves

DATA = Path(__file__).parents[3] / "shared" / "data"
real = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real data sets are not at '{DATA}'")
SPLITS = ("train", "valid", "test")
PARTIAL = "ignore:.* of the .* files of TIMIT"


@pytest.fixture(autouse=True)
def no_default_folder(monkeypatch):
    monkeypatch.delenv("ZFORCING_DATA", raising=False)


def timit_names(part, speakers, sentences):
    return [
        f"{part}/DR{region}/{speaker}/{sentence}.WAV"
        for region, speaker in speakers
        for sentence in sentences
    ]


SENTENCES = ["SA1", "SA2", *(f"SX{i}" for i in range(3, 8)), *(f"SI{i}" for i in range(8, 11))]
TRAIN = timit_names("TRAIN", [(1, "FCJF0"), (1, "MCPM0"), (8, "MBCG0"), (3, "FALK0")], SENTENCES)
TEST = timit_names("TEST", [(1, "FAKS0"), (2, "MABW0")], SENTENCES)
WAVES = {name: wave(1000 + 10 * i) for i, name in enumerate(TRAIN + TEST)}
DOCUMENTS = {"README.DOC": b"x", "TRAIN/DR1/FCJF0/SA1.TXT": b"x", "TRAIN/DR1/FCJF0/SA1.PHN": b"x"}


def lower(files):
    return {name.lower(): content for name, content in files.items()}


def below(folder, files):
    return {f"{folder}/{name}": content for name, content in files.items()}


@pytest.mark.filterwarnings(PARTIAL)
@pytest.mark.parametrize("encode", [sphere, encoded])
@pytest.mark.parametrize(
    "layout",
    [
        lambda folder, files: write_files(folder / "timit", files),
        lambda folder, files: write_files(folder / "TIMIT" / "timit", lower(files)),
        lambda folder, files: write_zip(folder / "timit.zip", below("t", files)),
        write_files,
        lambda folder, files: write_files(folder, lower(files)),
    ],
    ids=["folder", "lower case, nested", "zip", "the folder itself", "itself, lower case"],
)
def test_timit_is_read_as_it_is_shipped(tmp_path, layout, encode):
    layout(tmp_path, {name: encode(w) for name, w in WAVES.items()} | DOCUMENTS)
    timit = Timit(tmp_path, frame=50)
    assert timit.found()
    splits = {name: timit.split(name) for name in SPLITS}
    assert [len(s) for s in splits.values()] == [38, 2, 20]
    assert timit.version == "LDC93S1, 5 % of the training files valid"
    assert timit.speakers == ["faks0", "falk0", "fcjf0", "mabw0", "mbcg0", "mcpm0"]
    # All files are there once, each with the label of its name.
    found = {}
    for split in splits.values():
        for (x, _), label in zip(split, split.labels.tolist()):
            found[tuple(timit.samples(x).tolist())] = label
    assert len(found) == len(WAVES)
    for name, w in WAVES.items():
        _, region, speaker, _ = name.split("/")
        speaker = speaker.lower()
        label = [int(speaker[0] == "m"), int(region[2]), timit.speakers.index(speaker)]
        assert found[tuple(w[: len(w) // 50 * 50].tolist())] == label
    # The scale is that of all samples of the training part, in no validation or test file.
    tree, listing, _ = timit.listing()
    used = np.concatenate(list(read_waves(tree, [u.name for u in listing["train"]], 16000)))
    assert timit.scale == pytest.approx((used.mean(), used.std()), rel=1e-12)


@pytest.mark.filterwarnings(PARTIAL)
def test_timit_is_split_the_same_whatever_the_layout(tmp_path):
    files = {name: encoded(w) for name, w in WAVES.items()}
    write_files(tmp_path / "one" / "timit", files)
    write_zip(tmp_path / "two" / "timit.zip", lower(files))
    kept = []
    for folder in ("one", "two"):
        _, splits, _ = Timit(tmp_path / folder).listing()
        kept.append({split: [u[:4] for u in us] for split, us in splits.items()})
    assert kept[0] == kept[1]
    assert [u[1:3] for u in kept[0]["valid"]] == [("fcjf0", "si8"), ("mcpm0", "sa2")]
    # The same files are valid without the sentences that all read.
    _, splits, _ = Timit(tmp_path / "one", without_sa=True).listing()
    for split, utterances in kept[0].items():
        spoken = [u for u in utterances if not u[2].startswith("sa")]
        assert [u[:4] for u in splits[split]] == spoken and len(spoken) < 33


def test_the_whole_corpus_has_the_counts_of_the_literature(tmp_path):
    content = encoded(wave(60))
    letters = [chr(65 + i) for i in range(26)]
    initials = [f"{a}{b}X0" for a in letters for b in letters][:630]
    speakers = [(1 + i % 8, "FM"[i % 2] + initial) for i, initial in enumerate(initials)]
    files = timit_names("TRAIN", speakers[:462], SENTENCES)
    files += timit_names("TEST", speakers[462:], SENTENCES)
    write_zip(tmp_path / "TIMIT.zip", dict.fromkeys(files, content))
    timit = Timit(tmp_path, frame=60)
    assert [len(timit.split(s)) for s in SPLITS] == [4389, 231, 1680]
    for count in ("4,389", "231", "1,680"):
        assert count in timit.size
    assert timit.split("valid").labels[:, 2].unique().numel() > 150  # by file, not by speaker
    assert len(timit.speakers) == 630


def test_a_part_of_the_corpus_is_said_to_be_one(tmp_path):
    write_files(tmp_path, {name: sphere(w) for name, w in WAVES.items()})
    with pytest.warns(UserWarning) as warned:
        Timit(tmp_path).split("test")
    messages = [str(w.message) for w in warned]
    assert len(messages) == 2
    assert "40 of the 4,620 train files" in messages[0]
    assert "20 of the 1,680 test files" in messages[1]


@pytest.mark.filterwarnings(PARTIAL)
def test_a_converted_copy_is_taken_in_place_of_its_original(tmp_path):
    files = {name: sphere(w, coding="pcm,embedded-shorten-v2.00") for name, w in WAVES.items()}
    files |= {f"{name}.wav": encoded(w) for name, w in WAVES.items()}
    write_files(tmp_path, files)
    assert [len(Timit(tmp_path).split(s)) for s in SPLITS] == [38, 2, 20]


NLTK = {
    f"timit/dr{region}-{sex}{name}0/{sentence.lower()}.wav": encoded(wave(300))
    for region in range(1, 9)
    for sex, name in (("f", "vmh"), ("m", "cpm"))
    for sentence in SENTENCES[:3]
}


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: write_files(folder, NLTK),
        lambda folder: write_files(folder, {n.removeprefix("timit/"): c for n, c in NLTK.items()}),
        lambda folder: write_zip(folder / "timit.zip", NLTK),
    ],
    ids=["folder", "the folder itself", "zip"],
)
def test_nltks_sample_is_split_by_region(tmp_path, write):
    write(tmp_path)
    timit = Timit(tmp_path)
    assert timit.found()
    regions = {name: timit.split(name).labels[:, 1].unique().tolist() for name in SPLITS}
    assert regions == {"train": [1, 2, 3, 4, 5, 6], "valid": [7], "test": [8]}
    assert [len(timit.split(s)) for s in SPLITS] == [36, 6, 6]
    assert timit.split("test").labels[:, 0].tolist() == [0, 0, 0, 1, 1, 1]
    assert timit.version == "NLTK's sample, split by dialect region"


DIGITS = {
    f"recordings/{digit}_{speaker}_{index}.wav": encoded(wave(400 + index), rate=8000)
    for digit in (3, 7)
    for speaker in ("theo", "george")
    for index in (0, 4, 5, 9, 10, 49)
}


REPOSITORY = "free-spoken-digit-dataset"


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: write_files(folder, DIGITS),
        lambda folder: write_files(folder / REPOSITORY, DIGITS),
        lambda folder: write_zip(folder / "fsdd_recordings.zip", DIGITS),
        lambda folder: write_zip(
            folder / f"{REPOSITORY}-master.zip", below(f"{REPOSITORY}-master", DIGITS)
        ),
    ],
    ids=["recordings", "repository", "recordings zipped", "repository zipped"],
)
def test_spoken_digits_are_split_by_index(tmp_path, write):
    write(tmp_path)
    digits = FSDD(tmp_path)
    assert digits.found() and digits.speakers == ["george", "theo"]
    lengths = {"train": (410, 449), "valid": (405, 409), "test": (400, 404)}
    for split, samples in lengths.items():
        data = FSDD(tmp_path, frame=1).split(split)
        assert data.lengths.tolist() == list(samples) * 4
        assert data.labels[::2].tolist() == [[3, 0], [3, 1], [7, 0], [7, 1]]


@pytest.mark.parametrize("cls", [Timit, FSDD])
def test_a_missing_corpus_says_where_to_get_it(tmp_path, cls):
    data = cls(tmp_path)
    assert not data.found()
    with pytest.raises(FileNotFoundError) as error:
        data.split("train")
    for part in (f"'{tmp_path}/", "https://", "--data_dir or $ZFORCING_DATA"):
        assert part in str(error.value)
    assert "\n" not in str(error.value)


FIRST = "TRAIN/DR1/FCJF0/SA1.WAV"
BROKEN_TIMIT = {
    "no file of it": ({}, list(WAVES), "must have files as TRAIN/DR1/FCJF0/SA1.WAV .* got none"),
    "no test": ({}, TEST, "must have files of all splits, got no test"),
    "no training": ({}, TRAIN, "must have files of all splits, got no train"),
    "both cases": ({"train/dr1/fcjf0/sa1.wav": sphere(wave(900))}, [], "SA1.WAV' and .*sa1.wav' .*"
                   "same utterance|sa1.wav' and .*SA1.WAV' must not be the same utterance"),
    "shorten": ({FIRST: sphere(wave(900), coding="pcm,embedded-shorten-v2.00")}, [],
                "FCJF0/SA1.WAV' .*compressed by shorten; uncompress it by"),
    "cut short": ({FIRST: sphere(wave(900))[:2000]}, [],
                  "SA1.WAV' must have the 900 samples that it says, got 488"),
    "no audio": ({FIRST: b"\n".join(100 * [b"<html>"])}, [], "SA1.WAV' must be audio that lib"),
    "empty": ({FIRST: b""}, [], "SA1.WAV' must be an audio file, got an empty file"),
    "rate": ({FIRST: sphere(wave(900), rate=8000)}, [], "SA1.WAV' must have 16000 samples a second,"
             " got 8000"),
}  # fmt: skip


@pytest.mark.filterwarnings(PARTIAL)
@pytest.mark.parametrize("change, without, message", BROKEN_TIMIT.values(), ids=BROKEN_TIMIT)
def test_a_broken_timit_names_the_file(tmp_path, change, without, message):
    files = {name: sphere(w) for name, w in WAVES.items() if name not in without}
    folder = write_files(tmp_path / "timit", files | DOCUMENTS | change)
    with pytest.raises(ValueError, match=message) as error:
        Timit(tmp_path).split("train")
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change, without, message",
    [
        ({}, "_0.wav _4.wav", "must have files .* index in 0..4, those of test, got none"),
        ({"more/3_theo_0.wav": b""}, "?", "3_theo_0.wav' .* must not be the same recording"),
        ({"recordings/3_theo_0.wav": encoded(wave(9), rate=16000)}, "?", "3_theo_0.wav' .* 8000 s"),
    ],
    ids=["split", "twice", "rate"],
)
def test_broken_spoken_digits_name_the_file(tmp_path, change, without, message):
    files = {n: c for n, c in DIGITS.items() if not n.endswith(tuple(without.split()))}
    write_zip(tmp_path / "recordings.zip", files | change)
    with pytest.raises(ValueError, match=message) as error:
        FSDD(tmp_path).split("test")
    assert str(tmp_path) in str(error.value)


@real
def test_the_sample_of_timit_has_the_counts_and_statistics_of_the_readme():
    timit = corpus("timit", data_dir=DATA)
    splits = [timit.split(split) for split in SPLITS]
    assert timit.found() and [len(s) for s in splits] == [120, 20, 20]
    tree, listing, speakers = timit.listing()
    assert len(speakers) == 16 and speakers[0] == "faem0"
    names = [u.name for split in SPLITS for u in listing[split]]
    whole = read_waves(tree, names, 16000)
    assert len(whole) == 160 and whole.lengths.sum() == 7_841_548
    mean, std = whole.mean_and_std()
    assert (f"{mean:.3f}", f"{std:.2f}") == ("-0.011", "546.20")
    assert sum(int(s.lengths.sum()) for s in splits) == (whole.lengths // 200).sum()
    for split, women in zip(splits, (60, 10, 10)):
        assert (split.labels[:, 0] == 0).sum() == women
    # By the README's digits: 1.4189 nats a sample, 283.8 a frame, where mean 0 and variance 1 hold.
    floor = timit.floor()
    assert "on training samples 1.4189, 283.8 a frame" in floor.description
    x = torch.cat([x for x, _ in timit.split("train")]).double()
    nats = 0.5 * (x.square() + np.log(2 * np.pi)).sum() / len(x)
    assert nats.item() == pytest.approx(283.8, rel=2e-3)  # rests of recordings are dropped
    assert floor.nats_per_step == pytest.approx(261.06, abs=0.01)  # the test speakers are quieter


@real
def test_the_spoken_digits_have_the_counts_of_the_readme():
    digits = corpus("fsdd", data_dir=DATA)
    splits = [digits.split(split) for split in SPLITS]
    assert [len(s) for s in splits] == [2400, 300, 300]
    tree, recordings, speakers = digits.listing()
    assert len(recordings) == 3000 and len(speakers) == 6
    lengths = read_waves(tree, [r.name for r in recordings], 8000).lengths
    assert lengths.sum() == 10_498_424 and int(np.median(lengths)) == 3358
    assert (lengths.min(), lengths.max()) == (1148, 18262)
    for split, num in zip(splits, (240, 30, 30)):
        assert (split.labels[:, 0].bincount() == num).all()
        assert (split.labels[:, 1].bincount() * 6 == len(split)).all()


@real
def test_a_real_recording_comes_back_from_its_frames():
    digits = corpus("fsdd", data_dir=DATA)
    tree, recordings, _ = digits.listing()
    first = next(r for r in recordings if r.index == 0)
    samples = read_waves(tree, [first.name], 8000)[0]
    x = digits.split("test")[0].x
    assert (digits.samples(x) == samples[: x.numel()]).all()
    expected = torch.tensor((samples[:5] + 31.711) / 2001.977).float()
    assert_close(x.flatten()[:5], expected, rtol=1e-4, atol=1e-4)
