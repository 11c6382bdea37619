"""Recordings of one's own, in a folder, a zip file or a prepared store."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from ..corpus import SPLITS, random_split
from ..formats.audio import AudioCorpus, Listing
from ..formats.audio_files import audio_names
from ..formats.tree import Tree, open_tree
from ..formats.waves import decode_audio
from ..store.store import Store


class AudioFolder(AudioCorpus):
    """Recordings of one's own: a folder or a zip file of wav, flac, ogg, mp3, ...

    The splits are given by three lists, or by three folders ``train``, ``valid`` and ``test`` at
    the top; otherwise files are dealt at random, see :func:`.random_split`, in an order by name.
    Then the same speaker may be in all three. A folder that ``zforcing data prepare`` wrote is
    streamed and takes no memory, all else is held in memory. There are no labels.

    Args:
        path: The folder or zip file, as it is or below ``data_dir``.
        data_dir: Where ``path`` is looked for as well.
        frame: Samples of a frame.
        score_first: If not, the first frame of a recording is given to a model, and not scored.
        sample_rate: Samples a second, to which recordings are resampled; by default that of all,
            which must agree.
        mono: Takes the mean of several channels; without it, they are an error.
        skip_broken: Leaves broken files out, and counts them in a warning.
        valid_share: Share of the files for validation, if they are dealt at random.
        test_share: The same for test.
        seed: Seed by which they are dealt; another one is another data set.
        train_list: Text file with the names below ``path`` for training, one a line.
        valid_list: The same for validation.
        test_list: The same for test.

    Raises:
        ValueError: If a number is out of its range, or only some of the lists are given.
    """

    title = "recordings of one's own"
    source = "a folder or a zip file of recordings, given as --data.path"
    licence = "that of the recordings"
    size = "any"
    version = "as it lies on the disk"

    def __init__(
        self,
        path: str | None = None,
        data_dir: str | Path | None = None,
        frame: int = 200,
        score_first: bool = True,
        sample_rate: int | None = None,
        mono: bool = False,
        skip_broken: bool = False,
        valid_share: float = 0.1,
        test_share: float = 0.1,
        seed: int = 0,
        train_list: str | None = None,
        valid_list: str | None = None,
        test_list: str | None = None,
    ):
        super().__init__(data_dir, frame, score_first)
        if sample_rate is not None and sample_rate < 1:
            raise ValueError(f"'sample_rate' must be positive, got {sample_rate}")
        lists = dict(zip(SPLITS, (train_list, valid_list, test_list)))
        if any(lists.values()) and not all(lists.values()):
            missing = ", ".join(f"'{name}_list'" for name, file in lists.items() if not file)
            raise ValueError(f"all three lists must be given or none, got none for {missing}")
        self.sample_rate, self._path = sample_rate, path
        self.shares, self.seed = (valid_share, test_share), seed
        self._lists = lists if train_list else None
        resample = sample_rate is not None
        self.options = {"mono": mono, "resample": resample, "skip_broken": skip_broken}

    def found(self) -> bool:
        return self.is_there(self._path)

    def find_recordings(self) -> Listing:
        path = self.own(self._path)
        if (path / "store.json").is_file():
            place: Tree | Store = Store(path)
            names = place.names
        else:
            place = open_tree(path)
            names = audio_names(place)
        splits, how = self._split(names, path)
        self._set_sample_rate(place, names)
        self.title = f"recordings of '{path.name}'"
        self.version = f"{len(names):,} files at {self.sample_rate:,} Hz, split {how}"
        return Listing(place, splits)

    def _set_sample_rate(self, place: Tree | Store, names: list[str]) -> None:
        if isinstance(place, Store):
            if self.sample_rate not in (None, place.sample_rate):
                raise ValueError(
                    f"'sample_rate' must be that of the store '{place.folder}', "
                    f"{place.sample_rate}, got {self.sample_rate}"
                )
            self.sample_rate = place.sample_rate
        for name in names if self.sample_rate is None else []:
            try:
                self.sample_rate = decode_audio(place, name).rate
                self.options = {**self.options, "reason": f" as '{place.place(name)}' has"}
                break
            except (ValueError, OSError):
                if not self.options["skip_broken"] or name == names[-1]:
                    raise

    def _split(self, names: list[str], path: Path) -> tuple[dict[str, list[str]], str]:
        """Returns the names by split, and how they were split."""
        if self._lists:
            return split_by_lists(names, self._lists, path), "by lists"
        # A zip file often has one folder with everything in it.
        tops = {PurePosixPath(name).parts[0] for name in names}
        depth = 1 if len(tops) == 1 and not tops & set(SPLITS) else 0
        splits = {s: [n for n in names if PurePosixPath(n).parts[depth] == s] for s in SPLITS}
        if any(splits.values()):
            for split, kept in splits.items():
                if not kept:
                    got = ", ".join(s for s in SPLITS if splits[s])
                    raise ValueError(
                        f"'{path}' must have recordings in each of its folders train, valid and "
                        f"test, got none in {split}, but some in {got}"
                    )
            return splits, "by folders"
        index = random_split(len(names), self.seed, f"recordings of '{path}'", *self.shares)
        return {s: [names[i] for i in index[s]] for s in SPLITS}, f"at random (seed {self.seed})"


def split_by_lists(names: list[str], lists: dict[str, str], path: Path) -> dict[str, list[str]]:
    """Returns names by split, in the order of text files of names.

    Raises:
        FileNotFoundError: If a list is missing.
        ValueError: If a list has no name, one that is not in ``path``, or one for the second time.
    """
    every, places = set(names), {}
    splits: dict[str, list[str]] = {split: [] for split in lists}
    for split, file in lists.items():
        if not Path(file).is_file():
            raise FileNotFoundError(
                f"'{split}_list' must be a text file, got '{file}', which is not there"
            )
        try:
            lines = Path(file).read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"'{file}' must be text in UTF-8, got: {error}") from error
        for number, line in enumerate(map(str.strip, lines), 1):
            if not line:
                continue
            place = f"line {number} of '{file}'"
            if line not in every:
                raise ValueError(f"{place} must be a recording below '{path}', got '{line}'")
            if line in places:
                raise ValueError(
                    f"{place} must be in no list before, got '{line}' of {places[line]}"
                )
            places[line] = place
            splits[split].append(line)
        if not splits[split]:
            raise ValueError(f"'{file}' must name at least one recording, got none")
    return splits
