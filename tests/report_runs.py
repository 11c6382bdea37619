"""Runs of a few updates on small files of each kind of sequence, made once in a process."""

import functools
import tempfile
from pathlib import Path

import numpy as np
import torch
from audio_files import encoded, write_files

from zforcing_pyro.app.cli import main

SMALL = ["--model.h_dim=12", "--training.validate_every=4", "--max_updates=12"]
LATENTS = ["--model.z_dim=3", "--model.hidden_dim=8"]
KINDS = ("digits", "music", "speech", "text")
FOLDER = tempfile.TemporaryDirectory(prefix="zforcing-report-")  # gone with the process
WORDS = ["a", "film", "story", "actor", "was", "is", "good", "bad", "dull", "long", "very", "i"]


def music(folder: Path) -> list[str]:
    """Writes chords that change every other step, in the format of ``jsb``."""
    rng, arrays = np.random.default_rng(0), {}
    for split, num in (("train", 24), ("valid", 8), ("test", 12)):
        lengths = rng.integers(8, 14, num).astype(np.int32)
        keys = np.zeros((int(lengths.sum()), 88), np.uint8)
        for t in range(0, len(keys), 2):
            keys[t : t + 2, rng.choice([27, 31, 34, 39, 43, 46, 51], 3, replace=False)] = 1
        arrays |= {f"x_{split}": keys, f"len_{split}": lengths}
    np.savez(folder / "jsb_pianoroll_icml2012.npz", **arrays)
    return ["--data=jsb", f"--data_dir={folder}"]


def speech(folder: Path) -> list[str]:
    """Writes tones of two speakers, in the format of ``fsdd``."""
    rng, files = np.random.default_rng(0), {}
    for digit in range(3):
        for speaker, pitch in (("ann", 220), ("bob", 120)):
            for index in range(14):
                time = np.arange(int(rng.integers(1600, 3200))) / 8000
                tone = np.sin(2 * np.pi * pitch * (1 + digit / 4) * time) * np.hanning(len(time))
                noise = rng.normal(0, 0.02, len(time))
                samples = (6000 * (tone + noise)).astype(np.int16)
                files[f"recordings/{digit}_{speaker}_{index}.wav"] = encoded(samples, 8000)
    write_files(folder, files)
    return ["--data=fsdd", f"--data_dir={folder}"]


def text(folder: Path) -> list[str]:
    """Writes sentences of a few words, one with HTML and dollars."""
    rng = np.random.default_rng(0)
    lines = [" ".join(rng.choice(WORDS, rng.integers(3, 9))) for _ in range(120)]
    lines += ["<b>bold</b> & $5 films"] * 60
    (folder / "films.txt").write_text("\n".join(lines), encoding="utf-8")
    return ["--data=text", f"--data.path={folder / 'films.txt'}", "--data.tokens=blanks"]


@functools.cache
def run_of(kind: str, model: str = "zforcing", seed: int = 0) -> Path:
    """Returns the folder of a run, which no test changes."""
    torch.set_default_dtype(torch.float32)
    run, files = Path(FOLDER.name, f"{kind}-{model}-{seed}"), Path(FOLDER.name, f"{kind}-files")
    files.mkdir(exist_ok=True)
    data = {"music": music, "speech": speech, "text": text}.get(kind, lambda _: ["--data=digits"])
    options = [
        *SMALL,
        f"--model={model}",
        f"--seed={seed}",
        *(LATENTS if model not in ("rnn", "sab") else []),
    ]
    assert main(["train", *data(files), *options, f"--out={run}"]) == 0
    return run


@functools.cache
def page_of(kind: str) -> Path:
    """Returns the report of a run, from few sequences."""
    file = Path(FOLDER.name, f"{kind}.html")
    assert main(["report", str(run_of(kind)), "--num=8", "--particles=25", f"--out={file}"]) == 0
    return file
