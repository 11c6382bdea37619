"""Recordings of one's own, in a folder, a zip file or a prepared store."""

from pathlib import Path, PurePosixPath
from typing import Any

from ..checks import check_range
from ..corpus import SPLITS, random_split
from ..formats.audio import AudioCorpus, Listing
from ..formats.tree import Tree
from ..formats.waves import MAX_RATE, audio_names, first_rate
from ..store.store import Store


class AudioFolder(AudioCorpus):
    """Recordings of one's own: a folder or a zip file of wav, flac, ogg, mp3, ...

    The splits are three folders ``train``, ``valid`` and ``test`` at the top; otherwise files are
    dealt at random. A folder that ``zforcing data prepare`` wrote is streamed from the disk.

    Args:
        path: The folder or zip file, as it is or below ``data_dir``.
        sample_rate: Samples a second, to which recordings are resampled; by default that of all,
            which must agree.
        mono: Takes the mean of several channels; without it, they are an error.
        skip_broken: Leaves broken files out, and counts them in a warning.
        valid_share: Share of the files for validation, if they are dealt at random.
        test_share: The same for test.
        seed: Seed by which they are dealt; another one is another data set.
    """

    title = "recordings of one's own"
    source = "a folder or a zip file of recordings, given as --data.path"
    licence = "that of the recordings"
    size = "any"
    version = "as it lies on the disk"
    is_own = True

    def __init__(
        self,
        path: str | None = None,
        sample_rate: int | None = None,
        mono: bool = False,
        skip_broken: bool = False,
        valid_share: float = 0.1,
        test_share: float = 0.1,
        seed: int = 0,
        **options: Any,
    ):
        super().__init__(**options)
        check_range(1, MAX_RATE, sample_rate=sample_rate)
        self.sample_rate, self.user_path = sample_rate, path
        self.shares, self.seed = (valid_share, test_share), seed
        resample = sample_rate is not None
        self.options = {"mono": mono, "resample": resample, "skip_broken": skip_broken}

    def find_recordings(self) -> Listing:
        path = self.own(self.user_path)
        place: Tree | Store
        if (path / "store.json").is_file():
            place = Store(path)
            names, rate = place.names, place.sample_rate
            if self.sample_rate not in (None, rate):
                raise ValueError(
                    f"'sample_rate' must be that of the store '{path}', {rate}, got "
                    f"{self.sample_rate}"
                )
        else:
            place = Tree(path)
            names = audio_names(place)
            rate = self.sample_rate or first_rate(place, names)
        splits, how = self._split(names, path)
        self.title, self.sample_rate = f"recordings of '{path.name}'", rate
        self.version = f"{len(names):,} files at {rate:,} Hz, split {how}"
        return Listing(place, splits)

    def _split(self, names: list[str], path: Path) -> tuple[dict[str, list[str]], str]:
        """Returns the names by split, and how they were split."""
        # A zip file often has one folder with everything in it.
        tops = {PurePosixPath(name).parts[0] for name in names}
        depth = 1 if len(tops) == 1 and not tops & set(SPLITS) else 0
        splits = {s: [n for n in names if PurePosixPath(n).parts[depth] == s] for s in SPLITS}
        if any(splits.values()):
            if empty := [split for split in SPLITS if not splits[split]]:
                raise ValueError(
                    f"'{path}' must have recordings in each of its folders train, valid and test, "
                    f"got none in {', '.join(empty)}"
                )
            return splits, "by folders"
        index = random_split(len(names), self.seed, f"recordings of '{path}'", *self.shares)
        return {s: [names[i] for i in index[s]] for s in SPLITS}, f"at random (seed {self.seed})"
