"""Tables of one's own: long ones and ones with lists, from files and from data frames."""

import datetime
import sys
from functools import partial

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from pyarrow import feather, parquet
from torch.testing import assert_close

from zforcing_pyro.data import Table, collate
from zforcing_pyro.data.formats import files
from zforcing_pyro.emissions import DiagNormal
from zforcing_pyro.models import VRNN

RNG = np.random.default_rng(0)
SPLITS = ("train", "valid", "test")
NAMES = [f"s{i:02}" for i in range(20)]
LENGTHS = RNG.integers(2, 9, 20)
VALUES = {
    name: np.round(RNG.normal([5, -2], [3, 0.1], (n, 2)), 4) for name, n in zip(NAMES, LENGTHS)
}
PARTS = dict(zip(NAMES, ["train"] * 14 + ["valid"] * 3 + ["test"] * 3))


def long(**changes):
    """Returns a long table, its rows in any order, with a gap in time and a missing value."""
    rows = [
        {"sequence": name, "time": 3 * t, "a": a, "b": b, "part": PARTS[name]}
        for name, values in VALUES.items()
        for t, (a, b) in enumerate(values)
    ]
    frame = pd.DataFrame([rows[i] for i in RNG.permutation(len(rows))])
    frame.loc[(frame["sequence"] == "s00") & (frame["time"] == 3), "b"] = np.nan
    return frame.assign(**changes)


def lists(**changes):
    """Returns the same with lists, and the missing value a null."""
    columns = {
        "sequence": NAMES,
        "a": [v[:, 0].tolist() for v in VALUES.values()],
        "b": [v[:, 1].tolist() for v in VALUES.values()],
        "part": list(PARTS.values()),
    }
    columns["b"][0][1] = None
    return pa.table({k: v for k, v in (columns | changes).items() if v is not None})


def save(table, file):
    if not isinstance(table, pa.Table):
        table = pa.Table.from_pandas(table, preserve_index=False)
    if ".csv" in file.name.lower():
        table.to_pandas().to_csv(file, index=False)
    else:
        (parquet.write_table if file.suffix == ".parquet" else feather.write_feather)(table, file)
    return file


def check(corpus):
    """Checks all sequences, in the order of their names, split by the column."""
    assert corpus.columns == ["a", "b"] and (corpus.x_dim, corpus.emission) == (2, "gaussian")
    for split in SPLITS:
        names = [name for name in NAMES if PARTS[name] == split]
        assert len(names) == len(corpus.split(split))
        for name, (x, *_) in zip(names, corpus.split(split)):
            wanted = torch.tensor(VALUES[name])
            if name == "s00":
                wanted[1, 1] = torch.nan
            assert_close(corpus.values(x), wanted, equal_nan=True, rtol=0, atol=1e-5)


def test_table_files_are_sorted_by_sequence_and_time(tmp_path):
    for suffix in (".csv.gz", ".parquet", ".feather", ".arrow", ".CSV"):
        save(long(), tmp_path / f"table{suffix}")
        check(Table(f"table{suffix}", split="part", data_dir=tmp_path))
    long().set_index("sequence").to_parquet(tmp_path / "x.parquet")
    check(Table(tmp_path / "x.parquet", split="part"))
    table = lists()
    for kind in (pa.list_, pa.large_list):
        for i, name in ((1, "a"), (2, "b")):
            table = table.set_column(i, name, table.column(name).cast(kind(pa.float32())))
        check(Table(save(table, tmp_path / "table.parquet"), split="part"))
    nameless = Table.from_frame(lists(sequence=None), values=["b"], split="part")
    assert nameless.split("train").lengths.tolist() == LENGTHS[:14].tolist()


def test_table_frames_of_all_kinds_are_the_same():
    chunks = [(0, 0), (0, 7), (7, 7), (7, 20), (20, 20)]
    for frame in (
        long(),
        long().astype({"sequence": "category", "part": "category"}),
        long(time=lambda f: pd.to_datetime(f["time"], unit="D")),
        long(a=lambda f: f["a"].astype(str)),
        pd.DataFrame(lists().to_pydict()),
        pl.DataFrame(long().to_dict("list")),
        pl.from_arrow(lists()),
        pa.concat_tables([lists()[i:j] for i, j in chunks]),
        pa.Table.from_pandas(long().astype({"a": "float32", "b": "float32"})),
    ):
        check(Table.from_frame(frame, split="part", values=["a", "b"]))


def test_table_columns_are_chosen_by_name(tmp_path):
    frame = long(note="x").rename(columns={"sequence": "patient", "time": "day"})
    corpus = Table.from_frame(frame, values=["b"], sequence="patient", time="day", split="part")
    wanted = torch.tensor(VALUES["s14"][:, 1:])
    assert_close(corpus.values(corpus.split("valid")[0].x), wanted, rtol=0, atol=1e-7)
    corpus.write(corpus.split("valid")[0].x, tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text().startswith("step,b\n0,")
    for twice in ({"values": ["a", "a"]}, {"values": ["time"]}, {"sequence": "time"}):  # W19
        with pytest.raises(ValueError, match="'sequence', 'time', 'split' and 'values' must diff"):
            Table(**twice)


def test_table_split_by_chance_does_not_depend_on_the_order_of_rows():
    frames = [long().drop(columns="part"), long().drop(columns="part").iloc[::-1]]
    splits = [
        [Table.from_frame(f, seed=s).split(n).lengths.tolist() for n in SPLITS]
        for f, s in ((frames[0], 0), (frames[1], 0), (frames[0], 1))
    ]
    assert [len(v) for v in splits[0]] == [16, 2, 2]
    assert splits[0] == splits[1] != splits[2]
    frame = long().sort_values(["time", "sequence"], ascending=[True, False]).drop(columns="time")
    check(Table.from_frame(frame, time="", split="part"))


def test_table_names_are_text(tmp_path):
    # W14
    for names in (
        ["01", "1", "02", "2", "003", "3"],
        ["1e2", "100", "2e2", "200"],
        ["true", "True", "false", "FALSE"],
        ["yes", "no", "NA", "null", " a", "a"],
    ):
        rows = [f"{name},{k + 10 * i},{k}.5" for i, name in enumerate(names) for k in range(3)]
        (tmp_path / "x.csv").write_text("\n".join(["sequence,time,v", *rows, ""]))
        corpus = Table(tmp_path / "x.csv")
        assert [n for s in SPLITS for n in corpus.split(s).lengths.tolist()] == [3] * len(names)
    numbered = long(sequence=lambda f: f["sequence"].str[1:].astype(int))  # 2 comes before 10
    corpus = Table.from_frame(numbered, values=["a"], split="part")
    assert corpus.split("train").lengths.tolist() == LENGTHS[:14].tolist()


def test_table_times_are_clocks_dates_or_numbers(tmp_path):
    for times in (
        ["9:30:00", "10:00:00", "10:00:00.5"],
        ["10:00", "10:01", "23:59"],
        ["2024-01-31", "2024-02-01", "2024-02-01 10:00"],
        ["2024-01-01T10:00:00+01:00", "2024-01-01T09:30:00Z", "2024-01-01T10:00:00Z"],
        ["1e-3", "2", "10"],
    ):
        order = (0, 1, 2) if ":" in times[0][:3] else (2, 0, 1)
        rows = [f"{name},{times[k]},{k}.5" for name in "abcd" for k in order]
        (tmp_path / "x.csv").write_text("\n".join(["sequence,time,v", *rows, ""]))
        frame = pd.read_csv(tmp_path / "x.csv")
        for corpus in (Table(tmp_path / "x.csv"), Table.from_frame(frame)):
            for x, *_ in (item for split in SPLITS for item in corpus.split(split)):
                assert corpus.values(x)[:, 0].tolist() == pytest.approx([0.5, 1.5, 2.5])


def test_table_clock_times_that_pass_midnight_are_refused():
    clock = [datetime.time(23, 59, 50), datetime.time(0, 0, 10)] * 3
    for times in (clock, [str(time) for time in clock]):
        frame = pd.DataFrame({"sequence": list("aabbcc"), "time": times, "v": range(6)})
        with pytest.raises(
            ValueError, match=r"must not go back .*, got '00:00:10' in 'a': give da"
        ):
            Table.from_frame(frame).split("train")
        backwards = frame.iloc[[1, 0, 3, 2, 5, 4]]
        assert Table.from_frame(backwards).split("train").lengths.tolist() == [2]


def test_table_divided_by_semicolons_is_the_same(tmp_path):
    text = long().to_csv(index=False)
    versions = set()
    for name, content in (("a.csv", text), ("b.csv", text.replace(",", ";"))):
        (tmp_path / name).write_text(content)
        versions.add(Table(tmp_path / name, values=["a", "b"]).version)
    assert len(versions) == 1


def test_table_family_is_told_by_the_values():
    truth = {"a": lambda f: f["time"] > 3, "b": lambda f: f["time"] > 6}
    symbols = {"a": lambda f: f["time"] // 3}
    for values, emission, x_dim in ((symbols, "categorical", 8), (truth, "bernoulli", 2)):
        corpus = Table.from_frame(long(**values), values=list(values), split="part")
        assert (corpus.emission, corpus.x_dim) == (emission, x_dim)


TWICE, MIXED, NOBODY = long(), long(), long()
TWICE.loc[len(TWICE)] = {"sequence": "s03", "time": 3, "a": 1.0, "b": 2.0, "part": "train"}
MIXED.loc[MIXED["sequence"] == "s05", "part"] = ["train", *["test"] * (LENGTHS[5] - 1)]
NOBODY.loc[3, "sequence"] = None
RAGGED = [v[: 1 + i % 2, 0].tolist() for i, v in enumerate(VALUES.values())]


def test_tables_that_do_not_fit_are_named(tmp_path):
    for options, table, message in (
        ({"sequence": "who"}, long(), r"column 'who' must be there once, got \['seque"),
        ({}, long().iloc[:0], r"rows and a column .* must be there, got \(0, 5\)"),
        ({}, TWICE, "each sequence and time must have one row, got two for 's03' at 3"),
        ({"split": "part"}, MIXED, "'part' must be the same all through 's05'"),
        ({"split": "part"}, long(part="dev"), r"20 times one of \['train', .*'dev'\]"),
        ({"values": ["a"]}, long(a=pd.Timestamp(0)), "column 'a' must hold numbers, got: d"),
        ({"values": ["a"]}, long(a="0,5"), "numbers, got.*'0,5'.*have a point"),
        ({"time": "part"}, long(), "column 'part' must hold times: all numbers, all ISO dates"),
        ({}, long().assign(time="1:15 PM"), "must hold times: .*, got '1:15 PM'"),
        ({}, long(time=lambda f: [*["10:00"] * (len(f) - 1), "2024-01-01"]), "got '2024-01-01'"),
        ({}, NOBODY, "column 'sequence' must not have empty entries"),
        ({}, lists(b=RAGGED), "columns must have matching element counts"),
        ({}, lists(a=[None, *[[1.0]] * 19], b=None), "'s00' in .* observed values"),
    ):
        if isinstance(table, pd.DataFrame) and "a" in table:
            options = {"values": ["a", "b"]} | options
        file = save(table, tmp_path / "table.parquet")
        frame = Table.from_frame(table, **options)
        for corpus, place in ((Table(file, **options), f"'{file}'"), (frame, "data in memory")):
            with pytest.raises(ValueError, match=message) as error:
                corpus.split("train")
            assert place in str(error.value) and "\n" not in str(error.value)
    mixed = pd.DataFrame({"a": [1, "x"]})
    for other in ([1, 2], {"a": 1}, np.zeros(3), mixed, pl.LazyFrame({"a": [1]})):
        with pytest.raises(ValueError, match="'frame' must be of pandas, polars or Arrow, got"):
            Table.from_frame(other).split("train")


def test_table_broken_and_missing_files_are_named(tmp_path, monkeypatch):
    for name in ("x.parquet", "x.feather", "x.csv", "x.csv.gz"):
        file = tmp_path / name
        for content in (b"", b"PAR1" + bytes(50), b"a,b\n1,2,3\n", b"\xff\xfe\x00\x01" * 9):
            file.write_bytes(content)
            with pytest.raises(ValueError, match=f"'{file}' must"):
                Table(file).split("train")
    head = "sequence,time,v"
    for content, message in (
        ("séquence,time,v\nä,0,1\n", "must be text in UTF-8, got the byte 0xe9 in line 1"),
        (f"{head}\ns,0,1,5\n", "must be a table as its .*CSV parse error.*; commas or semicolons"),
        ("sequence;time;v\ns;0;1,5\n", "'v' must hold numbers, got.*'1,5'.*have a point"),
        (
            f"{head}\ns,0,NA\ns,1,-\n",
            "'v' must hold numbers, got.* '-' at .* an empty entry is a missing",
        ),
        ('sequence,time,v\ns,0,"1,5"\n', "'v' must hold numbers, got.* '1,5' .* have a point"),
        ("name,time,v\ns,0,1\n", "'sequence' must be there once, got .* options 'sequence', 't"),
    ):
        (tmp_path / "x.csv").write_bytes(content.encode("latin-1"))
        with pytest.raises(ValueError, match=f"x.csv'.* {message}"):
            Table(tmp_path / "x.csv").split("train")
    good = save(long(), tmp_path / "y.parquet")
    with monkeypatch.context() as patch:  # C2
        patch.setattr(files, "available_memory", lambda: 100)
        with pytest.raises(ValueError, match=r"y.parquet' must fit in memory"):
            Table(good).split("train")
    for other in (tmp_path / "x.xlsx", tmp_path):
        other.touch()
        with pytest.raises(ValueError, match=rf"must be one file that ends in .* '{other}': Ta"):
            Table(other).split("train")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"tables need pyarrow: pip install 'zforcing_pyro\[table"):
        Table(tmp_path / "x.csv").split("train")


def test_table_missing_values_reach_the_likelihood():
    # R3
    table = Table.from_frame(long(), split="part")
    batch = collate(list(table.split("train")))
    assert table.missing and batch.x.isnan().sum() == 1
    sizes = {"z_dim": 2, "h_dim": 4, "hidden_dim": 4, "embed_dim": 4, "x_dim": 2}
    net = VRNN(partial(DiagNormal, missing=True), **sizes)
    assert net.terms(batch.x.double(), batch.lengths).log_weight.isfinite().all()
    with pytest.raises(ValueError, match="emission with missing=True reads NaN as a miss"):
        VRNN(DiagNormal, **sizes).terms(batch.x.double(), batch.lengths)
