"""``zforcing forecast``, ``impute`` and ``score`` on a run's folder and on a model's file."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_sequence_model import SMALL, long

import zforcing_pyro as zf
from zforcing_pyro.app.cli import main

pytestmark = pytest.mark.usefixtures("float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    frame = pd.concat([long().assign(shop=lambda f, k=k: f["shop"] + str(k)) for k in range(6)])
    frame.drop(columns="sold").to_csv(folder / "table.csv", index=False)
    zf.SequenceModel("shop", **SMALL).fit(long()).save(folder / "model")
    long().to_parquet(folder / "long.parquet")
    data = ["--data=table", f"--data.path={folder / 'table.csv'}", "--data.sequence=shop"]
    sizes = [f"--model.{name}=2" for name in ("z_dim", "h_dim", "hidden_dim")]
    run = ["--model=vrnn", *sizes, "--max_updates=2", f"--out={folder / 'run'}"]
    assert main(["train", *data, "--data.time=day", *run]) == 0
    return folder


def printed(capsys, *args):
    capsys.readouterr()
    assert main([str(arg) for arg in args]) == 0
    out, err = capsys.readouterr()
    return pd.read_csv(io.StringIO(out)), err


def test_a_run_on_a_table_forecasts_imputes_and_scores(folder, capsys):
    place = folder / "run", folder / "table.csv"
    forecast, _ = printed(capsys, "forecast", *place, "--horizon", 2, "--quantiles", 0.5)
    assert list(forecast.columns) == ["shop", "day", "level", "level_q0.5"] and len(forecast) == 24
    assert set(forecast["day"].astype(str).str[:10]) == {"2024-03-01", "2024-03-02"}
    table = pd.read_csv(place[1])
    imputed, _ = printed(capsys, "impute", *place)
    seen = table["level"].notna()
    np.testing.assert_allclose(imputed["level"][seen], table["level"][seen])
    assert imputed["level"].notna().all()
    scores, err = printed(capsys, "score", *place)
    assert scores["surprise"].notna().tolist() == seen.tolist()
    assert "thresholds of validation: surprise" in err


def test_a_file_has_the_numbers_of_python(folder, capsys):
    model, file = zf.SequenceModel.load(folder / "model"), folder / "long.parquet"
    printed_too, _ = printed(capsys, "forecast", folder / "model", file, "--horizon", 3)
    pd.testing.assert_frame_equal(
        printed_too.assign(day=pd.to_datetime(printed_too["day"])), model.forecast(long(), 3),
        check_dtype=False, check_exact=False,
    )  # fmt: skip
    assert (
        main(["score", str(folder / "model"), str(file), "--out", str(folder / "s.parquet")]) == 0
    )
    scores = pd.read_parquet(folder / "s.parquet")
    pd.testing.assert_frame_equal(scores, model.score(long()), check_dtype=False)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["forecast", "model", "none.csv", "--horizon=2"], "'file' must be a file, got"),
        (["forecast", "table.csv", "table.csv", "--horizon=2"], "must be a net that 'save' wrote"),
        (["impute", "model", "table.csv"], "'frame' must have the columns"),
        (["score", "model", "long.parquet", "--out=x.txt"], "'--out' must end in .csv or .parquet"),
        (["score", "model", "long.parquet", "--out=long.parquet"], "must be another file than"),
        (["impute", "model", "long.parquet", "--out=./model"], "must be another file than 'run'"),
        (["score", "model", "long.parquet", "--out=run/metrics.csv"], "outside of the folders of"),
        (["forecast", "model", "long.parquet", "--horizon=2", "--future=x"], "with future columns"),
        (["forecast", "model", "long.parquet"], "--horizon"),
    ],
)
def test_mistakes_are_one_line(folder, capsys, monkeypatch, args, message):
    monkeypatch.chdir(folder)
    Path("run").mkdir(exist_ok=True)
    Path("run", "run.json").touch()
    assert main(args) == 2
    assert message in capsys.readouterr().err
