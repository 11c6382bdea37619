"""Sounds as WAV files: recordings, and piano-rolls played by sines."""

import io
import wave

import numpy as np
from torch import Tensor

from ...data import Corpus
from ...data.formats.rolls import LOWEST
from ...data.formats.waves import as_int16

RATE = 11_025
"""Samples a second of a played roll: more than twice the highest key's 4,186 Hz."""

BEAT = 0.5
"""Seconds of a quarter note, as in the MIDI files that are written."""


def sound(x: Tensor, corpus: Corpus, max_bytes: int) -> tuple[bytes, bool]:
    """Returns audio or music, ``(time, x_dim)``, as a WAV file, and whether nothing was cut off."""
    if corpus.view == "audio":
        samples, rate = corpus.samples(x), corpus.sample_rate
    else:
        seconds = corpus.step_seconds or BEAT / corpus.steps_per_beat
        keys = x[: 1 + int(max_bytes / (2 * RATE * seconds))].cpu().numpy() > 0.5
        samples, rate = as_int16(played(keys, seconds)), RATE
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", None))
        file.writeframes(samples[: max_bytes // 2].astype("<i2").tobytes())
    return content.getvalue(), len(samples) <= max_bytes // 2


def played(keys: np.ndarray, step_seconds: float, rate: int = RATE) -> np.ndarray:
    """Returns a piano-roll as decaying sines with overtones, at most 0.7 loud, ``(samples,)``.

    ``keys`` are True where held, ``(time, 88)``; a key held for several steps is struck once.
    """
    size = max(1, round(step_seconds * rate))
    samples = np.zeros(len(keys) * size)
    edges = np.diff(np.pad(keys.astype(np.int8), ((1, 1), (0, 0))), axis=0)
    for key in np.flatnonzero(keys.any(0)):
        pitch = 440.0 * 2 ** ((LOWEST + key - 69) / 12)
        starts, ends = (np.flatnonzero(sign * edges[:, key] > 0) for sign in (1, -1))
        for start, end in zip(starts, ends):
            time = np.arange((end - start) * size) / rate
            overtones = [n for n in (1, 2, 3) if n * pitch < rate / 2]
            tone = sum(np.sin(2 * np.pi * n * pitch * time) / n**2 for n in overtones)
            # Fade in for 5 ms and out for 20 ms, because edges click.
            fade = np.minimum(time / 0.005, 1) * np.minimum((time[-1] - time) / 0.02, 1)
            samples[start * size : end * size] += tone * fade * np.exp(-2.0 * time)
    return 0.7 * samples / max(np.abs(samples).max(initial=0.0), 1e-9)
