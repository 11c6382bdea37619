"""Audio files and trees as publishers lay them out, for tests of data sets."""

import io
import zipfile
from pathlib import Path

import numpy as np
import soundfile

RNG = np.random.default_rng(0)


def wave(samples: int, scale: float = 1000.0) -> np.ndarray:
    """Noise, int16."""
    return RNG.normal(3, scale, samples).clip(-32768, 32767).astype(np.int16)


def encoded(samples: np.ndarray, rate: int = 16000, format: str = "WAV", subtype=None) -> bytes:
    """An audio file; floats are encoded as floats, unless told otherwise."""
    if subtype is None and format == "WAV":
        subtype = "PCM_16" if samples.dtype == np.int16 else "FLOAT"
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format=format, subtype=subtype)
    return stream.getvalue()


def sphere(samples: np.ndarray, rate: int = 16000, coding: str = "pcm") -> bytes:
    """A NIST SPHERE file as on the discs of the Linguistic Data Consortium."""
    header = (
        "NIST_1A\n   1024\n"
        "database_id -s5 TIMIT\n"
        "channel_count -i 1\n"
        f"sample_count -i {len(samples)}\n"
        f"sample_rate -i {rate}\n"
        "sample_n_bytes -i 2\n"
        "sample_byte_format -s2 01\n"
        "sample_sig_bits -i 16\n"
        f"sample_coding -s{len(coding)} {coding}\n"
        "end_head\n"
    )
    return header.encode().ljust(1024) + samples.astype("<i2").tobytes()


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def write_zip(file: Path, files: dict[str, bytes]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file
