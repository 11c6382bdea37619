"""``zforcing data``: what it prints and writes, and one line for every mistake."""

import json
import re

import numpy as np
import pytest
from audio_files import encoded, write_files

from zforcing_pyro.app.cli import main
from zforcing_pyro.data import DATASETS, corpus

pytestmark = pytest.mark.usefixtures("float32")


def printed(capsys, *args: str) -> str:
    assert main(["data", *args]) == 0
    return capsys.readouterr().out


def squeezed(text: str, by: str = " ") -> str:
    return re.sub(r"\s+", by, text)


@pytest.mark.parametrize("columns", [80, 120])
def test_list_prints_licence_source_and_size_of_all(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    text = printed(capsys)
    assert text == printed(capsys, "list") and max(map(len, text.splitlines())) <= columns
    for name, build in DATASETS.items():
        data = build()
        assert re.search(rf"^{name} +(yes|no|-) ", text, re.MULTILINE)
        for part in (data.title, data.size, data.licence, data.source):
            assert squeezed(part, "") in squeezed(text, "")
        for address in re.findall(r"https://\S+", data.source):
            assert address in text  # in one line, to be copied


def test_list_tells_which_data_are_there(capsys, tmp_path):
    files = {"binarized_mnist.npz": b"", "polyphonic/jsb_pianoroll_icml2012.npz": b""}
    write_files(tmp_path, files)
    rows = json.loads(printed(capsys, "--json", "--data_dir", str(tmp_path)))
    assert set(rows) == set(DATASETS)
    found = {name for name, row in rows.items() if row["found"]}
    made = {"points", "copy", "adding"}
    assert found == {"digits", "mnist5k", "binarized_mnist", "jsb", *made}
    assert {"audio", "text", "midi"} <= {name for name, row in rows.items() if row["path"]}
    assert re.search("^jsb +yes ", printed(capsys, "--data_dir", str(tmp_path)), re.MULTILINE)


def test_show_prints_lengths_labels_floor_and_examples(capsys):
    text = printed(capsys, "show", "digits")
    assert "8x8 digits" in text and "CC BY 4.0" in text
    assert re.search(r"train +1,297 +83,008 +64 +64 +64", text)
    assert re.search(r"^digit +0 \(122\), 1 \(125\)", text, re.MULTILINE)
    assert "(time, 1), float32; step: pixel; emission: bernoulli" in text
    floor = "25.215 nats per sequence, 0.394 nats per pixel, on test: independent"
    assert floor in squeezed(text)
    assert re.search(r"^train, 669 of 1,297: 64 steps, digit 3\n( .*\n)*.*@@", text, re.MULTILINE)
    assert printed(capsys, "show", "digits") == text
    for num in (0, 5):
        text = printed(capsys, "show", "digits", "--num", str(num), "--split", "valid")
        assert len(re.findall("^valid, [0-9]+ of 250", text, re.MULTILINE)) == num
    facts = json.loads(printed(capsys, "show", "digits", "--json"))
    expected = {"sequences": 1297, "steps": 83_008, "shortest": 64, "median": 64, "longest": 64}
    assert facts["train"] == expected
    assert facts["floor"]["nats_per_sequence"] == pytest.approx(25.215, abs=5e-4)
    assert sum(facts["labels"]["test"]["digit"].values()) == 250


def test_show_writes_examples(capsys, tmp_path):
    from matplotlib.image import imread

    for _ in range(2):  # into a new folder, and over earlier examples
        assert main(["data", "show", "digits", "--out", str(tmp_path / "new"), "--num", "3"]) == 0
        assert ": 3" in capsys.readouterr().err
    files = sorted((tmp_path / "new").glob("train-*"))
    assert [file.suffix for file in files] == [".png"] * 3
    i = int(files[0].stem.removeprefix("train-"))
    drawn, x = imread(files[0])[..., 0], corpus("digits").split("train")[i].x
    np.testing.assert_array_equal(drawn > 0.5, x.view(8, 8) > 0.5)


@pytest.fixture
def wavs(tmp_path):
    rng = np.random.default_rng(0)
    files = {
        f"{i:02d}.wav": encoded(rng.normal(0, 900, 500 + 20 * i).astype(np.int16), 8000)
        for i in range(20)
    }
    return write_files(tmp_path / "wavs", files)


def test_prepare_then_show_and_train(capsys, wavs, tmp_path):
    store = str(tmp_path / "data" / "blizzard")
    args = ["prepare", "blizzard", "--path", str(wavs), "--out", store, "--sample_rate", "8000"]
    expected = f"20 recordings, 0.00 hours at 8,000 Hz: {store}\n"
    assert printed(capsys, *args, "--workers", "2") == expected == printed(capsys, *args)
    text = squeezed(printed(capsys, "show", "blizzard", "--data_dir", store, "--data.frame", "20"))
    assert "20 recordings at 8,000 Hz, split 90/5/5 % by file at random (seed 0)" in text
    assert re.search("train 18 ", text) and "test 1 " in text
    run = str(tmp_path / "run")
    train = ["train", "--data", "blizzard", "--data_dir", store, "--data.frame", "20", "--out", run]
    sizes = [f"--model.{name}=4" for name in ("z_dim", "h_dim", "hidden_dim", "embed_dim")]
    assert main([*train, *sizes, "--max_updates", "2", "--training.window", "5"]) == 0


def test_prepare_counts_what_it_skipped(capsys, wavs, tmp_path):
    (wavs / "05.wav").write_bytes(b"no audio")
    args = ["prepare", "audio", "--path", str(wavs), "--out", str(tmp_path / "store")]
    text = printed(capsys, *args, "--skip_broken")
    assert "19 recordings" in text and "broken files left out: 1, the first is '05.wav'" in text


PREPARE = ["prepare", "audio", "--path", "WAVS", "--out", "OUT"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["shw"], r"action must be one of .*, got 'shw'; did you mean 'show'\?"),
        (["show"], "'show' must be followed by a name"),
        (["show", "digits", "--model.z_dim", "3"], "unknown option '--model.z_dim' of 'data show'"),
        (["show", "digits", "--data.frame", "3"], "unknown option '--data.frame'"),
        (["prepare", "jsb", "--path", "x", "--out", "y"], "invalid choice: 'jsb'"),
        ([*PREPARE, "--path", "WAVS/00.wav"], "must be a folder or a zip"),
        ([*PREPARE, "--out", "WAVS"], "'out' must be a folder for a st"),
        ([*PREPARE, "--workers", "0"], "'workers' must"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(capsys, wavs, tmp_path, args, message):
    args = [a.replace("OUT", str(tmp_path / "out")).replace("WAVS", str(wavs)) for a in args]
    assert main(["data", *args]) == 2
    error = capsys.readouterr().err
    assert error.startswith("zforcing: error: ") and error.count("\n") == 1
    assert re.search(message, error)
