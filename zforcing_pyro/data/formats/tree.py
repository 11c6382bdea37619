"""Files in a folder or in a zip archive, read where they lie; used by data sets of many files."""

import io
import os
import stat
import zipfile
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TypeVar

from .files import check_room

Key = TypeVar("Key", bound=Hashable)


class Tree:
    """Files below a folder or in a zip archive, by name: relative, parts divided by ``/``.

    Hidden files are left out, as is the folder ``__MACOSX`` that a Mac puts into its archives: its
    files have the names of recordings. Symbolic links of a folder are followed, but not in a loop,
    because people link corpora together. An archive is not extracted; one that is broken or has a
    name outside of itself, a name twice or a symbolic link is a ValueError.
    """

    def __init__(self, path: str | Path):
        self.path = path = Path(os.path.expanduser(path))
        self._zip: zipfile.ZipFile | None = None
        self._entries: dict[str, zipfile.ZipInfo | None] = {}
        if path.is_dir():
            self._entries = dict.fromkeys(self._walk())
            return
        if not path.is_file() or path.suffix.lower() != ".zip":
            error, got = (ValueError, "") if path.exists() else (FileNotFoundError, ", not there")
            raise error(f"'path' must be a folder or a zip file, got '{path}'{got}")
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise ValueError(f"'{path}' must be a zip file, got: {error}") from error
        for entry in self._zip.infolist():
            name, parts = entry.filename, PurePosixPath(entry.filename.replace("\\", "/")).parts
            if name.startswith(("/", "\\")) or ".." in parts:
                raise ValueError(f"'{path}' must only have names inside of itself, got '{name}'")
            if entry.is_dir() or any(map(is_hidden, parts)):
                continue
            if stat.S_ISLNK(entry.external_attr >> 16):
                raise ValueError(f"'{self.place(name)}' must not be a symbolic link")
            if name in self._entries:
                raise ValueError(f"'{self.place(name)}' must be there once, got it twice")
            self._entries[name] = entry

    def names(self) -> list[str]:
        """Returns the names of all files, sorted."""
        return sorted(self._entries)

    def place(self, name: str) -> str:
        """Returns the path of a file, for an error."""
        return str(self.path / name)

    def open(self, name: str) -> BinaryIO:
        """Opens a file to seek in; raises ValueError for a broken or too large entry of a zip."""
        entry = self._entries[name]
        if self._zip is None or entry is None:
            return open(self.path / name, "rb")
        check_room(entry.file_size, self.place(name))
        try:
            return io.BytesIO(self._zip.read(entry))
        except Exception as error:  # zipfile and zlib have a dozen ways to say "broken"
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ValueError(f"'{self.place(name)}' cannot be read: {reason}") from error

    def read(self, name: str) -> bytes:
        """Returns the content of a file; raises the errors of :meth:`open`."""
        with self.open(name) as file:
            return file.read()

    def _walk(self) -> Iterator[str]:
        """Yields the names of files, of links to nothing, but not of pipes, which may never end."""

        def refuse(error: OSError) -> None:
            raise error

        above: dict[str, list[str]] = {}
        for folder, folders, files in os.walk(self.path, onerror=refuse, followlinks=True):
            real, parents = os.path.realpath(folder), above.get(os.path.dirname(folder), [])
            if real in parents:
                raise ValueError(f"'{folder}' must not be a link to a folder that it is in")
            above[folder] = [*parents, real]
            folders[:] = [name for name in folders if not is_hidden(name)]
            for file in (os.path.join(folder, name) for name in files if not is_hidden(name)):
                if os.path.isfile(file) or not os.path.exists(file):
                    yield Path(file).relative_to(self.path).as_posix()


def is_hidden(name: str) -> bool:
    """Returns whether a file or folder of this name is left out of a :class:`Tree`."""
    return name.startswith(".") or name == "__MACOSX"


def unique(tree: Tree, keyed: Iterable[tuple[Key, str]]) -> dict[Key, str]:
    """Returns the names of recordings by key; raises ValueError if two names have one key."""
    names: dict[Key, str] = {}
    for key, name in keyed:
        if (first := names.setdefault(key, name)) != name:
            raise ValueError(
                f"'{tree.place(name)}' and '{tree.place(first)}' must not be the same recording"
            )
    return names
