"""Arrays and tensors of one's own: their layouts, what they are, and what is wrong with them."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from zforcing_pyro.analysis.plots import real_and_generated
from zforcing_pyro.app.cli import main
from zforcing_pyro.app.experiment import describe
from zforcing_pyro.data import Arrays, BatchSampler

RNG = np.random.default_rng(0)
SPLITS = ("train", "valid", "test")
LENGTHS = RNG.integers(2, 9, 30)
WAVES = [RNG.normal([5, -2], [3, 0.1], (n, 2)).astype(np.float32) for n in LENGTHS]
FLAT = np.concatenate(WAVES).astype(float)
PADDED = np.full((30, 8, 2), np.nan)
for row, wave in zip(PADDED, WAVES):
    row[: len(wave)] = wave


@pytest.fixture(autouse=True)
def no_default_folder(monkeypatch):
    monkeypatch.delenv("ZFORCING_DATA", raising=False)


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
    """Each sequence by its first value and its length, in any order."""
    return sorted((round(float(x.flatten()[0]), 4), len(x)) for x in parts)


SPLIT = np.array(["test", *["train"] * 20, *["valid"] * 9])
LAYOUTS = {
    "flat": {"x": FLAT, "len": LENGTHS},
    "padded": {"x": PADDED, "len": LENGTHS},
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
    "by name, padded": {
        f"x_{split}": part for split, part in zip(SPLITS, np.split(PADDED, [20, 25]))
    },
}


@pytest.mark.parametrize("arrays", LAYOUTS.values(), ids=LAYOUTS)
def test_layouts_are_the_same_sequences(save, arrays):
    corpus = Arrays(save(**arrays), standardize=False)
    found = sequences(corpus)
    assert corpus.found() and (corpus.x_dim, corpus.emission) == (2, "gaussian")
    assert ends(found) == ends(WAVES) and found[0].dtype == torch.float32
    together = sorted(torch.cat(found)[:, 1].tolist())
    assert_close(torch.tensor(together), torch.tensor(np.sort(FLAT[:, 1])))


def test_the_splits_of_the_file_are_kept_in_order(save):
    corpus = Arrays(save(**LAYOUTS["split"]), standardize=False)
    assert_close(corpus.split("test")[0].x, torch.tensor(WAVES[0]).float())
    assert corpus.split("train").lengths.tolist() == LENGTHS[1:21].tolist()
    corpus = Arrays(save(**LAYOUTS["by name"]))
    assert corpus.split("valid").lengths.tolist() == LENGTHS[20:25].tolist()


def test_a_split_by_chance_is_of_the_seed_alone(save):
    file = save(**LAYOUTS["flat"])
    first = torch.cat([x[:1, 0] for x, _ in Arrays(file, standardize=False).split("train")])
    order = [[float(w[0, 0]) for w in WAVES].index(value) for value in first.tolist()]
    assert order == sorted(order) and len(set(order)) == 24 and order[0] != order[-1] - 23
    lengths = [[Arrays(file, seed=s).split(n).lengths.tolist() for n in SPLITS] for s in (0, 0, 1)]
    assert [len(v) for v in lengths[0]] == [24, 3, 3]
    assert lengths[0] == lengths[1] != lengths[2]


def test_a_npy_file_is_one_array(tmp_path):
    np.save(tmp_path / "x.npy", PADDED[..., 0])
    corpus = Arrays("x.npy", data_dir=tmp_path)
    assert corpus.x_dim == 1 and corpus.split("train")[0].x.shape[1] == 1
    assert sorted(map(len, sequences(corpus))) == sorted(LENGTHS)


KINDS = {
    "bits": (RNG.integers(0, 2, (12, 5, 3)), "bernoulli", 3, (5, 3)),
    "float bits": (RNG.integers(0, 2, (12, 5, 3)).astype(float), "bernoulli", 3, (5, 3)),
    "truth": (RNG.random((12, 5)) < 0.5, "bernoulli", 1, (5, 1)),
    "symbols": (RNG.permutation(60).reshape(12, 5), "categorical", 60, (5,)),
    "one column": (np.arange(60).reshape(12, 5, 1), "categorical", 60, (5,)),
    "counts": (np.arange(120).reshape(12, 5, 2), "gaussian", 2, (5, 2)),
    "negative": (np.arange(60).reshape(12, 5) - 3, "gaussian", 1, (5, 1)),
    "large": (np.arange(60).reshape(12, 5) + 65536, "gaussian", 1, (5, 1)),
    "real": (np.arange(60).reshape(12, 5) / 2, "gaussian", 1, (5, 1)),
}


@pytest.mark.parametrize("x, emission, x_dim, shape", KINDS.values(), ids=KINDS)
def test_the_family_is_what_the_values_are(save, x, emission, x_dim, shape):
    corpus = Arrays(save(x=x))
    assert (corpus.emission, corpus.x_dim) == (emission, x_dim)
    seen = corpus.split("train")[0].x
    assert seen.shape == shape
    assert seen.dtype == (torch.int64 if emission == "categorical" else torch.float32)
    floor = corpus.floor()
    assert floor.nats_per_sequence == pytest.approx(5 * floor.nats_per_step)
    forced = Arrays(save(x=x), kind="gaussian")
    assert (forced.emission, forced.x_dim) == ("gaussian", 1 if x.ndim == 2 else x.shape[2])


def test_values_are_standardised_by_those_observed_in_train(save, tmp_path):
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
    # Undone where a person looks at it.
    own = torch.tensor(x[3, : len(WAVES[3])]).float()
    assert_close(corpus.values(corpus.split("train")[2].x), own, equal_nan=True)
    corpus.write(corpus.split("train")[2].x, tmp_path / "x.csv")
    with open(tmp_path / "x.csv") as file:
        header, *rows = csv.reader(file)
    assert header == ["step", "x0", "x1"] and rows[1][1] == "" and len(rows) == len(own)
    assert [float(r[2]) for r in rows] == pytest.approx(own[:, 1].tolist(), rel=1e-5)
    assert "standardised" in corpus.version
    assert "standardised" not in Arrays(save(x=x), standardize=False).version


def test_a_constant_column_is_only_shifted(save):
    corpus = Arrays(save(x=np.dstack([PADDED[..., 0], np.full((30, 8), 0.1)]), len=LENGTHS))
    assert corpus.facts()["std"][1] == 1
    assert all((x[:, 1].abs() < 1e-15).all() for x in sequences(corpus))
    assert corpus.floor().nats_per_step == pytest.approx(np.log(2 * np.pi), abs=2)


def test_a_run_knows_what_was_learnt_without_the_file(save, tmp_path):
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
    # Another file is then seen as the first one was, or refused.
    np.savez(file, x=FLAT + 100, len=LENGTHS)
    shift = 100 / torch.tensor(learnt.facts()["std"])
    assert_close(restored.split("test")[0].x, (x + shift).float())
    np.savez(file, x=FLAT[:, :1], len=LENGTHS)
    another = Arrays(file)
    another.restore(learnt.facts())
    with pytest.raises(ValueError, match=r"must have the columns \['x0', 'x1'\], got \['x0'\]"):
        another.split("train")


def test_versions_differ_where_values_or_splits_do(save):
    def version(**options):
        return Arrays(save(**LAYOUTS["flat"] | options.pop("arrays", {})), **options).version

    assert version() == version()
    others = [{"seed": 1}, {"standardize": False}, {"arrays": {"x": FLAT + 1e-9}}]
    assert len({version(), *(version(**other) for other in others)}) == 4


def test_floors_are_of_observed_values(save):
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


def test_missing_steps_in_the_middle_stay_and_those_at_the_end_go(save):
    x = np.ones((4, 5, 2)) * np.arange(4)[:, None, None]
    x[:, 1], x[:, 3:] = np.nan, np.nan
    assert {len(v) for v in sequences(Arrays(save(x=x)))} == {3}
    assert {len(v) for v in sequences(Arrays(save(x=x, len=np.full(4, 5))))} == {5}


def test_one_sequence_may_be_much_longer_than_the_rest(save):
    lengths = np.array([20_000, *[10] * 99])
    corpus = Arrays(save(x=RNG.normal(size=lengths.sum()), len=lengths, split=np.array(
        ["train"] * 90 + ["valid"] * 5 + ["test"] * 5)))  # fmt: skip
    sampler = BatchSampler(corpus.split("train").lengths, 8, shuffle=True, bucket=True)
    assert sampler.padding_share() < 0.87  # of 8 x 20,000 steps; the rest is not padded
    assert sampler.padding_share() > 0
    windows = corpus.split("train").windows(10)
    assert windows.lengths.max() == 10
    assert BatchSampler(windows.lengths, 8, True, True).padding_share() == 0


def test_tensors_of_python_are_taken_as_they_are():
    tensors = [torch.tensor(w, requires_grad=True) for w in WAVES]
    corpus = Arrays.from_tensors(tensors, seed=3, standardize=False)
    assert ends(sequences(corpus)) == ends(WAVES) and corpus.found()
    parts = {"train": tensors[:5], "valid": tensors[5:6], "test": tensors[6:]}
    corpus = Arrays.from_tensors(parts, standardize=False)
    assert_close(corpus.split("valid")[0].x, torch.tensor(WAVES[5]).float())
    with pytest.raises(ValueError, match=r"the tensors must hold .* got \['test', 'train'\]"):
        Arrays.from_tensors({"train": tensors, "test": tensors}).split("train")
    with pytest.raises(ValueError, match="sequence 1 of the tensors must have the columns"):
        Arrays.from_tensors([torch.ones(3, 2) / 3, torch.ones(3, 1), *tensors]).split("train")
    for bad in (torch.ones(3, 2, 2), torch.ones(0, 2), torch.ones(3, 2, dtype=torch.complex64)):
        with pytest.raises(ValueError, match="of the tensors must be numbers, got"):
            Arrays.from_tensors([*tensors, bad]).split("train")
    with pytest.raises(ValueError, match=r"the sequences of the tensors must be enough .* got 2"):
        Arrays.from_tensors(tensors[:2]).split("train")


NAN, INF = np.full((30, 8, 2), np.nan), PADDED.copy()
INF[7, 1, 1] = np.inf
EVERYWHERE, COLUMN = PADDED.copy(), PADDED.copy()
EVERYWHERE[4], COLUMN[..., 1] = np.nan, np.nan
BAD = {
    "no x": ({"y": FLAT}, r"must hold sequences, as 'x' or .* got \['y'\]"),
    "missing split": (
        {"x_train": PADDED, "x_test": PADDED},
        r"must hold .* got \['x_test', 'x_train'\]",
    ),
    "text": ({"x": np.array([["a"]])}, "'x' of .* must be numbers of shape .* got <U1"),
    "complex": ({"x": PADDED.astype(complex)}, "must be numbers .* got complex128"),
    "0-D": ({"x": np.float64(3)}, r"must be numbers of shape .* of shape \(\)"),
    "4-D": ({"x": PADDED[None]}, r"got float64 of shape \(1, 30, 8, 2\)"),
    "empty": ({"x": PADDED[:0]}, r"not empty, got float64 of shape \(0, 8, 2\)"),
    "no lengths": ({"x": FLAT[:, 0]}, "'x' of .* must have 'len' beside it"),
    "sum": ({"x": FLAT, "len": LENGTHS[:-1]}, "'len' of .* must sum to the steps of 'x', or"),
    "too long": ({"x": PADDED, "len": LENGTHS + 8}, "must sum to .* or be the length of each"),
    "zero length": ({"x": PADDED, "len": LENGTHS * 0}, "must be positive integers, .* least 0"),
    "float lengths": ({"x": PADDED, "len": LENGTHS / 1}, "must be positive integers, got float64"),
    "2-D lengths": ({"x": PADDED, "len": LENGTHS[None]}, r"positive integers, .* \(1, 30\)"),
    "infinite": ({"x": INF}, "sequence 7 of .* must be finite or NaN, got infinity at step 1"),
    "NaN sequence": ({"x": EVERYWHERE}, "sequence 4 of .* must have observed values, got NaN ever"),
    "NaN everywhere": ({"x": NAN}, "must have observed values, got NaN everywhere"),
    "NaN column": ({"x": COLUMN}, "column 'x1' of .* must not be NaN all of train"),
    "few": ({"x": PADDED[:2]}, "the sequences of .* must be enough for train, valid .* got 2"),
    "split names": ({"x": PADDED, "split": np.array(["dev"] * 30)}, r"'split' of .* \['dev'\]"),
    "split size": ({"x": PADDED, "split": SPLIT[:9]}, r"must be 30 of \['train'.* \(9,\)"),
    "split numbers": ({"x": PADDED, "split": np.arange(30)}, "'split' of .* got int64"),
    "split empty": ({"x": PADDED, "split": np.array(["train"] * 30)}, r"got none in \['valid'"),
}


@pytest.mark.parametrize("arrays, message", BAD.values(), ids=BAD)
def test_arrays_that_do_not_fit_are_named(save, arrays, message):
    file = save(**arrays)
    with pytest.raises(ValueError, match=message) as error:
        Arrays(file).split("train")
    assert f"'{file}'" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "kind, message",
    [
        ("bernoulli", "must hold 0, 1 or NaN to be 'bernoulli', got"),
        ("categorical", r"must have one column of symbols, got \['x0', 'x1'\]"),
    ],
)
def test_values_of_another_kind_are_named(save, kind, message):
    with pytest.raises(ValueError, match=message):
        Arrays(save(x=PADDED), kind=kind).split("train")
    with pytest.raises(
        ValueError, match=r"must hold symbols in 0\.\.65535 to be 'categorical', got"
    ):
        Arrays(save(x=PADDED[..., 0]), kind="categorical").split("train")
    with pytest.raises(ValueError, match=r"'kind' must be one of \['auto', .* got 'poisson'"):
        Arrays(kind="poisson")


class Bomb:
    """Leaves a file behind if it is ever unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_pickles_are_refused_and_never_run(save, tmp_path):
    trace, bomb = tmp_path / "it_was_run", np.array([Bomb(tmp_path / "it_was_run")], dtype=object)
    np.save(tmp_path / "x.npy", bomb, allow_pickle=True)
    for file in (save(x=bomb), save(x=PADDED, unused=bomb), tmp_path / "x.npy"):
        with pytest.raises(
            ValueError, match=f"'{file}' must be an npz or npy .* pickled Python objects"
        ):
            Arrays(file).split("train")
    assert not trace.exists()
    np.load(tmp_path / "x.npy", allow_pickle=True)
    assert trace.exists()  # the bomb was live


def test_broken_and_missing_files_are_named(tmp_path):
    file = tmp_path / "x.npz"
    np.savez(file, x=PADDED)
    content = file.read_bytes()
    for broken in (b"", b"PK\x03\x04", b"text\n", content[:300], content[:-5]):
        file.write_bytes(broken)
        with pytest.raises(
            ValueError, match=f"'{file}' must be an npz or npy file of plain arrays"
        ):
            Arrays(file).split("train")
    with pytest.raises(FileNotFoundError, match=r"got none at 'nowhere.npz'"):
        Arrays("nowhere.npz").split("train")
    with pytest.raises(ValueError, match=r"'path' must be given for arrays, as --data.path"):
        Arrays().split("train")
    nothing = Arrays()
    assert not nothing.found() and (nothing.emission, nothing.version) == ("gaussian", "yours")


def test_symbols_and_curves_are_seen_in_a_terminal(save):
    many = Arrays(save(x=RNG.normal(size=(10, 200, 15))))
    lines = many.as_text(many.split("train")[0].x).splitlines()
    assert len(lines) == 13 and lines[-1] == "3 more columns" and max(map(len, lines)) <= 80
    symbols = Arrays(save(x=np.arange(600).reshape(6, 100) % 77))
    x = symbols.split("train")[0].x
    text = symbols.as_text(x)
    assert [int(v) for v in text.split()] == x.tolist()
    assert max(map(len, text.splitlines())) <= 80
    missing = many.as_text(torch.full((4, 15), torch.nan)).splitlines()
    assert missing[0] == "x0  missing"


@pytest.mark.parametrize("name", KINDS)
def test_curves_are_drawn(save, tmp_path, name):
    corpus = Arrays(save(x=KINDS[name][0]))
    test = [x for x, _ in corpus.split("test")]
    figure = real_and_generated(corpus, test, [x[:1] for x in test])
    left, right = figure.axes
    drawn = left.get_lines()[0].get_ydata()
    own = corpus.x_dim == 1 or corpus.emission == "categorical"
    wanted = corpus.values(test[0]) if own else test[0]
    assert np.allclose(drawn, wanted.reshape(len(test[0]), -1)[:, 0])
    assert left.get_ylim() == right.get_ylim()
    figure.savefig(tmp_path / "x.png")


def test_the_command_line_takes_the_family_of_the_file(save, tmp_path):
    file = save(x=KINDS["symbols"][0])
    experiment = describe(["--data=arrays", "--data.path", str(file)])
    assert experiment.emission["name"] == "categorical"
    assert experiment.corpus().x_dim == 60
    options = ["--data=arrays", f"--data.path={file.name}", f"--data_dir={tmp_path}"]
    assert describe(options).emission["name"] == "categorical"
    assert describe([*options, "--data.kind=gaussian"]).emission["name"] == "gaussian"
    assert describe([*options, "--emission=gmm"]).emission["name"] == "gmm"
    assert describe(["--data=arrays"]).emission["name"] == "gaussian"
    with pytest.raises(ValueError, match=r"'--data.seed' must be int, got 'x'"):
        describe([*options, "--data.seed=x"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flat", "symbols"])
def test_it_trains_and_draws(save, tmp_path, capsys, name):
    file = save(**LAYOUTS.get(name) or {"x": KINDS[name][0]})
    small = ["--model.z_dim=2", "--model.h_dim=8", "--model.hidden_dim=8", "--max_updates=2"]
    out = str(tmp_path / "run")
    torch.set_default_dtype(torch.float32)
    assert main(["train", "--data=arrays", f"--data.path={file}", *small, "--out", out]) == 0
    assert main(["evaluate", out]) == 0 and "data digest" in capsys.readouterr().out
    assert main(["sample", out, "--num=1"]) == 0
    assert (tmp_path / "run" / "samples" / "samples.png").stat().st_size > 1000
