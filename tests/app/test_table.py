"""Tables for papers: seeds are one row, differences are paired, bounds of each sequence are CSV."""

import re

import numpy as np
import pandas as pd
import pytest
from report_runs import run_of

import zforcing_pyro as zf
from zforcing_pyro.app.cli import main
from zforcing_pyro.estimators import TraceELBO

pytestmark = [pytest.mark.xdist_group("report"), pytest.mark.usefixtures("float32")]


@pytest.mark.slow
def test_table_has_seeds_in_one_row_and_bounds_by_sequence(tmp_path, capsys):
    """The network without latents has exact likelihoods, which ``zf.evaluate`` returns too."""
    runs = [run_of("digits"), run_of("digits", seed=1), run_of("digits", "rnn")]
    file, folder = tmp_path / "bounds.csv", tmp_path / "figures"
    command = ["table", *map(str, runs), "--particles=25"]
    capsys.readouterr()
    assert main([*command, f"--csv={file}", f"--figures={folder}"]) == 0
    out = capsys.readouterr().out
    bounds = pd.read_csv(file)
    by_run = {run: rows.sort_values("sequence") for run, rows in bounds.groupby("run")}
    exact = by_run["digits-rnn-0"]["log-likelihood"].to_numpy()
    test = zf.data.corpus("digits").split("test")
    expected = zf.evaluate(zf.load(runs[2]), test, TraceELBO()).per_sequence
    np.testing.assert_allclose(exact, expected, rtol=1e-6)
    iwae = [by_run[f"digits-zforcing-{seed}"]["iwae, K = 25"].to_numpy() for seed in (0, 1)]
    assert len(bounds) == 750 and (iwae[0] > by_run["digits-zforcing-0"]["elbo"] - 5).all()
    means = np.mean(iwae, 1)
    row = re.search(r"^\| digits-zforcing-0 \(2 seeds\) \|.*$", out, re.M)[0]
    assert f"| {means.mean():,.3f} ± {means.std(ddof=1):,.3f} |" in row, (row, means)
    assert f"| {exact.mean():,.3f} |" in out
    paired = f"| minus digits-zforcing-0 (2 seeds) | {(exact - iwae[0]).mean():,.3f} ± "
    assert paired in out  # by the seed that both have
    assert "all 250 test sequences" in out and "Protocol: elbo with K=1" in out
    names = sorted(path.name for path in folder.iterdir())
    assert names == [".zforcing.json", "bound.pdf", "differences.pdf", "kl.pdf"]
    assert all(path.read_bytes().startswith(b"%PDF") for path in folder.glob("*.pdf"))
    assert main([*command, "--num=8", "--latex", "--split=valid"]) == 0
    out = capsys.readouterr().out
    assert out.count(r"\begin{tabular}") == 3 and "8 of" in out and "\n% Protocol: elbo" in out
    table = runs[0] / "metrics.csv"
    assert main([*command, f"--csv={table}"]) == 2
    assert "'--csv' must be outside of the folders of runs" in capsys.readouterr().err
