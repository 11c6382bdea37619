"""Audio files as int16 samples, and back."""

import io
import math
import re
import warnings
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import numpy as np

from ..checks import check_range
from ..store.store import mean_and_std, sums
from .files import check_room
from .tree import Tree, unique

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".sph")
FULL_SCALE = 32768
"""The sample value that stands for 1.0."""
MAX_RATE = 768_000
"""Samples a second of the fastest recorders."""
CUT_SHORT = re.compile(r"^\s*(?:data|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
"""Note of libsndfile on a file that has fewer bytes than its header says."""


class Waves(list):
    """Recordings held in memory with their names, each int16, ``(samples,)``, as in a ``Store``."""

    def __init__(self, names: list[str], waves: list[np.ndarray]):
        super().__init__(waves)
        self.names = names

    def mean_and_std(self) -> tuple[float, float]:
        """Returns mean and population standard deviation of all samples."""
        return mean_and_std(*zip(*map(sums, self)))


class AudioFiles:
    """The audio files below a folder or in a zip file, as a :class:`~.prepare.Source`.

    They are resampled to a ``sample_rate``; by default all must have the same. ``mono`` takes the
    mean of several channels. Raises ValueError if there is no audio file, two differ in case or
    suffix alone, or the rate is not positive.
    """

    def __init__(
        self, path: str | Path, name: str, sample_rate: int | None = None, mono: bool = False
    ):
        check_range(1, MAX_RATE, sample_rate=sample_rate)
        self.tree, self.name, self.mono = Tree(path), name, mono
        self.resample, self._names = sample_rate is not None, audio_names(self.tree)
        self.sample_rate = sample_rate or first_rate(self.tree, self._names)

    def names(self) -> list[str]:
        """Returns the names of all recordings."""
        return self._names

    def samples(self, name: str) -> int:
        """Returns the number of samples of a recording, from its header where that tells."""
        num, rate, soundfile = 0, 1, load_soundfile()
        with suppress(soundfile.SoundFileError, EOFError, ValueError, TypeError):
            with self.tree.open(name) as stream, soundfile.SoundFile(stream) as file:
                num, rate = file.frames, file.samplerate
        if not 0 < num < 2**31:  # a header without a size, or a broken file
            samples, rate, _ = decode_audio(self.tree, name)
            num = len(samples)
        return math.ceil(num * self.sample_rate / rate)

    def wave(self, name: str) -> np.ndarray:
        """Returns a recording, int16, ``(samples,)``; raises the errors of :func:`read_waves`."""
        return read_waves(self.tree, [name], self.sample_rate, self.mono, self.resample)[0]


def audio_names(tree: Tree) -> list[str]:
    """Returns the names of the audio files of a tree; ValueError as of :class:`AudioFiles`."""
    names = [name for name in tree.names() if name.lower().endswith(SUFFIXES)]
    if not names:
        raise ValueError(f"'{tree.path}' must have files {', '.join(SUFFIXES)}, got none")
    unique(tree, ((name.rpartition(".")[0].lower(), name) for name in names))
    return names


def first_rate(tree: Tree, names: list[str]) -> int:
    """Returns the sample rate of the first file that is not broken; raises if all are broken."""
    for name in names[:-1]:
        with suppress(ValueError, OSError):
            return decode_audio(tree, name)[1]
    return decode_audio(tree, names[-1])[1]


def read_waves(
    tree: Tree,
    names: list[str],
    sample_rate: int,
    mono: bool = False,
    resample: bool = False,
    skip_broken: bool = False,
) -> Waves:
    """Reads audio files of a tree, in the order of ``names``.

    ``mono`` takes the mean of several channels, ``resample`` resamples files of another rate by a
    polyphase filter, and ``skip_broken`` leaves out files that cannot be decoded, with a counted
    warning. Raises ValueError for a file that needs an option which is not set.
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
        wave = np.ascontiguousarray(samples[:, 0])
        if rate != sample_rate:
            if not resample:
                raise ValueError(
                    f"'{tree.place(name)}' must have {sample_rate} samples a second as the others, "
                    f"got {rate}; the option 'sample_rate' of --data audio resamples"
                )
            wave = resampled(wave, rate, sample_rate)
        waves.append(wave)
        kept.append(name)
    if broken:
        warn(tree, broken, len(names), "are broken and are left out")
    if loud := [name for name in clipped if clipped[name]]:
        share = f"{clipped[loud[0]]:.2%} of those of the first"
        warn(tree, loud, len(names), f"have samples beyond 1.0, {share}: they are clipped")
    return Waves(kept, waves)


def warn(tree: Tree, names: list[str], num: int, facts: str) -> None:
    """Warns of some of ``num`` recordings, of which the first is named."""
    first = tree.place(names[0])
    warnings.warn(f"{len(names)} of {num} recordings, the first '{first}', {facts}", stacklevel=3)


def decode_audio(tree: Tree, name: str) -> tuple[np.ndarray, int, float]:
    """Returns samples, int16, ``(samples, channels)``, their rate, and the share of clipped ones.

    16 bit PCM stays as it is, bit by bit. Other encodings are rounded to 16 bit, and clipped.
    Raises ValueError if the file is not audio, cut short, or has NaN or samples far beyond 1.0.
    """
    soundfile, content, place = load_soundfile(), tree.read(name), tree.place(name)
    if not content:
        raise ValueError(f"'{place}' must be an audio file, got an empty file")
    if content[:4] == b"NIST" and b"shorten" in content[:1024]:
        raise ValueError(
            f"'{place}' must be audio that libsndfile reads, got SPHERE compressed by shorten; "
            "uncompress it by 'w_decode -o pcm' or 'sph2pipe -f wav'"
        )
    if content[:4] == b"RIFF" and int.from_bytes(content[4:8], "little") + 8 != len(content):
        # By a size of 8 libsndfile sees that a pipe or a killed recorder left out the sizes.
        content = content[:4] + (8).to_bytes(4, "little") + content[8:]
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            if file.frames > 2**48:
                raise ValueError("a header that does not say how many samples there are")
            check_range(1, MAX_RATE, sample_rate=file.samplerate)  # others take hours to resample
            check_room(8 * file.frames * file.channels, place)
            exact = file.subtype == "PCM_16"
            samples = file.read(dtype="int16" if exact else "float64", always_2d=True)
            rate, expected, notes = file.samplerate, file.frames, file.extra_info
    except (soundfile.SoundFileError, EOFError, ValueError, TypeError) as error:
        got = getattr(error, "error_string", error)  # without the name of a Python object
        raise ValueError(f"'{place}' must be audio that libsndfile reads, got: {got}") from error
    if content[:4] == b"NIST" and (count := re.search(rb"sample_count -i (\d+)", content[:1024])):
        expected = int(count[1])  # libsndfile often has the file's size
    if len(samples) < expected:
        got = f"{expected} samples that it says, got {len(samples)}"
        raise ValueError(f"'{place}' must have the {got}")
    cut = CUT_SHORT.search(notes)
    if cut and int(cut[1]) < 0x7FFFF000:  # programs that write into a pipe put this size or more
        raise ValueError(f"'{place}' must have the {cut[1]} bytes that it says, got {cut[2]}")
    if exact:
        return samples, rate, 0.0
    levels = np.abs(samples)
    peak = levels.max(initial=0.0)
    if not peak <= 2:  # decoders overshoot 1.0 a little
        raise ValueError(f"'{place}' must have samples in -1..1, got {peak:g}")
    return as_int16(samples), rate, float((levels > 1).mean()) if peak > 1 else 0.0


def as_int16(samples: np.ndarray) -> np.ndarray:
    """Returns samples in -1..1 as int16, rounded and clipped."""
    return np.clip(np.rint(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def resampled(wave: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Returns a wave at another sample rate, int16, ``(ceil(samples new_rate / rate),)``."""
    from scipy.signal import resample_poly  # costs half a second, and only this needs it

    divisor = math.gcd(rate, new_rate)
    return as_int16(resample_poly(wave / FULL_SCALE, new_rate // divisor, rate // divisor))


def load_soundfile() -> ModuleType:
    """Returns the audio library; raises ValueError with the way to install it if it is missing."""
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: without libsndfile
        raise ValueError(
            f"audio files need soundfile: pip install 'zforcing_pyro[audio]' ({error})"
        ) from error
    return soundfile
