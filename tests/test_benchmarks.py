"""The benchmark compares like with like, and writes what it finds. No times are tested here."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import linear

from zforcing_pyro.layers import products

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # experiments are no part of the package
# JAX compiles each function once and runs it a few times here.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

from experiments.benchmarks import cli, cpu, memory  # noqa: E402
from experiments.benchmarks.agreement import agreements  # noqa: E402
from experiments.benchmarks.configurations import Configuration, problem  # noqa: E402
from experiments.benchmarks.floor import Floor, flops, recurrent_products  # noqa: E402
from experiments.benchmarks.gpu import benchmark_gpu, gpu_configurations  # noqa: E402
from experiments.benchmarks.variants import VARIANTS, Fast  # noqa: E402

TINY = Configuration("TINY", 2, 3, x_dim=5, embed_dim=4, h_dim=6, z_dim=3, hidden_dim=4)
KINDS = [
    TINY, replace(TINY, emission="bernoulli", embed_dim=0), replace(TINY, emission="categorical")
]  # fmt: skip
TORCH = ["naive", "pyro_trace", "pyro_meanfield", "programs", "fast", "svi"]
NO_JAX = "JAX is an optional dependency of the benchmark"


@pytest.fixture(autouse=True)
def unpinned(monkeypatch):
    """Other tests of this process keep all cores."""
    monkeypatch.setattr(cli, "pin", lambda core: "not pinned")


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(cli.CONFIGURATIONS, "TINY", TINY)


@pytest.mark.parametrize("configuration", KINDS, ids=lambda c: c.emission)
@pytest.mark.parametrize("num_particles", [1, 2])
def test_all_variants_of_torch_compute_the_same(configuration, num_particles):
    given = problem(replace(configuration, num_particles=num_particles), torch.float64)
    for name, a in agreements(given, {n: VARIANTS[n](given) for n in TORCH}).items():
        assert max(a.loss_error, a.worst_gradient_error) < 1e-10, (name, a)


@pytest.mark.parametrize(
    ("configuration", "name"),
    [(KINDS[0], "jax_scan"), (KINDS[1], "jax_vjp"), (KINDS[2], "jax_vjp")],
    ids=lambda v: getattr(v, "emission", v),
)
def test_jax_computes_the_same(configuration, name):
    pytest.importorskip("jax", reason=NO_JAX)
    given = problem(configuration)
    a = agreements(given, {name: VARIANTS[name](given)})[name]
    assert max(a.loss_error, a.worst_gradient_error) < 1e-5, a


def test_a_variant_that_computes_something_else_is_found(monkeypatch):
    class Wrong(Fast):
        def loss(self):
            return super().loss() + 1e-3 * self.net.cell.bias.square().sum() + 1

    monkeypatch.setitem(VARIANTS, "fast", Wrong)
    with pytest.raises(cpu.Disagreement, match="'fast' does not agree with 'naive' on TINY"):
        cpu.benchmark(TINY, ["naive", "fast"], cli.wide_console(), rounds=1, memory=False)


def test_the_command_writes_a_row_for_each_variant(tiny, tmp_path, capsys):
    file = tmp_path / "rows.json"
    args = ["--configs", "TINY", "--variants", "naive,fast,floor", "--rounds", "2", "--no-memory"]
    cli.main([*args, "--json", str(file)])
    rows = json.loads(file.read_text())
    assert [row["variant"] for row in rows] == ["naive", "fast", "floor"]
    for row in rows:
        assert row["config"] == "TINY" and row["rounds"] == 2 and row["threads"] == 1
        assert row["lower_quartile_ms"] <= row["median_ms"] <= row["upper_quartile_ms"]
        assert row["peak_mb"] is None and row["torch"] == torch.__version__ and row["cpu"]
    naive, fast, floor = rows
    assert naive["ratio_to_naive"] == 1 and floor["ratio_to_floor"] == 1
    assert fast["ratio_to_naive"] == fast["median_ms"] / naive["median_ms"]
    assert "next to naive, at the same weights, data and noise" in capsys.readouterr().out


def test_the_floor_has_the_products_of_the_recurrence():
    forward = {(p.rows, p.inner, p.columns) for p in recurrent_products(TINY)[::2]}
    assert forward == {(2, 6, 24), (2, 6, 28), (2, 4, 6), (2, 3, 24)}
    Floor(problem(TINY)).step()
    assert flops(TINY) > 3 * sum(p.flops for p in recurrent_products(TINY))


def test_what_is_compared_with_has_the_products_of_torch(monkeypatch):
    """And the package's own programs and its fast path have the package's."""
    calls = []
    monkeypatch.setattr(products, "is_intel", lambda: False)
    monkeypatch.setattr(products.OneDNNLinear, "apply", lambda *a: calls.append(1) or linear(*a))
    given = problem(replace(TINY, h_dim=64, hidden_dim=64, batch_size=512))
    for name, expected in {"naive": False, "pyro_trace": False, "programs": True}.items():
        calls.clear()
        VARIANTS[name](given).step()
        assert bool(calls) == (expected and products.has_onednn()), name


@pytest.mark.skipif(not memory.RESET.exists(), reason="the system does not tell the peak")
def test_peak_memory_is_what_a_step_takes_beyond_what_was_there():
    program = """if True:
        import torch
        from experiments.benchmarks.memory import peak_mb
        held = torch.ones(2**22, dtype=torch.float64)
        print(peak_mb(lambda: torch.ones(2**23, dtype=torch.float64) + held[0]))
    """  # in a process of its own: one that has trained keeps what is freed
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert abs(float(done.stdout) - 2 * 64) < 8  # two buffers of 2^23 numbers of 64 bits


def test_the_part_for_a_gpu_runs():
    (tiny, _) = gpu_configurations("cpu")
    names = ["naive", "fast", "cudnn_lstm"]  # what is compiled takes long
    rows = benchmark_gpu(tiny, cli.wide_console(), "cpu", names, rounds=1)
    assert [row["variant"] for row in rows] == names
    assert all(row["device"] == "cpu" and row["launches"] is None for row in rows)
    assert rows[-1]["ratio_to_cudnn_lstm"] == 1
    assert {(c.h_dim, c.batch_size, c.num_steps) for c in gpu_configurations("cuda")} == {
        (1024, b, t) for b in (32, 128) for t in (40, 784)
    }
