"""`make demo` shows what its page and README say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import zforcing_pyro as zf
from zforcing_pyro.app.report.comparison import difference

ARMS = "plain", "annealed", "zforcing"


def demo(out: Path, *args: object) -> None:
    """Runs the demo's command from the project's top folder."""
    command = [sys.executable, "-m", "experiments.demo", "--out", out, *args]
    top = Path(__file__).parents[2]
    subprocess.run(
        [*map(str, command)], check=True, cwd=top, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


def holds(out: Path) -> bool:
    """Returns whether Z-Forcing uses its latents and beats both other arms on the test images."""
    test = zf.data.corpus("mnist5k").split("test")
    results = {}
    for arm in ARMS:
        results[arm] = zf.evaluate(zf.load(out / arm), test, zf.estimators.TraceIWAE(25))
    forcing = results["zforcing"]
    gains = [difference(forcing.per_sequence, results[arm].per_sequence) for arm in ARMS[:2]]
    print(forcing.kl_per_sequence, forcing.latents_in_use, *gains)
    uses_latents = forcing.kl_per_sequence >= 18 and forcing.latents_in_use >= 10
    return uses_latents and all(gain.low > 0 for gain in gains)


@pytest.mark.nightly
def test_demo_holds_at_two_of_three_seeds(tmp_path):
    for seed in range(3):
        demo(tmp_path / str(seed), "--seed", seed)
    assert sum(holds(tmp_path / str(seed)) for seed in range(3)) >= 2


@pytest.mark.slow
def test_demo_writes_its_page(tmp_path):
    demo(tmp_path, "--max_updates", 2, "--num", 8)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert all(arm in page for arm in ARMS) and "<svg" in page
    assert not holds(tmp_path)  # two updates are too few
