"""The command line: what each command prints and writes, and one line for every mistake."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from zforcing_pyro.app import cli
from zforcing_pyro.app.cli import main
from zforcing_pyro.app.experiment import describe, load
from zforcing_pyro.app.width import matched
from zforcing_pyro.data import corpus
from zforcing_pyro.estimators import ESTIMATORS

SMALL = ["--model.z_dim=2", "--model.h_dim=8", "--model.hidden_dim=8", "--model.embed_dim=0"]
pytestmark = pytest.mark.usefixtures("float32")


@pytest.mark.parametrize(
    "typed, shown",
    [
        ("tra", {"train"}),
        ("evaluate run --spl", {"--split"}),
        ("evaluate run --split ", {"train", "valid", "test"}),
        ("data pre", {"prepare"}),
        ("train --model z", {"zforcing"}),
        ("train --model vrnn --model.pri", {"--model.prior"}),
    ],
)
def test_a_shell_completes_commands_options_and_names(typed, shown, tmp_path):
    """As a shell asks by argcomplete's variables, whose answer comes in a file here."""
    pytest.importorskip("argcomplete", reason="needs the extra completion")
    line, file = f"zforcing {typed}", tmp_path / "answer"
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_SUPPRESS_SPACE": "1", "IFS": "\n"}
    asked |= {"COMP_LINE": line, "COMP_POINT": str(len(line))}
    asked["_ARGCOMPLETE_STDOUT_FILENAME"] = str(file)
    subprocess.run([sys.executable, "-m", "zforcing_pyro"], env=os.environ | asked)
    assert shown == {word for word in file.read_text().split() if word[:2] != "-h"} - {"--help"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    torch.set_default_dtype(torch.float32)
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", *SMALL, "--max_updates=3", "--seed=5", f"--out={out}"]) == 0
    return out


def test_train_writes_a_run_that_evaluate_scores_with_its_units(run, capsys, monkeypatch):
    for file in ("config.yaml", "environment.json", "metrics.csv", "checkpoints/best.ckpt"):
        assert (run / file).is_file(), file
    facts = json.loads((run / "environment.json").read_text())
    assert facts["seed"] == 5 and facts["packages"]["torch"] == torch.__version__
    assert facts["command"][:2] == ["zforcing", "train"]
    assert not load(run).training
    monkeypatch.setattr("zforcing_pyro.app.terminal.PAUSE", 0.0)
    assert main(["evaluate", str(run), "--split", "valid"]) == 0
    captured = capsys.readouterr()
    assert "sequences: 250 of 250\n" in captured.err
    for part in ("nats per sequence", "nats per pixel", "protocol: elbo with K=1", "valid"):
        assert part in captured.out


def test_evaluate_prints_one_json_object(run, capsys):
    args = [str(run), "--split", "test", "--bound", "iwae", "--particles", "3", "--json"]
    assert main(["evaluate", *args]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {"nats_per_sequence", "standard_error", "kl_per_sequence", "protocol"} <= result.keys()
    assert (result["bound"], result["particles"], result["split"]) == ("iwae", 3, "test")
    assert result["num_sequences"] == 250 and result["num_steps"] == 16_000
    assert main(["evaluate", *args]) == 0
    assert json.loads(capsys.readouterr().out) == result


def test_evaluate_takes_options_of_the_bound(run, capsys):
    """R5."""
    args = ["evaluate", str(run), "--split=valid", "--particles=5", "--json", "--bound"]
    bounds = []
    for options in (["renyi", "--bound.alpha", "0.0"], ["renyi", "--bound.alpha=1"], ["iwae"]):
        assert main([*args, *options]) == 0
        bounds.append(json.loads(capsys.readouterr().out)["nats_per_sequence"])
    assert bounds[0] == pytest.approx(bounds[2], rel=1e-5) and bounds[1] < bounds[0] - 1e-4


@pytest.mark.parametrize("bound", ESTIMATORS)
def test_every_bound_trains_and_evaluates(bound, run, tmp_path, capsys):
    options = ["--max_updates=1", f"--out={tmp_path / 'run'}", f"--bound={bound}"]
    options += ["--training.validate_on=8"]
    assert main(["train", *SMALL, *options, "--bound.num_particles=2"]) == 0
    assert main(["evaluate", str(run), "--split=valid", "--bound", bound, "--particles=25"]) == 0
    out = capsys.readouterr().out
    for part in (f"protocol: {bound} with K=25", "bits per dimension", "of 25 (median", "k-hat"):
        assert part in out


def test_data_that_changed_are_refused_and_densities_have_no_bits(tmp_path, capsys):
    """W10; W21: bits of standardised reals depend on their unit."""
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(20, 6, 2)))
    data = ["--data=arrays", f"--data.path={tmp_path / 'x.npy'}", f"--out={tmp_path / 'run'}"]
    assert main(["train", *SMALL, *data, "--max_updates=1"]) == 0
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert "bits per dimension" not in out and "depends on the unit" in out
    np.save(tmp_path / "x.npy", np.random.default_rng(1).normal(size=(20, 6, 2)))
    run = str(tmp_path / "run")
    for args in (["evaluate", run], ["report", run], ["train", "--resume", f"--out={run}"]):
        assert main([*args, *(["--max_updates=9"] if "train" in args else [])]) == 2
        assert re.search("x.npy.*(changed|other content)", capsys.readouterr().err)
    assert load(run).state_dict()  # weights alone need no data


def test_sample_writes_sequences_and_a_picture(run, tmp_path, capsys):
    for num in (300, 4):  # the first: more than there are test sequences to compare with
        assert main(["sample", str(run), f"--num={num}", "--out", str(tmp_path)]) == 0
        with np.load(tmp_path / "samples.npz", allow_pickle=False) as file:
            assert file["x"].shape == (num, 64, 1) and set(np.unique(file["x"])) <= {0, 1}
    assert (tmp_path / "samples.png").stat().st_size > 1_000
    assert len(list(tmp_path.glob("sample*"))) == 6  # the first call's samples 4 to 7 are gone


def test_sample_continues_a_prefix(run, tmp_path):
    args = ["sample", str(run), "--num", "3", "--prefix", "40", "--out", str(tmp_path)]
    assert main(args) == 0
    test = corpus("digits").split("test")
    with np.load(tmp_path / "samples.npz", allow_pickle=False) as file:
        for x in torch.from_numpy(file["x"]):
            assert any(torch.equal(x[:40], real[:40]) for real, *_ in test)


def test_resume_changes_nothing_that_was_begun(run, capsys):
    config = (run / "config.yaml").read_bytes()
    for option, value in (("model.z_dim", "3"), ("model", "vrnn"), ("training.lr", "1")):
        assert main(["train", "--resume", "--out", str(run), f"--{option}", value]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "is resumed as it was begun" in error
    assert (run / "config.yaml").read_bytes() == config and load(run).cell.h_dim == 8


def test_resume_goes_on_and_a_second_run_does_not_overwrite_the_first(run, capsys):
    assert main(["train", *SMALL, "--out", str(run)]) == 2
    assert "'--out' must be a new folder" in capsys.readouterr().err
    assert main(["train", "--out", str(run), "--resume", "--max_updates=5"]) == 0
    rows = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    assert int(rows[-1][rows[0].index("step")]) == 5


def test_train_refuses_folders_of_other_people(tmp_path, monkeypatch, capsys):
    """D1: a user's config.yaml and metrics.csv are left as they are."""
    monkeypatch.chdir(tmp_path)
    config = "model: {z_dim: 2, h_dim: 4, hidden_dim: 4, embed_dim: 0}\nmax_updates: 1\n"
    (tmp_path / "config.yaml").write_text(config)
    (tmp_path / "metrics.csv").write_text("mine")
    for resume in ([], ["--resume"]):
        assert main(["train", "--config", "config.yaml", "--out", ".", *resume]) == 2
        assert "'--out' must be a new or an empty folder" in capsys.readouterr().err
    assert {f.name for f in tmp_path.iterdir()} == {"config.yaml", "metrics.csv"}
    assert (tmp_path / "config.yaml").read_text() == config


def test_outputs_do_not_overwrite_a_run_or_an_input(run, tmp_path, capsys):
    """D1."""
    config = (run / "config.yaml").read_bytes()
    assert main(["report", str(run), "--out", str(run / "config.yaml")]) == 2
    (tmp_path / "notes.txt").write_text("mine")
    for command in (["sample", str(run), "--num=2"], ["interpolate", str(run), "0", "1"],
                    ["data", "show", "digits"]):  # fmt: skip
        for out in (tmp_path, run):
            assert main([*command, f"--out={out}"]) == 2
    err = capsys.readouterr().err
    assert err.count("must be a new or an empty folder") == 6 and "'notes.txt'" in err
    assert (run / "config.yaml").read_bytes() == config


def test_files_that_look_like_samples_stay(run, tmp_path, capsys):
    """D1: an earlier call's files are replaced, a user's of such a name never."""
    out = tmp_path / "out"
    sample = ["sample", str(run), f"--out={out}"]
    assert main([*sample, "--num=3"]) == 0 and main([*sample, "--num=2"]) == 0
    assert {f.name for f in out.glob("sample-*.png")} == {"sample-00.png", "sample-01.png"}
    for name in ("sample-07.png", "sample-00.png"):  # a new file, and one that was edited
        (out / name).write_text("mine")
        assert main([*sample, "--num=1"]) == 2
        assert f"as an earlier call left it, got '{out}', which holds '{name}'" in (
            capsys.readouterr().err
        )
        assert (out / name).read_text() == "mine"
        (out / name).unlink()


def test_paths_are_expanded_alike(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(run.parent))
    assert main(["evaluate", f"~/{run.name}", "--split=valid"]) == 0
    assert main(["sample", f"~/{run.name}", "--num=2", "--out=~/drawn"]) == 0
    assert (run.parent / "drawn" / "samples.npz").is_file()
    capsys.readouterr()
    for args in (["evaluate", "~nosuchuser/x"], ["train", "--out=~nosuchuser/x"],
                 ["sweep", "~nosuchuser/x"], ["sample", str(run), "--out=~nosuchuser/x"],
                 ["data", "list", "--data_dir=~nosuchuser/x"]):  # fmt: skip
        assert main(args) == 2
        assert re.search(r"must be a path.*'~nosuchuser/x'", capsys.readouterr().err)


def test_help_of_train_has_what_most_need_and_all_has_the_rest(capsys):
    texts = []
    for words in ([], ["all"]):
        assert main(["train", "--help", *words]) == 0
        texts.append(capsys.readouterr().out)
    short, everything = texts
    assert len(short.splitlines()) < 140 < len(everything.splitlines())
    assert "--training.lr " in short and "--model.aux_kind" not in short
    assert "--help all lists all" in short and "--model.aux_kind" in everything


def test_a_number_of_parameters_chooses_the_width():
    sizes = ["--model=vrnn", "--model.z_dim=4", "--model.hidden_dim=8", "--model.embed_dim=8"]
    args = matched([*sizes, "--model.parameters", "12.5k"])
    nets = {}
    for shift in (-1, 0, 1):
        h_dim = int(args[-1].partition("=")[2]) + shift
        net = describe([*sizes, f"--model.h_dim={h_dim}"]).net(1)
        nets[shift] = abs(sum(p.numel() for p in net.parameters()) - 12_500)
    assert nets[0] == min(nets.values())
    for value, message in (("3x", "such as 300k or 1.2M, got '3x'"), ("9", "must be at least")):
        with pytest.raises(ValueError, match=message):
            matched([*sizes, "--model.parameters", value])
    with pytest.raises(ValueError, match="needs a model with an option h_dim, got 'walkback'"):
        matched(["--model", "walkback", "--model.parameters=9k"])


@pytest.mark.parametrize("command", ["", *cli.COMMANDS])
def test_help_is_printed(command, capsys):
    assert main([*command.split(), "--help"]) == 0
    out = capsys.readouterr().out
    assert f"usage: zforcing {command}" in out
    if command == "train":
        for name in ("model: zforcing", "optimiser", "schedule", "checkpoint", "hardware"):
            assert name in out
        assert "--training.lr" in out and "--bound.num_particles" in out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["sample", "RUN", "--nun", "3"], r"unrecognized .*--nun 3; did you mean '--num'\?"),
        (["trian"], r"command must be one of .*; did you mean 'train'\?"),
        (["train", "--model.z_dim", "1000000000000", "--out", "OUT"], "'z_dim' must be in 1"),
        (["train", "--emission.hidden_dims", "[-1]", "--out", "OUT"], ""),
        (["train", "--devices=2", "--training.batch_size=1", "--out", "OUT"], "'batch_size' must"),
        (["train", "--emission", "categorical", "--out", "OUT"], "Categorical .*'bernoulli' suits"),
        (["train", "--out", "FILE", *SMALL], "'--out' must be a folder .*: File exists"),
        (["train", "--out", "a\x00b", *SMALL], "'--out' must be a path"),
        (["train", "--data", "jsb", "--out", "OUT"], "jsb_pianoroll_icml2012.npz.*--data_dir"),
        (["sample", "RUN", "--num", "900", "--prefix", "3"], "'--num' must be at most 250"),
        (["sample", "RUN", "--num", "1000000000000"], "'--num 10.* must fit in memory, got .* GB"),
        (["sample", "RUN", "--steps", "10"], "'--steps' must be 64, those of an image, got 10"),
        (["sample", "RUN", "--prefix", "65"], "'--prefix' must be at most 64"),
        (["interpolate", "RUN", "-1", "0"], r"'A' must be in 0\.\.249, got -1"),
        (["inspect", "RUN", "--particles=24"], "'particles' must be at least 25, got 24"),
        (["evaluate", "OUT"], "'run' must be a folder that 'zforcing train' wrote"),
        (["evaluate", "\x1b[31mred"], r"wrote, got '\\x1b\[31mred'"),
        (["evaluate", "RUN", "--bound.alpha", "1"], "unknown option '--bound.alpha'"),
        (["evaluate", "RUN", "--bound.num_particles", "3"], "num_particles' .* '--particles' and"),
        (["evaluate", "RUN", "--bound.kl_weight=0"], "'--bound.kl_weight' must be left out: an ev"),
        (["evaluate", "RUN", "--seed", str(2**63)], r"--seed: must be in 0..4294967295, got 92"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(args, message, run, tmp_path, capsys):
    """C1."""
    out, file = tmp_path / "out", tmp_path / "file"
    file.touch()
    places = {"RUN": str(run), "OUT": str(out), "FILE": str(file)}
    assert main([places.get(a, a) for a in args]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert captured.err.startswith("zforcing: error: ")
    assert re.search(message, captured.err), captured.err
    assert not out.exists()


def test_unforeseen_errors_are_one_line_too(monkeypatch, capsys):
    """C1: whatever the exception; its text cannot steer a terminal."""

    def fails(args):
        raise RuntimeError("first\n\x1b[31msecond")

    monkeypatch.setattr(cli, "command", fails)
    assert main([]) == 2
    assert capsys.readouterr().err == (
        "zforcing: error: RuntimeError: first \\x1b[31msecond (ZFORCING_TRACEBACK=1 shows more)\n"
    )
    for error in (MemoryError(), torch.OutOfMemoryError("CUDA out of memory. 3 GiB"),
                  RuntimeError("DefaultCPUAllocator: can't allocate memory: 9")):  # fmt: skip
        monkeypatch.setattr(cli, "command", Mock(side_effect=error))
        assert main([]) == 2
        assert "smaller sizes, such as of batches or particles" in capsys.readouterr().err
    monkeypatch.setattr(cli, "command", fails)
    monkeypatch.setenv("ZFORCING_TRACEBACK", "1")
    with pytest.raises(RuntimeError):
        main([])


def test_a_warning_is_said_by_the_first_process_only(monkeypatch, capsys):
    for rank in ("0", "1"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        cli.show_warning(UserWarning("first\n second"))
    assert capsys.readouterr().err == "zforcing: warning: first second\n"


def test_broken_runs_are_one_line(run, tmp_path, capsys):
    config = (run / "config.yaml").read_text()
    checkpoint = (run / "checkpoints/best.ckpt").read_bytes()
    facts = (run / "data.json").read_bytes()
    (tmp_path / "checkpoints").mkdir()
    for name, content, message in (
        ("config.yaml", config.encode(), "data.json' must hold what was learnt"),
        ("data.json", facts, "must have been validated once"),
        ("checkpoints/best.ckpt", checkpoint[: len(checkpoint) // 2], "must be a checkpoint"),
        ("config.yaml", b"model: 1999-01-01", "'model' must be one of"),
    ):
        (tmp_path / name).write_bytes(content)
        assert main(["evaluate", str(tmp_path)]) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1


def test_options_that_changed_in_a_run_are_refused(run, tmp_path, capsys):
    """W10: those of made data and of the net; facts that are broken are the run's fault."""
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    config, facts = ((copy / name).read_text() for name in ("config.yaml", "data.json"))
    changes = {
        "data.json": [("checksum", "checksun"), ("files", "filez"), ("{", '{"std": [10.0],')],
        "config.yaml": [("permuted: false", "permuted: true"), ("clamp: ", "clamp: 1")],
    }
    for name, pairs in changes.items():
        for old, new in pairs:
            text = {"config.yaml": config, "data.json": facts}[name]
            assert old in text
            (copy / name).write_text(text.replace(old, new, 1))
            for args in (["evaluate"], ["report"], ["train", "--resume", *SMALL, "--out"]):
                assert main([*args, str(copy)]) == 2
                err = capsys.readouterr().err
                assert re.search(f"{name}|data.json", err) and err.count("\n") == 1, err
        (copy / name).write_text({"config.yaml": config, "data.json": facts}[name])
    assert main(["evaluate", str(copy)]) == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are Unix's")
def test_pipes_in_a_run_are_refused(run, tmp_path, capsys):
    """Whoever reads one waits for ever."""
    for name, args in {
        "data.json": ["evaluate"],
        "metrics.csv": ["report", f"--out={tmp_path / 'page.html'}"],
        "checkpoints/last.ckpt": ["train", "--resume", *SMALL, "--max_updates=99", "--out"],
    }.items():
        copy = tmp_path / name.replace("/", "-")
        shutil.copytree(run, copy)
        (copy / name).unlink()
        os.mkfifo(copy / name)
        assert main([*args, str(copy)]) == 2
        err = capsys.readouterr().err
        assert f"{name}' must be a regular file, got a pipe" in err.splitlines()[-1], err


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="descriptors are Unix's")
def test_training_goes_on_where_nobody_reads_its_progress(tmp_path):
    """A broken pipe had ended it with status 0, a closed stderr with 1."""
    read, write = os.pipe()
    os.close(read)
    for name, options in {
        "broken": {"stderr": write},
        "closed": {"preexec_fn": lambda: os.close(2)},
    }.items():
        command = [sys.executable, "-m", "zforcing_pyro", "train", *SMALL, "--max_updates=3"]
        command += ["--training.validate_every=1", f"--out={tmp_path / name}"]
        assert subprocess.run(command, timeout=300, **options).returncode == 0
        assert len((tmp_path / name / "metrics.csv").read_text().splitlines()) > 3
    command = [sys.executable, "-m", "zforcing_pyro", "evaluate", str(tmp_path), "--nope"]
    assert subprocess.run(command, timeout=300, preexec_fn=lambda: os.close(2)).returncode == 2


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"])
def test_a_rank_without_a_launcher_is_refused(name, tmp_path, monkeypatch, capsys):
    for rank, options in (("1", []), ("1", ["--devices=2"]), ("0", ["--devices=2"])):
        if rank == "0" and name != "LOCAL_RANK":
            continue
        monkeypatch.setenv(name, rank)
        assert main(["train", *SMALL, *options, f"--out={tmp_path / 'run'}"]) == 2
        err = capsys.readouterr().err
        assert f"error: '{name}' must come with '" in err and f"'unset {name}', or" in err
        assert not (tmp_path / "run").exists()
    monkeypatch.setenv(name, "")  # is unset
    small = [*SMALL, "--max_updates=1", "--training.validate_on=8"]
    assert main(["train", *small, f"--out={tmp_path / 'run'}"]) == 0


@pytest.mark.parametrize("args", [["data", "list"], ["data", "list", "--json"], ["--help"]])
def test_a_full_stdout_is_named(args, monkeypatch, capsys):
    if not os.path.exists("/dev/full"):
        pytest.skip("no device that is full")
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(args) == 2
        monkeypatch.undo()
    assert capsys.readouterr().err == (
        "zforcing: error: 'standard output': No space left on device\n"
    )


def test_output_adapts_to_the_terminal(tmp_path, monkeypatch, capsys):
    """C4: characters that stdout lacks are replaced."""
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(cli, "command", lambda args: print("höhe_月") or 0)
    assert main([]) == 0
    assert stdout.buffer.getvalue() == b"h?he_?\n"


def test_a_closed_stdout_is_an_error_of_results_alone(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout", None)
    assert main(["--version"]) == 0 and capsys.readouterr().err == ""
    for args in (["data", "list"], ["data", "list", "--json"]):
        assert main(args) == 2
        assert "standard output must be open" in capsys.readouterr().err


def test_a_configuration_is_utf8_in_every_locale(tmp_path):
    """C4."""
    (tmp_path / "c.yaml").write_bytes("# Größe\nmodel: {z_dim: 0}\n".encode())
    command = [sys.executable, "-m", "zforcing_pyro", "train", "--config", str(tmp_path / "c.yaml")]
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | ascii_only)
    assert done.returncode == 2 and "'z_dim' must be in 1..1,048,576" in done.stderr
