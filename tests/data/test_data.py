"""Sequences in memory, the registry of data sets, and the data files that a run remembers."""

import os
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from zforcing_pyro.data import DATASETS, Digits, Pianoroll, Sequence, Sequences, collate, corpus
from zforcing_pyro.data.corpus import check_comparable, random_split
from zforcing_pyro.data.sequences import as_sequences

LENGTHS = [5, 1, 4]
LABELS = torch.tensor([7, 8, 9])


def vectors(dtype=torch.float32):
    """Sequence i holds 100 i + step in both columns."""
    return [x[:, None].expand(-1, 2).to(dtype) for x in symbols()]


def symbols():
    return [100 * i + torch.arange(n) for i, n in enumerate(LENGTHS)]


@pytest.mark.parametrize("make", [vectors, symbols])
@pytest.mark.parametrize("with_starts", [False, True])
def test_sequences_items_batches_and_subsets(make, with_starts):
    sequences = make()
    starts = [x[0] + 50 for x in sequences] if with_starts else None
    data = Sequences(sequences, starts, LABELS)
    assert len(data) == len(list(data)) == 3 and isinstance(data[0], Sequence)
    assert data.lengths.tolist() == LENGTHS and data.lengths.dtype == torch.int64
    batch = collate(list(data))
    assert batch.x.shape == (3, 5, *sequences[0].shape[1:]) and batch.x.dtype == sequences[0].dtype
    assert batch.lengths.tolist() == LENGTHS
    for i, (x, start, *_) in enumerate(data):
        assert_close(x, sequences[i], rtol=0, atol=0)
        assert_close(batch.x[i, : len(x)], x)
        assert (batch.x[i, len(x) :] == 0).all()
        if with_starts:
            assert_close(start, starts[i], rtol=0, atol=0)
            assert_close(batch.start[i], starts[i])
        else:
            assert start is None and batch.start is None
    part = data.subset([2, 0])
    assert part.lengths.tolist() == [4, 5] and part.labels.tolist() == [9, 7]
    assert_close(part.subset([1])[0].x, sequences[0])
    assert_close(data[-1].x, sequences[-1])
    assert {v.device.type for v in batch.to("meta") if v is not None} == {"meta"}
    with pytest.raises(IndexError):
        data[3]


def test_sequences_bytes_become_float32_and_floats_keep_their_type():
    sequences = vectors(torch.uint8)
    x, start, *_ = Sequences(sequences, [x[0] for x in sequences])[2]
    assert x.dtype == start.dtype == torch.float32
    assert x[:, 0].tolist() == [200, 201, 202, 203] and start.tolist() == [200, 200]
    assert Sequences(vectors(torch.float64))[0].x.dtype == torch.float64


def test_windows_cut_without_overlap_and_start_at_the_frame_before():
    for first in ([None, None, None], [50, 150, 250]):
        starts = None if first[0] is None else list(map(torch.tensor, first))
        windows = Sequences(symbols(), starts, LABELS).windows(2)
        steps = [[0, 1], [2, 3], [4], [100], [200, 201], [202, 203]]
        assert [w.x.tolist() for w in windows] == steps
        got = [w.start if w.start is None else w.start.item() for w in windows]
        assert got == [first[0], 1, 3, first[1], first[2], 201]
        assert windows.lengths.tolist() == [2, 2, 1, 1, 2, 2]
        assert windows.labels.tolist() == [7, 7, 7, 8, 9, 9]
    again = Sequences(vectors(torch.uint8)).subset([2, 1]).windows(3)
    assert [w.x[:, 0].tolist() for w in again] == [[200, 201, 202], [203], [100]]
    assert [w.x[:, 0].tolist() for w in again.windows(2)] == [[200, 201], [202], [203], [100]]
    assert again.windows(2)[1].start.tolist() == [201, 201]
    assert [len(w.x) for w in Sequences(vectors()).windows(99)] == LENGTHS
    start = collate(list(Sequences(vectors()).windows(3))).start
    assert start.isnan().all(-1).tolist() == [True, False, True, True, False]
    assert start[[1, 4], 0].tolist() == [2, 202]
    batch = collate(list(Sequences(symbols()).windows(3)))
    assert batch.start.tolist() == [-1, 2, -1, -1, 202] and batch.start.dtype == torch.int64


NAN, INF = float("nan"), float("inf")
ONE = torch.zeros(3, 2, dtype=torch.float32)
ROW = ONE[0]
HOLES = torch.tensor([[NAN, 1.0], [NAN, NAN], [3.0, NAN]], dtype=torch.float32)


def test_sequences_refuse():
    for sequences, starts, missing, message in (
        ([], None, 0, r"'sequences' must hold at least one sequence, got none"),
        ([ONE, [1.0]], None, 0, r"'sequences\[1\]' must be a float or .*, got a list"),
        ([ONE, ONE[:, :1]], None, 0, r"'sequences\[1\]' must be like .*, got .* \(3, 1\)"),
        ([ONE, ONE[:0]], None, 0, r"'sequences\[1\]' must .* not be empty, got .* \(0, 2\)"),
        ([ONE, HOLES], [ROW, ROW], 0, r"'sequences\[1\]' must be finite, got nan at step 0"),
        ([torch.tensor([0, -3])], None, 0, r"be symbols of 0 or more, got -3 at step 1"),
        ([ONE, ONE], [ROW], 0, r"'starts' must have one entry for each of 2 .* got 1"),
        ([ONE, ONE], [ROW, ONE], 0, r"'starts\[1\]' must be float32 of .* \(3, 2\)"),
        ([HOLES, ONE], [ROW, ROW * NAN], 1, r"'starts\[1\]' must be finite, got nan$"),
        ([HOLES, ONE * NAN, ONE], None, 1, r"'sequences\[1\]' must have a value, got NaN"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            Sequences(sequences, starts, missing=bool(missing))
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"'labels' must have one entry for each of 3 .* got 2"):
        Sequences(vectors(), labels=LABELS[:2])
    for lengths, total in (([4], 4), ([0, 4, 2], 6)):
        message = f"'lengths' must be positive and sum to the 5 .* of {total}"
        with pytest.raises(ValueError, match=message):
            Sequences.of(torch.arange(5), torch.tensor(lengths))
    flat = Sequences.of(torch.cat(vectors()), torch.tensor(LENGTHS), LABELS).windows(2)
    listed = Sequences(vectors(), labels=LABELS).windows(2)
    assert [x.tolist() for x, *_ in flat] == [x.tolist() for x, *_ in listed]
    assert flat.labels.tolist() == listed.labels.tolist()
    data = Sequences(vectors())
    with pytest.raises(ValueError, match="'size' must be positive, got 0"):
        data.windows(0)
    for indices, got in (([], "none"), ([0, 3], r"0\.\.3"), ([-1], r"-1\.\.-1")):
        with pytest.raises(ValueError, match=rf"'indices' must be in 0\.\.2, got {got}"):
            data.subset(indices)


@pytest.mark.parametrize("starts", [None, [ROW, ROW]])
def test_sequences_missing_values_are_kept_where_they_are_announced(starts):
    data = Sequences([HOLES, ONE], starts, missing=True)
    assert_close(data[0].x, HOLES, rtol=0, atol=0, equal_nan=True)
    window = data.windows(1)[1]  # a window may have no value at all
    assert window.x.isnan().all() and window.start.isnan().tolist() == [True, False]
    assert Sequences([torch.ones(2, dtype=torch.int64)], missing=True)[0].x.tolist() == [1, 1]


def test_data_sets_cannot_be_mistaken_for_one_another():
    data = {name: corpus(name) for name in DATASETS}
    assert len({d.title for d in data.values()}) == len(data)
    check_comparable({"a": data["jsb"], "b": corpus("jsb")})
    check_comparable({})
    for other, version in (("jsb_srnn", "SRNN piano-rolls"), ("muse", "Muse")):
        with pytest.raises(ValueError, match=f"got 'a' on JSB .*classical.* 'b' on .*{version}"):
            check_comparable({"a": data["jsb"], "b": data[other]})
    with pytest.raises(ValueError, match=r"'data' must be one of \['digits', .*\], got 'mnits'"):
        corpus("mnits")
    with pytest.raises(ValueError, match=r"options of 'jsb' must be among \['data_dir'\], got 'c"):
        corpus("jsb", corpus="muse")
    with pytest.raises(ValueError, match=r"'split' must be one of .*, got 'dev'"):
        Digits().split("dev")
    for change, message in (
        ({"seed": -1}, "'seed' must not be negative, got -1"),
        ({"test_share": 1.5}, "'test_share' must be between 0 and 1, got 1.5"),
        ({"valid_share": 0.9}, r"songs must be enough .* \(9 and 1 of them .*\), got 10"),
    ):
        with pytest.raises(ValueError, match=message):
            random_split(**{"num": 10, "seed": 0, "name": "songs"} | change)


JSB = "jsb_pianoroll_icml2012.npz"


def test_corpus_notices_that_its_data_changed(tmp_path):
    """Fault W10."""
    data = Pianoroll("jsb", data_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match=JSB):
        data.fingerprint()
    (tmp_path / JSB).write_bytes(b"one")
    fingerprint = data.fingerprint()
    os.utime(tmp_path / JSB, (0, 0))
    data.check_unchanged(fingerprint)
    (tmp_path / JSB).write_bytes(b"two")
    with pytest.raises(ValueError, match=f"^the data changed since training: '{JSB}' has other"):
        data.check_unchanged(fingerprint)
    with pytest.raises(ValueError, match=f"'{JSB}', 'other.npz' has other content"):
        data.check_unchanged({"other.npz": ""})
    for broken in (None, [1], "x"):
        with pytest.raises(ValueError, match="'files' must map names to checksums, got"):
            data.check_unchanged(broken)
    Digits().check_unchanged(Digits().fingerprint())


@pytest.mark.parametrize("name", ["arrays", "audio", "midi", "text"])
def test_corpus_refuses_a_pipe_or_a_path_that_is_nowhere(tmp_path, name):
    """Fault C2: reading a pipe would wait forever."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(ValueError, match=f"'{path}' must be a regular file, got a pipe"):
            corpus(name, path=str(path)).split("train")
    for path in ("x", "~nosuchuser/x"):
        assert not corpus(name, path=path).found()
        with pytest.raises(FileNotFoundError, match=f"'path' must be .* none at '{path}', '.*x"):
            corpus(name, path=path, data_dir=tmp_path).split("train")
    with pytest.raises(ValueError, match=r"'path' must be given .* as --data.path"):
        corpus(name).split("train")


def test_data_frames_of_a_list_are_sequences():
    values = [torch.randn(3, 2), torch.randn(5, 2)]
    frames = [pd.DataFrame(x.numpy()) for x in values]
    for read, x in zip(as_sequences(frames), values):
        assert_close(read.x, x)
    with pytest.raises(ValueError, match=r"must be a set, list, .* got a DataFrame"):
        as_sequences(frames[0])
