"""Files that are broken, or would run something."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from zforcing_pyro.data.formats.packed import read_npz

BITS = np.random.default_rng(0).integers(0, 2, (40, 88), dtype=np.uint8)
LENGTHS = np.array([30, 10], dtype=np.int32)


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "music.npz"
    np.savez_compressed(file, x=BITS, other=BITS[:7], lengths=LENGTHS)
    return file


def read(file):
    return read_npz(file, lengths=(np.integer, (None,)), x=(np.uint8, (None, 88)))


def refused(file, message="must be an npz file of plain arrays, got"):
    with pytest.raises(ValueError, match=message) as error:
        read(file)
    assert f"'{file}'" in str(error.value) and "\n" not in str(error.value)


def test_npz_pickles_are_refused_and_never_run(file, tmp_path):
    trace = tmp_path / "it_was_run"

    class Bomb:
        def __reduce__(self):
            return Path.touch, (trace,)

    np.savez(file, x=np.array([Bomb()], dtype=object), lengths=LENGTHS)
    refused(file, "must be an npz file of plain arrays, got pickled Python objects")
    assert not trace.exists()
    (lengths,) = read_npz(file, lengths=(np.integer, (2,)))  # other arrays are not read
    assert (lengths == LENGTHS).all()
    np.load(file, allow_pickle=True)["x"]
    assert trace.exists()  # the bomb was live


def test_npz_other_and_short_files_are_refused(file):
    content, npy = file.read_bytes(), io.BytesIO()
    np.save(npy, BITS)
    others = (b"", b"PK\x03\x04", b"<html>404</html>\n", npy.getvalue())
    cuts = [content[:end] for end in (*range(0, len(content), 29), len(content) - 1)]
    for other in (*others, *cuts):
        file.write_bytes(other)
        refused(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", b"not an array")
        archive.writestr("lengths.npy", b"")
    refused(file, "'lengths' of .* must be a non-empty integer array")


def test_npz_damaged_file_gives_the_right_arrays_or_one_error(file):
    lengths, x = read(file)
    assert (lengths == LENGTHS).all() and (x == BITS).all()
    content, rng, num_refused = file.read_bytes(), np.random.default_rng(1), 0
    for position in rng.integers(0, len(content), 400):
        damaged = bytearray(content)
        damaged[position] ^= 1 << rng.integers(8)
        file.write_bytes(damaged)
        try:
            lengths, x = read(file)
        except ValueError as error:
            assert f"'{file}'" in str(error) and "\n" not in str(error)
            num_refused += 1
        else:  # the bit was of no account
            assert (lengths == LENGTHS).all() and (x == BITS).all()
    assert 100 < num_refused < 400
