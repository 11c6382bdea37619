"""Nets that come with the package are loaded and sampled without a run or data."""

import pytest
import torch

import zforcing_pyro as zf
from zforcing_pyro.app.cli import main
from zforcing_pyro.app.pretrained import FOLDER, NAMES
from zforcing_pyro.data import Corpus
from zforcing_pyro.models.files import description_of


@pytest.fixture
def no_data(monkeypatch, tmp_path):
    def split(self, name):
        raise AssertionError("data were read")

    monkeypatch.setattr(Corpus, "split", split)
    monkeypatch.delenv("ZFORCING_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", ["jsb", "mnist5k"])
def test_pretrained_nets_are_small_and_have_a_card(name):
    file, card = FOLDER / f"{name}.safetensors", (FOLDER / f"{name}.md").read_text()
    assert name in NAMES and file.stat().st_size <= 2e6
    about, net = description_of(file), zf.load(f"pretrained:{name}")
    assert type(net).__name__.lower() == about["model"]["name"] and not net.training
    assert sum(p.numel() for p in net.parameters()) * 4 < 2e6
    for head in ("Data", "Terms", "Numbers", "Use", "Training"):
        assert f"\n## {head}\n" in card


@pytest.mark.parametrize("name, suffix", [("jsb", ".mid"), ("mnist5k", ".png")])
def test_sample_plays_a_pretrained_net_without_data(no_data, tmp_path, name, suffix):
    assert main(["sample", "--pretrained", name, "--num=2"]) == 0
    folder = tmp_path / f"samples-{name}"
    names = {file.name for file in folder.iterdir()}
    files = {"samples.npz", "samples.png", ".zforcing.json"}
    assert names == files | {f"sample-0{i}{suffix}" for i in range(2)}
    again = ["sample", "--pretrained", name, "--num=2", "--seed=1", f"--out={tmp_path / 'again'}"]
    assert main(again) == 0
    contents = [(f / f"sample-00{suffix}").read_bytes() for f in (folder, tmp_path / "again")]
    assert contents[0] != contents[1]


def test_pretrained_options_are_named(no_data, capsys):
    for args, error in (
        ([], "'run' must be the folder of a run, or left out with '--pretrained', got None"),
        (["a", "--pretrained=jsb"], "'run' must be the folder of a run, or left out"),
        (["--pretrained=bach"], "'pretrained' must be one of ['jsb', 'mnist5k'], got 'bach'"),
        (["--pretrained=jsb", "--prefix=2"], "'--prefix' must be left out with '--pretrained'"),
        (["--pretrained=mnist5k", "--steps=9"], "'--steps' must be 28, those of an image, got 9"),
    ):
        assert main(["sample", *args]) == 2
        assert error in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"^'pretrained' must be one of \['jsb', 'mnist5k'\]"):
        zf.load("pretrained:bach")
