"""Blizzard 2013: an audiobook voice, streamed from a prepared store."""

from pathlib import Path
from typing import Any

from ..corpus import random_split
from ..formats.audio import AudioCorpus, Listing
from ..store.store import Store


class Blizzard(AudioCorpus):
    """The audiobooks of the Blizzard Challenge 2013, read by one speaker, from a prepared store.

    The folder of segmented wav files is prepared once, at 16 kHz as in the VRNN paper
    (https://arxiv.org/abs/1506.02216). Nobody has published a split: files are dealt at random.

    Args:
        data_dir: The store, or a folder with a store ``blizzard``.
        seed: Seed of the split.
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

    def __init__(self, data_dir: str | Path | None = None, seed: int = 0, **options: Any):
        super().__init__(data_dir, **options)
        self.seed = seed

    def find_recordings(self) -> Listing:
        store = Store(self.path("store.json").parent)
        if store.source != "blizzard":
            raise ValueError(
                f"'{store.folder}' must be prepared from blizzard, got {store.source}; any "
                "other store is read by '--data audio --data.path STORE'"
            )
        self.sample_rate = store.sample_rate
        self.version = (
            f"{len(store):,} recordings at {store.sample_rate:,} Hz, split 90/5/5 % by file at "
            f"random (seed {self.seed})"
        )
        index = random_split(len(store), self.seed, f"'{store.folder}'", 0.05, 0.05)
        return Listing(store, {s: [store.names[i] for i in index[s]] for s in index})
