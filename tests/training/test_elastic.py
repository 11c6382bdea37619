"""Scripts of the page on clusters, run: torchrun starts a run again of which a rank was killed."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from fault_runs import free_port

from zforcing_pyro.app.configuration import parse

CLUSTERS = Path(__file__).parents[2] / "docs" / "clusters.md"
SCRIPTS = [
    script
    for script in re.findall(r"^```bash\n(#!.*?)^```", CLUSTERS.read_text("utf-8"), re.S | re.M)
    if "torchrun" in script
]
NAMES = ["one machine", "two machines"]
SMALL = """
data: digits
model: {name: vrnn, z_dim: 2, h_dim: 4, hidden_dim: 4, embed_dim: 0}
max_updates: 60
training: {batch_size: 8, validate_every: 60, validate_on: 16, checkpoint_every: 5}
accelerator: cpu
"""
PROGRAMS = {
    "scontrol": "echo 127.0.0.1",
    "srun": '"$@" & first=$!; "$@" & wait $first && wait $!',  # a machine each
    "torchrun": f'exec {sys.executable} -m torch.distributed.run "$@"',
}


def started(script: str, folder: Path) -> subprocess.Popen:
    """Starts a script with one process in place of four GPUs on each of two machines."""
    folder.mkdir()
    (folder / "timit.yaml").write_text(SMALL)
    for name, text in PROGRAMS.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    script = script.replace("--nproc-per-node 4", f"--nproc-per-node {2 - ('srun' in script)}")
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    environment |= {"SLURM_JOB_NODELIST": "a,b", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    script = script.replace("29500", str(free_port()))
    with open(folder / "log", "w") as log:
        return subprocess.Popen(
            ["bash", "-c", script], cwd=folder, env=os.environ | environment, stderr=log, stdout=log
        )


def workers(process: subprocess.Popen) -> list[psutil.Process]:
    """Returns the ranks that train."""
    ranks = []
    for child in psutil.Process(process.pid).children(recursive=True):
        words = child.cmdline()
        if "zforcing_pyro" in words and "torch.distributed.run" not in words:
            ranks.append(child)
    return ranks


def weights(folder: Path) -> dict[str, torch.Tensor]:
    assert "update 60 of 60" in (folder / "log").read_text()
    kept = torch.load(folder / "runs" / "timit" / "checkpoints" / "last.ckpt", weights_only=True)
    return kept["players"]["net"]["weights"]


@pytest.mark.nightly
@pytest.mark.parametrize("script", SCRIPTS, ids=NAMES)
def test_a_killed_rank_is_started_again_and_changes_nothing(tmp_path, script):
    """Two gloo ranks on processors; on two machines each has a torchrun of its own."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    undisturbed = started(script, whole)
    assert undisturbed.wait(300) == 0, (whole / "log").read_text()
    disturbed = started(script, killed)
    checkpoint = killed / "runs" / "timit" / "checkpoints" / "last.ckpt"
    while not checkpoint.exists() and disturbed.poll() is None:
        time.sleep(0.2)
    ranks = workers(disturbed)
    assert len(ranks) == 2, (killed / "log").read_text()
    ranks[1].send_signal(signal.SIGKILL)
    assert disturbed.wait(300) == 0, (killed / "log").read_text()
    log = (killed / "log").read_text()
    assert "exitcode: -9" in log and log.count("it begins") == 1  # the second start goes on
    a, b = weights(whole), weights(killed)
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("script", SCRIPTS, ids=NAMES)
def test_scripts_have_options_that_exist(script, tmp_path, monkeypatch):
    """By torchrun's own parser and that of ``zforcing train``."""
    from torch.distributed.run import get_args_parser

    monkeypatch.chdir(tmp_path)
    Path("timit.yaml").write_text(SMALL)
    (line,) = re.findall(r"torchrun (.*)$", script.replace("\\\n", ""), re.M)
    options = get_args_parser().parse_args(shlex.split(line))
    assert options.module and options.training_script == "zforcing_pyro"
    assert options.max_restarts == 10 and options.nproc_per_node == "4"
    command, *words = options.training_script_args
    assert command == "train" and words.pop() == "--resume"
    assert parse(words)["model"]["name"] == "vrnn"
