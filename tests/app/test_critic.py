"""A critic on the command line, in a report, and in the experiment's tables."""

import re
import sys
from pathlib import Path

import pandas as pd
import pytest

from zforcing_pyro.app.cli import main

sys.path.insert(0, str(Path(__file__).parents[2]))  # experiments are no part of the package

from experiments.critic import __main__ as experiment
from experiments.critic import results

pytestmark = pytest.mark.usefixtures("float32")
SMALL = ["--data=digits", "--model=vrnn", "--model.z_dim=3", "--model.hidden_dim=8"]
SMALL += ["--model.h_dim=12", "--training.validate_every=10", "--max_updates=20"]


@pytest.mark.slow
def test_the_report_draws_the_critic_and_warns_of_a_collapse(tmp_path, capsys):
    """A10: its curves, and a warning where an adversary is at equilibrium without information."""
    run, page = tmp_path / "run", tmp_path / "page.html"
    critic = ["--training.adversary=latent", "--training.adv_warmup=0"]
    assert main(["train", *SMALL, *critic, f"--out={run}"]) == 0
    assert main(["report", str(run), "--num=8", "--particles=25", f"--out={page}"]) == 0
    text = page.read_text(encoding="utf-8")
    assert "No number of this page has an opinion of the critic in it" in text
    assert len(re.findall(r"<figcaption>The critic", text)) == 2
    assert "a sign of collapse, not of success" in text
    assert main(["train", *SMALL, *critic, "--bound=iwae", f"--out={tmp_path / 'no'}"]) != 0
    assert "'adversary' must be 'none' with TraceIWAE" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("table", ["professor_mnist_rows", "latent_mnist_rows"])
def test_the_experiment_writes_tables_that_can_be_drawn(table, tmp_path, monkeypatch):
    arms = (
        list(experiment.TABLES[table]["arms"])[:4:3] + list(experiment.TABLES[table]["arms"])[2:3]
    )
    folder = tmp_path / "critic"
    monkeypatch.setitem(experiment.TABLES[table], "test_on", 70)
    command = ["critic", table, "--seeds", "0", "1", "--max_updates", "4", "--arms", *arms]
    command += ["--out", str(tmp_path / "runs"), "--results", str(folder / "results")]
    for _ in range(2):  # the second time nothing is trained
        monkeypatch.setattr(sys, "argv", command)
        experiment.main()
        monkeypatch.setattr(experiment, "fit", None)
    runs = pd.read_csv(folder / "results" / f"{table}.csv")
    assert sorted(runs.arm) == sorted(2 * arms) and runs.iwae.notna().all()
    readme = folder / "README.md"
    readme.write_text(f"before\n<!-- {table} -->\n<!-- end -->\nafter\n")
    results.main(folder)
    text = readme.read_text()
    assert text.startswith("before") and text.endswith("after\n")
    assert all(f"| {arm} | 2 |" in text for arm in arms)
