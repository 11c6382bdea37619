"""``zforcing compress`` and ``decompress``: files byte for byte, and broken or hostile archives."""

import json
import re
import shutil
import wave
import zlib
from functools import partial
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
import torch

from zforcing_pyro.app import archive, coded_files
from zforcing_pyro.app.cli import main
from zforcing_pyro.data import Arrays, corpus
from zforcing_pyro.data.own.textfiles import TextFiles
from zforcing_pyro.emissions import Bernoulli, Categorical, LogisticMixture
from zforcing_pyro.models import VRNN, ZForcing

pytest.importorskip("constriction")
SIZES = {"z_dim": 2, "h_dim": 6, "hidden_dim": 6}
TINY = ["--model.z_dim=2", "--model.h_dim=6", "--model.hidden_dim=6", "--max_updates=2"]


def there_and_back(net, data, file, **options):
    """Sizes, and the content that comes back."""
    packed, sizes = archive.pack(net, data, [file], **options)
    folder = file.parent / "back"
    folder.mkdir(exist_ok=True)
    assert archive.unpack(packed, "a.zfa", net, data, folder) == [file.name]
    return sizes, (folder / file.name).read_bytes()


@pytest.fixture(scope="module")
def digits():
    return corpus("digits", rows=True)


def test_an_array_comes_back_byte_for_byte(tmp_path, digits):
    net = VRNN(Bernoulli, 8, embed_dim=0, **SIZES)
    images = np.stack([s.x.numpy() for s in digits.split("test")][:4]).astype(np.uint8)
    np.save(tmp_path / "images.npy", images)
    sizes, content = there_and_back(net, digits, tmp_path / "images.npy", batch_size=3)
    assert content == (tmp_path / "images.npy").read_bytes()
    assert (sizes.sequences, sizes.steps) == (4, 32)
    assert sizes.code == pytest.approx(sizes.bound, rel=0.01, abs=4)


def test_a_picture_comes_back_byte_for_byte(tmp_path, digits):
    digits.write(digits.split("test")[0].x, tmp_path / "digit.png")
    net = VRNN(Bernoulli, 8, embed_dim=0, **SIZES)
    _, content = there_and_back(net, digits, tmp_path / "digit.png")
    assert content == (tmp_path / "digit.png").read_bytes()


def test_a_recording_of_8_bits_comes_back_byte_for_byte(tmp_path):
    samples = np.random.default_rng(0).integers(0, 256, 22).astype(np.uint8)
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 1, 8000, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    data = Arrays.from_tensors([torch.randn(9, 4) for _ in range(10)])
    net = VRNN(partial(LogisticMixture, num_components=2, bits=8), 4, **SIZES)
    _, content = there_and_back(net, data, tmp_path / "a.wav")
    assert content == (tmp_path / "a.wav").read_bytes()


def test_a_text_comes_back_byte_for_byte(tmp_path):
    text = "to be or not\n\nto be\nthat is it\n"
    (tmp_path / "corpus.txt").write_text("\n".join(["to be or not that is it"] * 20))
    data = TextFiles(tmp_path / "corpus.txt", tokens="characters")
    (tmp_path / "a.txt").write_text(text)
    net = ZForcing(Categorical, data.x_dim, embed_dim=4, **SIZES)
    sizes, content = there_and_back(net, data, tmp_path / "a.txt", batch_size=2)
    assert content == text.encode() and sizes.sequences == 5
    (tmp_path / "a.txt").write_text("to be #")
    with pytest.raises(ValueError, match="must come back byte for byte"):
        archive.pack(net, data, [tmp_path / "a.txt"])


def test_a_song_comes_back_and_its_tempo_only_if_the_roll_has_it(tmp_path):
    data = corpus("jsb")
    keys = torch.zeros(5, 88)
    keys[1:4, 40] = keys[2:, 44] = 1
    data.write(keys, tmp_path / "song.mid")
    net = VRNN(Bernoulli, 88, embed_dim=0, **SIZES)
    ours = (tmp_path / "song.mid").read_bytes()
    assert there_and_back(net, data, tmp_path / "song.mid")[1] == ours
    other = ours.replace((500_000).to_bytes(3, "big"), (400_000).to_bytes(3, "big"))
    (tmp_path / "fast").mkdir()
    (tmp_path / "fast" / "song.mid").write_bytes(other)
    with pytest.raises(ValueError, match=r"'.*song.mid' must come back byte for byte.*--content"):
        archive.pack(net, data, [tmp_path / "fast" / "song.mid"])
    content = there_and_back(net, data, tmp_path / "fast" / "song.mid", content_only=True)[1]
    assert content == ours
    read = coded_files.read(data, other, Path("song.mid"))[0]
    assert torch.equal(read[0], keys.double())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"1", "must be one of .*'.npy'.*, got '.csv'"),
        ("a.npy", b"nothing", "cannot be read as .npy"),
        ("a.npy", np.lib.format.magic(1, 0) + b"\x10\0{'descr': '|O'}", "cannot be read as .npy"),
        ("a.png", b"\x89PNG\r\n", "cannot be read as .png"),
        ("a.wav", b"RIFF", "cannot be read as .wav"),
    ],
)
def test_other_files_are_refused(tmp_path, digits, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        archive.pack(VRNN(Bernoulli, 8, embed_dim=0, **SIZES), digits, [tmp_path / name])


def test_files_of_one_name_are_refused(tmp_path, digits):
    with pytest.raises(ValueError, match="'FILE' must be of different names"):
        archive.pack(None, digits, [tmp_path / "a.npy", tmp_path / "b" / "a.npy"])


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Folder with two runs, a file and its archive."""
    folder = tmp_path_factory.mktemp("packed")
    torch.set_default_dtype(torch.float32)
    for seed in (0, 1):
        args = ["--data=digits", "--data.rows=true", "--model=vrnn", *TINY, f"--seed={seed}"]
        assert main(["train", *args, f"--out={folder / f'run{seed}'}"]) == 0
    images = np.stack([s.x.numpy() for s in corpus("digits", rows=True).split("test")][:3])
    np.save(folder / "a.npy", images.astype(np.uint8))
    args = [str(folder / "a.npy"), f"--run={folder / 'run0'}", f"--out={folder / 'a.zfa'}"]
    assert main(["compress", *args]) == 0
    return folder


def refused(packed, content, out, capsys, run="run0"):
    """The one line of a refusal, which leaves nothing behind."""
    (out / "b.zfa").write_bytes(content)
    args = [str(out / "b.zfa"), f"--run={packed / run}", f"--out={out / 'x' / 'files'}"]
    capsys.readouterr()
    assert main(["decompress", *args]) == 2
    text = capsys.readouterr().err.strip()
    assert text.startswith("zforcing: error: ") and "\n" not in text and "Error:" not in text[:40]
    files = {f.name for f in out.rglob("*") if f.is_file()}
    assert files == {"b.zfa"}
    return text


def signed(content, change):
    """An archive with another header and a right checksum."""
    begin = len(archive.MAGIC) + 4
    end = begin + int.from_bytes(content[begin - 4 : begin], "little")
    header = change(json.loads(zlib.decompress(content[begin:end])))
    text = header if isinstance(header, bytes) else zlib.compress(json.dumps(header).encode())
    body = archive.MAGIC + len(text).to_bytes(4, "little") + text + content[end:-16]
    return body + blake2b(body, digest_size=16).digest()


@pytest.mark.usefixtures("float32")
def test_the_commands_give_a_file_back(packed, tmp_path, capsys):
    args = [str(packed / "a.zfa"), f"--run={packed / 'run0'}", f"--out={tmp_path / 'back'}"]
    assert main(["decompress", *args]) == 0
    assert (tmp_path / "back" / "a.npy").read_bytes() == (packed / "a.npy").read_bytes()
    (tmp_path / "back" / "mine.txt").write_text("mine")
    assert main(["decompress", *args]) == 2 and "holds 'mine.txt'" in capsys.readouterr().err


@pytest.mark.usefixtures("float32")
@pytest.mark.usefixtures("float32")
def test_no_file_but_an_archive_is_replaced(packed, tmp_path, capsys):
    run, file = packed / "run0", tmp_path / "a.npy"
    shutil.copy(packed / "a.npy", file)
    shutil.copy(packed / "a.zfa", tmp_path / "old.zfa")
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["compress", str(file), "--run", str(run), f"--out={tmp_path / 'old.zfa'}"]) == 0
    before = file.read_bytes()
    for out, message in (
        (file, f"'--out' must be another file than '{file}'"),
        (tmp_path / "notes.txt", "'--out' must be a new file or an archive to replace"),
        (run / "checkpoints" / "best.ckpt", "'--out' must be outside of the folders of runs"),
    ):
        assert main(["compress", str(file), "--run", str(run), f"--out={out}"]) == 2
        assert message in capsys.readouterr().err
    assert file.read_bytes() == before and (tmp_path / "notes.txt").read_text() == "mine"


def test_a_broken_archive_is_one_line(packed, tmp_path, capsys):
    content = (packed / "a.zfa").read_bytes()
    for place in (len(archive.MAGIC) + 2, 60, len(content) // 2, len(content) - 3):
        altered = bytearray(content)
        altered[place] ^= 4
        assert "cut short or altered" in refused(packed, bytes(altered), tmp_path, capsys)
    for size in (len(archive.MAGIC), 80, len(content) - 1):
        assert "cut short or altered" in refused(packed, content[:size], tmp_path, capsys)
    for other in (b"", b"PK", content[1:]):
        assert "got another kind of file" in refused(packed, other, tmp_path, capsys)


@pytest.mark.usefixtures("float32")
def test_another_model_or_build_is_one_line(packed, tmp_path, capsys):
    content = (packed / "a.zfa").read_bytes()
    text = refused(packed, content, tmp_path, capsys, "run1")
    assert "'--run' must hold the model that wrote" in text

    def older(header):
        return header | {"needs": header["needs"] | {"torch": "1.0"}}

    text = refused(packed, signed(content, older), tmp_path, capsys)
    assert re.search(r"'torch' must be '1.0', as when '.*' was written, got", text)


HOSTILE = {
    "folder": lambda h: h | {"files": [["../a.npy", *h["files"][0][1:]]]},
    "root": lambda h: h | {"files": [["/a.npy", *h["files"][0][1:]]]},
    "backslash": lambda h: h | {"files": [["..\\a.npy", *h["files"][0][1:]]]},
    "nul": lambda h: h | {"files": [["a\0.npy", *h["files"][0][1:]]]},
    "dot": lambda h: h | {"files": [["..", *h["files"][0][1:]]]},
    "number": lambda h: h | {"files": [[7, *h["files"][0][1:]]]},
    "twice": lambda h: h | {"files": h["files"] * 2, "lengths": h["lengths"] * 2},
    "suffix": lambda h: h | {"files": [["a.exe", *h["files"][0][1:]]]},
    "none": lambda h: h | {"files": []},
    "facts": lambda h: h | {"files": [["a.npy", 3, [1]]]},
    "dtype": lambda h: h | {"files": [["a.npy", 3, {"dtype": "O", "one": False}]]},
    "no facts": lambda h: h | {"files": [["a.npy", 3, {}]]},
    "negative": lambda h: h | {"lengths": [-1, 8, 8]},
    "long": lambda h: h | {"lengths": [8, 8, 2**62]},
    "other lengths": lambda h: h | {"lengths": [9, 8, 8]},
    "few": lambda h: h | {"lengths": [8, 8]},
    "many": lambda h: h | {"files": [["a.npy", 2**28, {}]], "lengths": 2**28},
    "true": lambda h: h | {"batch_size": True},
    "batch": lambda h: h | {"batch_size": 2},
    "needs": lambda h: h | {"needs": []},
    "content": lambda h: h | {"content": "00"},
    "key": lambda h: {k: v for k, v in h.items() if k != "model"},
    "list": lambda h: [h],
    "deep": lambda h: zlib.compress(b"[" * 100_000),
    "bomb": lambda h: zlib.compress(b" " * 2**27 + b"{}"),
    "not zlib": lambda h: b"{}",
}


@pytest.mark.usefixtures("float32")
@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_header_is_one_line(packed, tmp_path, capsys, attack):
    content = signed((packed / "a.zfa").read_bytes(), HOSTILE[attack])
    text = refused(packed, content, tmp_path, capsys)
    assert "b.zfa" in text and "ZFORCING_TRACEBACK" not in text
