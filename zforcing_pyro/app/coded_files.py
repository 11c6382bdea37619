"""Files that a trained model can code: their sequences, and the way back."""

import io
import tempfile
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..data import Corpus
from ..data.formats.files import decoded, reason_of
from ..data.formats.rolls import read_midi

Facts = dict[str, Any]
"""Facts of a file beside its sequences, plain types for JSON."""


class Kind(NamedTuple):
    """Ways between files of one kind and sequences, by the data of a run."""

    read: Callable[[Any, bytes], tuple[list[Tensor], Facts]]
    write: Callable[[Any, list[Tensor], Facts, Path], None]


def kinds(corpus: Corpus) -> dict[str, Kind]:
    """Returns the kinds of files that fit a run's data, by suffix."""
    views = {
        "text": {".txt": Kind(read_lines, write_lines)},
        "pianoroll": {".mid": Kind(read_song, write_one)},
        "image": {".png": Kind(read_image, write_one)},
    }
    arrays = {".npy": Kind(read_array, write_array), ".wav": Kind(read_wave, write_wave)}
    return arrays | views.get(corpus.view, {})


def read(corpus: Corpus, content: bytes, file: Path) -> tuple[list[Tensor], Facts]:
    """Returns the sequences of a file, and other facts.

    Raises ValueError if the file is of another kind, is broken, or holds no sequence.
    """
    allowed, suffix = kinds(corpus), file.suffix.lower()
    if suffix not in allowed:
        rule = f"one of {list(allowed)} for a run on {corpus.title}"
        raise ValueError(f"'{file}' must be {rule}, got '{suffix}'")
    try:
        xs, facts = allowed[suffix].read(corpus, content)
    except (ValueError, EOFError, OSError, SyntaxError, RuntimeError, wave.Error) as error:
        raise ValueError(f"'{file}' cannot be read as {suffix}: {reason_of(error)}") from error
    if not xs or not all(map(len, xs)):
        raise ValueError(f"'{file}' must hold a sequence, got nothing")
    return xs, facts


def written(corpus: Corpus, xs: list[Tensor], facts: Facts, name: str) -> bytes:
    """Returns the content of a file with these sequences."""
    with tempfile.TemporaryDirectory(prefix="zforcing-") as folder:
        suffix = Path(name).suffix.lower()
        file = Path(folder, f"file{suffix}")
        kinds(corpus)[suffix].write(corpus, xs, facts, file)
        return file.read_bytes()


def read_array(corpus: Corpus, content: bytes) -> tuple[list[Tensor], Facts]:
    """Reads one sequence or several of one length: symbols, or rows of numbers."""
    array = np.load(io.BytesIO(content), allow_pickle=False)
    one = array.ndim == 1 or (array.ndim == 2 and array.shape[-1] == corpus.x_dim)
    if array.dtype.kind not in "buif" or not 1 <= array.ndim <= 3 or not array.size:
        raise ValueError(f"numbers in 1..3 dims, not {array.dtype} of shape {array.shape}")
    if array.ndim - (not one) == 2 and array.shape[-1] != corpus.x_dim:
        raise ValueError(f"columns must be {corpus.x_dim}, got {array.shape[-1]}")
    symbols = array.ndim - (not one) == 1
    x = torch.from_numpy(array.astype(np.int64 if symbols else np.float64))
    return ([x] if one else list(x)), {"dtype": array.dtype.str, "one": one}


def write_array(corpus: Corpus, xs: list[Tensor], facts: Facts, file: Path) -> None:
    """Writes an array like :func:`read_array`."""
    dtype = np.dtype(str(facts["dtype"]))
    if dtype.kind not in "buif":
        raise ValueError(f"'dtype' must be of numbers, got {dtype}")
    array = xs[0] if facts["one"] else torch.stack(xs)
    np.save(file, array.numpy().astype(dtype), allow_pickle=False)


def read_wave(corpus: Corpus, content: bytes) -> tuple[list[Tensor], Facts]:
    """Reads a WAV file of 8 bits and one channel as frames, the last one filled with silence."""
    with wave.open(io.BytesIO(content)) as file:
        shape, rate = (file.getnchannels(), 8 * file.getsampwidth()), file.getframerate()
        samples = np.frombuffer(file.readframes(file.getnframes()), np.uint8)
    if shape != (1, 8):
        raise ValueError(f"channels and bits must be (1, 8), got {shape}")
    padded = np.pad(samples, (0, -len(samples) % corpus.x_dim), constant_values=128)
    x = torch.from_numpy((padded.astype(np.float64) - 128) / 128).view(-1, corpus.x_dim)
    return [x], {"rate": rate, "samples": len(samples)}


def write_wave(corpus: Corpus, xs: list[Tensor], facts: Facts, file: Path) -> None:
    """Writes a WAV file like :func:`read_wave`."""
    samples = (xs[0].flatten()[: facts["samples"]] * 128 + 128).numpy().astype(np.uint8)
    with wave.open(str(file), "wb") as new:
        new.setparams((1, 1, int(facts["rate"]), len(samples), "NONE", "not compressed"))
        new.writeframes(samples.tobytes())


def read_song(corpus: Any, content: bytes) -> tuple[list[Tensor], Facts]:
    """Reads a MIDI file as keys that are held, in the steps of the run's data."""
    roll = read_midi(content, "file", corpus.steps_per_beat, corpus.step_seconds)
    return [torch.from_numpy(roll.keys.astype(np.float64))], {}


def read_image(corpus: Any, content: bytes) -> tuple[list[Tensor], Facts]:
    """Reads a picture in black and white, of the size of the run's images."""
    from matplotlib.image import imread  # costs half a second, and only this needs it

    pixels = np.atleast_3d(imread(io.BytesIO(content), format="png"))[..., :3]
    grey = pixels[..., 0]
    if grey.shape != corpus.image_shape:
        raise ValueError(f"size must be {corpus.image_shape} pixels, got {grey.shape}")
    if not np.isin(grey, (0, 1)).all() or (pixels != grey[..., None]).any():
        raise ValueError("pixels must be black or white, got others")
    return [corpus.sequences(grey[None])[0].x.double()], {}


def write_one(corpus: Corpus, xs: list[Tensor], facts: Facts, file: Path) -> None:
    """Writes a sequence as the run's data write theirs."""
    corpus.write(xs[0], file)


def read_lines(corpus: Any, content: bytes) -> tuple[list[Tensor], Facts]:
    """Reads each line of a text as a sequence of characters, or of words with a blank between."""
    lines = decoded(content, "file").split("\n")
    characters = corpus.step == "character"
    symbols, lengths = corpus.vocabulary.encode(
        list(line) if characters else line.split(" ") for line in lines
    )
    return list(symbols.split(lengths.tolist())), {}


def write_lines(corpus: Any, xs: list[Tensor], facts: Facts, file: Path) -> None:
    """Writes a text like :func:`read_lines`."""
    blank = "" if corpus.step == "character" else " "
    text = "\n".join(blank.join(corpus.vocabulary.decode(x)) for x in xs)
    file.write_bytes(text.encode())
