"""Files in a folder or in a zip archive, read where they lie."""

from __future__ import annotations

import io
import os
import re
import stat
import zipfile
from abc import ABC, abstractmethod
from pathlib import Path, PurePosixPath
from typing import BinaryIO


def open_tree(path: str | Path) -> Tree:
    """The files below a folder, or in a zip archive, which is not extracted.

    Args:
        path: The folder or the archive.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is neither, if the archive is broken or has a name outside of itself, a
            name twice or a symbolic link, or if the folder's symbolic links make a loop.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "a.txt").write_bytes(b"one")
        ...     tree = open_tree(folder)
        ...     tree.names(), tree.read("a.txt")
        (['a.txt'], b'one')
    """
    path = Path(path).expanduser()
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

    Hidden files are left out, and the folder ``__MACOSX`` that a Mac puts into its archives: its
    files have the names of the real ones, and are none.

    Attributes:
        path: The folder or the archive.
    """

    path: Path

    @abstractmethod
    def names(self) -> list[str]:
        """All files, sorted."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            FileNotFoundError: If there is no such file.
            OSError: If it cannot be read.
            ValueError: If the name leads out of the tree, or its part of an archive is broken.
        """

    def open(self, name: str) -> BinaryIO:
        """A file to read from and seek in; errors as of :meth:`read`."""
        return io.BytesIO(self.read(name))

    def place(self, name: str) -> str:
        """What a person calls a file: its path, for an error."""
        return str(self.path / name)


class Folder(Tree):
    """The files below a folder. Symbolic links are followed: people link corpora together."""

    def __init__(self, path: Path):
        self.path = path
        self._names = sorted(self._walk(path, ""))

    def names(self) -> list[str]:
        return list(self._names)

    def read(self, name: str) -> bytes:
        with self.open(name) as file:
            try:
                return file.read()
            except OSError as error:
                raise type(error)(f"'{self.place(name)}' cannot be read: {error}") from error

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
            elif entry.is_file() or entry.is_symlink():  # no pipe, which one would wait at forever
                names.append(prefix + entry.name)
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

    def read(self, name: str) -> bytes:
        check_inside(name, self.path)
        if name not in self._entries:
            raise FileNotFoundError(f"'{self.place(name)}' is not there")
        try:
            return self._zip.read(self._entries[name])
        except Exception as error:  # zipfile and zlib have a dozen ways to say "broken"
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ValueError(f"'{self.place(name)}' cannot be read: {reason}") from error


def check_inside(name: str, path: Path) -> None:
    """Raises ValueError if a name leads out of the folder or archive ``path``."""
    parts = PurePosixPath(name.replace("\\", "/"))
    if not name or parts.is_absolute() or ".." in parts.parts or re.match(r"[A-Za-z]:[\\/]", name):
        raise ValueError(f"'{path}' must only have names inside of itself, got '{name}'")
