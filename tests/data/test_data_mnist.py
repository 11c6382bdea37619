"""MNIST: files that these tests write in the publisher's layout, and the real ones."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from zforcing_pyro.analysis.plots import real_and_generated
from zforcing_pyro.data import MNIST, BinarizedMNIST, Digits
from zforcing_pyro.data.corpora.mnist import read_idx
from zforcing_pyro.data.formats.images import permutation

NUM = {"train": 10_003, "t10k": 5}
DATA = Path(__file__).parents[3] / "shared" / "data"
real = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real data sets are not at '{DATA}'")
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


@pytest.fixture(autouse=True)
def no_default_folder(monkeypatch):
    monkeypatch.delenv("ZFORCING_DATA", raising=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "MNIST" / "raw").mkdir(parents=True)
    for part in NUM:
        images = folder / "MNIST" / "raw" / f"{part}-images-idx3-ubyte"
        images.write_bytes(idx(GREY[part]))
        labels = folder / "MNIST" / "raw" / f"{part}-labels-idx1-ubyte.gz"
        labels.write_bytes(gzip.compress(idx(LABELS[part])))
    return folder


def pixels(sequences):
    return torch.stack([x.flatten() for x, _ in sequences]).numpy()


def test_the_last_ten_thousand_training_images_are_valid(folder):
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


def test_a_pixel_is_on_with_its_grey_level_as_probability(folder):
    grey = GREY["train"][3:].reshape(-1)
    on = pixels(MNIST(folder).split("valid")).reshape(-1)
    for low in (1, 64, 128, 192, 254):
        some = (grey >= low) & (grey < low + 32) & (grey < 255)
        share, error = (grey[some] / 255).mean(), (0.25 / some.sum()) ** 0.5
        assert on[some].mean() == pytest.approx(share, abs=4 * error)


def test_it_is_binarised_once_by_the_seed(folder):
    test = pixels(MNIST(folder).split("test"))
    backwards = MNIST(folder)
    backwards.split("valid")
    assert (pixels(backwards.split("test")) == test).all()
    assert not (pixels(MNIST(folder, seed=1).split("test")) == test).all()
    # The documented stream: the first 60,000 x 784 outputs are of training images.
    uniform = np.random.PCG64(0).advance(60_000 * 784).random_raw(5 * 784) >> np.uint64(32)
    wanted = (uniform * np.uint64(255)) // np.uint64(2**32) < GREY["t10k"].reshape(-1)
    assert (test.reshape(-1) == wanted).all()


def test_a_threshold_draws_nothing(folder):
    mnist = MNIST(folder, threshold=128)
    assert (pixels(mnist.split("test")) == (GREY["t10k"] >= 128).reshape(5, -1)).all()
    assert mnist.version == "pixels on from grey level 128 of 255"
    versions = {MNIST(folder, **o).version for o in ({}, {"seed": 1}, {"permuted": True})}
    assert len(versions) == 3


@pytest.mark.parametrize("rows, shape", [(False, (784, 1)), (True, (28, 28))])
def test_permuted_pixels_are_put_back_where_they_are_seen(folder, tmp_path, rows, shape):
    plain, permuted = (MNIST(folder, rows=rows, permuted=p) for p in (False, True))
    x, y = (mnist.split("test")[0].x for mnist in (plain, permuted))
    assert x.shape == y.shape == shape and permuted.x_dim == shape[1]
    assert_close(y.flatten(), x.flatten()[permutation(784)])
    assert not torch.equal(x, y) and sorted(permutation(784).tolist()) == list(range(784))
    assert_close(permuted.image(y), plain.image(x))
    assert_close(plain.image(x), x.view(28, 28))
    assert permuted.as_text(y) == plain.as_text(x)
    files = tmp_path / "plain.png", tmp_path / "permuted.png"
    plain.write(x, files[0])
    permuted.write(y, files[1])
    assert files[0].read_bytes() == files[1].read_bytes()
    for corpus, z, file in ((plain, x, files[0]), (permuted, y, files[1])):
        real_and_generated(corpus, [z], [z]).savefig(file)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_permutation_is_the_documented_one_for_every_corpus():
    assert permutation(784)[:4].tolist() == [269, 11, 403, 600]
    assert torch.equal(BinarizedMNIST(permuted=True).order, MNIST(permuted=True).order)
    assert Digits().order is None and BinarizedMNIST().order is None


CONTENT = idx(GREY["t10k"])
BAD_FILES = {
    "empty": (b"", "must begin as an idx file"),
    "other": (b"PK\x03\x04" + CONTENT, "must begin as an idx file"),
    "labels": (idx(LABELS["t10k"]), r"must begin as an idx file, .* got b'\\x00\\x00\\x08\\x01'"),
    "int32": (CONTENT[:2] + b"\x0c" + CONTENT[3:], "must begin as an idx file"),
    "header": (CONTENT[:9], "must begin as an idx file"),
    "size": (idx(np.zeros((5, 27, 28))), "must be of any x 28 x 28 bytes, got 5 x 27 x 28"),
    "no images": (idx(np.zeros((0, 28, 28))), "must be of any x 28 x 28 bytes, got 0 x 28 x 28"),
    "truncated": (CONTENT[:-1], "must hold 3920 bytes of data, .* got 3919"),
    "too long": (CONTENT + b"\x00", "must hold 3920 bytes of data, .* got 3921"),
}


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("content, message", BAD_FILES.values(), ids=BAD_FILES)
def test_a_broken_file_is_named(tmp_path, content, message, zipped):
    file = tmp_path / ("images.gz" if zipped else "images")
    file.write_bytes(gzip.compress(content) if zipped else content)
    with pytest.raises(ValueError, match=f"'{file}' {message}"):
        read_idx(file, (None, 28, 28))


def test_a_broken_gzip_file_is_named(tmp_path):
    file, content = tmp_path / "images.gz", gzip.compress(CONTENT)
    for broken in (CONTENT, content[:50], content[:200] + b"abc" + content[203:], content[:-4]):
        file.write_bytes(broken)
        with pytest.raises(ValueError, match=f"'{file}' must be a gzip file"):
            read_idx(file, (None, 28, 28))


def test_labels_and_images_agree(tmp_path):
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(CONTENT)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(LABELS["t10k"][:4]))
    with pytest.raises(
        ValueError, match=r"t10k-images.* and .*t10k-labels.* 5 images and 4 labels"
    ):
        MNIST(tmp_path).split("test")
    (tmp_path / "train-images-idx3-ubyte").write_bytes(CONTENT)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(LABELS["t10k"]))
    with pytest.raises(ValueError, match=r"'.*train-images.*' must hold more than 10,000 .* got 5"):
        MNIST(tmp_path).split("train")


def test_options_out_of_range_are_named():
    with pytest.raises(ValueError, match=r"'threshold' must be in 0\.\.255, got 256"):
        MNIST(threshold=256)
    with pytest.raises(ValueError, match="'seed' must not be negative, got -1"):
        MNIST(seed=-1)


def test_a_missing_file_says_where_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="'t10k-images-idx3-ubyte' of MNIST not found"):
        MNIST(tmp_path).split("test")


@real
@pytest.mark.slow
def test_the_real_files():
    mnist = MNIST(DATA)
    splits = [mnist.split(split) for split in SPLITS]
    assert mnist.found() and [len(s) for s in splits] == [50_000, 10_000, 10_000]
    assert splits[2].labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert splits[0].labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert torch.cat([s.labels for s in splits]).bincount().tolist()[0] == 5923 + 980
    means = [s._frames.double().mean().item() for s in splits]
    # Of the fixed binarisation they are 0.13056, 0.13113 and 0.13251, of other images.
    assert [f"{m:.5f}" for m in means] == ["0.13096", "0.12916", "0.13250"]
    floor = mnist.floor()
    assert f"{floor.nats_per_sequence:.2f}" == "205.81"  # and 205.79 of the fixed one
