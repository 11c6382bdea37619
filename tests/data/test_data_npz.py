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
    np.savez_compressed(tmp_path / "music.npz", x=BITS, other=BITS[:7], lengths=LENGTHS)
    return tmp_path / "music.npz"


def read(file):
    return read_npz(file, lengths=(np.integer, (None,)), x=(np.uint8, (None, 88)))


def test_npz_pickles_and_other_files_are_refused_and_never_run(file, tmp_path):
    trace, content, npy = tmp_path / "it_was_run", file.read_bytes(), io.BytesIO()

    class Bomb:
        def __reduce__(self):
            return Path.touch, (trace,)

    np.savez(file, x=np.array([Bomb()], dtype=object), lengths=LENGTHS)
    with pytest.raises(ValueError, match=f"'{file}' must be an npz .* got pickled Python objects"):
        read(file)
    assert not trace.exists()
    assert (read_npz(file, lengths=(np.integer, (2,)))[0] == LENGTHS).all()  # x is not read
    np.save(npy, BITS)
    cuts = [content[:end] for end in (*range(0, len(content), 29), len(content) - 1)]
    for other in (b"PK\x03\x04", b"<html>404</html>\n", npy.getvalue(), *cuts):
        file.write_bytes(other)
        with pytest.raises(ValueError, match=f"'{file}' must be an npz file of plain arrays, got"):
            read(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", b"not an array")
        archive.writestr("lengths.npy", b"")
    with pytest.raises(ValueError, match=r"'lengths' of .* must be a non-empty integer array"):
        read(file)
