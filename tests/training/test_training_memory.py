"""What is asked of the C library, by a stand-in for it."""

from types import SimpleNamespace

import pytest

from zforcing_pyro.training import memory


@pytest.mark.parametrize("most", [2**30, 2**25])  # newer and older versions of glibc
def test_large_blocks_are_kept_by_any_glibc(monkeypatch, most):
    set_to = {}

    def mallopt(option, value):
        if option == memory.M_MMAP_THRESHOLD and value > most:
            return 0
        set_to[option] = value
        return 1

    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    monkeypatch.setattr(memory.sys, "platform", "linux")
    memory.keep_freed_memory()
    assert set_to == {memory.M_MMAP_THRESHOLD: most, memory.M_TRIM_THRESHOLD: memory.LARGEST}


def test_another_library_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: SimpleNamespace())
    memory.keep_freed_memory()
