"""Audio files as int16 samples, and back."""

from __future__ import annotations

import io
import math
import re
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np

from .tree import Tree

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".sph")
"""Of files that are taken for audio, in upper case too."""

FULL_SCALE = 32768
"""The sample value that stands for 1.0."""

CUT_SHORT = re.compile(r"^\s*(?:data|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
"""What libsndfile notes of a file that has fewer bytes than it says."""

UNKNOWN_SIZE = 2**32 - 1
"""What a program writes into a header of which it does not know the size yet."""

MOST_SAMPLES = 2**48
"""What libsndfile has in place of an unknown number is more."""


class Waves:
    """Recordings held in memory; item ``i`` is int16, ``(samples,)``. A ``Store`` reads alike.

    Args:
        names: Of each recording, for people.
        waves: Their samples, int16, ``(samples_i,)``.
        sample_rate: Samples a second.

    Attributes:
        lengths: Samples of each recording, int64. Shape ``(num,)``.

    Example:
        >>> import numpy as np
        >>> waves = Waves(["a.wav", "b.wav"], [np.int16([1, 3]), np.int16([5])], 8000)
        >>> waves.lengths.tolist(), waves.mean_and_std()[0]
        ([2, 1], 3.0)
    """

    def __init__(self, names: list[str], waves: list[np.ndarray], sample_rate: int):
        self.names, self._waves, self.sample_rate = names, waves, sample_rate
        self.lengths = np.array([len(wave) for wave in waves], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._waves)

    def __getitem__(self, i: int) -> np.ndarray:
        return self._waves[i]

    def mean_and_std(self) -> tuple[float, float]:
        """Of all samples; std is that of a population, without a -1.

        Raises:
            ValueError: If there are no samples.
        """
        num = int(self.lengths.sum())
        if not num:
            raise ValueError(f"'waves' must have samples, got {len(self)} recordings without any")
        # Python's integers neither overflow nor round.
        total = sum(int(wave.sum(dtype=np.int64)) for wave in self._waves)
        squares = sum(int(np.square(wave, dtype=np.int64).sum()) for wave in self._waves)
        return total / num, math.sqrt(num * squares - total * total) / num


def read_waves(
    tree: Tree,
    names: list[str],
    sample_rate: int,
    mono: bool = False,
    resample: bool = False,
    reason: str = "",
    skip_broken: bool = False,
) -> Waves:
    """Audio files of a tree, in the order of ``names``.

    Args:
        tree: Where they are.
        names: Their names in it.
        sample_rate: Samples a second.
        mono: Takes the mean of several channels.
        resample: Resamples files of another rate, by a polyphase filter.
        reason: What is said of the sample rate when a file has another.
        skip_broken: Files that cannot be read, or are no audio, are left out, and a warning counts
            them; another rate or more channels are errors all the same.

    Raises:
        ValueError: If a file is no audio, is cut short, or has another sample rate or more than
            one channel and neither option is given; names the file. Or if all are broken.
        OSError: If a file cannot be read.
    """
    load_soundfile()  # that it is missing is no fault of a file
    waves, kept, broken = [], [], []
    for name in names:
        try:
            samples, rate = read_audio(tree, name)
        except (ValueError, OSError):
            broken.append(name)
            if not skip_broken or len(broken) == len(names):
                raise
            continue
        if samples.shape[1] > 1:
            if not mono:
                raise ValueError(
                    f"'{tree.place(name)}' must have one channel, got {samples.shape[1]}; the "
                    "option 'mono' of --data audio takes their mean"
                )
            samples = as_int16(samples.mean(1, keepdims=True) / FULL_SCALE)
        wave = samples[:, 0]
        if rate != sample_rate:
            if not resample:
                raise ValueError(
                    f"'{tree.place(name)}' must have {sample_rate} samples a second{reason}, got "
                    f"{rate}; the option 'sample_rate' of --data audio resamples"
                )
            wave = resampled(wave, rate, sample_rate)
        waves.append(np.ascontiguousarray(wave))
        kept.append(name)
    if broken:
        warnings.warn(
            f"{len(broken)} of {len(names)} recordings, the first '{tree.place(broken[0])}', "
            "are broken and are left out",
            stacklevel=2,
        )
    return Waves(kept, waves, sample_rate)


def read_audio(tree: Tree, name: str) -> tuple[np.ndarray, int]:
    """One audio file: its samples, int16, ``(samples, channels)``, and its sample rate.

    16 bit PCM comes bit by bit as it is. Other encodings are rounded to 16 bit, and clipped.

    Raises:
        ValueError: If it is empty, no audio, cut short, or NaN or far beyond 1.0 somewhere; names
            the file.
        OSError: If it cannot be read.
    """
    soundfile, content, place = load_soundfile(), tree.read(name), tree.place(name)
    if not content:
        raise ValueError(f"'{place}' must be an audio file, got an empty file")
    if content[:4] == b"NIST" and b"shorten" in content[:1024]:
        raise ValueError(
            f"'{place}' must be audio that libsndfile reads, got SPHERE compressed by shorten; "
            "uncompress it by 'w_decode -o pcm' or 'sph2pipe -f wav'"
        )
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            exact = file.subtype == "PCM_16"
            if file.frames > MOST_SAMPLES:
                raise ValueError("a header that does not say how many samples there are")
            samples = file.read(dtype="int16" if exact else "float64", always_2d=True)
            rate, expected, notes = file.samplerate, file.frames, file.extra_info
    except (soundfile.SoundFileError, EOFError, ValueError, TypeError) as error:
        got = getattr(error, "error_string", error)  # without the name of a Python object
        raise ValueError(f"'{place}' must be audio that libsndfile reads, got: {got}") from error
    check_whole(place, content, len(samples), expected, notes)
    if exact:
        return samples, rate
    peak = np.abs(samples).max(initial=0.0)
    if not peak <= 2:  # decoders overshoot 1.0 a little
        raise ValueError(f"'{place}' must have samples in -1..1, got {peak:g}")
    return as_int16(samples), rate


def check_whole(place: str, content: bytes, num: int, expected: int, notes: str) -> None:
    """Raises ValueError unless a file has what its header says.

    Args:
        place: What the file is called.
        content: The file.
        num: Samples that were read.
        expected: Samples that libsndfile expected, which it often takes from the file's size.
        notes: What libsndfile noted of the header.
    """
    sphere = re.search(rb"sample_count -i (\d+)", content[:1024] * (content[:4] == b"NIST"))
    cut = CUT_SHORT.search(notes)
    if sphere:
        expected = int(sphere[1])
    if num < expected:
        raise ValueError(f"'{place}' must have the {expected} samples that it says, got {num}")
    if cut and int(cut[1]) < UNKNOWN_SIZE:
        raise ValueError(f"'{place}' must have the {cut[1]} bytes that it says, got {cut[2]}")


def as_int16(samples: np.ndarray) -> np.ndarray:
    """Samples in -1..1 rounded to int16, and clipped."""
    return np.clip(np.rint(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def resampled(wave: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """A wave at another sample rate; int16, ``(ceil(samples new_rate / rate),)``."""
    from scipy.signal import resample_poly  # costs half a second, and only this needs it

    divisor = math.gcd(rate, new_rate)
    return as_int16(resample_poly(wave / FULL_SCALE, new_rate // divisor, rate // divisor))


def write_wave(wave: np.ndarray, sample_rate: int, file: Path) -> None:
    """Writes int16 samples, ``(samples,)``, as a WAV file of 16 bit PCM."""
    load_soundfile().write(file, wave, sample_rate, subtype="PCM_16", format="WAV")


def load_soundfile() -> ModuleType:
    """The audio library.

    Raises:
        ValueError: If it is not installed; says how.
    """
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: without libsndfile
        raise ValueError(
            f"audio files need soundfile: pip install 'zforcing_pyro[audio]' ({error})"
        ) from error
    return soundfile
