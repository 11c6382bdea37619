"""Runs that are killed, stopped, or out of space, and end as if nothing had been."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time

import fault_runs
import pytest
import torch
from fault_runs import command, ended, fork, fork_ranks, limited, run

from zforcing_pyro.models import VRNN, ZForcing
from zforcing_pyro.training.stops import Signals

EVENTS = {"step": 12, "backward": 12, "validation": 9, "write": 8, "rename": 8, "renamed": 8}
EVENTS |= {"row": 6, "clock": 1_000}
"""Least number of times that each happens within a dozen updates."""


def kept(folder, name="last"):
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


def weights_of(folder):
    return kept(folder)["players"]["net"]["weights"].values()


def same(a, b):
    """Returns whether two nested values are the same to the last bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def curves(folder):
    with open(folder / "metrics.csv") as f:
        return [{**row, "sequences_per_second": ""} for row in csv.DictReader(f)]


def assert_same_run(one, other):
    for name in ("last", "best"):
        a, b = kept(one, name), kept(other, name)
        for key in ("players", "zforcing_pyro"):
            assert same(a[key], b[key]), (name, key)
    assert curves(one) == curves(other)


KILLS = int(os.environ.get("FUZZ_EXAMPLES", "60")) // 3
"""Kills of a run; ``make fuzz`` has 100."""


def kills():
    draw = random.Random(7)
    events = [*EVENTS, "step", "validation", "write", "clock"]
    events = [events[i % len(events)] for i in range(KILLS)]
    draw.shuffle(events)
    return [(event, draw.randint(1, EVENTS[event])) for event in events]


OPTIONS = {"ema_decay": 0.9, "frame_dropout": 0.2, "patience": 0, "lr_floor": 1e-5}
OPTIONS |= {"checkpoint_every": 3, "lr_warmup": 5}
OPTIONS |= {"kl_target": 2.0, "inner_updates": 1, "inner_until": 30}


@pytest.mark.slow
def test_many_kills_change_nothing(tmp_path):
    whole, killed, log = tmp_path / "whole", tmp_path / "killed", tmp_path / "log"
    num = 8 * KILLS
    undisturbed = fork(run, whole, OPTIONS, num, log=log)
    died = []
    for kill in kills():
        process = fork(run, killed, OPTIONS, num, ZForcing, kill, log=log)
        died.append(ended(process))
    assert died == [-signal.SIGKILL] * KILLS, log.read_text()
    assert ended(undisturbed) == 0 and ended(fork(run, killed, OPTIONS, num, log=log)) == 0
    assert_same_run(whole, killed)


@pytest.mark.slow
def test_two_ranks_of_which_one_is_killed(tmp_path):
    """Each has a state that its rows carry from window to window, which is resumed as well."""
    log, whole, killed = tmp_path / "log", tmp_path / "whole", tmp_path / "killed"
    options = {"devices": 2, "checkpoint_every": 3, "carry_state": True, "window": 3}

    num = max(40, 4 * KILLS)

    def ranks(folder, *kills):
        processes = fork_ranks(2, fault_runs.dying, folder, options, num, VRNN, kills, log=log)
        return [ended(rank) for rank in processes]

    assert ranks(whole) == [0, 0], log.read_text()
    assert ranks(killed, None, ("step", 8)) == [1, -9]
    assert "another process of the run has ended" in log.read_text()
    assert ranks(killed, ("write", 4), None) == [-9, 1]
    assert ranks(killed, None, ("validation", 3)) == [1, -9]
    draw = random.Random(8)
    for _ in range(KILLS - 20):  # none but by make fuzz
        rank, kill = draw.randrange(2), (draw.choice(["step", "backward"]), draw.randint(1, 6))
        codes = ranks(killed, *((None, kill) if rank else (kill, None)))
        assert codes[rank] == -9 and codes[1 - rank] in (1, -9), (codes, log.read_text())
    assert ranks(killed) == [0, 0], log.read_text()
    assert_same_run(whole, killed)


@pytest.mark.parametrize(
    "world, accumulate, size, every, extra",
    [
        (2, 1, 3, 6, {}),
        (1, 2, 3, 6, {}),
        (2, 2, 3, 6, {}),
        (2, 1, 2, 1, {}),
        (2, 2, 3, 6, {"adversary": "latent", "adv_warmup": 0, "critic_lr": 0.01}),
    ],
    ids=["2 ranks", "2 parts", "4 parts", "an idle rank", "a critic"],
)
def test_parts_of_a_batch_have_the_gradient_of_the_whole(
    tmp_path, world, accumulate, size, every, extra
):
    """13 sequences in batches of 1 to 3: a part, or the second rank, has none of them."""
    log, whole, parts = tmp_path / "log", tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    options = {"batch_size": size, "validate_every": every} | extra
    alone = fork(fault_runs.run_on_common_noise, whole, options, 7, log=log)
    options |= {"devices": world, "accumulate": accumulate}
    for rank in fork_ranks(world, fault_runs.run_on_common_noise, parts, options, 7, log=log):
        assert ended(rank) == 0, log.read_text()
    assert ended(alone) == 0
    bounds = [[float(row["bound"] or "nan") for row in curves(f)] for f in (whole, parts)]
    assert bounds[0] == pytest.approx(bounds[1], abs=1e-6, nan_ok=True)
    ours, theirs = (torch.load(f / "gradients.pt", weights_only=True) for f in (whole, parts))
    assert max(g.abs().max() for g in ours.values()) > 0.1
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], rtol=0, atol=1e-9)
    for a, b in zip(weights_of(whole), weights_of(parts)):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    for a, b in zip(curves(whole), curves(parts)):
        for name in ("bound", "kl", "aux", "reverse", "valid_bound", "critic_cost", "adversary"):
            if a[name]:
                assert float(a[name]) == pytest.approx(float(b[name]), abs=1e-5)


@pytest.mark.parametrize("critic", ["none", "professor"])
def test_all_ranks_end_with_the_same_weights(tmp_path, critic):
    options = {"devices": 2, "ema_decay": 0.9, "validate_every": 10, "adversary": critic}
    options |= {"adv_warmup": 2, "gate_low": 0.0, "critic_lr": 0.01} if critic != "none" else {}
    log, folder = tmp_path / "log", tmp_path / "run"
    ranks = fork_ranks(2, fault_runs.run_and_keep_weights, folder, options, 20, log=log)
    assert [ended(rank) for rank in ranks] == [0, 0], log.read_text()
    ours, theirs = (torch.load(folder / f"rank{r}.pt", weights_only=True) for r in (0, 1))
    assert same(ours, theirs)


TRAIN = ["--model.z_dim=2", "--model.h_dim=8", "--model.hidden_dim=8", "--model.embed_dim=0"]
TRAIN += ["--training.validate_every=20", "--training.validate_on=64", "--max_updates=60"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of one process."""
    folder = tmp_path_factory.mktemp("trained")
    args = ["train", *TRAIN, "--out", str(folder / "run")]
    assert ended(fork(command, args, log=folder / "log")) == 0, (folder / "log").read_text()
    return folder / "run"


def until(log, text, seconds=30):
    """Waits for a process to have said something."""
    end = time.monotonic() + seconds
    while text not in log.read_text() if log.exists() else True:
        assert time.monotonic() < end, f"'{text}' was not said"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    "number, during",
    [(signal.SIGTERM, "update"), (signal.SIGUSR1, "validation"), (signal.SIGHUP, "update")],
)
def test_a_signal_leaves_a_run_that_goes_on(tmp_path, trained, number, during):
    log, stopped = tmp_path / "log", tmp_path / "stopped"
    args = ["train", *TRAIN, "--resume", "--out"]
    before = signal.signal(number, signal.SIG_DFL)  # these tests may run under nohup
    process = fork(command, [*args, str(stopped)], during, log=log)
    signal.signal(number, before)
    until(log, during)
    os.kill(process.pid, number)
    assert ended(process, seconds=10) == 128 + number
    assert f"stopped by {number.name} after update" in log.read_text()
    assert kept(stopped)["zforcing_pyro"]["update"] < 60
    assert ended(fork(command, [*args, str(stopped)], log=log)) == 0, log.read_text()
    assert_same_run(trained, stopped)


def test_a_signal_that_nohup_ignores_is_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
        assert signals.received == signal.SIGTERM
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_to_one_rank_stops_all(tmp_path):
    log = tmp_path / "log"
    ranks = fork_ranks(2, run, tmp_path / "run", {"devices": 2}, 100_000, log=log)
    until(log, "update 8")
    ranks[1].terminate()
    assert [ended(rank, seconds=10) for rank in ranks] == [1, 1]
    assert log.read_text().count("stopped by SIGTERM after update") == 2


@pytest.fixture
def tmpfs(tmp_path):
    """A file system of 400 kB; skipped where none may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a file system may be mounted by root only")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def assert_goes_on(folder, log, tmp_path):
    """After a full disk: what was there is whole, and the run ends as if nothing had been."""
    assert "OSError" in log.read_text()
    whole = tmp_path / "whole"
    assert ended(fork(run, whole, {}, 16, log=log)) == 0
    assert ended(fork(run, folder, {}, 16, log=log)) == 0, log.read_text()
    assert_same_run(whole, folder)
    assert not list(folder.rglob("*.part"))


def test_a_full_disk_loses_nothing(tmp_path, tmpfs):
    log, folder = tmp_path / "log", tmpfs / "run"
    assert ended(fork(run, folder, {}, 8, log=log)) == 0, log.read_text()
    before = (folder / "checkpoints" / "last.ckpt").read_bytes()
    filler = tmpfs / "filler"
    with pytest.raises(OSError), open(filler, "wb", buffering=0) as file:
        while True:
            file.write(b"0" * 512)
    assert ended(fork(fault_runs.on_full_disk, folder, {}, 16, log=log)) == 5, log.read_text()
    assert "No space left on device" in log.read_text()
    assert (folder / "checkpoints" / "last.ckpt").read_bytes() == before
    filler.unlink()
    assert_goes_on(folder, log, tmp_path)


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path):
    log, folder = tmp_path / "log", tmp_path / "run"
    assert ended(fork(run, folder, {}, 8, log=log)) == 0, log.read_text()
    before = (folder / "checkpoints" / "last.ckpt").read_bytes()
    assert ended(fork(limited, folder, {}, 16, len(before) // 2, log=log)) == 5, log.read_text()
    assert "last.ckpt' could not be written: File too large; the one before" in log.read_text()
    assert (folder / "checkpoints" / "last.ckpt").read_bytes() == before
    assert_goes_on(folder, log, tmp_path)


def test_a_first_checkpoint_that_cannot_be_written_has_none_before(tmp_path):
    log = tmp_path / "log"
    assert ended(fork(limited, tmp_path / "run", {}, 8, 2000, log=log)) == 5, log.read_text()
    assert "ckpt' could not be written: File too large; there is none before" in log.read_text()


def test_several_processes_evaluate_to_the_same_number(tmp_path, trained):
    args = ["evaluate", str(trained), "--bound=iwae", "--particles=30", "--split=valid", "--json"]
    assert ended(fork(command, args, log=tmp_path / "one")) == 0, (tmp_path / "one").read_text()
    several = {"TORCHELASTIC_RUN_ID": "test", "WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1"}
    several |= {"MASTER_PORT": str(fault_runs.free_port())}
    log = tmp_path / "three"
    ranks = [fork(command, args, log=log, **several, RANK=str(r)) for r in range(3)]
    assert [ended(rank) for rank in ranks] == [0, 0, 0], log.read_text()
    results = [
        [json.loads(line) for line in file.read_text().splitlines() if line.startswith("{")]
        for file in (tmp_path / "one", log)
    ]
    assert len(results[0]) == 1 and results[0] == results[1]


@pytest.mark.slow
def test_two_processes_from_the_command_line(tmp_path, trained):
    """Two reach the validation bound of one, on the same batches and other noise."""
    out = tmp_path / "two"
    args = [sys.executable, "-m", "zforcing_pyro", "train", *TRAIN, "--devices=2", f"--out={out}"]
    done = subprocess.run([*args, "--accelerator=cpu"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("run in") == 1 and (out / "environment.json").exists()
    ours, theirs = ([r for r in curves(f) if r["valid_bound"]] for f in (trained, out))
    assert [r["step"] for r in ours] == [r["step"] for r in theirs] == ["20", "40", "60"]
    for a, b in zip(ours, theirs):
        assert float(a["valid_bound"]) == pytest.approx(float(b["valid_bound"]), abs=0.01)
    assert float(ours[0]["valid_bound"]) < float(ours[-1]["valid_bound"]) - 0.1
