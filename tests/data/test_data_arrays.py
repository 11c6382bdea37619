"""Arrays and tensors of one's own: layouts, kinds, scales, and refusals."""

import csv
import zipfile

import numpy as np
import pytest
import torch
from bombs import Bomb
from torch.testing import assert_close

from zforcing_pyro.analysis.plots import real_and_generated
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
BITS, SYMBOLS = RNG.integers(0, 2, (12, 5, 3)), np.arange(60).reshape(12, 5) % 9


@pytest.fixture
def save(tmp_path):
    """Writes arrays and returns the file."""

    def write(name="x.npz", **arrays):
        np.savez(tmp_path / name, **arrays)
        return tmp_path / name

    return write


def sequences(corpus):
    return [x for split in SPLITS for x, *_ in corpus.split(split)]


def ends(parts):
    """Returns the first value and the length of each sequence, sorted."""
    return sorted((round(float(x.flatten()[0]), 4), len(x)) for x in parts)


def test_arrays_layouts_are_the_same_sequences(save):
    parts = dict(zip(SPLITS, np.split(np.arange(30), [20, 25])))
    named = {f"x_{split}": PADDED[part] for split, part in parts.items()}
    for arrays in (
        {"x": np.nan_to_num(PADDED), "len": LENGTHS.astype(np.uint8)},
        {"x": PADDED.astype(np.float32)},
        named | {f"len_{split}": LENGTHS[part] for split, part in parts.items()},
        {"x": FLAT, "len": LENGTHS, "split": SPLIT},
    ):
        corpus = Arrays(save(**arrays), standardize=False)
        read = sequences(corpus)
        assert corpus.found() and (corpus.x_dim, corpus.emission) == (2, "gaussian")
        assert ends(read) == ends(WAVES) and read[0].dtype == torch.float32
        assert np.allclose(np.sort(torch.cat(read)[:, 1]), np.sort(FLAT[:, 1]))
    assert_close(corpus.split("test")[0].x, torch.tensor(WAVES[0]).float())
    assert corpus.split("train").lengths.tolist() == LENGTHS[1:21].tolist()


def test_arrays_npy_is_memory_mapped(tmp_path, monkeypatch):
    # C7, C2: the file is larger than the memory that is there.
    np.save(tmp_path / "x.npy", PADDED[..., 0])
    monkeypatch.setattr(arrays_module, "available_memory", lambda: 10)
    corpus = Arrays("x.npy", data_dir=tmp_path)
    assert corpus.x_dim == 1 and sorted(map(len, sequences(corpus))) == sorted(LENGTHS)
    mapped = corpus.split("train")._rows
    while not isinstance(mapped, np.memmap):
        mapped = mapped.base
    windows = corpus.split("train").windows(2)
    assert windows.lengths.max() == 2 and len(windows[1].start) == 1
    np.savez(tmp_path / "x.npz", x=PADDED)
    with pytest.raises(ValueError, match=r"x.npz' must fit in memory, got 0.0 GB: save 'x' as x.n"):
        Arrays(tmp_path / "x.npz").split("train")


@pytest.mark.parametrize(
    "x, emission, x_dim, shape",
    [
        (BITS, "bernoulli", 3, (5, 3)),
        (BITS[..., 0] > 0, "bernoulli", 1, (5, 1)),
        (SYMBOLS, "categorical", 9, (5,)),
        (np.arange(120).reshape(12, 5, 2), "gaussian", 2, (5, 2)),
        (SYMBOLS + 65536, "gaussian", 1, (5, 1)),
        (SYMBOLS / 2, "gaussian", 1, (5, 1)),
    ],
)
def test_arrays_tell_their_emission_and_are_drawn_in_their_units(save, x, emission, x_dim, shape):
    corpus = Arrays(save(x=x))
    test = [x for x, *_ in corpus.split("test")]
    assert (corpus.emission, corpus.x_dim, test[0].shape) == (emission, x_dim, shape)
    assert test[0].dtype == (torch.int64 if emission == "categorical" else torch.float32)
    floor = corpus.floor()
    assert floor.nats_per_sequence == pytest.approx(5 * floor.nats_per_step)
    forced = Arrays(save(x=x), kind="gaussian")
    assert (forced.emission, forced.x_dim) == ("gaussian", 1 if x.ndim == 2 else x.shape[2])
    first, second = real_and_generated(corpus, test, [x[:1] for x in test]).axes
    wanted = test[0] if x.ndim == 3 else corpus.values(test[0])
    assert np.allclose(first.get_lines()[0].get_ydata(), wanted.reshape(5, -1)[:, 0])
    assert first.get_ylim() == second.get_ylim()


def test_arrays_counts_and_transposed_arrays_are_told(save):
    # W17
    x = RNG.poisson(40, (12, 50))
    with pytest.warns(UserWarning, match=r"integers from .* column are taken as counts: 'kind"):
        corpus = Arrays(save(x=x), seed=1)
        assert (corpus.emission, corpus.x_dim) == ("poisson", 1)
    train, test = (torch.cat([x for x, *_ in corpus.split(s)]) for s in ("train", "test"))
    rate = (train.double().sum() + 0.5) / (len(train) + 1)
    nats = -torch.distributions.Poisson(rate).log_prob(test.double()).sum() / len(test)
    assert corpus.floor().nats_per_step == pytest.approx(nats.item())
    with pytest.warns(UserWarning, match="taken as 21 symbols: 'kind' categorical says so, counts"):
        assert Arrays(save(x=np.arange(60).reshape(12, 5) % 21)).x_dim == 21
    for kind, emission in (("categorical", "categorical"), ("counts", "poisson")):
        assert Arrays(save(x=x), kind=kind).emission == emission
    with pytest.warns(UserWarning, match=r"read as 6 steps of 100 columns: x.transpose\(0, 2, 1\)"):
        Arrays(save(x=RNG.normal(size=(10, 6, 100)))).split("train")


def test_arrays_are_standardised_by_train_and_written_as_they_were(save, tmp_path):
    x = PADDED.copy()
    x[3, 1, 0] = x[5, 0, 1] = np.nan
    corpus = Arrays(save(x=x, split=SPLIT))
    train = np.concatenate([v[: len(w)] for v, w in zip(x, WAVES)][1:21])
    mean, std = np.nanmean(train, 0), np.nanstd(train, 0)
    scaled = torch.cat([v for v, *_ in corpus.split("train")])
    assert_close(scaled, torch.tensor((train - mean) / std).float(), equal_nan=True)
    values = torch.tensor(x[3, : len(WAVES[3])])
    scaled = corpus.split("train")[2].x
    assert_close(corpus.values(scaled), values, equal_nan=True, rtol=0, atol=1e-6)
    corpus.write(scaled, tmp_path / "x.csv")
    with open(tmp_path / "x.csv") as file:
        header, *rows = csv.reader(file)
    assert header == ["step", "x0", "x1"] and rows[1][1] == "" and len(rows) == len(values)
    assert [float(r[2]) for r in rows] == pytest.approx(values[:, 1].tolist(), rel=1e-5)
    # W15
    values = np.round(RNG.normal([1.7e9, 5e6], [5, 0.2], (30, 8, 2)), 3)
    corpus = Arrays(save(x=values, split=SPLIT))
    corpus.write(corpus.split("test")[0].x, tmp_path / "x.csv")
    rows = np.loadtxt(tmp_path / "x.csv", delimiter=",", skiprows=1)
    assert np.abs(rows[:, 1:] - values[0]).max() < 1e-5
    with pytest.warns(UserWarning, match=r"column 'x.' is .* \+- .*: float32 rounds it, 'st"):
        Arrays(save(x=values), standardize=False).split("train")


def test_arrays_constant_columns_are_shifted_and_told_and_overflow_is_refused(save):
    # W16: constant up to rounding
    noise = RNG.choice([0, 1e-17, 3e-17], (30, 8))
    x = np.dstack([PADDED[..., 0], np.full((30, 8), 0.1) + noise])
    with pytest.warns(UserWarning, match=r"column 'x1' is 0.1 all of train .* has no bound"):
        corpus = Arrays(save(x=x, len=LENGTHS))
        assert corpus.facts()["std"][1] == 1
    assert all((x[:, 1].abs() < 1e-15).all() for x in sequences(corpus))
    x = PADDED.copy()
    for value, standardize in ((1e200, True), (1e30, False)):
        x[7, 1, 1] = value
        with pytest.raises(ValueError, match=r"column 'x1' must be at most 1e150 .* to 1e"):
            Arrays(save(x=x), standardize=standardize).split("train")
    assert all(v.isfinite().all() for v in sequences(Arrays(save(x=x, len=LENGTHS))))


def test_arrays_run_knows_what_was_learnt_without_the_file(save):
    def version(x=FLAT, **options):
        return Arrays(save(x=x, len=LENGTHS), **options).version

    others = [version(seed=1), version(standardize=False), version(FLAT + 1e-9)]
    assert len({version(), *others}) == 4 and version() == version(np.nan_to_num(PADDED))
    file = save(x=FLAT, len=LENGTHS)
    learnt = Arrays(file)
    x = learnt.split("test")[0].x
    file.unlink()
    restored = Arrays(file)
    restored.restore(learnt.facts())
    assert restored.version == learnt.version and restored.facts() == learnt.facts()
    assert restored.as_text(x) == learnt.as_text(x)
    assert_close(restored.values(x), learnt.values(x))
    save(x=FLAT + 100, len=LENGTHS)  # W10: another file is refused
    with pytest.raises(ValueError, match=r"'x.npz' has other content"):
        restored.check_unchanged({"x.npz": "0"})
    with pytest.raises(ValueError, match="must be as it was when the run began"):
        restored.split("test")
    for name, value in (("x_dim", "2"), ("mean", "ab"), ("std", [1.0]), ("columns", None),
                        ("std", [0.0] * 2), ("mean", [float("nan")] * 2)):  # fmt: skip
        with pytest.raises(ValueError):
            restored.restore(learnt.facts() | {name: value})


def test_arrays_missing_values_cost_nothing_and_trailing_steps_go(save):
    x = np.array([[0.0, 2, np.nan], [2, 0, np.nan], [1, np.nan, 3], [0, np.nan, 1], [1, 1, 1]])
    split = np.array(["train", "train", "valid", "test", "test"])
    floor = Arrays(save(x=x, split=split, len=np.full(5, 3)), standardize=False).floor()
    # Mean 1, deviation 1; five observed values of test, of which two are 1 away.
    nats = 5 * 0.5 * np.log(2 * np.pi) + 0.5
    assert floor.nats_per_sequence == pytest.approx(nats / 2)
    assert floor.nats_per_step == pytest.approx(nats / 6)
    corpus = Arrays(save(x=np.where(np.isnan(x), x, x > 0), split=split, len=np.full(5, 3)))
    assert corpus.emission == "bernoulli" and corpus.split("test")[0].x.isnan().sum() == 1
    assert corpus.floor().nats_per_sequence == pytest.approx(5 * np.log(2) / 2)  # 2.5 of 5
    symbols = Arrays(save(x=np.array([[0, 3], [0, 0], [0, 0], [0, 3]]), split=split[:4]))
    p, q = 3.5 / 6, 1.5 / 6
    assert symbols.floor().nats_per_sequence == pytest.approx(-np.log(p) - np.log(q))
    x = np.ones((4, 5, 2)) * np.arange(4)[:, None, None]
    x[:, 1], x[:, 3:] = np.nan, np.nan  # those in the middle stay, those at the end go
    assert {len(v) for v in sequences(Arrays(save(x=x)))} == {3}
    assert {len(v) for v in sequences(Arrays(save(x=x, len=np.full(4, 5))))} == {5}


def test_arrays_take_sequences_of_python():
    # C9
    tensors = [torch.tensor(w, requires_grad=True) for w in WAVES]
    arrays, lists = [w.astype(float) for w in WAVES], [w.tolist() for w in WAVES]
    for parts in (tensors, arrays, lists, [x.half() for x in tensors]):
        corpus = Arrays.from_tensors(parts, seed=3, standardize=False)
        assert corpus.found() and corpus.fingerprint() == {}
        assert np.allclose(ends(sequences(corpus)), ends(WAVES), rtol=1e-2)
    bfloats = [x.bfloat16() for x in tensors]
    splits = {"train": bfloats[:5], "valid": bfloats[5:6], "test": bfloats[6:]}
    x = Arrays.from_tensors(splits, standardize=False).split("valid")[0].x
    assert_close(x, torch.tensor(WAVES[5]).float(), rtol=1e-2, atol=1e-3)
    with pytest.raises(ValueError, match=r"data in memory: sequences must .*'x_test', 'x_train'\]"):
        Arrays.from_tensors({"train": tensors, "test": tensors}).split("train")
    complex64 = torch.ones(3, 2, dtype=torch.complex64)
    for bad in (torch.ones(3, 1), torch.ones(3, 2, 2), torch.ones(0, 2), complex64, [[1], [3, 4]]):
        with pytest.raises(ValueError, match="sequence 30 must be numbers of shape"):
            Arrays.from_tensors([*tensors, bad]).split("train")


INF, EVERYWHERE, COLUMN = PADDED.copy(), PADDED.copy(), PADDED.copy()
INF[7, 1, 1], EVERYWHERE[4], COLUMN[..., 1] = np.inf, np.nan, np.nan


def test_arrays_that_do_not_fit_are_named(save):
    # W13
    for arrays, message in (
        ({"y": FLAT}, r"sequences must be in 'x' .* got \['y'\]"),
        ({"x": PADDED, "lengths": LENGTHS}, r"lengths in 'len' .* got \['lengths'\]"),
        ({"x": PADDED, "mask": PADDED > 0}, r"mask.sum\(1\) makes of a mask, got \['mask'\]"),
        ({"x": PADDED[:0]}, r"not empty, got float64 of shape \(0, 8, 2\)"),
        ({"x": FLAT[:, 0]}, "'x' must have 'len' beside it"),
        ({"x": FLAT, "len": LENGTHS[:-1]}, "'len' must be .* sum to the steps of 'x', or"),
        ({"x": PADDED, "len": LENGTHS * 0}, "must be positive integers .* from 0"),
        ({"x": INF}, "sequence '7' in .* must be finite or NaN, got infinity at step 1"),
        ({"x": EVERYWHERE}, "sequence '4' in .* must have observed values, got only"),
        ({"x": COLUMN}, "column 'x1' must not be NaN all of train"),
        ({"x": PADDED, "split": SPLIT[:9]}, r"must be 30 times one of .* got 9"),
        ({"x_train": PADDED, "x_valid": PADDED[..., :1], "x_test": PADDED}, "as many columns"),
    ):
        file = save(**arrays)
        with pytest.raises(ValueError, match=message) as error:
            Arrays(file).split("train")
        assert f"'{file}'" in str(error.value) and "\n" not in str(error.value)
    for kind, x, message in (
        ("bernoulli", PADDED, "must be 0, 1 or NaN to be 'bernoulli', got"),
        ("categorical", PADDED // 1, "one column of symbols .* got 2 columns from -7.0 to"),
        ("counts", PADDED[..., 0], r"whole numbers in .* to be 'counts', got .* with fractions"),
    ):
        with pytest.raises(ValueError, match=message):
            Arrays(save(x=x), kind=kind).split("train")
    with pytest.raises(ValueError, match=r"'kind' must be one of \['auto', .* got 'poisson'"):
        Arrays(kind="poisson")


def test_arrays_pickles_broken_and_missing_files_are_refused(save, tmp_path):
    trace = tmp_path / "it_was_run"
    bomb = np.array([Bomb(trace)], dtype=object)
    np.save(tmp_path / "x.npy", bomb, allow_pickle=True)
    for file in (save(x=bomb), save("y.npz", x=PADDED, unused=bomb), tmp_path / "x.npy"):
        with pytest.raises(ValueError, match=f"'{file}' must be an npz .* pickled Python objects"):
            Arrays(file).split("train")
    assert not trace.exists()
    np.load(tmp_path / "x.npy", allow_pickle=True)
    assert trace.exists()  # the bomb was live
    content = save(x=PADDED).read_bytes()
    with zipfile.ZipFile(tmp_path / "x.npz", "a") as twice, pytest.warns(UserWarning, match="Dup"):
        twice.writestr("x.npy", bytes(9))
    with pytest.raises(ValueError, match=r"two of one name: \['x', 'x'\]"):
        Arrays(tmp_path / "x.npz").split("train")
    for broken in (b"", b"PK\x03\x04", b"text\n", content[:300], content[:-5]):
        (tmp_path / "x.npz").write_bytes(broken)
        with pytest.raises(ValueError, match=r"x.npz' must be an npz or npy file of plain arrays"):
            Arrays(tmp_path / "x.npz").split("train")


def test_arrays_command_line_takes_the_family_of_the_file(save, tmp_path):
    options = ["--data=arrays", f"--data.path={save(x=SYMBOLS).name}", f"--data_dir={tmp_path}"]
    for more, emission in (([], "categorical"), (["--data.kind=gaussian"], "gaussian")):
        assert describe(options + more).emission["name"] == emission
    assert describe([*options, "--emission=gmm"]).emission["name"] == "gmm"
    assert describe(["--data=arrays"]).emission["name"] == "gaussian"
