"""The commands that look at a run's latents and draw from it."""

import json
import re

import pytest
from report_runs import KINDS, run_of

from zforcing_pyro.app.cli import main
from zforcing_pyro.app.commands.interpolate import side_by_side

FEW = ["--num=8", "--particles=25"]
SUFFIXES = {"digits": ".png", "music": ".mid", "speech": ".wav", "text": ".txt"}

# Runs and pages are made once.
pytestmark = [pytest.mark.xdist_group("report"), pytest.mark.usefixtures("float32")]


def output(capsys, *args):
    capsys.readouterr()
    assert main(list(args)) == 0
    return capsys.readouterr().out


@pytest.mark.slow
def test_inspect_prints_the_same_for_people_and_programs(capsys):
    run = str(run_of("digits"))
    facts = json.loads(output(capsys, "inspect", run, *FEW, "--json"))
    assert facts["sequences"] == 8 and facts["split"] == "test"
    trust, meaning = facts["trust"], facts["meaning"]
    bounds = trust["bound_by_particles"]
    assert bounds["25"] == pytest.approx(facts["bounds"]["iwae"]) and bounds["25"] >= bounds["1"]
    assert 0 <= trust["high_pareto_k"] <= 1 and 1 <= trust["ess_mean"] <= 25
    assert 0 <= meaning["latents_in_use"] <= 3 and len(meaning["kl_by_latent"]) == 3
    assert {f"r2_{horizon}" for horizon in (0, 1, 2, 4, 8, 16)} <= meaning.keys()
    text = output(capsys, "inspect", run, *FEW)
    for part in (
        f"{facts['elbo']['nats_per_sequence']:.3f}",
        f"{bounds['25']:.3f}",
        f"{meaning['latents_in_use']} of 3",
        f"{meaning['kl']:.3f}",
        "Pareto k-hat",
        "calibration of the guide",
        "stroke width",
        "protocol: elbo with K=1",
    ):
        assert part in text, part
    assert "nan" not in text


@pytest.mark.slow
def test_inspect_takes_a_model_without_latents(capsys):
    run = str(run_of("digits", "rnn"))
    assert "no latents" in output(capsys, "inspect", run, *FEW)
    assert "trust" not in json.loads(output(capsys, "inspect", run, *FEW, "--json"))
    assert main(["interpolate", run, "0", "1"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_interpolate_and_sample_write_files_to_open(kind, capsys, tmp_path):
    run, suffix = str(run_of(kind)), SUFFIXES[kind]
    args = ["interpolate", run, "0", "3", "--points=3", f"--out={tmp_path / 'path'}"]
    text = output(capsys, *args)
    assert re.findall(r"^(\S+) of the way", text, re.M) == ["0", "0.5", "1"]
    assert text.count("argmax") == text.count("sampled") == 3 and output(capsys, *args) == text
    names = {f"{way}-0{i}{suffix}" for way in ("argmax", "sampled") for i in range(3)}
    assert {f.name for f in (tmp_path / "path").glob("[!.]*")} == names | {"interpolation.png"}
    steps = "--steps=64" if kind == "digits" else "--steps=10"
    output(capsys, "sample", run, "--num=3", steps, f"--out={tmp_path / 'drawn'}")
    names = {f"sample-0{i}{suffix}" for i in range(3)} | {"samples.npz", "samples.png"}
    assert {f.name for f in (tmp_path / "drawn").glob("[!.]*")} == names
    beginnings = {".png": b"\x89PNG", ".mid": b"MThd", ".wav": b"RIFF", ".txt": b""}
    first = (tmp_path / "drawn" / f"sample-00{suffix}").read_bytes()
    assert first.startswith(beginnings[suffix])


def test_blocks_stand_side_by_side_where_they_fit():
    assert side_by_side("a\nbb", "c") == "a     c\nbb"
    assert side_by_side("a" * 50, "b" * 50) == "a" * 50 + "\n" + "b" * 50
