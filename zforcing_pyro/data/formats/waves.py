"""Audio files as int16 samples, and back."""

from __future__ import annotations

import io
import math
import re
import warnings
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from ..store.store import mean_and_std, sums
from .files import check_room
from .tree import Tree

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".sph")
"""Suffixes of audio files, in upper case too."""
FULL_SCALE = 32768
"""The sample value that stands for 1.0."""
CUT_SHORT = re.compile(r"^\s*(?:data|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
"""Note of libsndfile on a file that has fewer bytes than its header says."""
UNKNOWN_SIZE = 0x7FFFF000
"""Programs that write into a pipe put this size or a larger one into the header."""


class Waves(list):
    """Recordings held in memory, each int16, ``(samples,)``; a ``Store`` reads alike.

    Args:
        names: Name of each recording, for people.
        waves: The recordings.
    """

    def __init__(self, names: list[str], waves: list[np.ndarray]):
        super().__init__(waves)
        self.names = names

    def mean_and_std(self) -> tuple[float, float]:
        """Returns mean and population standard deviation of all samples.

        Raises:
            ValueError: If there are no samples.
        """
        if not any(map(len, self)):
            raise ValueError(f"'waves' must have samples, got {len(self)} recordings without any")
        return mean_and_std(*zip(*map(sums, self)))


class Audio(NamedTuple):
    """The content of an audio file."""

    samples: np.ndarray  # int16, (samples, channels)
    rate: int  # samples a second
    clipped: float = 0.0  # share of the samples that were beyond 1.0


def read_waves(
    tree: Tree,
    names: list[str],
    sample_rate: int,
    mono: bool = False,
    resample: bool = False,
    reason: str = "",
    skip_broken: bool = False,
) -> Waves:
    """Reads audio files of a tree, in the order of ``names``.

    Args:
        tree: The tree.
        names: Names of the files in it.
        sample_rate: Samples a second.
        mono: Takes the mean of several channels.
        resample: Resamples files of another rate, by a polyphase filter.
        reason: Addition to the error on another sample rate.
        skip_broken: Leaves out files that cannot be read, or are not audio, and counts them in a
            warning; another rate or more channels are errors all the same.

    Raises:
        ValueError: If a file is not audio, is cut short, or has another sample rate or more than
            one channel and neither option is given; names the file. Or if all are broken.
        OSError: If a file cannot be read.
    """
    load_soundfile()  # or skip_broken would take its absence for broken files
    waves, kept, broken, clipped = [], [], [], {}
    for name in names:
        try:
            samples, rate, clipped[name] = decode_audio(tree, name)
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
            f"{len(broken)} of {len(names)} recordings, the first '{tree.place(broken[0])}', are "
            "broken and are left out",
            stacklevel=2,
        )
    warn_clipped(tree, clipped)
    return Waves(kept, waves)


def read_audio(tree: Tree, name: str) -> tuple[np.ndarray, int]:
    """Returns the samples of one file, int16, ``(samples, channels)``, and its sample rate.

    Warns if samples are clipped; raises the errors of :func:`decode_audio`.
    """
    audio = decode_audio(tree, name)
    warn_clipped(tree, {name: audio.clipped})
    return audio.samples, audio.rate


def warn_clipped(tree: Tree, clipped: dict[str, float]) -> None:
    """Warns once of all recordings with samples beyond 1.0; ``clipped`` has their shares."""
    loud = [name for name in clipped if clipped[name]]
    if loud:
        warnings.warn(
            f"{len(loud)} of {len(clipped)} recordings, the first '{tree.place(loud[0])}', have "
            f"samples beyond 1.0, {clipped[loud[0]]:.2%} of those of the first: they are clipped",
            stacklevel=3,
        )


def decode_audio(tree: Tree, name: str) -> Audio:
    """Decodes one audio file.

    16 bit PCM stays as it is, bit by bit. Other encodings are rounded to 16 bit, and clipped.

    Raises:
        ValueError: If the file is empty, not audio, cut short, or has NaN or samples far beyond
            1.0; names the file.
        OSError: If the file cannot be read.
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
        with soundfile.SoundFile(io.BytesIO(with_sizes(content))) as file:
            if file.frames > 2**48:
                raise ValueError("a header that does not say how many samples there are")
            check_room(8 * file.frames * file.channels, place)
            exact = file.subtype == "PCM_16"
            samples = file.read(dtype="int16" if exact else "float64", always_2d=True)
            rate, expected, notes = file.samplerate, file.frames, file.extra_info
    except (soundfile.SoundFileError, EOFError, ValueError, TypeError) as error:
        got = getattr(error, "error_string", error)  # without the name of a Python object
        raise ValueError(f"'{place}' must be audio that libsndfile reads, got: {got}") from error
    sphere = re.search(rb"sample_count -i (\d+)", content[:1024] * (content[:4] == b"NIST"))
    expected = int(sphere[1]) if sphere else expected  # libsndfile often has the file's size
    if len(samples) < expected:
        raise ValueError(
            f"'{place}' must have the {expected} samples that it says, got {len(samples)}"
        )
    cut = CUT_SHORT.search(notes)
    if cut and int(cut[1]) < UNKNOWN_SIZE:
        raise ValueError(f"'{place}' must have the {cut[1]} bytes that it says, got {cut[2]}")
    if exact:
        return Audio(samples, rate)
    peak = np.abs(samples).max(initial=0.0)
    if not peak <= 2:  # decoders overshoot 1.0 a little
        raise ValueError(f"'{place}' must have samples in -1..1, got {peak:g}")
    return Audio(as_int16(samples), rate, float((np.abs(samples) > 1).mean()) if peak > 1 else 0.0)


def with_sizes(content: bytes) -> bytes:
    """Returns a WAV file with the sizes that a pipe or a killed recorder left out of its header."""
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        return content
    whole, begin = int.from_bytes(content[4:8], "little") + 8 == len(content), 12
    while begin + 8 <= len(content):
        size = int.from_bytes(content[begin + 4 : begin + 8], "little")
        rest = len(content) - begin - 8
        if content[begin : begin + 4] == b"data":
            unknown = size >= UNKNOWN_SIZE if size > rest else size == 0 and not whole
            if not unknown or rest >= UNKNOWN_SIZE:
                return content
            sizes = [n.to_bytes(4, "little") for n in (len(content) - 8, rest)]
            return b"".join([b"RIFF", sizes[0], content[8 : begin + 4], sizes[1],
                             content[begin + 8 :]])  # fmt: skip
        begin += 8 + size + size % 2
    return content


def as_int16(samples: np.ndarray) -> np.ndarray:
    """Returns samples in -1..1 as int16, rounded and clipped."""
    return np.clip(np.rint(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def resampled(wave: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Returns a wave at another sample rate, int16, ``(ceil(samples new_rate / rate),)``."""
    from scipy.signal import resample_poly  # costs half a second, and only this needs it

    divisor = math.gcd(rate, new_rate)
    return as_int16(resample_poly(wave / FULL_SCALE, new_rate // divisor, rate // divisor))


def write_wave(wave: np.ndarray, sample_rate: int, file: Path) -> None:
    """Writes int16 samples, ``(samples,)``, as a WAV file of 16 bit PCM."""
    load_soundfile().write(file, wave, sample_rate, subtype="PCM_16", format="WAV")


def load_soundfile() -> ModuleType:
    """Returns the audio library; raises ValueError with the way to install it if it is missing."""
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: without libsndfile
        raise ValueError(
            f"audio files need soundfile: pip install 'zforcing_pyro[audio]' ({error})"
        ) from error
    return soundfile
