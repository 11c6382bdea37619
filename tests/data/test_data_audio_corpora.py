"""TIMIT and spoken digits: trees as the publishers lay them out, and the real files."""

import numpy as np
import pytest
from audio_files import encoded, sphere, wave, write_files, write_zip
from real_data import DATA, real

from zforcing_pyro.data import FSDD, Timit, corpus
from zforcing_pyro.data.formats.waves import read_waves

SPLITS = ("train", "valid", "test")


def timit_names(part, speakers, sentences):
    return [f"{part}/DR{r}/{speaker}/{s}.WAV" for r, speaker in speakers for s in sentences]


SENTENCES = ["SA1", "SA2", *(f"SX{i}" for i in range(3, 8)), *(f"SI{i}" for i in range(8, 11))]
TRAIN = timit_names("TRAIN", [(1, "FCJF0"), (1, "MCPM0"), (8, "MBCG0"), (3, "FALK0")], SENTENCES)
TEST = timit_names("TEST", [(1, "FAKS0"), (2, "MABW0")], SENTENCES)
WAVES = {name: wave(1000 + 10 * i) for i, name in enumerate(TRAIN + TEST)}
DOCUMENTS = {"README.DOC": b"x", "TRAIN/DR1/FCJF0/SA1.TXT": b"x", "TRAIN/DR1/FCJF0/SA1.PHN": b"x"}


def lower(files):
    return {name.lower(): content for name, content in files.items()}


def below(folder, files):
    return {f"{folder}/{name}": content for name, content in files.items()}


@pytest.mark.parametrize(
    "layout, encode",
    [
        (lambda folder, files: write_files(folder / "TIMIT" / "timit", lower(files)), encoded),
        (lambda folder, files: write_zip(folder / "timit.zip", below("t", files)), sphere),
        (write_files, encoded),
    ],
    ids=["lower case, nested", "zip", "the folder itself"],
)
def test_timit_is_read_as_it_is_shipped(tmp_path, layout, encode):
    layout(tmp_path, {name: encode(w) for name, w in WAVES.items()} | DOCUMENTS)
    timit = Timit(tmp_path, frame=50)
    assert timit.found()
    splits = {name: timit.split(name) for name in SPLITS}
    assert [len(s) for s in splits.values()] == [38, 2, 20]
    assert timit.version == "LDC93S1, 60 files, 5 % of the training files valid"
    assert timit.listing.speakers == ["faks0", "falk0", "fcjf0", "mabw0", "mbcg0", "mcpm0"]
    # All files are there once, each with the label of its name.
    labels = {}
    for split in splits.values():
        for (x, *_), label in zip(split, split.labels.tolist()):
            labels[tuple(timit.samples(x).tolist())] = label
    assert len(labels) == len(WAVES)
    for name, w in WAVES.items():
        _, region, speaker, _ = name.lower().split("/")
        label = [int(speaker[0] == "m"), int(region[2]), timit.listing.speakers.index(speaker)]
        assert labels[tuple(w[: len(w) // 50 * 50].tolist())] == label
    # The same files are valid in every layout, and without the sentences that all read.
    listing = timit.listing.splits
    valid = ["/".join(n.lower().split("/")[-2:]) for n in listing["valid"]]
    assert valid == ["fcjf0/si8.wav", "mcpm0/sa2.wav"]
    spoken = Timit(tmp_path, without_sa=True).listing.splits
    for split, names in listing.items():
        assert spoken[split] == [n for n in names if "/sa" not in n.lower()]
    # The scale is that of all samples of the training part, in no validation or test file.
    used = np.concatenate(list(read_waves(timit.tree(), listing["train"], 16000)))
    assert timit.scale == pytest.approx((used.mean(), used.std()), rel=1e-12)


def test_timit_in_full_has_the_counts_of_the_literature(tmp_path):
    letters = [chr(65 + i) for i in range(26)]
    initials = [f"{a}{b}X0" for a in letters for b in letters][:630]
    speakers = [(1 + i % 8, "FM"[i % 2] + initial) for i, initial in enumerate(initials)]
    files = timit_names("TRAIN", speakers[:462], SENTENCES)
    files += timit_names("TEST", speakers[462:], SENTENCES)
    write_zip(tmp_path / "TIMIT.zip", dict.fromkeys(files, encoded(wave(60))))
    timit = Timit(tmp_path, frame=60)
    assert [len(timit.split(s)) for s in SPLITS] == [4389, 231, 1680]
    assert timit.size.startswith("4,389 / 231 / 1,680 utterances")
    assert timit.split("valid").labels[:, 2].unique().numel() > 150  # by file, not by speaker
    assert len(timit.listing.speakers) == 630


def test_timit_sample_of_nltk_is_split_by_region(tmp_path):
    files = {
        f"timit/dr{region}-{sex}{name}0/{sentence}.wav": encoded(wave(300))
        for region in range(1, 9)
        for sex, name in (("f", "vmh"), ("m", "cpm"))
        for sentence in ("sa1", "sa2", "sx3")
    }
    write_zip(tmp_path / "timit.zip", files)
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


@pytest.mark.parametrize("zipped", [False, True])
def test_spoken_digits_are_split_by_index(tmp_path, zipped):
    if zipped:
        top = "free-spoken-digit-dataset-master"
        write_zip(tmp_path / f"{top}.zip", below(top, DIGITS))
    else:
        write_files(tmp_path, DIGITS)
    digits = FSDD(tmp_path, frame=1)
    assert digits.found() and digits.listing.speakers == ["george", "theo"]
    lengths = {"train": (410, 449), "valid": (405, 409), "test": (400, 404)}
    for split, samples in lengths.items():
        data = digits.split(split)
        assert data.lengths.tolist() == list(samples) * 4
        assert data.labels[::2].tolist() == [[3, 0], [3, 1], [7, 0], [7, 1]]


FIRST, SHORTEN = "TRAIN/DR1/FCJF0/SA1.WAV", "pcm,embedded-shorten-v2.00"
BROKEN = [  # the class, changed files, files without, and the message
    (Timit, {}, list(WAVES), "must have files as TRAIN/DR1/FCJF0/SA1.WAV .* got none"),
    (Timit, {FIRST.lower(): b""}, [], "must not be the same recording"),
    (Timit, {FIRST: sphere(wave(9), coding=SHORTEN)}, [], "SA1.WAV' .*compressed by shorten; unc"),
    (Timit, {FIRST: sphere(wave(900))[:2000]}, [], "SA1.WAV' must have the 900 samples .* got 488"),
    (FSDD, {}, [n for n in DIGITS if n[-6:] in ("_0.wav", "_4.wav")], "index in 0..4 for test, go"),
    (FSDD, {"recordings/more/3_theo_0.wav": b""}, [], "must not be the same recording"),
]


def test_audio_corpora_that_are_missing_or_broken_name_the_file(tmp_path):
    for i, (cls, change, without, message) in enumerate(BROKEN):
        files = DIGITS if cls is FSDD else {n: sphere(w) for n, w in WAVES.items()} | DOCUMENTS
        folder = tmp_path / str(i)
        write_files(folder, {n: c for n, c in (files | change).items() if n not in without})
        with pytest.raises(ValueError, match=message) as error:
            cls(folder).split("train")
        assert str(folder) in str(error.value) and "\n" not in str(error.value)
    assert not Timit(tmp_path).found()
    with pytest.raises(FileNotFoundError, match=rf"'{tmp_path}/.*https://.*--data_dir or \$ZFORC"):
        Timit(tmp_path).split("train")
    # Converted copies beside compressed files are read.
    files = {name: sphere(w, coding=SHORTEN) for name, w in WAVES.items()}
    files |= {f"{name}.wav": encoded(w) for name, w in WAVES.items()}
    timit = Timit(write_files(tmp_path / "TIMIT", files))
    assert [len(timit.split(s)) for s in SPLITS] == [38, 2, 20]


@real
def test_timit_sample_has_its_counts_and_statistics():
    timit = corpus("timit", data_dir=DATA)
    splits = [timit.split(split) for split in SPLITS]
    assert timit.found() and [len(s) for s in splits] == [120, 20, 20]
    assert [int((s.labels[:, 0] == 0).sum()) for s in splits] == [60, 10, 10]  # women
    assert len(timit.listing.speakers) == 16 and timit.listing.speakers[0] == "faem0"
    waves = read_waves(timit.tree(), [n for s in SPLITS for n in timit.listing.splits[s]], 16000)
    lengths = np.array([len(w) for w in waves])
    assert len(waves) == 160 and lengths.sum() == 7_841_548
    assert waves.mean_and_std() == pytest.approx((-0.011, 546.20), abs=0.005)
    assert sum(int(s.lengths.sum()) for s in splits) == (lengths // 200).sum()
    assert timit.floor().nats_per_step == pytest.approx(261.06, abs=0.01)  # test speakers are quiet


@real
def test_spoken_digits_have_their_counts_and_come_back_from_their_frames():
    digits = corpus("fsdd", data_dir=DATA)
    splits = [digits.split(split) for split in SPLITS]
    assert [len(s) for s in splits] == [2400, 300, 300] and len(digits.listing.speakers) == 6
    for split, num in zip(splits, (240, 30, 30)):
        assert (split.labels[:, 0].bincount() == num).all()
        assert (split.labels[:, 1].bincount() * 6 == len(split)).all()
    samples = read_waves(digits.tree(), digits.listing.splits["test"][:1], 8000)[0]
    x = digits.split("test")[0].x
    assert (digits.samples(x) == samples[: x.numel()]).all()
    assert digits.scale == pytest.approx((-31.711, 2001.977), abs=5e-4)
