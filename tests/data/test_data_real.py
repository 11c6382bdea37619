"""The real files, against the numbers of their README."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from zforcing_pyro.data import Digits, corpus

DATA = Path(__file__).parents[3] / "shared" / "data"
real = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real data sets are not at '{DATA}'")

CLASSICAL = {  # sequences and steps of train / valid / test, longest, floor in nats per step
    "jsb": ((229, 76, 77), (13807, 4602, 4725), 160, "11.060"),
    "muse": ((524, 135, 124), (245202, 82755, 64339), 4273, "11.510"),
    "nottingham": ((694, 173, 170), (176561, 45513, 44463), 1793, "10.252"),
    "piano": ((87, 12, 25), (75911, 8540, 19036), 3857, "11.046"),
}
SRNN = {  # the longest of a test split is not in it: rows are padded to it
    "jsb_srnn": ((272, 80, 77), (27200, 8000, 9396), 319, "11.089"),
    "muse_srnn": ((2480, 784, 124), (248000, 78400, 67391), 3401, "12.874"),
    "nottingham_srnn": ((1472, 368, 170), (147200, 36800, 37062), 1494, "10.176"),
    "piano_srnn": ((704, 96, 25), (70400, 9600, 17328), 2304, "13.769"),
}
SPLITS = ("train", "valid", "test")


@real
@pytest.mark.parametrize("name", CLASSICAL | SRNN)
def test_pianorolls_have_the_counts_and_the_floor_of_the_readme(name):
    sequences, steps, longest, floor = (CLASSICAL | SRNN)[name]
    music = corpus(name, data_dir=DATA)
    splits = [music.split(split) for split in SPLITS]
    assert music.found()
    assert tuple(map(len, splits)) == sequences
    assert tuple(int(s.lengths.sum()) for s in splits) == steps
    assert max(int(s.lengths.max()) for s in splits) == longest
    assert f"{music.floor().nats_per_step:.3f}" == floor
    for split, num in zip(splits, sequences):
        assert f"{num:,}" in music.size
        x, start = split[num - 1]
        assert x.shape[1:] == (88,) and x.dtype == torch.float32
        assert (start is not None) == name.endswith("_srnn")


@real
def test_srnn_chunks_go_on_sixteen_chunks_later():
    data = corpus("jsb_srnn", data_dir=DATA).split("train")
    assert all(torch.equal(data[i].start, data[i - 16].x[-1]) for i in range(16, len(data)))


@real
def test_the_lowest_and_the_highest_note_of_jsb():
    keys = torch.cat([x for s in SPLITS for x, _ in corpus("jsb", data_dir=DATA).split(s)]).any(0)
    notes = 21 + keys.nonzero().flatten()
    assert (notes.min(), notes.max()) == (43, 96)


@real
def test_binarized_mnist_has_the_counts_means_and_floor_of_the_readme():
    mnist = corpus("binarized_mnist", data_dir=DATA)
    splits = [mnist.split(split) for split in SPLITS]
    assert [len(s) for s in splits] == [50000, 10000, 10000]
    assert all((s.lengths == 784).all() for s in splits)
    floor = mnist.floor()
    assert f"{floor.nats_per_sequence:.2f}" == "205.79"
    assert floor.nats_per_step == pytest.approx(floor.nats_per_sequence / 784)
    means = [torch.stack([x.mean() for x, _ in s]).mean().item() for s in splits[1:]]
    assert [f"{m:.5f}" for m in means] == ["0.13113", "0.13251"]
    assert splits[0]._frames.nbytes == 50000 * 784  # a byte a pixel


def test_digits_are_split_once_and_for_all():
    splits = [Digits().split(name) for name in SPLITS]
    assert [len(s) for s in splits] == [1297, 250, 250]
    assert all(x.shape == (64, 1) and x.dtype == torch.float32 for s in splits for x, _ in s)
    assert splits[2].labels[:12].tolist() == [8, 1, 3, 9, 6, 1, 8, 3, 8, 1, 3, 4]
    # Together they are scikit-learn's images, each with its label.
    ours = torch.stack([x.flatten() for s in splits for x, _ in s])
    ours = torch.cat([ours, torch.cat([s.labels for s in splits])[:, None]], 1).long()
    grey, labels = load_digits(return_X_y=True)
    theirs = np.concatenate([grey >= 8, labels[:, None]], 1).astype(int)
    assert sorted(ours.tolist()) == sorted(theirs.tolist())
    # Every digit is in every split about as often.
    counts = torch.stack([s.labels.bincount(minlength=10) / len(s) for s in splits])
    assert (counts > 0.06).all() and (counts < 0.15).all()


def test_digits_have_a_floor_without_files():
    floor = Digits().floor()
    assert f"{floor.nats_per_sequence:.2f}" == "25.22"
    assert floor.nats_per_step == pytest.approx(floor.nats_per_sequence / 64)
