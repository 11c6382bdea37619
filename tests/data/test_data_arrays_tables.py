"""Tables of one's own: long ones and ones with lists, from files and from data frames."""

import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from pyarrow import feather, parquet
from torch.testing import assert_close

from zforcing_pyro.app.cli import main
from zforcing_pyro.app.experiment import describe
from zforcing_pyro.data import Table

RNG = np.random.default_rng(0)
SPLITS = ("train", "valid", "test")
NAMES = [f"s{i:02}" for i in range(20)]
LENGTHS = RNG.integers(2, 9, 20)
VALUES = {
    name: np.round(RNG.normal([5, -2], [3, 0.1], (n, 2)), 4) for name, n in zip(NAMES, LENGTHS)
}
PARTS = dict(zip(NAMES, ["train"] * 14 + ["valid"] * 3 + ["test"] * 3))


@pytest.fixture(autouse=True)
def no_default_folder(monkeypatch):
    monkeypatch.delenv("ZFORCING_DATA", raising=False)


def long(**changes):
    """A long table, its rows in any order, with a gap in time and a missing value."""
    rows = [
        {"sequence": name, "time": 3 * t, "a": a, "b": b, "part": PARTS[name]}
        for name, values in VALUES.items()
        for t, (a, b) in enumerate(values)
    ]
    frame = pd.DataFrame([rows[i] for i in RNG.permutation(len(rows))])
    frame.loc[(frame["sequence"] == "s00") & (frame["time"] == 3), "b"] = np.nan
    return frame.assign(**changes)


def lists(**changes):
    """The same with lists, and the missing value a null."""
    columns = {
        "sequence": NAMES,
        "a": [v[:, 0].tolist() for v in VALUES.values()],
        "b": [v[:, 1].tolist() for v in VALUES.values()],
        "part": list(PARTS.values()),
    }
    columns["b"][0][1] = None
    return pa.table({k: v for k, v in (columns | changes).items() if v is not None})


def save(table, file):
    table = (
        table if isinstance(table, pa.Table) else pa.Table.from_pandas(table, preserve_index=False)
    )
    name = file.name
    if name.endswith((".csv", ".csv.gz")):
        table.to_pandas().to_csv(file, index=False)
    elif name.endswith(".parquet"):
        parquet.write_table(table, file)
    else:
        feather.write_feather(table, file)
    return file


def check(corpus):
    """All sequences, in the order of their names, split by the column."""
    assert corpus.columns == ["a", "b"] and (corpus.x_dim, corpus.emission) == (2, "gaussian")
    for split in SPLITS:
        names = [name for name in NAMES if PARTS[name] == split]
        assert len(names) == len(corpus.split(split))
        for name, (x, _) in zip(names, corpus.split(split)):
            wanted = torch.tensor(VALUES[name])
            if name == "s00":
                wanted[1, 1] = torch.nan
            assert_close(corpus.values(x), wanted.float(), equal_nan=True)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet", ".feather", ".arrow", ".CSV"])
def test_a_long_table_is_sorted_by_sequence_and_time(tmp_path, suffix):
    file = save(long(), tmp_path / f"table{suffix}".lower())
    file = file.rename(tmp_path / f"table{suffix}")
    corpus = Table(file, split="part", values=["a", "b"])
    assert corpus.found()
    check(corpus)
    check(Table(f"table{suffix}", split="part", data_dir=tmp_path))


@pytest.mark.parametrize("suffix", [".parquet", ".feather"])
@pytest.mark.parametrize("kind", [pa.list_, pa.large_list])
def test_a_column_of_lists_has_a_sequence_in_each_row(tmp_path, suffix, kind):
    table = lists()
    for i, name in enumerate(table.column_names):
        if name in ("a", "b"):
            table = table.set_column(i, name, table.column(name).cast(kind(pa.float32())))
    check(Table(save(table, tmp_path / f"table{suffix}"), split="part"))
    check(Table.from_frame(pa.concat_tables([table[:7], table[7:]]), split="part"))


FRAMES = {
    "pandas": lambda: long(),
    "pandas, index": lambda: long().set_index(RNG.permutation(LENGTHS.sum()), drop=True),
    "pandas, categories": lambda: long().astype({"sequence": "category", "part": "category"}),
    "pandas, dates": lambda: long(time=lambda f: pd.to_datetime(f["time"], unit="D")),
    "pandas, numbers": lambda: long(sequence=lambda f: f["sequence"].str[1:].astype(int)),
    "polars": lambda: pl.DataFrame(long().to_dict("list")),
    "polars, nulls": lambda: pl.DataFrame(long().to_dict("list")).fill_nan(None),
    "polars, lists": lambda: pl.from_arrow(lists()),
    "lists in chunks, some empty": lambda: pa.concat_tables(
        [lists()[i:j] for i, j in [(0, 0), (0, 7), (7, 7), (7, 20), (20, 20)]]
    ),
    "arrow": lambda: pa.Table.from_pandas(long()[["part", "time", "a", "b", "sequence"]]),
    "arrow, float32": lambda: pa.Table.from_pandas(long().astype({"a": "float32", "b": "float32"})),
}  # fmt: skip


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_frames_of_all_kinds_are_the_same(frame):
    check(Table.from_frame(frame(), split="part", values=["a", "b"]))


def test_columns_are_chosen_by_name(tmp_path):
    frame = long(note="x").rename(columns={"sequence": "patient", "time": "day"})
    options = {"sequence": "patient", "time": "day", "split": "part"}
    corpus = Table.from_frame(frame, values=["b"], **options)
    assert corpus.columns == ["b"]
    wanted = torch.tensor(VALUES["s14"][:, 1:]).float()
    assert_close(corpus.values(corpus.split("valid")[0].x), wanted)
    corpus.write(corpus.split("valid")[0].x, tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text().startswith("step,b\n0,")
    with pytest.raises(
        ValueError, match=r"column 'note' of the frame must hold numbers, got .*str"
    ):
        Table.from_frame(frame, **options).split("train")


def test_without_a_time_rows_are_in_order():
    frame = long().sort_values(["time", "sequence"], ascending=[True, False]).drop(columns="time")
    check(Table.from_frame(frame, time="", split="part"))


def test_a_split_by_chance_does_not_depend_on_the_order_of_rows():
    frames = [long().drop(columns="part"), long().drop(columns="part").iloc[::-1]]
    found = [
        [Table.from_frame(f, seed=s).split(n).lengths.tolist() for n in SPLITS]
        for f, s in ((frames[0], 0), (frames[1], 0), (frames[0], 1))
    ]
    assert [len(v) for v in found[0]] == [16, 2, 2]
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    "values, emission, x_dim",
    [
        ({"a": lambda f: f["time"] > 3}, "bernoulli", 1),
        ({"a": lambda f: f["time"] // 3}, "categorical", 8),
        ({"a": lambda f: (f["time"] // 3).astype(float)}, "gaussian", 1),
        ({"a": lambda f: f["time"] > 3, "b": lambda f: f["time"] > 6}, "bernoulli", 2),
    ],
)
def test_the_family_is_what_the_values_are(values, emission, x_dim):
    corpus = Table.from_frame(long(**values), values=list(values), split="part")
    assert (corpus.emission, corpus.x_dim) == (emission, x_dim)


TWICE, MIXED, INFINITE = long(), long(), long()
TWICE.loc[len(TWICE)] = {"sequence": "s03", "time": 3, "a": 1.0, "b": 2.0, "part": "train"}
MIXED.loc[MIXED["sequence"] == "s05", "part"] = ["train", *["test"] * (LENGTHS[5] - 1)]
INFINITE.loc[INFINITE["sequence"] == "s07", "a"] = np.inf
NOBODY, NEVER = long(), long(time=np.nan)
NOBODY.loc[3, "sequence"] = None
RAGGED = [v[: 1 + i % 2, 0].tolist() for i, v in enumerate(VALUES.values())]
BAD = {
    "no column": ({"sequence": "who"}, long(), r"must have a column 'who', got \['sequence', 't"),
    "no value": ({"values": ["a", "z"]}, long(), r"must have a column 'z', got \['sequence'"),
    "no time": ({"time": "when"}, long(), "must have a column 'when'"),
    "no values": ({}, long()[["sequence", "time"]], r"must have a column of values, got \['seq"),
    "no rows": ({}, long().iloc[:0], "must have rows, got none"),
    "twice": ({}, TWICE, "one row for each sequence and time, got two for 's03' at 3"),
    "two splits": ({"split": "part"}, MIXED, "column 'part' of .* same all .* two for 's05'"),
    "wrong split": ({"split": "part"}, long(part="dev"), r"must hold \['train', .* got \['dev'\]"),
    "no valid": ({"split": "part"}, long(part="test"), r"each at least once, got \['test'\]"),
    "text": ({"values": ["part"]}, long(), "column 'part' of .* must hold numbers, got .*string"),
    "text as time": ({"time": "part"}, long(), "column 'part' of .* must hold times, got"),
    "NaN as time": ({}, NEVER, "column 'time' of .* must"),
    "empty name": ({}, NOBODY, "column 'sequence' of .* must not have empty entries"),
    "infinite": ({"values": ["a"]}, INFINITE, "sequence 's07' of .* got infinity at step 0"),
    "NaN": ({"values": ["b"]}, long(b=np.nan), "sequence '.*' of .* must have observed values"),
    "ragged": ({}, lists(b=RAGGED), r"sequence s00 of .* as many .* got \{'a': \d, 'b': 1\}"),
    "empty list": ({}, lists(a=[[]] * 20, b=None), "column 'a' of .* must not have empty lists"),
    "null list": ({}, lists(a=[None, *[[1.0]] * 19], b=None), "'a' of .* not have empty entries"),
    "text in lists": ({}, lists(a=[["x"]] * 20, b=None), "'a' of .* must hold numbers, got string"),
    "one list": ({"values": ["a", "part"]}, lists(), "column 'part' of .* must hold lists"),
}  # fmt: skip


@pytest.mark.parametrize("options, table, message", BAD.values(), ids=BAD)
def test_tables_that_do_not_fit_are_named(tmp_path, options, table, message):
    options = (
        {"values": ["a", "b"]} | options
        if isinstance(table, pd.DataFrame) and "a" in table
        else options
    )
    file = save(table, tmp_path / "table.parquet")
    frame = Table.from_frame(table, **options)
    for corpus, place in ((Table(file, **options), f"'{file}'"), (frame, "the frame")):
        with pytest.raises(ValueError, match=message) as error:
            corpus.split("train")
        assert place in str(error.value) and "\n" not in str(error.value)


def test_what_is_no_frame_is_named():
    for other in ([1, 2], {"a": 1}, np.zeros(3), pd.DataFrame({"a": [1, "x"]})):
        with pytest.raises(ValueError, match="'frame' must be of pandas, polars or Arrow, got"):
            Table.from_frame(other).split("train")


def test_broken_and_missing_files_are_named(tmp_path):
    for name in ("x.parquet", "x.feather", "x.csv", "x.arrow", "x.csv.gz"):
        file = tmp_path / name
        for content in (b"", b"PAR1" + bytes(50), b"a,b\n1,2,3\n", b"\xff\xfe\x00\x01" * 9):
            file.write_bytes(content)
            with pytest.raises(ValueError, match=f"'{file}' must"):
                Table(file).split("train")
    for content, message in (
        ("séquence,time,v\nä,0,1\n", r"must be a table as its name says, got UnicodeDecodeError"),
        ("sequence,time,v\nä,0,1\n", r"must be text in UTF-8, got other bytes in .*'sequence'"),
        ("sequence;time;v\ns;0;1\n", r"must have commas between columns, got only \['sequence;"),
        (
            "name,time,v\ns,0,1\n",
            r"must have a column 'sequence', got .* options 'sequence', 'time', ",
        ),
    ):
        (tmp_path / "x.csv").write_bytes(content.encode("latin-1"))
        with pytest.raises(ValueError, match=f"x.csv' {message}"):
            Table(tmp_path / "x.csv").split("train")
    good = save(long(), tmp_path / "y.parquet")
    good.write_bytes(good.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"'.*y.parquet' must be a table as its name says, got"):
        Table(good).split("train")
    (tmp_path / "x.xlsx").write_bytes(b"")
    with pytest.raises(ValueError, match=r"'path' must end in one of \['.csv', .*x.xlsx'"):
        Table(tmp_path / "x.xlsx").split("train")
    with pytest.raises(FileNotFoundError, match=r"got none at 'nowhere.csv'"):
        Table("nowhere.csv").split("train")
    with pytest.raises(ValueError, match=r"'path' must be given for table, as --data.path"):
        Table().split("train")
    (tmp_path / "d.csv").write_text("sequence,time,a,a\ns,1,2,3\n")
    with pytest.raises(ValueError, match=r"must have every column once, got \['a'\] twice"):
        Table(tmp_path / "d.csv").split("train")


def test_without_pyarrow_one_line_says_what_to_install(tmp_path, monkeypatch):
    file = save(long(), tmp_path / "x.csv")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        ValueError, match=r"tables need pyarrow: pip install 'zforcing_pyro\[tables"
    ):
        Table(file).split("train")


def test_the_command_line_takes_columns(tmp_path):
    file = save(long(bit=lambda f: (f["time"] > 3).astype(int)), tmp_path / "x.csv")
    options = ["--data=table", f"--data.path={file}", '--data.values=["bit"]', "--data.split=part"]
    experiment = describe(options)
    assert experiment.emission["name"] == "bernoulli" and experiment.corpus().columns == ["bit"]
    again = describe(config=experiment.config() | {"training": {}})
    assert again.data == experiment.data


@pytest.mark.slow
def test_it_trains_and_draws(tmp_path, capsys):
    file = save(long().fillna(0), tmp_path / "x.csv")
    small = ["--model.z_dim=2", "--model.h_dim=8", "--model.hidden_dim=8", "--max_updates=2"]
    data = ["--data=table", f"--data.path={file}", "--data.split=part"]
    out = str(tmp_path / "run")
    torch.set_default_dtype(torch.float32)
    assert main(["train", *data, *small, "--out", out]) == 0
    assert main(["evaluate", out]) == 0 and "data digest" in capsys.readouterr().out
    assert main(["sample", out, "--num=1"]) == 0
