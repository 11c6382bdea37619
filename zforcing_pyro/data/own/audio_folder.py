"""A person's own recordings."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from ..corpus import SPLITS, random_split
from ..formats.audio import AudioCorpus
from ..formats.tree import Tree, open_tree
from ..formats.waves import SUFFIXES, Waves, read_audio, read_waves
from ..store.store import Store


class AudioFolder(AudioCorpus):
    """Recordings of one's own: a folder or a zip file of wav, flac, ogg, mp3, ...

    Which are train, valid and test is said by three lists, or by three folders ``train``, ``valid``
    and ``test`` at the top; otherwise files are dealt at random, see :func:`.random_split`, in an
    order by name. Then the same speaker may be in all three, and a run remembers which files there
    were: with others the split is another. A folder that ``zforcing data prepare`` wrote is
    streamed and takes no memory, all else is held in it. There are no labels.

    Args:
        path: The folder or zip file, as it is or below ``data_dir``.
        data_dir: Where ``path`` is looked for as well.
        frame: Samples of a frame.
        score_first: If not, the first frame of a recording is given to a model, and not scored.
        sample_rate: Samples a second, to which recordings are resampled; by default that of all,
            which must agree.
        mono: Takes the mean of several channels; without it, they are an error.
        skip_broken: Broken files are left out, and counted by a warning.
        valid_share: Of the files, if they are dealt at random.
        test_share: The same.
        seed: Seed by which they are dealt; another one is another data set.
        train_list: Text file of the names below ``path`` that are train, one a line.
        valid_list: The same of valid.
        test_list: The same of test.

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
        self.files = (str(path or "--data.path"),)
        self.sample_rate, self.mono, self.skip_broken = sample_rate, mono, skip_broken
        self.valid_share, self.test_share, self.seed = valid_share, test_share, seed
        self._path, self._resample = path, sample_rate is not None
        self._reason = ""
        self._lists = lists if train_list else None
        self._listing: tuple[Tree | Store, list[str], dict[str, list[int]]] | None = None

    def found(self) -> bool:
        return self.is_there(self._path)

    def listing(self) -> tuple[Tree | Store, list[str], dict[str, list[int]]]:
        """Where the recordings are, their names, and which of them are in each split.

        Raises:
            FileNotFoundError: If ``path``, or a file of a list, is not there.
            ValueError: If two files are the same recording, a split has none, or ``path`` is none.
        """
        if self._listing is None:
            path = self.own(self._path)
            if (path / "store.json").is_file():
                place: Tree | Store = Store(path)
                names = place.names
            else:
                place = open_tree(path)
                names = [n for n in place.names() if n.lower().endswith(SUFFIXES)]
                check_distinct(names, place)
            if not names:
                raise ValueError(f"'{path}' must have files {', '.join(SUFFIXES)}, got none")
            splits, how = self._split(names, path)
            self.recognise([names, splits], path)
            self._set_sample_rate(place, names)
            self.title = f"recordings of '{path.name}'"
            self.version = f"{len(names):,} files at {self.sample_rate:,} Hz, split {how}"
            self._listing = place, names, splits
        return self._listing

    def waves(self, split: str) -> tuple[Waves | Store, None]:
        place, names, splits = self.listing()
        if isinstance(place, Store):
            return place.subset(splits[split]), None
        chosen = [names[i] for i in splits[split]]
        options = self.mono, self._resample, self._reason, self.skip_broken
        return read_waves(place, chosen, self.sample_rate, *options), None

    def _set_sample_rate(self, place: Tree | Store, names: list[str]) -> None:
        rate = place.sample_rate if isinstance(place, Store) else None
        if rate is not None and self.sample_rate not in (None, rate):
            raise ValueError(
                f"'sample_rate' must be that of the store '{place.folder}', {rate}, got "
                f"{self.sample_rate}"
            )
        self.sample_rate = self.sample_rate or rate
        for name in names if self.sample_rate is None else []:
            try:
                self.sample_rate = read_audio(place, name)[1]
                self._reason = f" as '{place.place(name)}' has"
                break
            except (ValueError, OSError):
                if not self.skip_broken or name == names[-1]:
                    raise

    def _split(self, names: list[str], path: Path) -> tuple[dict[str, list[int]], str]:
        """Indices of names by split, and how that was done."""
        if self._lists:
            return split_by_lists(names, self._lists, path), "by lists"
        # A zip file often has one folder with everything in it.
        tops = {PurePosixPath(name).parts[0] for name in names}
        depth = 1 if len(tops) == 1 and not tops & set(SPLITS) else 0
        folders = [PurePosixPath(name).parts[depth] for name in names]
        if set(SPLITS) & set(folders):
            splits = {s: [i for i, f in enumerate(folders) if f == s] for s in SPLITS}
            for split, index in splits.items():
                if not index:
                    got = ", ".join(s for s in SPLITS if splits[s])
                    raise ValueError(
                        f"'{path}' must have recordings in each of its folders train, valid and "
                        f"test, got none in {split}, but some in {got}"
                    )
            return splits, "by folders"
        shares = self.valid_share, self.test_share
        index = random_split(len(names), self.seed, f"recordings of '{path}'", *shares)
        return {s: index[s].tolist() for s in SPLITS}, f"at random (seed {self.seed})"


def check_distinct(names: list[str], tree: Tree) -> None:
    """Raises ValueError if two names differ in case or suffix alone: it is one recording."""
    seen: dict[str, str] = {}
    for name in names:
        first = seen.setdefault(name.rpartition(".")[0].lower(), name)
        if first != name:
            raise ValueError(
                f"'{tree.place(name)}' and '{tree.place(first)}' must not be the same recording, "
                "got names that differ in case or suffix alone"
            )


def split_by_lists(names: list[str], lists: dict[str, str], path: Path) -> dict[str, list[int]]:
    """Indices of names by split, in the order of text files of names.

    Raises:
        FileNotFoundError: If a list is not there.
        ValueError: If a list has no name, one that is not in ``path``, or one for the second time.
    """
    index, said = {name: i for i, name in enumerate(names)}, {}
    splits: dict[str, list[int]] = {split: [] for split in lists}
    for split, file in lists.items():
        if not Path(file).expanduser().is_file():
            raise FileNotFoundError(
                f"'{split}_list' must be a text file, got '{file}', which is not there"
            )
        try:
            lines = Path(file).expanduser().read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"'{file}' must be text in UTF-8, got: {error}") from error
        for number, line in enumerate(map(str.strip, lines), 1):
            if not line:
                continue
            place = f"line {number} of '{file}'"
            if line not in index:
                raise ValueError(f"{place} must be a recording below '{path}', got '{line}'")
            if line in said:
                raise ValueError(f"{place} must be in no list before, got '{line}' of {said[line]}")
            said[line] = place
            splits[split].append(index[line])
        if not splits[split]:
            raise ValueError(f"'{file}' must name at least one recording, got none")
    return splits
