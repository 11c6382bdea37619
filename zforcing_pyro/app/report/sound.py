"""Sound as bytes of a WAV file: recordings, and piano-rolls as sines play them."""

from __future__ import annotations

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
    """One sequence of audio or music as a WAV file; what is past ``max_bytes`` is cut off.

    Args:
        x: Observations, ``(time, x_dim)``.
        corpus: Where they come from.
        max_bytes: Of the samples.

    Returns:
        The file, and whether all of the sequence is in it.
    """
    if corpus.view == "audio":
        samples, rate = corpus.samples(x), corpus.sample_rate
    else:
        seconds = corpus.step_seconds or BEAT / corpus.steps_per_beat
        num_steps = 1 + int(max_bytes / (2 * RATE * seconds))
        keys = x[:num_steps].cpu().numpy() > 0.5
        samples, rate = as_int16(played(keys, seconds)), RATE
    return wav(samples[: max_bytes // 2], rate), len(samples) <= max_bytes // 2


def played(keys: np.ndarray, step_seconds: float, rate: int = RATE) -> np.ndarray:
    """A piano-roll as struck strings sound: sines of a tone and its overtones, which fade away.

    A key that is held for several steps is struck once.

    Args:
        keys: True where a key is held, ``(time, 88)``.
        step_seconds: Seconds of a step.
        rate: Samples a second.

    Returns:
        Samples in -1..1, ``(samples,)``; silence where no key is held.
    """
    size = max(1, round(step_seconds * rate))
    samples = np.zeros(len(keys) * size)
    edges = np.diff(np.pad(keys.astype(np.int8), ((1, 1), (0, 0))), axis=0)
    for key in np.flatnonzero(keys.any(0)):
        pitch = 440.0 * 2 ** ((LOWEST + key - 69) / 12)
        changes = edges[:, key]
        for begin, end in zip(np.flatnonzero(changes > 0), np.flatnonzero(changes < 0)):
            time = np.arange((end - begin) * size) / rate
            tone = sum(
                np.sin(2 * np.pi * n * pitch * time) / n**2
                for n in (1, 2, 3)
                if n * pitch < rate / 2
            )
            # No clicks: 5 ms to begin, 20 ms to end.
            rise, fall = np.minimum(time / 0.005, 1), np.minimum((time[-1] - time) / 0.02, 1)
            samples[begin * size : end * size] += tone * rise * fall * np.exp(-2.0 * time)
    return 0.7 * samples / max(np.abs(samples).max(initial=0.0), 1e-9)


def wav(samples: np.ndarray, rate: int) -> bytes:
    """int16 samples, ``(samples,)``, as a WAV file of one channel."""
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return content.getvalue()
