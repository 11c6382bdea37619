"""Tasks of long memory, and what stands beside a sequence: inputs of its own, and a mask."""

import csv
import math

import pytest
import torch
from torch.testing import assert_close

from zforcing_pyro.data import Adding, Copy, Sequences, collate


def test_copy_has_the_symbols_again_after_the_marker():
    data = Copy(length=7, num_train=50)
    x, _, inputs, scored = data.split("train")[3]
    assert len(x) == 27 and x[:10].tolist() == x[-10:].tolist()
    assert x[:10].min() >= 1 and x[:10].max() <= 8
    assert x[10:17].tolist() == [0] * 6 + [9]
    assert inputs.tolist() == x[:17].tolist() + [0] * 10
    assert scored.tolist() == [False] * 17 + [True] * 10
    assert [len(data.split(name)) for name in ("train", "valid", "test")] == [50, 1000, 1000]
    assert data.split("valid")[0].x.tolist() != data.split("test")[0].x.tolist()
    assert data.floor().nats_per_sequence == pytest.approx(20.7944, abs=1e-4)
    assert Copy(length=7, all_scored=True).floor().nats_per_step == pytest.approx(41.5888 / 27)
    assert Copy(7, num_train=50, all_scored=True).split("train")[0].scored.all()
    assert data.as_text(x).split()[16] == "9"


def test_copy_and_adding_are_functions_of_the_seed():
    """Symbols of the first sequence, written down: data of a seed never change."""
    assert Copy(5, num_train=3).split("train")[0].x[:10].tolist() == COPY
    assert Copy(5, num_train=3, seed=1).split("train")[0].x[:10].tolist() != COPY
    assert_close(
        Adding(2, num_train=3).split("train")[0].inputs[:2, 0].tolist(), ADDING, rtol=0, atol=1e-6
    )


COPY = [6, 3, 1, 1, 7, 8, 5, 6, 5, 8]
ADDING = [0.636962, 0.269787]


def test_adding_sums_the_marked_numbers(tmp_path):
    data = Adding(length=9, num_train=200)
    marked = []
    for x, _, inputs, scored in data.split("train"):
        u, marker = inputs[:9, 0], inputs[:9, 1]
        assert marker[:4].sum() == marker[4:].sum() == 1 and (inputs[9] == 0).all()
        assert_close(x[9, 2], (u * marker).sum())
        assert x.isnan().sum() == 29
        assert scored.tolist() == [False] * 9 + [True]
        marked += marker.nonzero().flatten().tolist()
    assert set(marked) == set(range(9))
    sums = torch.stack([x[-1, 2] for x, *_ in data.split("test")]).double()
    assert (sums - 1).square().mean().item() == pytest.approx(1 / 6, rel=0.15)
    expected = 0.5 * math.log(2 * math.pi * math.e / 6)
    assert data.floor().nats_per_step == pytest.approx(expected, abs=0.05)
    data.write(x, tmp_path / "x.csv")
    rows = list(csv.reader((tmp_path / "x.csv").read_text().splitlines()))
    assert rows[0] == ["step", "number", "marker", "sum"] and float(rows[-1][3]) == pytest.approx(
        x[9, 2]
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Copy(length=0), "'length' must be in 1..100,000, got 0"),
        (lambda: Adding(length=1), "'length' must be in 2..100,000, got 1"),
        (lambda: Sequences([torch.zeros(3, 1)], inputs=[torch.zeros(2, 1)]),
         r"'inputs\[0\]' must be float64 of shape \(3, 1\), got float64 of shape \(2, 1\)"),
        (lambda: Sequences([torch.zeros(3, 1)], scored=[torch.zeros(3)]),
         r"'scored\[0\]' must be bool of shape \(3,\), got float64"),
        (lambda: Sequences([torch.zeros(3, 1)], scored=[]),
         "'scored' must have one entry for each of 1 sequences, got 0"),
    ],
)  # fmt: skip
def test_data_refuse(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_inputs_and_masks_follow_their_sequence_into_windows_subsets_and_batches():
    xs = [torch.arange(4), torch.arange(10, 12)]
    inputs, scored = [x + 50 for x in xs], [x % 2 == 1 for x in xs]
    data = Sequences(xs, inputs=inputs, scored=scored)
    batch = collate(list(data))
    assert batch.inputs.tolist() == [[50, 51, 52, 53], [60, 61, 0, 0]]
    assert batch.scored.tolist() == [[False, True, False, True], [False, True, False, False]]
    assert {v.device.type for v in batch.to("meta") if v is not None} == {"meta"}
    window = data.subset([1, 0]).windows(3)[2]
    assert [v.tolist() for v in window] == [[3], 52, [53], [True]]  # starts at the input before
    started = Sequences(xs, [x[0] for x in xs], inputs=inputs, scored=scored)
    assert started[1].inputs.tolist() == [60, 61] and started[1].scored.tolist() == [False, True]
