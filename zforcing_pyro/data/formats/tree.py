"""Files in a folder or in a zip archive, read where they lie; used by data sets of many files."""

from __future__ import annotations

import io
import os
import re
import stat
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TypeVar

from .files import check_room

Key = TypeVar("Key", bound=Hashable)


def open_tree(path: str | Path) -> Tree:
    """Opens the files below a folder, or in a zip archive, which is not extracted.

    Args:
        path: The folder or the archive.

    Raises:
        FileNotFoundError: If nothing is there.
        ValueError: If the path is neither, if the archive is broken or has a name outside of
            itself, a name twice or a symbolic link, or if the folder's symbolic links make a loop.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "a.txt").write_bytes(b"one")
        ...     tree = open_tree(folder)
        ...     tree.names(), tree.read("a.txt")
        (['a.txt'], b'one')
    """
    path = Path(os.path.expanduser(path))
    if path.is_dir():
        return Folder(path)
    if not path.exists():
        raise FileNotFoundError(
            f"'path' must be a folder or a zip file, got '{path}', which is not there"
        )
    if path.suffix.lower() != ".zip" or not path.is_file():
        raise ValueError(f"'path' must be a folder or a zip file, got '{path}'")
    return Archive(path)


class Tree(ABC):
    """Files by name: relative to ``path``, parts divided by ``/``.

    Hidden files are left out, and the folder ``__MACOSX`` that a Mac puts into its archives,
    because its files are not recordings though they have the names of some.

    Attributes:
        path: The folder or the archive.
    """

    path: Path

    @abstractmethod
    def names(self) -> list[str]:
        """Returns the names of all files, sorted."""

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """Opens a file to read from and seek in.

        Raises:
            FileNotFoundError: If there is no such file.
            OSError: If the file cannot be read.
            ValueError: If the name leads out of the tree, or its part of an archive is broken.
        """

    def read(self, name: str) -> bytes:
        """Returns the content of a file; raises the errors of :meth:`open`."""
        with self.open(name) as file:
            try:
                return file.read()
            except OSError as error:
                raise type(error)(f"'{self.place(name)}' cannot be read: {error}") from error

    def place(self, name: str) -> str:
        """Returns the path of a file, for an error."""
        return str(self.path / name)


class Folder(Tree):
    """The files below a folder. Symbolic links are followed: people link corpora together."""

    def __init__(self, path: Path):
        self.path = path
        self._names = sorted(self._walk(path, ""))

    def names(self) -> list[str]:
        return list(self._names)

    def open(self, name: str) -> BinaryIO:
        check_inside(name, self.path)
        try:
            return open(self.path / name, "rb")
        except FileNotFoundError as error:
            raise FileNotFoundError(f"'{self.place(name)}' is not there") from error
        except OSError as error:
            reason = error.strerror or error
            raise type(error)(f"'{self.place(name)}' cannot be read: {reason}") from error

    def _walk(self, folder: Path, prefix: str, above: tuple[str, ...] = ()) -> list[str]:
        real, names = os.path.realpath(folder), []
        if real in above:
            raise ValueError(f"'{folder}' must not be a symbolic link to a folder that it is in")
        try:
            entries = list(os.scandir(folder))
        except OSError as error:
            raise type(error)(f"'{folder}' cannot be read: {error.strerror}") from error
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            try:
                is_folder = entry.is_dir()
            except OSError as error:  # a link to itself
                raise ValueError(f"'{entry.path}' must not be a symbolic link to itself") from error
            if is_folder:
                names += self._walk(folder / entry.name, f"{prefix}{entry.name}/", (*above, real))
            elif entry.is_file() or not os.path.exists(entry.path):
                names.append(prefix + entry.name)  # not a pipe: reading one could wait forever
        return names


class Archive(Tree):
    """The files of a zip archive."""

    def __init__(self, path: Path):
        self.path, self._entries = path, {}
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise ValueError(f"'{path}' must be a zip file, got: {error}") from error
        for entry in self._zip.infolist():
            check_inside(entry.filename, path)
            parts = entry.filename.split("/")
            if entry.is_dir() or "__MACOSX" in parts or any(p.startswith(".") for p in parts):
                continue
            if stat.S_ISLNK(entry.external_attr >> 16):
                raise ValueError(f"'{self.place(entry.filename)}' must not be a symbolic link")
            if entry.filename in self._entries:
                raise ValueError(f"'{self.place(entry.filename)}' must be there once, got it twice")
            self._entries[entry.filename] = entry

    def names(self) -> list[str]:
        return sorted(self._entries)

    def open(self, name: str) -> BinaryIO:
        check_inside(name, self.path)
        if name not in self._entries:
            raise FileNotFoundError(f"'{self.place(name)}' is not there")
        entry = self._entries[name]
        check_room(entry.file_size, self.place(name))
        try:
            return io.BytesIO(self._zip.read(entry))
        except Exception as error:  # zipfile and zlib have a dozen ways to say "broken"
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ValueError(f"'{self.place(name)}' cannot be read: {reason}") from error


def check_inside(name: str, path: Path) -> None:
    """Checks that a name does not lead out of the folder or archive ``path``.

    Raises:
        ValueError: If the name does.
    """
    parts = PurePosixPath(name.replace("\\", "/"))
    if not name or parts.is_absolute() or ".." in parts.parts or re.match(r"[A-Za-z]:[\\/]", name):
        raise ValueError(f"'{path}' must only have names inside of itself, got '{name}'")


def unique(tree: Tree, keyed: Iterable[tuple[Key, str]]) -> dict[Key, str]:
    """Returns the names of recordings by a key that is the same for two files of one recording.

    Raises:
        ValueError: If two names have one key; names both.
    """
    names: dict[Key, str] = {}
    for key, name in keyed:
        if (first := names.setdefault(key, name)) != name:
            raise ValueError(
                f"'{tree.place(name)}' and '{tree.place(first)}' must not be the same recording"
            )
    return names
