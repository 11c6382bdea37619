"""Sequences in memory: items, batches, windows, and what they refuse."""

import re

import pytest
import torch
from torch.testing import assert_close

from zforcing_pyro.data import DATASETS, Sequence, Sequences, collate, corpus

LENGTHS = [5, 1, 4]


def vectors(dtype=torch.float32):
    """Sequence i holds 100 i + step in both columns."""
    return [
        (100 * i + torch.arange(n))[:, None].expand(n, 2).to(dtype) for i, n in enumerate(LENGTHS)
    ]


def symbols():
    return [100 * i + torch.arange(n) for i, n in enumerate(LENGTHS)]


def starts_of(sequences):
    return [x[0] + 50 for x in sequences]


@pytest.mark.parametrize("make", [vectors, symbols])
@pytest.mark.parametrize("with_starts", [False, True])
def test_items_are_what_was_put_in(make, with_starts):
    sequences = make()
    starts = starts_of(sequences) if with_starts else None
    data = Sequences(sequences, starts)
    assert len(data) == len(list(data)) == 3
    assert data.lengths.tolist() == LENGTHS and data.lengths.dtype == torch.int64
    for i, (x, start) in enumerate(data):
        assert_close(x, sequences[i], rtol=0, atol=0)
        if with_starts:
            assert_close(start, starts[i], rtol=0, atol=0)
        else:
            assert start is None
    assert_close(data[-1].x, sequences[-1])


def test_bytes_become_float32_whatever_the_default():
    sequences = vectors(torch.uint8)
    x, start = Sequences(sequences, [x[0] for x in sequences])[2]
    assert x.dtype == start.dtype == torch.float32
    assert x[:, 0].tolist() == [200, 201, 202, 203] and start.tolist() == [200, 200]


def test_floats_keep_their_type():
    assert Sequences(vectors(torch.float64))[0].x.dtype == torch.float64


def test_subset_keeps_order_starts_and_labels():
    data = Sequences(symbols(), starts_of(symbols()), labels=torch.tensor([7, 8, 9]))
    part = data.subset([2, 0])
    assert [s.x[0].item() for s in part] == [200, 0]
    assert [s.start.item() for s in part] == [250, 50]
    assert part.lengths.tolist() == [4, 5] and part.labels.tolist() == [9, 7]
    assert len(data) == 3 and data.labels.tolist() == [7, 8, 9]
    assert part.subset([1])[0].x.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("with_starts", [False, True])
def test_windows_cut_without_overlap_and_start_at_the_frame_before(with_starts):
    data = Sequences(
        symbols(), starts_of(symbols()) if with_starts else None, labels=torch.tensor([7, 8, 9])
    )
    first = [50, 150, 250] if with_starts else [None, None, None]
    windows = data.windows(2)
    assert [w.x.tolist() for w in windows] == [[0, 1], [2, 3], [4], [100], [200, 201], [202, 203]]
    got = [w.start if w.start is None else w.start.item() for w in windows]
    assert got == [first[0], 1, 3, first[1], first[2], 201]
    assert windows.lengths.tolist() == [2, 2, 1, 1, 2, 2]
    assert windows.labels.tolist() == [7, 7, 7, 8, 9, 9]


def test_windows_of_a_subset_and_of_windows():
    data = Sequences(vectors(torch.uint8)).subset([2, 1]).windows(3)
    assert [w.x[:, 0].tolist() for w in data] == [[200, 201, 202], [203], [100]]
    assert [w.x[:, 0].tolist() for w in data.windows(2)] == [[200, 201], [202], [203], [100]]
    assert data.windows(2)[1].start.tolist() == [201, 201]
    assert [len(w.x) for w in Sequences(vectors()).windows(99)] == LENGTHS


@pytest.mark.parametrize("make", [vectors, symbols])
def test_collate_pads_on_the_right_with_zeros(make):
    sequences = make()
    batch = collate(list(Sequences(sequences)))
    assert batch.x.shape == (3, 5, *sequences[0].shape[1:]) and batch.x.dtype == sequences[0].dtype
    assert batch.lengths.tolist() == LENGTHS and batch.start is None
    for row, x in zip(batch.x, sequences):
        assert_close(row[: len(x)], x)
        assert (row[len(x) :] == 0).all()


def test_collate_stacks_starts():
    batch = collate(list(Sequences(vectors(), starts_of(vectors()))))
    assert batch.start.tolist() == [[50, 50], [150, 150], [250, 250]]
    batch = collate(list(Sequences(symbols(), starts_of(symbols()))))
    assert batch.start.tolist() == [50, 150, 250]


def test_collate_marks_the_missing_where_only_some_have_starts():
    start = collate(list(Sequences(vectors()).windows(3))).start
    assert start.isnan().all(-1).tolist() == [True, False, True, True, False]
    assert start[[1, 4], 0].tolist() == [2, 202]
    batch = collate(list(Sequences(symbols()).windows(3)))
    assert batch.start.tolist() == [-1, 2, -1, -1, 202] and batch.start.dtype == torch.int64


def test_batch_moves_as_a_whole():
    for starts in (None, starts_of(vectors())):
        moved = collate(list(Sequences(vectors(), starts))).to("meta")
        assert {v.device.type for v in moved if v is not None} == {"meta"}
        assert (moved.start is None) == (starts is None)


ONE = torch.zeros(3, 2, dtype=torch.float32)
BAD_SEQUENCES = {
    "none": ([], r"'sequences' must hold at least one sequence, got none"),
    "no tensor": ([ONE, [1.0]], r"'sequences\[1\]' must be a float or uint8 .*, got a list"),
    "scalars": ([torch.ones(3, dtype=torch.float32)], r"got float32 of shape \(3,\)"),
    "images": ([ONE[None]], r"got float32 of shape \(1, 3, 2\)"),
    "int32": ([torch.zeros(3, 2, dtype=torch.int32)], r"got int32 of shape \(3, 2\)"),
    "bytes as symbols": ([torch.zeros(3, dtype=torch.uint8)], r"got uint8 of shape \(3,\)"),
    "other width": (
        [ONE, ONE, ONE[:, :1]],
        r"'sequences\[2\]' must be like 'sequences\[0\]', float32 of .*, got .* \(3, 1\)",
    ),
    "other type": ([ONE, ONE.double()], r"'sequences\[1\]' must be like .*, got float64"),
    "no steps": ([ONE, ONE[:0]], r"'sequences\[1\]' must not be empty, got .* shape \(0, 2\)"),
    "no columns": ([ONE[:, :0]], r"'sequences\[0\]' must not be empty, got .* shape \(3, 0\)"),
    "nan": (
        [ONE, ONE.index_fill(0, torch.tensor(2), float("nan"))],
        r"'sequences\[1\]' must be finite, got nan at step 2",
    ),
    "inf": (
        [ONE.index_fill(0, torch.tensor(0), float("-inf")), ONE],
        r"'sequences\[0\]' must be finite, got -inf at step 0",
    ),
    "negative symbol": (
        [torch.tensor([1, 2]), torch.tensor([0, -3, 1])],
        r"'sequences\[1\]' must be symbols of 0 or more, got -3 at step 1",
    ),
}


@pytest.mark.parametrize("sequences, message", BAD_SEQUENCES.values(), ids=BAD_SEQUENCES)
def test_bad_sequences_are_named(sequences, message):
    with pytest.raises(ValueError, match=message) as error:
        Sequences(sequences)
    assert "\n" not in str(error.value)


ROW = ONE[0]
BAD_STARTS = {
    "too few": ([ROW], r"'starts' must have one entry for each of 2 sequences, got 1"),
    "shape": ([ROW, ONE], r"'starts\[1\]' must be float32 of shape \(2,\), got .* \(3, 2\)"),
    "type": ([ROW.double(), ROW], r"'starts\[0\]' must be float32 of .*, got float64"),
    "none": ([ROW, None], r"'starts\[1\]' must be float32 of .*, got a NoneType"),
    "nan": ([ROW, ROW * float("nan")], r"'starts\[1\]' must be finite, got nan$"),
}


@pytest.mark.parametrize("starts, message", BAD_STARTS.values(), ids=BAD_STARTS)
def test_bad_starts_are_named(starts, message):
    with pytest.raises(ValueError, match=message):
        Sequences([ONE, ONE], starts)


NAN, INF = float("nan"), float("inf")
HOLES = torch.tensor([[NAN, 1.0], [NAN, NAN], [3.0, NAN]], dtype=torch.float32)


@pytest.mark.parametrize("starts", [None, [ROW, ROW]])
def test_missing_values_are_kept_where_they_are_announced(starts):
    data = Sequences([HOLES, ONE], starts, missing=True)
    assert_close(data[0].x, HOLES, rtol=0, atol=0, equal_nan=True)
    window = data.windows(1)[1]  # a window may have no value at all
    assert window.x.isnan().all() and window.start.isnan().tolist() == [True, False]
    with pytest.raises(ValueError, match=r"'sequences\[0\]' must be finite, got nan at step 0"):
        Sequences([HOLES, ONE], starts)
    assert Sequences([torch.ones(2, dtype=torch.int64)], missing=True)[0].x.tolist() == [1, 1]


BAD_MISSING = {
    "infinite": ([HOLES, ONE + INF], None, r"'sequences\[1\]' must be finite, got .* step 0"),
    "nothing": ([HOLES, ONE * NAN, ONE], None, r"'sequences\[1\]' must have a value, got NaN eve"),
    "nothing first": ([ONE[:1] * NAN, ONE], [ROW, ROW], r"'sequences\[0\]' must have a value"),
    "nothing last": ([ONE, ONE[:1] * NAN], [ROW, ROW], r"'sequences\[1\]' must have a value"),
    "start": ([HOLES, ONE], [ROW, ROW * NAN], r"'starts\[1\]' must be finite, got nan"),
}


@pytest.mark.parametrize("sequences, starts, message", BAD_MISSING.values(), ids=BAD_MISSING)
def test_what_missing_values_are_not(sequences, starts, message):
    with pytest.raises(ValueError, match=message):
        Sequences(sequences, starts, missing=True)


def test_a_bad_value_after_a_start_is_placed_in_its_sequence():
    bad = ONE.index_fill(0, torch.tensor(1), float("inf"))
    with pytest.raises(ValueError, match=r"'sequences\[1\]' must be finite, got inf at step 1"):
        Sequences([ONE, bad], [ROW, ROW])


def test_labels_window_size_and_indices_are_checked():
    with pytest.raises(ValueError, match=r"'labels' must have one entry for each of 3 .* got 2"):
        Sequences(vectors(), labels=torch.tensor([1, 2]))
    data = Sequences(vectors())
    with pytest.raises(ValueError, match="'size' must be at least 1, got 0"):
        data.windows(0)
    for indices, got in (([], "none"), ([0, 3], r"0\.\.3"), ([-1], r"-1\.\.-1")):
        with pytest.raises(ValueError, match=rf"'indices' must be in 0\.\.2, got {got}"):
            data.subset(indices)


def test_an_index_out_of_range_is_an_index_error():
    with pytest.raises(IndexError):
        Sequences(vectors())[3]
    assert isinstance(Sequences(vectors())[0], Sequence)


def test_unknown_data_set_and_option_are_named():
    with pytest.raises(ValueError, match=r"'data' must be one of \['digits', .*\], got 'mnits'"):
        corpus("mnits")
    with pytest.raises(ValueError, match=r"options of 'jsb' must be among \['data_dir'\], got 'c"):
        corpus("jsb", corpus="muse")


@pytest.mark.parametrize("name", DATASETS)
def test_data_sets_describe_themselves_without_being_read(name, monkeypatch):
    monkeypatch.delenv("ZFORCING_DATA", raising=False)
    data = corpus(name, data_dir="/nowhere")
    for field in ("title", "source", "licence", "size", "version", "step"):
        text = getattr(data, field)
        assert text and "\n" not in text
    assert data.emission in ("bernoulli", "gaussian", "categorical", "poisson")
    assert (data.view == "image") == (data.image_shape is not None)
    if data.found():  # it comes with a package
        assert len(data.split("test")) > 0
    try:
        assert data.x_dim >= 1
    except (ValueError, FileNotFoundError) as error:  # the size is learnt from the files
        assert re.search("must be given|not found", str(error))


def test_no_two_data_sets_can_be_mistaken_for_one_another():
    data = {name: corpus(name) for name in DATASETS}
    assert len({d.title for d in data.values()}) == len(data)
    for name in ("jsb", "nottingham", "muse", "piano"):
        assert data[name].version != data[f"{name}_srnn"].version
        assert not set(data[name].files) & set(data[f"{name}_srnn"].files)
