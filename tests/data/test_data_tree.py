"""Files in folders and in archives: the same names, the same bytes, the same refusals."""

import os
import stat
import zipfile

import pytest
from audio_files import write_files, write_zip

from zforcing_pyro.data.formats.tree import open_tree

FILES = {"b/two.txt": b"2", "a.txt": b"1", "b/c/three.txt": b"3" * 1000, "B.txt": b""}
NO_FILES = {".hidden": b"x", "b/.cache/x": b"x", "__MACOSX/a.txt": b"x"}


@pytest.mark.parametrize("write, name", [(write_files, "tree"), (write_zip, "tree.ZIP")])
def test_tree_names_contents_and_refusals(tmp_path, write, name):
    path = write(tmp_path / name, FILES | NO_FILES)
    tree = open_tree(str(path))
    assert tree.names() == ["B.txt", "a.txt", "b/c/three.txt", "b/two.txt"]
    for name, content in FILES.items():
        assert tree.read(name) == content
        with tree.open(name) as file:
            assert file.read(1) == content[:1] and file.seek(0) == 0
            assert file.read() == content
    for name in ("../a.txt", "b/../../a.txt", "/etc/hostname", "C:\\a", "..\\a", ""):
        for read in (tree.read, tree.open):
            with pytest.raises(ValueError, match="must only have names inside of itself, got '"):
                read(name)
    with pytest.raises(FileNotFoundError, match=r"'.*/c.txt' is not there") as error:
        tree.read("c.txt")
    assert str(path) in str(error.value)


def test_tree_archives_that_would_do_harm_are_refused(tmp_path, monkeypatch):
    for name in ("../evil.txt", "/evil.txt", "a/../../evil.txt", "..\\evil.txt"):
        path = write_zip(tmp_path / "slip.zip", FILES | {name: b"x"})
        with pytest.raises(ValueError, match=r"slip.zip' must only have names inside .*evil.txt'"):
            open_tree(path)
    path = tmp_path / "link.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("a.wav")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ValueError, match=r"link.zip/a.wav' must not be a symbolic link"):
        open_tree(path)
    with pytest.warns(UserWarning, match="Duplicate name"):
        with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
            archive.writestr("a.wav", "1")
            archive.writestr("a.wav", "2")
    with pytest.raises(ValueError, match=r"twice.zip/a.wav' must be there once, got it twice"):
        open_tree(tmp_path / "twice.zip")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:  # C2
        archive.writestr("a.wav", bytes(10**6))
    tree = open_tree(tmp_path / "bomb.zip")
    assert tree.read("a.wav") == bytes(10**6)
    monkeypatch.setattr("zforcing_pyro.data.formats.files.available_memory", lambda: 10**5)
    with pytest.raises(ValueError, match=r"bomb.zip/a.wav' must fit in memory, got"):
        tree.read("a.wav")


def test_tree_that_is_broken_or_missing_is_named(tmp_path):
    path = write_zip(tmp_path / "broken.zip", {"a.txt": b"1" * 100, "b.txt": b"2"})
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"broken.zip' must be a zip file, got"):
        open_tree(path)
    path.write_bytes(content.replace(b"1" * 100, b"1" * 99 + b"9"))
    tree = open_tree(path)
    assert tree.read("b.txt") == b"2"
    with pytest.raises(ValueError, match=r"broken.zip/a.txt' cannot be read: BadZipFile: Bad CRC"):
        tree.read("a.txt")
    (tmp_path / "a.tar").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"'path' must be a folder or a zip file, got '.*a.tar'"):
        open_tree(tmp_path / "a.tar")
    with pytest.raises(FileNotFoundError, match=r"got '.*b.zip', which is not there"):
        open_tree(tmp_path / "b.zip")


def test_tree_links_are_followed_loops_refused_and_pipes_left_out(tmp_path):
    folder = write_files(tmp_path / "tree", FILES)
    other = write_files(tmp_path / "other", {"d.txt": b"4"})
    (folder / "linked").symlink_to(other)
    (folder / "gone.wav").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "pipe.wav")
    (folder / "to_pipe.wav").symlink_to(folder / "pipe.wav")  # C2: reading would wait forever
    tree = open_tree(folder)
    assert tree.read("linked/d.txt") == b"4"
    assert set(tree.names()) == {*FILES, "linked/d.txt", "gone.wav"}
    with pytest.raises(FileNotFoundError, match=r"gone.wav' is not there"):
        tree.read("gone.wav")
    (other / "back").symlink_to(folder)
    with pytest.raises(ValueError, match=r"linked/back' must not be a symbolic link to a folder"):
        open_tree(folder)
    (other / "back").unlink()
    (folder / "self").symlink_to(folder / "self")
    with pytest.raises(ValueError, match=r"tree/self' must not be a symbolic link to itself"):
        open_tree(folder)


def test_tree_that_is_unreadable_is_named(tmp_path, monkeypatch):
    tree = open_tree(write_files(tmp_path, FILES))

    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", refuse)
        with pytest.raises(PermissionError, match=r"'.*a.txt' cannot be read: Permission denied"):
            tree.read("a.txt")
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError, match=rf"'{tmp_path}' cannot be read: Permission denied"):
        open_tree(tmp_path)
