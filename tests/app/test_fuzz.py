"""Generated configurations, data files and run folders end in a result or in one line.

``FUZZ_EXAMPLES`` sets the number of cases of each kind; ``make fuzz`` runs 300.
"""

import contextlib
import io
import json
import os
import shutil
import signal
import warnings
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from zforcing_pyro.app.cli import main

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "20"))
SECONDS = {signal.SIGPROF: 20, signal.SIGALRM: 600}
"""Limits of a command: seconds of the processor, and on the clock for one that waits."""
fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="FUZZ_EXAMPLES" not in os.environ,
    database=None,
    phases=[Phase.generate],  # to shrink a failure takes minutes
    suppress_health_check=list(HealthCheck),
)
pytestmark = pytest.mark.slow

JUNK = [
    None, True, -1, 0, 1.5, 10**12, 10**30, float("nan"), float("inf"), -1e308, "", "x", "../up",
    "~nobody/x", "\x1b[31mred", "ü", "1e-3", [], [[]], {}, {"a": {"b": []}}, [-1], [0], [10**9],
    "2020-01-01", "/dev/null", "$x_{$", "'", "a\nb", "%s", "None",
]  # fmt: skip
CONFIG = {
    "data": {"name": "arrays", "path": "data.npz"},
    "model": {"name": "zforcing", "z_dim": 2, "h_dim": 4, "hidden_dim": 4, "embed_dim": 4},
    "emission": {"name": "gaussian"},
    "bound": {"name": "elbo", "num_particles": 1},
    "training": {"batch_size": 4, "lr": 0.01, "validate_every": 1, "clip": 10.0, "devices": 1},
    "seed": 0,
    "max_updates": 1,
}
TRAIN = ["train", "--config", "generated.yaml", "--out", "new", "--max_updates", "2"]
PATHS = [(key, inner) for key, value in CONFIG.items()
         for inner in (value if isinstance(value, dict) else [None])]  # fmt: skip
EDITS = [b"", b"\x00", b"\xff", b":", b"- ", b"&a *a", b"9"]
texts = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from(EDITS)),
    min_size=1, max_size=6,
)  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with a data file and a trained run, and a canary beside it."""
    torch.set_default_dtype(torch.float32)
    folder = tmp_path_factory.mktemp("fuzz")
    rng = np.random.default_rng(0)
    np.savez(folder / "data.npz", x=rng.normal(size=(30, 5, 2)))
    (folder / "table.csv").write_text(
        "who,when,a,b\n" + "".join(f"s{i // 6},{i % 6},{i % 7},{i / 3:.3f}\n" for i in range(180))
    )
    (folder / "book.txt").write_text("one two three four. five six seven\n" * 40)
    with wave.open(str(folder / "tone.wav"), "wb") as tone:
        tone.setparams((1, 2, 8000, 0, "NONE", ""))
        tone.writeframes((rng.normal(size=4000) * 3000).astype("<i2").tobytes())
    (folder / "canary").write_text("sings")
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    status, error = called(folder, "train", "--config", "config.yaml", "--out", "run")
    assert status == 0, error
    return folder


def called(folder: Path, *args: str) -> tuple[int, str]:
    """Calls one command in ``folder``; a command that takes too long fails the test."""
    late = []

    def interrupt(number, _):
        late.append(signal.Signals(number).name)
        raise KeyboardInterrupt

    err, before = io.StringIO(), Path.cwd()
    handlers = {number: signal.signal(number, interrupt) for number in SECONDS}
    os.chdir(folder)
    try:
        signal.setitimer(signal.ITIMER_PROF, SECONDS[signal.SIGPROF])
        signal.setitimer(signal.ITIMER_REAL, SECONDS[signal.SIGALRM])
        with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
            with warnings.catch_warnings():
                warnings.simplefilter("default")
                status = main(list(args))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.chdir(before)
    assert not late, (args, late, err.getvalue())
    return status, err.getvalue()


def check(folder: Path, *args: str) -> str:
    """Calls a command, returns its one-line error or "", and checks that no file was touched."""
    files = snapshot(folder)
    status, error = called(folder, *args)
    lines = [line for line in error.splitlines() if line.startswith("zforcing: error:")]
    assert status in (0, 2) and len(lines) == bool(status), (status, error)
    assert "Traceback" not in error and "\x1b" not in error
    assert "ZFORCING_TRACEBACK" not in error, error  # main says so of what nobody foresaw
    assert snapshot(folder) == files
    return "".join(lines)


def snapshot(folder: Path) -> dict[str, bytes]:
    """Returns the files that no command may touch."""
    return {
        str(f.relative_to(folder)): f.read_bytes()
        for f in sorted(folder.iterdir())
        if f.is_file() and not f.is_symlink()
    }


def damaged(content: bytes, edits: list[tuple[float, bytes]]) -> bytes:
    """Returns bytes with a few places overwritten; an empty edit cuts the rest off."""
    for place, new in edits:
        at = int(place * len(content))
        content = content[:at] + new + content[at + len(new) :] if new else content[: max(at, 1)]
    return content


@fuzz
@given(st.lists(st.tuples(st.sampled_from(PATHS), st.sampled_from(JUNK)), min_size=1, max_size=2))
def test_train_takes_or_refuses_generated_configurations(world, edits):
    config = json.loads(json.dumps(CONFIG))
    for (key, inner), value in edits:
        if inner is None or not isinstance(config[key], dict):
            config[key] = value
        else:
            config[key][inner] = value
    (world / "generated.yaml").write_text(yaml.safe_dump(config))
    shutil.rmtree(world / "new", ignore_errors=True)
    check(world, *TRAIN)


@fuzz
@given(texts)
def test_train_takes_or_refuses_damaged_configurations(world, edits):
    (world / "generated.yaml").write_bytes(damaged(yaml.safe_dump(CONFIG).encode(), edits))
    shutil.rmtree(world / "new", ignore_errors=True)
    check(world, *TRAIN)


@fuzz
@given(texts)
def test_sweep_takes_or_refuses_damaged_files(world, edits):
    sweep = {"out": "sweep", "common": {"config": "config.yaml"}, "grid": {"seed": [0, 1]}}
    (world / "sweep.yaml").write_bytes(damaged(yaml.safe_dump(sweep).encode(), edits))
    check(world, "sweep", "sweep.yaml", "--dry_run")


@fuzz
@given(
    st.sampled_from([
        ("arrays", "data.npz", ()),
        ("table", "table.csv", ("--data.sequence", "who", "--data.time", "when")),
        ("text", "book.txt", ()),
        ("audio", "tone.wav", ()),
    ]),
    texts,
)  # fmt: skip
def test_data_show_takes_or_refuses_damaged_files(world, kind, edits):
    name, file, options = kind
    damaged_file = world / f"damaged{Path(file).suffix}"
    damaged_file.write_bytes(damaged((world / file).read_bytes(), edits))
    path = damaged_file.name
    if name == "audio":
        shutil.rmtree(world / "wavs", ignore_errors=True)
        (world / "wavs").mkdir()
        for i in range(6):
            shutil.copy(world / file, world / "wavs" / f"{i}.wav")
        shutil.copy(damaged_file, world / "wavs" / "6.wav")
        path = "wavs"
    check(world, "data", "show", name, "--data.path", path, *options)


COMMANDS = [
    ("evaluate", "copy"),
    ("sample", "copy", "--num", "2"),
    ("inspect", "copy", "--num", "3", "--particles", "25"),
    ("interpolate", "copy", "0", "1"),
    ("report", "copy", "--num", "3", "--particles", "25"),
    ("train", "--config", "config.yaml", "--out", "copy", "--resume", "--max_updates", "2"),
]


@fuzz
@given(
    st.sampled_from(COMMANDS),
    st.sampled_from(["config.yaml", "data.json", "environment.json", "metrics.csv",
                     "checkpoints/best.ckpt", "checkpoints/last.ckpt"]),
    st.one_of(texts, st.sampled_from(["gone", "link", "folder"])),
)  # fmt: skip
def test_commands_take_or_refuse_damaged_runs(world, command, name, edits):
    shutil.rmtree(world / "copy", ignore_errors=True)
    shutil.copytree(world / "run", world / "copy")
    file = world / "copy" / name
    if isinstance(edits, list):
        file.write_bytes(damaged(file.read_bytes(), edits))
    else:
        file.unlink()
        if edits == "link":
            file.symlink_to(world / "canary")
        elif edits == "folder":
            file.mkdir()
    check(world, *command)


PLANTED = [".report.html.part", "report.html", "checkpoints/.last.ckpt.part", ".config.yaml.part",
           "metrics.csv", "tensorboard", "samples", "environment.json", ".lock"]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_no_planted_link_is_written_through(world, command):
    """A run folder that somebody sent writes nothing outside; a link that is refused is removed."""
    copy, outside = world / "copy", world / "outside"
    for folder in (copy, outside):
        shutil.rmtree(folder, ignore_errors=True)
    outside.mkdir()
    (outside / "bashrc").write_text("mine")
    shutil.copytree(world / "run", copy, ignore=shutil.ignore_patterns(*PLANTED))
    for name in PLANTED:
        (copy / name).symlink_to(outside / ("" if name in ("tensorboard", "samples") else "bashrc"))
    while error := check(world, *command):
        assert [f.name for f in outside.iterdir()] == ["bashrc"]
        assert (outside / "bashrc").read_text() == "mine"
        refused = [f for f in copy.rglob("*") if f.is_symlink() and f.name in error]
        assert refused, error
        refused[0].unlink()
        if refused[0].name == "samples":  # the next link stands in the folder itself
            refused[0].mkdir()
            (refused[0] / "samples.png").symlink_to(outside / "bashrc")
    assert [f.name for f in outside.iterdir()] == ["bashrc"]
    assert (outside / "bashrc").read_text() == "mine"
