"""Blizzard 2013: an audiobook voice, streamed from a prepared store."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

from ..corpus import random_split
from ..formats.audio import AudioCorpus
from ..store.store import Store


class Blizzard(AudioCorpus):
    """The audiobooks of the Blizzard Challenge 2013, read by one speaker, from a prepared store.

    The folder of segmented wav files, as it is unpacked, is prepared once, at 16 kHz as in the
    VRNN paper (https://arxiv.org/abs/1506.02216): ``zforcing data prepare blizzard --path FOLDER
    --out STORE``. Then it is read from the disk as it is needed. Nobody has published a split:
    files are dealt at random, see :func:`.random_split`, 90 % train, 5 % valid, 5 % test, so that
    all books are in all three. There are no labels.

    Args:
        data_dir: The store, or a folder with a store ``blizzard``.
        frame: Samples of a frame.
        score_first: If not, the first frame of a recording is given to a model, and not scored.
        seed: Seed of the split.

    Raises:
        ValueError: If a number is out of its range.
    """

    title = "Blizzard Challenge 2013 audiobooks"
    source = (
        "https://www.synsig.org/index.php/Blizzard_Challenge_2013 (prepare it: 'zforcing data "
        "prepare blizzard --path FOLDER --out DATA_DIR/blizzard')"
    )
    licence = "Lessac Technologies' for the Blizzard Challenge 2013: research, not to be passed on"
    size = "90 / 5 / 5 % of the files; hundreds of hours"
    version = "prepared segmented recordings"
    files = ("store.json",)
    folder = "blizzard"

    def __init__(
        self,
        data_dir: str | Path | None = None,
        frame: int = 200,
        score_first: bool = True,
        seed: int = 0,
    ):
        super().__init__(data_dir, frame, score_first)
        self.seed = seed
        self._store: Store | None = None
        self._digest: str | None = None

    def store(self) -> Store:
        """All recordings.

        Raises:
            FileNotFoundError: If there is no store; says how to prepare one.
            ValueError: If it is broken, or of another data set.
        """
        if self._store is None:
            store = Store(self.path("store.json").parent)
            if store.source != "blizzard":
                raise ValueError(
                    f"'{store.folder}' must be prepared from blizzard, got {store.source}; any "
                    "other store is read by '--data audio --data.path STORE'"
                )
            digest = hashlib.sha256("\0".join(store.names).encode()).hexdigest()
            if self._digest not in (None, digest):
                warnings.warn(
                    f"'{store.folder}' has other recordings than when the run was trained: what "
                    "was then in training may be in validation or test now",
                    stacklevel=2,
                )
            self._store, self._digest, self.sample_rate = store, digest, store.sample_rate
            self.version = (
                f"{len(store):,} recordings at {store.sample_rate:,} Hz, split 90/5/5 % by file at "
                f"random (seed {self.seed})"
            )
        return self._store

    def waves(self, split: str) -> tuple[Store, None]:
        store = self.store()
        index = random_split(len(store), self.seed, f"'{store.folder}'", 0.05, 0.05)
        return store.subset(index[split]), None

    def facts(self) -> dict[str, Any]:
        return super().facts() | {"files": self._digest}

    def restore(self, facts: dict[str, Any]) -> None:
        super().restore(facts)
        self._digest = facts["files"]
