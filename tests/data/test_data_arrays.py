"""Arrays and tensors of one's own: layouts, kinds, scales, and refusals."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from zforcing_pyro.analysis.plots import real_and_generated
from zforcing_pyro.app.cli import main
from zforcing_pyro.app.experiment import describe
from zforcing_pyro.data import Arrays
from zforcing_pyro.data.own import arrays as arrays_module

RNG = np.random.default_rng(0)
SPLITS = ("train", "valid", "test")
LENGTHS = RNG.integers(2, 9, 30)
WAVES = [RNG.normal([5, -2], [3, 0.1], (n, 2)).astype(np.float32) for n in LENGTHS]
FLAT = np.concatenate(WAVES).astype(float)
PADDED = np.full((30, 8, 2), np.nan)
for row, wave in zip(PADDED, WAVES):
    row[: len(wave)] = wave
SPLIT = np.array(["test", *["train"] * 20, *["valid"] * 9])


@pytest.fixture
def save(tmp_path):
    """Writes arrays and returns the file."""

    def write(name="x.npz", **arrays):
        np.savez(tmp_path / name, **arrays)
        return tmp_path / name

    return write


def sequences(corpus):
    return [x for split in SPLITS for x, _ in corpus.split(split)]


def ends(parts):
    """Returns the first value and the length of each sequence, sorted."""
    return sorted((round(float(x.flatten()[0]), 4), len(x)) for x in parts)


LAYOUTS = {
    "flat": {"x": FLAT, "len": LENGTHS},
    "zeros": {"x": np.nan_to_num(PADDED), "len": LENGTHS.astype(np.uint8)},
    "nan": {"x": PADDED},
    "float32": {"x": PADDED.astype(np.float32)},
    "split": {"x": FLAT, "len": LENGTHS, "split": SPLIT},
    "by name": {
        f"{name}_{split}": array
        for split, part in zip(SPLITS, np.split(np.arange(30), [20, 25]))
        for name, array in (
            ("x", np.concatenate([WAVES[i] for i in part])),
            ("len", LENGTHS[part]),
        )
    },
}


def test_arrays_layouts_are_the_same_sequences(save):
    for arrays in LAYOUTS.values():
        corpus = Arrays(save(**arrays), standardize=False)
        read = sequences(corpus)
        assert corpus.found() and (corpus.x_dim, corpus.emission) == (2, "gaussian")
        assert ends(read) == ends(WAVES) and read[0].dtype == torch.float32
        assert np.allclose(np.sort(torch.cat(read)[:, 1]), np.sort(FLAT[:, 1]))


def test_arrays_splits_are_those_of_the_file_or_of_the_seed(save):
    corpus = Arrays(save(**LAYOUTS["split"]), standardize=False)
    assert_close(corpus.split("test")[0].x, torch.tensor(WAVES[0]).float())
    assert corpus.split("train").lengths.tolist() == LENGTHS[1:21].tolist()
    corpus = Arrays(save(**LAYOUTS["by name"]))
    assert corpus.split("valid").lengths.tolist() == LENGTHS[20:25].tolist()
    file = save(**LAYOUTS["flat"])
    lengths = [[Arrays(file, seed=s).split(n).lengths.tolist() for n in SPLITS] for s in (0, 0, 1)]
    assert [len(v) for v in lengths[0]] == [24, 3, 3]
    assert lengths[0] == lengths[1] != lengths[2]


def test_arrays_npy_is_memory_mapped(tmp_path, monkeypatch):
    # C7, C2: the file is larger than the memory that is there.
    np.save(tmp_path / "x.npy", PADDED[..., 0])
    monkeypatch.setattr(arrays_module, "available_memory", lambda: 10)
    corpus = Arrays("x.npy", data_dir=tmp_path)
    assert corpus.x_dim == 1 and corpus.split("train")[0].x.shape[1] == 1
    assert sorted(map(len, sequences(corpus))) == sorted(LENGTHS)
    mapped = corpus.split("train")._rows
    while not isinstance(mapped, np.memmap):
        mapped = mapped.base
    windows = corpus.split("train").windows(2)
    assert windows.lengths.max() == 2 and len(windows[1].start) == 1
    np.savez(tmp_path / "x.npz", x=PADDED)
    with pytest.raises(ValueError, match=r"x.npz' must fit in memory, got 0.0 GB: save 'x' as x.n"):
        Arrays(tmp_path / "x.npz").split("train")


KINDS = {
    "bits": (RNG.integers(0, 2, (12, 5, 3)), "bernoulli", 3, (5, 3)),
    "truth": (RNG.random((12, 5)) < 0.5, "bernoulli", 1, (5, 1)),
    "symbols": (np.arange(60).reshape(12, 5) % 9, "categorical", 9, (5,)),
    "two columns": (np.arange(120).reshape(12, 5, 2), "gaussian", 2, (5, 2)),
    "large": (np.arange(60).reshape(12, 5) + 65536, "gaussian", 1, (5, 1)),
    "real": (np.arange(60).reshape(12, 5) / 2, "gaussian", 1, (5, 1)),
}


@pytest.mark.parametrize("x, emission, x_dim, shape", KINDS.values(), ids=KINDS)
def test_arrays_family_is_told_by_the_values(save, x, emission, x_dim, shape):
    corpus = Arrays(save(x=x))
    assert (corpus.emission, corpus.x_dim) == (emission, x_dim)
    values = corpus.split("train")[0].x
    assert values.shape == shape
    assert values.dtype == (torch.int64 if emission == "categorical" else torch.float32)
    floor = corpus.floor()
    assert floor.nats_per_sequence == pytest.approx(5 * floor.nats_per_step)
    forced = Arrays(save(x=x), kind="gaussian")
    assert (forced.emission, forced.x_dim) == ("gaussian", 1 if x.ndim == 2 else x.shape[2])


def test_arrays_are_drawn_in_their_own_units_on_one_axis(save):
    for name in ("symbols", "two columns", "real"):
        corpus = Arrays(save(x=KINDS[name][0]))
        test = [x for x, _ in corpus.split("test")]
        first, second = real_and_generated(corpus, test, [x[:1] for x in test]).axes
        wanted = test[0] if corpus.x_dim == 2 else corpus.values(test[0])
        drawn = first.get_lines()[0].get_ydata()
        assert np.allclose(drawn, wanted.reshape(len(test[0]), -1)[:, 0])
        assert first.get_ylim() == second.get_ylim()


def test_arrays_counts_are_not_silently_symbols(save):
    # W17
    x = RNG.poisson(40, (12, 50))
    with pytest.warns(
        UserWarning, match=r"integers from \d+ to \d+ in one column are taken as counts: 'kind"
    ):
        corpus = Arrays(save(x=x), seed=1)
        assert (corpus.emission, corpus.x_dim) == ("poisson", 1)
    train, test = (torch.cat([x for x, _ in corpus.split(s)]) for s in ("train", "test"))
    assert train.dtype == torch.float32
    rate = (train.double().sum() + 0.5) / (len(train) + 1)
    nats = -torch.distributions.Poisson(rate).log_prob(test.double()).sum() / len(test)
    assert corpus.floor().nats_per_step == pytest.approx(nats.item())
    with pytest.warns(UserWarning, match="taken as 21 symbols: 'kind' categorical says so, counts"):
        assert Arrays(save(x=np.arange(60).reshape(12, 5) % 21)).x_dim == 21
    for kind, emission in (("categorical", "categorical"), ("counts", "poisson")):
        assert Arrays(save(x=x), kind=kind).emission == emission


def test_arrays_that_look_transposed_are_told(save):
    # W17: (sequences, channels, time)
    x = RNG.normal(size=(10, 6, 100))
    with pytest.warns(UserWarning, match=r"read as 6 steps of 100 columns: x.transpose\(0, 2, 1\)"):
        Arrays(save(x=x)).split("train")
    assert Arrays(save(x=x, len=np.full(10, 6))).x_dim == 100
    assert Arrays.from_tensors(torch.tensor(x).mT).x_dim == 6


def test_arrays_are_standardised_by_the_observed_values_of_train(save, tmp_path):
    x = PADDED.copy()
    x[3, 1, 0] = x[5, 0, 1] = np.nan
    corpus = Arrays(save(x=x, split=SPLIT))
    train = np.concatenate([v[: len(w)] for v, w in zip(x, WAVES)][1:21])
    mean, std = np.nanmean(train, 0), np.nanstd(train, 0)
    seen = torch.cat([v for v, _ in corpus.split("train")])
    assert seen.isnan().sum() == 2
    assert_close(seen, torch.tensor((train - mean) / std).float(), equal_nan=True)
    facts = corpus.facts()
    assert_close(torch.tensor([facts["mean"], facts["std"]]), torch.tensor(np.stack([mean, std])))
    own = torch.tensor(x[3, : len(WAVES[3])])
    assert_close(corpus.values(corpus.split("train")[2].x), own, equal_nan=True, rtol=0, atol=1e-6)
    corpus.write(corpus.split("train")[2].x, tmp_path / "x.csv")
    with open(tmp_path / "x.csv") as file:
        header, *rows = csv.reader(file)
    assert header == ["step", "x0", "x1"] and rows[1][1] == "" and len(rows) == len(own)
    assert [float(r[2]) for r in rows] == pytest.approx(own[:, 1].tolist(), rel=1e-5)
    assert "standardised" not in Arrays(save(x=x), standardize=False).version


def test_arrays_with_an_offset_keep_their_resolution(save, tmp_path):
    # W15
    values = np.round(RNG.normal([1.7e9, 5e6], [5, 0.2], (30, 8, 2)), 3)
    corpus = Arrays(save(x=values, split=SPLIT))
    x = corpus.split("test")[0].x
    corpus.write(x, tmp_path / "x.csv")
    rows = np.loadtxt(tmp_path / "x.csv", delimiter=",", skiprows=1)
    assert np.abs(rows[:, 1:] - values[0]).max() < 1e-5
    with pytest.warns(UserWarning, match=r"column 'x.' is .* \+- .*: float32 rounds it, 'st"):
        Arrays(save(x=values), standardize=False).split("train")


def test_arrays_constant_columns_are_only_shifted_and_told(save):
    # W16: constant up to rounding
    noise = RNG.choice([0, 1e-17, 3e-17], (30, 8))
    x = np.dstack([PADDED[..., 0], np.full((30, 8), 0.1) + noise])
    with pytest.warns(UserWarning, match=r"column 'x1' is 0.1 all of train: .* has no bound"):
        corpus = Arrays(save(x=x, len=LENGTHS))
        assert corpus.facts()["std"][1] == 1
    assert all((x[:, 1].abs() < 1e-15).all() for x in sequences(corpus))
    assert corpus.floor().nats_per_step == pytest.approx(np.log(2 * np.pi), abs=2)


def test_arrays_values_that_overflow_are_refused(save):
    # W16
    x = PADDED.copy()
    for value, standardize in ((1e200, True), (1e30, False)):
        x[7, 1, 1] = value
        with pytest.raises(ValueError, match=r"column 'x1' must be at most 1e150 .* to 1e"):
            Arrays(save(x=x), standardize=standardize).split("train")
    assert all(v.isfinite().all() for v in sequences(Arrays(save(x=x, len=LENGTHS))))


def test_arrays_run_knows_what_was_learnt_without_the_file(save):
    file = save(**LAYOUTS["flat"])
    learnt = Arrays(file)
    x = learnt.split("test")[0].x
    file.unlink()
    restored = Arrays(file)
    restored.restore(learnt.facts())
    assert (restored.x_dim, restored.emission) == (2, "gaussian")
    assert restored.version == learnt.version and restored.facts() == learnt.facts()
    assert restored.as_text(x) == learnt.as_text(x)
    assert_close(restored.values(x), learnt.values(x))
    np.savez(file, x=FLAT + 100, len=LENGTHS)  # W10: another file is refused
    with pytest.raises(ValueError, match=r"'x.npz' has other content"):
        restored.check_unchanged({"x.npz": "0"})
    assert Arrays.from_tensors(WAVES).fingerprint() == {}
    with pytest.raises(ValueError, match="must be as it was when the run began"):
        restored.split("test")
    for name, value in (("x_dim", "2"), ("mean", "ab"), ("std", [1.0]), ("columns", None)):
        with pytest.raises(ValueError):
            restored.restore(learnt.facts() | {name: value})


def test_arrays_version_tells_the_values_the_split_and_the_scale(save):
    def version(x=FLAT, **options):
        return Arrays(save(x=x, len=LENGTHS), **options).version

    assert version() == version(np.nan_to_num(PADDED))
    others = [version(seed=1), version(standardize=False), version(FLAT + 1e-9)]
    assert len({version(), *others}) == 4
    assert (Arrays().emission, Arrays().version) == ("gaussian", "digest unknown")


def test_arrays_floors_are_of_observed_values(save):
    x = np.array([[0.0, 2, np.nan], [2, 0, np.nan], [1, np.nan, 3], [0, np.nan, 1], [1, 1, 1]])
    split = np.array(["train", "train", "valid", "test", "test"])
    floor = Arrays(save(x=x, split=split, len=np.full(5, 3)), standardize=False).floor()
    # Mean 1, deviation 1; five observed values of test, of which two are 1 away.
    nats = 5 * 0.5 * np.log(2 * np.pi) + 0.5
    assert floor.nats_per_sequence == pytest.approx(nats / 2)
    assert floor.nats_per_step == pytest.approx(nats / 6)
    bits = np.where(np.isnan(x), x, x > 0)
    corpus = Arrays(save(x=bits, split=split, len=np.full(5, 3)))
    assert corpus.emission == "bernoulli" and corpus.split("test")[0].x.isnan().sum() == 1
    assert corpus.floor().nats_per_sequence == pytest.approx(5 * np.log(2) / 2)  # 2.5 of 5
    symbols = Arrays(save(x=np.array([[0, 3], [0, 0], [0, 0], [0, 3]]), split=split[[0, 1, 2, 3]]))
    p, q = 3.5 / 6, 1.5 / 6
    assert symbols.floor().nats_per_sequence == pytest.approx(-np.log(p) - np.log(q))


def test_arrays_missing_steps_in_the_middle_stay_and_those_at_the_end_go(save):
    x = np.ones((4, 5, 2)) * np.arange(4)[:, None, None]
    x[:, 1], x[:, 3:] = np.nan, np.nan
    assert {len(v) for v in sequences(Arrays(save(x=x)))} == {3}
    assert {len(v) for v in sequences(Arrays(save(x=x, len=np.full(4, 5))))} == {5}
    one = np.array([[1.0, np.nan], [2.0, np.nan], [3.0, np.nan], [4.0, np.nan]])
    assert sequences(Arrays(save(x=one)))[0].shape == (1, 1)


DTYPES = {
    "tensors": [torch.tensor(w, requires_grad=True) for w in WAVES],
    "numpy": [w.astype(float) for w in WAVES],
    "lists": [w.tolist() for w in WAVES],
    "half": [torch.tensor(w).half() for w in WAVES],
    "bfloat16": [torch.tensor(w).bfloat16() for w in WAVES],
}


def test_arrays_take_sequences_of_python():
    # C9
    for tensors in DTYPES.values():
        corpus = Arrays.from_tensors(tensors, seed=3, standardize=False)
        read = sequences(corpus)
        assert corpus.found() and read[0].dtype == torch.float32
        assert np.allclose(ends(read), ends(WAVES), rtol=1e-2)
        parts = {"train": tensors[:5], "valid": tensors[5:6], "test": tensors[6:]}
        x = Arrays.from_tensors(parts, standardize=False).split("valid")[0].x
        assert_close(x, torch.tensor(WAVES[5]).float(), rtol=1e-2, atol=1e-3)


def test_arrays_refuse_sequences_that_do_not_fit():
    tensors = DTYPES["tensors"]
    with pytest.raises(ValueError, match=r"data in memory: sequences must .*'x_test', 'x_train'\]"):
        Arrays.from_tensors({"train": tensors, "test": tensors}).split("train")
    complex64 = torch.ones(3, 2, dtype=torch.complex64)
    for bad in (torch.ones(3, 1), torch.ones(3, 2, 2), torch.ones(0, 2), complex64, [[1], [3, 4]]):
        with pytest.raises(ValueError, match="sequence 30 must be numbers of shape"):
            Arrays.from_tensors([*tensors, bad]).split("train")


INF, EVERYWHERE, COLUMN = PADDED.copy(), PADDED.copy(), PADDED.copy()
INF[7, 1, 1], EVERYWHERE[4], COLUMN[..., 1] = np.inf, np.nan, np.nan
BAD = {
    "no x": ({"y": FLAT}, r"sequences must be in 'x' .* got \['y'\]"),
    "missing split": ({"x_train": PADDED, "x_test": PADDED}, r"must be in .* got \['x_test', 'x_t"),
    "lengths": ({"x": PADDED, "lengths": LENGTHS}, r"lengths in 'len' .* got \['lengths'\]"),
    "mask": ({"x": PADDED, "mask": PADDED > 0}, r"mask.sum\(1\) makes of a mask, got \['mask'\]"),
    "text": ({"x": np.array([["a"]])}, "'x' must be numbers of shape .* got <U1"),
    "4-D": ({"x": PADDED[None]}, r"got float64 of shape \(1, 30, 8, 2\)"),
    "empty": ({"x": PADDED[:0]}, r"not empty, got float64 of shape \(0, 8, 2\)"),
    "no lengths": ({"x": FLAT[:, 0]}, "'x' must have 'len' beside it"),
    "sum": ({"x": FLAT, "len": LENGTHS[:-1]}, "'len' must be .* sum to the steps of 'x', or"),
    "too long": ({"x": PADDED, "len": LENGTHS + 8}, "or the length of each"),
    "zero length": ({"x": PADDED, "len": LENGTHS * 0}, "must be positive integers .* from 0"),
    "float lengths": ({"x": PADDED, "len": LENGTHS / 1}, "must be positive .* got float64"),
    "infinite": ({"x": INF}, "sequence '7' in .* must be finite or NaN, got infinity at step 1"),
    "NaN sequence": ({"x": EVERYWHERE}, "sequence '4' in .* must have observed values, got only"),
    "NaN column": ({"x": COLUMN}, "column 'x1' must not be NaN all of train"),
    "few": ({"x": PADDED[:2]}, "the sequences must be enough for train, valid .* got 2"),
    "split names": ({"x": PADDED, "split": np.array(["dev"] * 30)}, r"'split' must .* \['dev'\]"),
    "split size": ({"x": PADDED, "split": SPLIT[:9]}, r"must be 30 times one of .* got 9"),
    "split empty": ({"x": PADDED, "split": SPLIT[[1] * 30]}, "each at least once, got .*rain"),
    "widths": ({"x_train": PADDED, "x_valid": PADDED[..., :1], "x_test": PADDED}, "as many col"),
}


def test_arrays_that_do_not_fit_are_named(save):
    # W13
    for arrays, message in BAD.values():
        file = save(**arrays)
        with pytest.raises(ValueError, match=message) as error:
            Arrays(file).split("train")
        assert f"'{file}'" in str(error.value) and "\n" not in str(error.value)


def test_arrays_of_another_kind_are_named(save):
    for kind, x, message in (
        ("bernoulli", PADDED, "must be 0, 1 or NaN to be 'bernoulli', got"),
        ("categorical", PADDED // 1, "one column of symbols .* got 2 columns from -7.0 to"),
        ("counts", PADDED[..., 0], r"whole numbers in .* to be 'counts', got .* with fractions"),
    ):
        with pytest.raises(ValueError, match=message):
            Arrays(save(x=x), kind=kind).split("train")
    with pytest.raises(ValueError, match=r"'kind' must be one of \['auto', .* got 'poisson'"):
        Arrays(kind="poisson")


def test_arrays_pickles_are_refused_and_never_run(save, tmp_path):
    trace = tmp_path / "it_was_run"

    class Bomb:
        def __reduce__(self):
            return Path.touch, (trace,)

    bomb = np.array([Bomb()], dtype=object)
    np.save(tmp_path / "x.npy", bomb, allow_pickle=True)
    for file in (save(x=bomb), save("y.npz", x=PADDED, unused=bomb), tmp_path / "x.npy"):
        with pytest.raises(ValueError, match=f"'{file}' must be an npz .* pickled Python objects"):
            Arrays(file).split("train")
    assert not trace.exists()
    np.load(tmp_path / "x.npy", allow_pickle=True)
    assert trace.exists()  # the bomb was live


def test_arrays_broken_and_missing_files_are_named(tmp_path):
    file = tmp_path / "x.npz"
    np.savez(file, x=PADDED)
    content = file.read_bytes()
    for broken in (b"", b"PK\x03\x04", b"text\n", content[:300], content[:-5]):
        file.write_bytes(broken)
        with pytest.raises(ValueError, match=f"'{file}' must be an npz or npy file of plain arr"):
            Arrays(file).split("train")
    with pytest.raises(FileNotFoundError, match=r"got none at 'nowhere.npz'"):
        Arrays("nowhere.npz").split("train")
    with pytest.raises(ValueError, match=r"'path' must be given for arrays, as --data.path"):
        Arrays().split("train")
    os.mkfifo(tmp_path / "pipe")  # C2
    with pytest.raises(ValueError, match=r"pipe' must be a regular file, got a pipe"):
        Arrays(tmp_path / "pipe").split("train")


def test_arrays_symbols_and_values_are_shown_in_a_terminal(save):
    x = RNG.normal(size=(10, 200, 15))
    x[:, 1, 0] = np.nan
    many = Arrays(save(x=x))
    lines = many.as_text(many.split("train")[0].x).splitlines()
    assert len(lines) == 13 and lines[-1] == "3 more columns" and max(map(len, lines)) <= 80
    name, first, second, *_ = lines[0].split()
    value = many.values(many.split("train")[0].x)[0, 0]
    assert (name, second) == ("x0", "NaN") and float(first) == pytest.approx(value.item(), abs=2e-3)
    symbols = Arrays(save(x=np.arange(600).reshape(6, 100) % 77), kind="categorical")
    text = symbols.as_text(symbols.split("train")[0].x)
    assert [int(v) for v in text.split()] == symbols.split("train")[0].x.tolist()
    assert max(map(len, text.splitlines())) <= 80


def test_arrays_command_line_takes_the_family_of_the_file(save, tmp_path):
    file = save(x=KINDS["symbols"][0])
    options = ["--data=arrays", f"--data.path={file.name}", f"--data_dir={tmp_path}"]
    assert describe(options).emission["name"] == "categorical"
    assert describe(options).corpus().x_dim == 9
    assert describe([*options, "--data.kind=gaussian"]).emission["name"] == "gaussian"
    assert describe([*options, "--emission=gmm"]).emission["name"] == "gmm"
    assert describe(["--data=arrays"]).emission["name"] == "gaussian"


@pytest.mark.slow
def test_arrays_train_and_draw(save, tmp_path, capsys):
    small = ["--model.z_dim=2", "--model.h_dim=8", "--model.hidden_dim=8", "--max_updates=2"]
    out = str(tmp_path / "run")
    torch.set_default_dtype(torch.float32)
    x = PADDED.copy()
    x[:, 0, 1] = np.nan  # R3
    data = f"--data.path={save(x=x)}"
    assert Arrays(save(x=x)).missing
    assert main(["train", "--data=arrays", data, *small, "--out", out]) == 0
    assert main(["evaluate", out]) == 0 and "data digest" in capsys.readouterr().out
    assert main(["sample", out, "--num=1"]) == 0
    assert (tmp_path / "run" / "samples" / "samples.png").stat().st_size > 1000
