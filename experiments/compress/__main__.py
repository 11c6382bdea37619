"""Trains small models and compares their archives with gzip, xz and FLAC on held-out data.

    python -m experiments.compress [--data music images text speech] [--seeds 0 1 2]
        [--out runs/compress] [--data_dir DIR] [--jobs 1]

The same command goes on where it was stopped. A row of ``results.csv`` is one model: bytes of the
archive and of its parts, bytes of the others, and seconds. Every archive is decoded and compared.
"""

import argparse
import gzip
import io
import json
import lzma
import subprocess
import sys
import tempfile
import time
import wave
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from zforcing_pyro.app.archive import pack, unpack
from zforcing_pyro.app.experiment import load_corpus, load_experiment, load_weighted
from zforcing_pyro.data import corpus

FOLDER = Path(__file__).parent
NUM = {"music": 77, "images": 200, "text": 100, "speech": 10}
"""Sequences of test, the first ones."""
BATCH_SIZE = 1
FRAME = 8
"""Samples in a frame of speech."""


def waves(split: str, data_dir: str | None) -> list[np.ndarray]:
    """Returns spoken digits in 8 bits, int8, as whole frames: the upper half of 16 bits."""
    recordings = corpus("fsdd", data_dir=data_dir).waves(split)
    return [(w[: len(w) // FRAME * FRAME] >> 8).astype(np.int8) for w in recordings]


def prepare_speech(out: Path, data_dir: str | None) -> None:
    """Writes ``speech.npz``, which ``speech.yaml`` reads."""
    arrays = {}
    for split in ("train", "valid", "test"):
        parts = [w.reshape(-1, FRAME).astype(np.float32) / 128 for w in waves(split, data_dir)]
        arrays[f"x_{split}"] = np.concatenate(parts)
        arrays[f"len_{split}"] = np.array([len(part) for part in parts])
    np.savez(out / "speech.npz", **arrays)


def held_out(data: str, test: object, folder: Path, data_dir: str | None) -> tuple[list, bytes]:
    """Writes files of the test split, and returns them and their content in its densest plain form.

    Bits are packed, eight of them in a byte.
    """
    if data == "speech":
        sequences = waves("test", data_dir)[: NUM[data]]
        for i, samples in enumerate(sequences):
            with wave.open(str(folder / f"{i}.wav"), "wb") as file:
                file.setparams((1, 1, 8000, len(samples), "NONE", "not compressed"))
                file.writeframes((samples.astype(np.int16) + 128).astype(np.uint8).tobytes())
        plain = np.concatenate(sequences).tobytes()
    elif data == "text":
        texts = [test.sentence(test.split("test")[i].x) for i in range(NUM[data])]
        plain = "\n".join(texts).encode()
        (folder / "0.txt").write_bytes(plain)
    else:
        rolls = [test.split("test")[i].x.numpy().astype(np.uint8) for i in range(NUM[data])]
        for i, rows in enumerate([np.stack(rolls)] if data == "images" else rolls):
            np.save(folder / f"{i}.npy", rows)
        plain = np.packbits(np.concatenate(rolls), axis=-1 if data == "music" else None).tobytes()
    return sorted(folder.iterdir(), key=lambda file: int(file.stem)), plain


def flac(plain: bytes) -> int | None:
    """Returns the bytes of samples as one FLAC file; None without soundfile."""
    try:
        import soundfile
    except (ImportError, OSError):
        return None
    samples, stream = np.frombuffer(plain, np.int8).astype(np.int16) << 8, io.BytesIO()
    soundfile.write(stream, samples, 8000, format="FLAC", subtype="PCM_S8", compression_level=1.0)
    return len(stream.getvalue())


def train(data: str, seed: int, out: Path, data_dir: str | None) -> None:
    """Trains a model as far as that has not been done."""
    run, begun = out / f"{data}-{seed}", time.monotonic()
    if (run / "seconds.txt").exists():
        return
    place = out if data == "speech" else data_dir
    where = [] if place is None else ["--data_dir", str(place)]
    command = ["train", "--config", str(FOLDER / f"{data}.yaml"), "--seed", str(seed)]
    command += ["--out", str(run), "--resume", *where]
    subprocess.run([sys.executable, "-m", "zforcing_pyro", *command], check=True)
    (run / "seconds.txt").write_text(f"{time.monotonic() - begun:.0f}")


def measure(data: str, seed: int, out: Path, data_dir: str | None) -> dict:
    """Returns the row of one model, kept in its run."""
    run = out / f"{data}-{seed}"
    kept = run / "compressed.json"
    if kept.exists():
        return json.loads(kept.read_text())
    experiment = load_experiment(run)
    test = load_corpus(run, experiment, check=False)
    if data == "text":
        test.data_dir = data_dir
    net = load_weighted(run, experiment, test)
    with tempfile.TemporaryDirectory() as source, tempfile.TemporaryDirectory() as target:
        files, plain = held_out(data, test, Path(source), data_dir)
        begun = time.monotonic()
        archive, sizes = pack(net, test, files, BATCH_SIZE)
        packed = time.monotonic()
        unpack(archive, "archive", net, test, Path(target))
        unpacked = time.monotonic()
        for file in files:
            if file.read_bytes() != Path(target, file.name).read_bytes():
                raise SystemExit(f"{data}-{seed}: {file.name} came back changed")
    row = {"data": data, "model": experiment.model["name"], "seed": seed}
    row |= {"sequences": sizes.sequences, "steps": sizes.steps, "plain": len(plain)}
    best = 9 | lzma.PRESET_EXTREME
    row |= {"gzip": len(gzip.compress(plain, 9)), "xz": len(lzma.compress(plain, preset=best))}
    row |= {"flac": flac(plain) if data == "speech" else None, "archive": sizes.archive}
    row |= {"code": round(sizes.code), "initial": sizes.initial, "bound": round(sizes.bound, 1)}
    row |= {"train_seconds": int((run / "seconds.txt").read_text())}
    row |= {"seconds": round(packed - begun), "back_seconds": round(unpacked - packed)}
    kept.write_text(json.dumps(row))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", choices=NUM, default=list(NUM))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/compress"))
    parser.add_argument("--results", type=Path, default=FOLDER / "results.csv")
    parser.add_argument("--data_dir")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if "speech" in options.data and not (options.out / "speech.npz").exists():
        prepare_speech(options.out, options.data_dir)
    keys = [(data, seed) for seed in options.seeds for data in options.data]

    def finish(key: tuple[str, int]) -> dict:
        train(*key, options.out, options.data_dir)
        return measure(*key, options.out, options.data_dir)

    with ThreadPoolExecutor(options.jobs) as pool:
        rows = list(pool.map(finish, keys))
    order = {data: i for i, data in enumerate(NUM)}
    rows.sort(key=lambda row: (order[row["data"]], row["seed"]))
    pd.DataFrame(rows).to_csv(options.results, index=False)


if __name__ == "__main__":
    main()
