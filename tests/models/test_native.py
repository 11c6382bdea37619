"""The time loops in C++ against those in Python; skipped where there is no compiler."""

import shutil

import pyro
import pytest
import torch
from test_fused import (
    OPTIONS,
    STEPS,
    gradients_of_transposes,
    latents_for,
    parts,
    values_and_gradients,
)
from torch.testing import assert_close

from zforcing_pyro.app.cli import main
from zforcing_pyro.models.recurrence import fused, native

can_build = shutil.which("ninja") and (shutil.which("c++") or shutil.which("g++"))
needs_compiler = pytest.mark.skipif(not can_build, reason="needs a C++ compiler and ninja")


@pytest.fixture(scope="module")
def built():
    """In the folder of whoever runs the tests: a process can have one such library only."""
    native.build()
    return native.loops()


def both(monkeypatch, built, given):
    found = []
    for loops in (None, built):
        monkeypatch.setattr(fused, "loops", lambda loops=loops: loops)
        found.append(values_and_gradients("fused", *given))
    return found


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("num_updates", [STEPS, STEPS - 1])
@pytest.mark.parametrize("num_particles", [1, 3])
@pytest.mark.parametrize("options", OPTIONS)
def test_loops_in_cpp_are_those_in_python(monkeypatch, built, options, num_particles, num_updates):
    expected, found = both(monkeypatch, built, parts(num_particles, num_updates, **options))
    assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("num_updates", [STEPS, STEPS - 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_loops_along_given_latents(monkeypatch, built, dtype, num_updates):
    given = parts(3, num_updates, dtype=dtype, factor=2)
    expected, found = both(monkeypatch, built, (*given, latents_for(given[-1])))
    tolerance = 1e-10 if dtype == torch.float64 else 1e-4
    assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("given", [False, True])
def test_loops_in_cpp_take_gradients_in_any_order_of_memory(monkeypatch, built, given):
    monkeypatch.setattr(fused, "loops", lambda: built)
    found, expected = (gradients_of_transposes(b, given) for b in ("fused", "reference"))
    assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("options", OPTIONS)
def test_loops_in_cpp_in_float32(monkeypatch, built, options):
    given = parts(dtype=torch.float32, factor=2, **options)
    expected, found = both(monkeypatch, built, given)
    for a, b in zip([*expected[0], *expected[1]], [*found[0], *found[1]]):
        assert (a - b).norm() <= 1e-5 * a.norm()


@pytest.mark.slow
@needs_compiler
def test_large_activations_in_float32(monkeypatch, built):
    """Where an exponential would overflow, and where a gate is shut to the last bit."""
    given = parts(dtype=torch.float32, factor=80, clamp=8.0)
    for parameter in given[0].parameters():
        parameter.data.mul_(40)
    expected, found = both(monkeypatch, built, given)
    assert_close(found[0], expected[0], rtol=1e-4, atol=1e-4)
    assert all(g.isfinite().all() for g in found[1])


@pytest.mark.slow
@needs_compiler
def test_what_overflows_does_so_in_both(monkeypatch, built):
    given = parts(dtype=torch.float32, factor=1, clamp=0.0)
    last, z_dim = given[1].mlp.layers[-1], given[1].x_dim
    last.bias.data[z_dim:] = torch.tensor([86.0, 88.9, -200.0])
    last.weight.data[z_dim:] = 0
    found = []
    for loops in (None, built):
        monkeypatch.setattr(fused, "loops", lambda loops=loops: loops)
        with pyro.validation_enabled(False):  # what follows an infinite latent is NaN
            found.append(values_and_gradients("fused", *given)[0][3])
    assert found[0][..., 0, 0].isfinite().all() and not found[0][..., 0, 1].isfinite().any()
    assert_close(found[1][..., 0, :], found[0][..., 0, :], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@needs_compiler
def test_the_fused_backend_takes_what_is_built(monkeypatch, built):
    calls = []
    forward = built.forward
    spy = type("Spy", (), {"forward": lambda *a: calls.append(1) or forward(*a)})
    monkeypatch.setattr(fused, "loops", lambda: spy)
    cell, posterior, (inputs, future, *state) = parts(clamp=8.0)
    fused.fused(
        cell,
        posterior,
        cell.project(inputs),
        future @ torch.ones(8, 7),
        posterior.mlp.layers[0].weight[:, :8],
        tuple(state),
    )
    assert calls == [1]
    half = torch.zeros(3, dtype=torch.bfloat16)
    assert fused.native_loops(half) is None and fused.native_loops(torch.zeros(3)) is spy
    assert fused.native_loops(torch.zeros(3, device="meta")) is None


def test_what_is_built_is_for_this_machine_alone(monkeypatch):
    here = native.library()
    assert native.library() == here
    monkeypatch.setattr(native, "processor", lambda: "another")
    assert native.library() != here


def test_a_library_that_cannot_be_loaded_is_none(monkeypatch, tmp_path):
    monkeypatch.setattr(native, "library", lambda: tmp_path / "no.so")
    assert native.loops.__wrapped__() is None


def test_building_without_a_compiler_is_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(native, "library", lambda: tmp_path / "cache" / "zforcing.so")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["build"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("zforcing: error: the loops were not built, all works without them")
    assert error.count("\n") == 1
    assert not list((tmp_path / "cache").iterdir())
