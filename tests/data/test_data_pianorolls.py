"""Piano-rolls in files that these tests write and in the real ones, and arrays that do not fit."""

import io

import numpy as np
import pytest
import torch
from bombs import Bomb
from real_data import DATA, real
from torch.testing import assert_close

from zforcing_pyro.data import Pianoroll, PianorollSRNN, corpus

RNG = np.random.default_rng(0)
LENGTHS = {"train": [3, 7], "valid": [2], "test": [5, 1, 4]}
SPLITS = list(LENGTHS)


def pianoroll():
    """Arrays of the classical version."""
    arrays = {f"len_{split}": np.array(lengths) for split, lengths in LENGTHS.items()}
    rolls = {s: RNG.integers(0, 2, (sum(n), 88), dtype=np.uint8) for s, n in LENGTHS.items()}
    return arrays | {f"x_{split}": roll for split, roll in rolls.items()}


def srnn():
    """Arrays of the SRNN version: chunks of 100, and test songs of which padding is NaN."""
    arrays = {}
    for split, shape in (("train", (4, 101, 88)), ("valid", (2, 101, 88)), ("test", (3, 6, 88))):
        frames = RNG.integers(0, 2, shape).astype(np.float32)
        arrays[f"u_{split}"], arrays[f"x_{split}"] = frames[:, :-1].copy(), frames[:, 1:].copy()
    mask = np.arange(5) < np.array([5, 1, 4])[:, None]
    arrays["u_test"][~mask], arrays["mask_test"] = np.nan, mask.astype(np.float32)
    return arrays


FILES = {
    Pianoroll: ("jsb_pianoroll_icml2012.npz", pianoroll),
    PianorollSRNN: ("jsb_raw_batchsize16_seqlen100.npz", srnn),
}


@pytest.fixture
def written(tmp_path):
    """Writes the arrays of a corpus, changed as asked (None: left out), and returns the corpus."""

    def write(cls, **changes):
        name, make = FILES[cls]
        arrays = make() | changes
        np.savez(tmp_path / name, **{k: v for k, v in arrays.items() if v is not None})
        return cls("jsb", data_dir=tmp_path), arrays

    return write


def test_classical_pianorolls_are_cut_at_their_lengths(written, tmp_path):
    music, arrays = written(Pianoroll)
    for split in SPLITS:
        data = music.split(split)
        assert data.lengths.tolist() == LENGTHS[split] and data[0].start is None
        together = torch.cat([x for x, *_ in data])
        assert together.dtype == torch.float32
        assert_close(together, torch.from_numpy(arrays[f"x_{split}"]).float())
    (tmp_path / FILES[Pianoroll][0]).unlink()
    assert music.split(split) is data  # read once


def test_srnn_chunks_and_songs_start_at_their_first_input(written):
    music, arrays = written(PianorollSRNN)
    for split, lengths in (("train", 4 * [100]), ("test", [5, 1, 4])):
        data = music.split(split)
        assert data.lengths.tolist() == lengths
        for item, x, u in zip(data, arrays[f"x_{split}"], arrays[f"u_{split}"], strict=True):
            assert item.x.dtype == item.start.dtype == torch.float32
            inputs = torch.cat([item.start[None], item.x[:-1]])
            assert_close(inputs, torch.from_numpy(u[: len(inputs)]))  # u is NaN from there on
            assert_close(item.x, torch.from_numpy(x[: len(inputs)]))


def test_floor_is_the_cost_of_independent_bits(written):
    x_train, x_test = np.zeros((10, 88), np.uint8), np.zeros((10, 88), np.uint8)
    x_train[:4, 0] = 1  # on in 4 of 10 steps: (4 + 1/2) / 11
    x_test[0, :2] = 1  # column 1 was never on: (1/2) / 11
    floor = written(Pianoroll, x_train=x_train, x_test=x_test)[0].floor()
    p, q = 4.5 / 11, 0.5 / 11
    nats = -np.log(p) - 9 * np.log(1 - p) - np.log(q) - 9 * np.log(1 - q) - 860 * np.log(1 - q)
    assert floor.nats_per_step == pytest.approx(nats / 10)
    assert floor.nats_per_sequence == pytest.approx(nats / 3)
    assert floor.description == "independent keys with the training frequencies"


def test_files_are_looked_for_in_order_and_a_missing_one_says_where_to_get_it(
    tmp_path, monkeypatch
):
    name = FILES[Pianoroll][0]
    mine, env = tmp_path / "mine", tmp_path / "env"
    places = [mine / name, mine / "polyphonic" / name, env / name, env / "polyphonic" / name]
    with pytest.raises(FileNotFoundError, match="no folder was given"):
        Pianoroll("jsb").split("train")
    monkeypatch.setenv("ZFORCING_DATA", str(env))
    music = Pianoroll("jsb", data_dir=str(mine))
    assert not music.found()
    with pytest.raises(FileNotFoundError) as error:
        music.split("train")
    message = str(error.value)
    for part in (*map(str, places), "https://github.com/", "$ZFORCING_DATA"):
        assert part in message and "\n" not in message
    for place in reversed(places):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
        assert music.found() and music.path(name) == place
    # A folder of that name is not the file.
    places[0].unlink()
    places[0].mkdir()
    assert music.path(name) == places[1]
    with pytest.raises(ValueError, match=r"'corpus' must be one of \['jsb', .*, got 'jbs'"):
        PianorollSRNN("jbs")


BITS = np.zeros((10, 88), dtype=np.uint8)


def masks(*mask):
    return {"mask_test": np.array(3 * [mask], dtype=np.float32)}


def test_bad_arrays_name_the_file(written):
    for cls, changes, message in (
        (Pianoroll, {"len_train": None}, r"must hold the arrays \[.*'len_train'\]"),
        (Pianoroll, {"len_train": np.array(["a"])}, "'len_train' of .* a non-empty integer array"),
        (Pianoroll, {"x_train": BITS + 2}, r"'x_train' of .* must be 0 or 1 .*, got 2"),
        (Pianoroll, {"len_train": np.array([11, -1])}, r"a least of -1 and a sum"),
        (PianorollSRNN, {"x_train": np.zeros((4, 99, 88))}, r"agree in shape, got \(4, 99, "),
        (PianorollSRNN, {"x_train": np.ones((4, 100, 88))}, r"'u_train' .* one step earlier"),
        (PianorollSRNN, masks(1, 1, 0, 1, 0), "ones, then zeros"),
        (PianorollSRNN, masks(1, 1, 1, 1, 1), "'u_test' of .* must be 0 or 1 everywhere, got nan"),
    ):
        music, _ = written(cls, **changes)
        with pytest.raises(ValueError, match=message) as error:
            music.split("test" if "mask_test" in changes else "train")
        assert FILES[cls][0] in str(error.value) and "\n" not in str(error.value)


def test_npz_pickles_and_other_files_are_refused_and_never_run(written, tmp_path):
    file, npy = tmp_path / FILES[Pianoroll][0], io.BytesIO()
    written(Pianoroll, x_train=np.array([Bomb(tmp_path / "it_was_run")], dtype=object))
    np.save(npy, BITS)
    with pytest.raises(ValueError, match=f"'{file}' must be an npz .* got pickled Python objects"):
        Pianoroll("jsb", data_dir=tmp_path).split("train")
    assert not (tmp_path / "it_was_run").exists()
    written(Pianoroll)
    content = file.read_bytes()
    cuts = [content[:end] for end in (*range(0, len(content), 59), len(content) - 1)]
    for other in (b"PK\x03\x04", b"<html>404</html>\n", npy.getvalue(), *cuts):
        file.write_bytes(other)
        with pytest.raises(ValueError, match=f"'{file}' must be an npz file of plain arrays, got"):
            Pianoroll("jsb", data_dir=tmp_path).split("train")


FLOORS = {  # nats a step, and steps of the splits
    "jsb": ("11.060", [13807, 4602, 4725]),
    "muse": ("11.510", [245202, 82755, 64339]),
    "nottingham": ("10.252", [176561, 45513, 44463]),
    "piano": ("11.046", [75911, 8540, 19036]),
    "jsb_srnn": ("11.089", [27200, 8000, 9396]),
    "muse_srnn": ("12.874", [248000, 78400, 67391]),
    "nottingham_srnn": ("10.176", [147200, 36800, 37062]),
    "piano_srnn": ("13.769", [70400, 9600, 17328]),
}


@real
@pytest.mark.parametrize("name", FLOORS)
def test_pianorolls_have_the_published_counts_and_floors(name):
    music = corpus(name, data_dir=DATA)
    splits = [music.split(split) for split in SPLITS]
    assert music.found() and all(f"{len(split):,}" in music.size for split in splits)
    floor = f"{music.floor().nats_per_step:.3f}", [int(s.lengths.sum()) for s in splits]
    assert floor == FLOORS[name]
    if name == "jsb_srnn":  # chunks go on sixteen chunks later
        data = splits[0]
        assert all(torch.equal(data[i].start, data[i - 16].x[-1]) for i in range(16, len(data)))
    if name == "jsb":
        notes = 21 + torch.cat([x for split in splits for x, *_ in split]).any(0).nonzero()
        assert (notes.min(), notes.max()) == (43, 96)
