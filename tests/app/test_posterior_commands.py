"""What a person types to look at latents."""

import json
import re

import pytest
import torch
from report_runs import KINDS, run_of

from zforcing_pyro.app.cli import COMMANDS, main
from zforcing_pyro.app.commands.interpolate import side_by_side

FEW = ["--num=8", "--particles=25"]
SUFFIXES = {"digits": ".png", "music": ".mid", "speech": ".wav", "text": ".txt"}

pytestmark = pytest.mark.xdist_group("report")  # runs and pages are made once


@pytest.fixture(autouse=True)
def float32(float64_and_seed):
    torch.set_default_dtype(torch.float32)


def output(capsys, *args):
    capsys.readouterr()
    assert main(list(args)) == 0
    return capsys.readouterr().out


@pytest.mark.slow
def test_inspect_is_the_same_for_people_and_programs(capsys):
    run = str(run_of("digits"))
    found = json.loads(output(capsys, "inspect", run, *FEW, "--json"))
    assert found["sequences"] == 8 and found["split"] == "test"
    assert {"elbo", "trust", "meaning", "predictive_checks"} <= found.keys()
    trust, meaning = found["trust"], found["meaning"]
    bounds = trust["bound_by_particles"]
    assert bounds["25"] == pytest.approx(found["bounds"]["iwae"]) and bounds["25"] >= bounds["1"]
    assert 0 <= trust["high_pareto_k"] <= 1 and 1 <= trust["ess_mean"] <= 25
    assert 0 <= meaning["latents_in_use"] <= 3 and len(meaning["kl_by_latent"]) == 3
    assert {f"r2_{horizon}" for horizon in (0, 1, 2, 4, 8, 16)} <= meaning.keys()
    said = output(capsys, "inspect", run, *FEW)
    for part in (
        f"{found['elbo']['nats_per_sequence']:.3f}",
        f"{bounds['25']:.3f}",
        f"{meaning['latents_in_use']} of 3",
        f"{meaning['kl']:.3f}",
        "Pareto k-hat",
        "calibration of the guide",
        "stroke width",
        "protocol: elbo with K=1",
    ):
        assert part in said, part
    assert "nan" not in said


@pytest.mark.slow
def test_a_model_without_latents_is_inspected(capsys):
    run = str(run_of("digits", "rnn"))
    assert "no latents" in output(capsys, "inspect", run, *FEW)
    assert "trust" not in json.loads(output(capsys, "inspect", run, *FEW, "--json"))
    assert main(["interpolate", run, "0", "1"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_interpolate_prints_and_writes(kind, capsys, tmp_path):
    run = str(run_of(kind))
    args = ["interpolate", run, "0", "3", "--points=3", f"--out={tmp_path}"]
    said = output(capsys, *args)
    assert re.findall(r"^(\S+) of the way", said, re.M) == ["0", "0.5", "1"]
    assert said.count("argmax") == said.count("sampled") == 3
    names = {f"{way}-0{i}{SUFFIXES[kind]}" for way in ("argmax", "sampled") for i in range(3)}
    assert {file.name for file in tmp_path.iterdir()} == names | {"interpolation.png"}
    assert output(capsys, *args) == said


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_files_that_a_person_can_open(kind, capsys, tmp_path):
    output(capsys, "sample", str(run_of(kind)), "--num=3", "--steps=10"
           if kind != "digits" else "--steps=64", f"--out={tmp_path}")  # fmt: skip
    names = {f"sample-0{i}{SUFFIXES[kind]}" for i in range(3)} | {"samples.npz", "samples.png"}
    assert {file.name for file in tmp_path.iterdir()} == names
    beginnings = {".png": b"\x89PNG", ".mid": b"MThd", ".wav": b"RIFF"}
    first = (tmp_path / f"sample-00{SUFFIXES[kind]}").read_bytes()
    assert first.startswith(beginnings.get(SUFFIXES[kind], b""))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["interpolate", "RUN", "0", "250"], "'B' must be in 0..249, got 250"),
        (["interpolate", "RUN", "-1", "0"], "'A' must be in 0..249, got -1"),
        (["interpolate", "RUN", "0", "1", "--points=1"], "'num_points' must be"),
        (["inspect", "RUN", "--num=0"], "'num' must be positive, got 0"),
        (["inspect", "RUN", "--particles=24"], "'particles' must be at least 25, got 24"),
        (["report", "RUN", "--particles=1"], "'particles' must be at least 25, got 1"),
        (["report", "RUN", "RUN"], "'runs' must differ"),
        (["report"], "the following arguments are required: RUN"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(args, message, capsys):
    run = str(run_of("digits"))
    capsys.readouterr()
    assert main([run if arg == "RUN" else arg for arg in args]) == 2
    said = capsys.readouterr()
    assert message in said.err and said.err.splitlines()[-1].startswith("zforcing: error: ")
    assert said.out == ""


@pytest.mark.parametrize("command", ["inspect", "interpolate", "report"])
def test_help_names_the_command(command, capsys):
    assert command in COMMANDS
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert f"usage: zforcing {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("left", "right", "shown"),
    [
        ("a\nbb", "c", "a     c\nbb"),
        ("a" * 50, "b" * 50, "a" * 50 + "\n" + "b" * 50),
    ],
)
def test_blocks_stand_side_by_side_where_they_fit(left, right, shown):
    assert side_by_side(left, right) == shown
