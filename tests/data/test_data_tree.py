"""Files in folders and in archives: the same names, the same bytes, the same refusals."""

import os
import stat
import zipfile

import pytest
from audio_files import write_files, write_zip

from zforcing_pyro.data.formats.tree import open_tree

FILES = {"b/two.txt": b"2", "a.txt": b"1", "b/c/three.txt": b"3" * 1000, "B.txt": b""}
NO_FILES = {".hidden": b"x", "b/.cache/x": b"x", "__MACOSX/a.txt": b"x"}


@pytest.fixture(params=["folder", "archive"])
def make(request, tmp_path):
    """Writes files into a folder or an archive, and returns its path."""

    def write(files):
        if request.param == "folder":
            return write_files(tmp_path / "tree", files)
        return write_zip(tmp_path / "tree.ZIP", files)

    return write


def test_names_are_sorted_and_contents_are_those_of_the_files(make):
    tree = open_tree(str(make(FILES | NO_FILES)))
    assert tree.names() == ["B.txt", "a.txt", "b/c/three.txt", "b/two.txt"]
    for name, content in FILES.items():
        assert tree.read(name) == content
        with tree.open(name) as file:
            assert file.read(1) == content[:1] and file.seek(0) == 0
            assert file.read() == content


@pytest.mark.parametrize(
    "name", ["../a.txt", "b/../../a.txt", "/etc/hostname", "C:\\a", "..\\a", ""]
)
def test_a_name_that_leads_out_is_refused(make, name):
    tree = open_tree(make(FILES))
    for read in (tree.read, tree.open):
        with pytest.raises(ValueError, match="must only have names inside of itself, got '"):
            read(name)


def test_a_missing_file_is_named(make):
    path = make(FILES)
    with pytest.raises(FileNotFoundError, match=r"'.*/c.txt' is not there") as error:
        open_tree(path).read("c.txt")
    assert str(path) in str(error.value)


@pytest.mark.parametrize("name", ["../evil.txt", "/evil.txt", "a/../../evil.txt", "..\\evil.txt"])
def test_an_archive_with_a_name_outside_of_itself_is_refused(tmp_path, name):
    path = write_zip(tmp_path / "slip.zip", FILES | {name: b"x"})
    with pytest.raises(ValueError, match=r"slip.zip' must only have names inside .*evil.txt'"):
        open_tree(path)


def test_an_archive_with_a_link_is_refused(tmp_path):
    path = tmp_path / "link.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("a.wav")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ValueError, match=r"link.zip/a.wav' must not be a symbolic link"):
        open_tree(path)


def test_an_archive_with_a_name_twice_is_refused(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
            archive.writestr("a.wav", "1")
            archive.writestr("a.wav", "2")
    with pytest.raises(ValueError, match=r"twice.zip/a.wav' must be there once, got it twice"):
        open_tree(tmp_path / "twice.zip")


def test_a_broken_archive_is_named(tmp_path):
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


def test_what_is_no_tree_is_named(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"'path' must be a folder or a zip file, got '.*a.tar'"):
        open_tree(tmp_path / "a.tar")
    with pytest.raises(FileNotFoundError, match=r"got '.*b.zip', which is not there"):
        open_tree(tmp_path / "b.zip")


def test_links_are_followed_and_their_loops_refused(tmp_path):
    folder = write_files(tmp_path / "tree", FILES)
    other = write_files(tmp_path / "other", {"d.txt": b"4"})
    (folder / "linked").symlink_to(other)
    assert open_tree(folder).read("linked/d.txt") == b"4"
    (other / "back").symlink_to(folder)
    with pytest.raises(ValueError, match=r"linked/back' must not be a symbolic link to a folder"):
        open_tree(folder)
    (other / "back").unlink()
    (folder / "self").symlink_to(folder / "self")
    with pytest.raises(ValueError, match=r"tree/self' must not be a symbolic link to itself"):
        open_tree(folder)


def test_a_link_to_nothing_is_an_error_when_read(tmp_path):
    folder = write_files(tmp_path, FILES)
    (folder / "gone.wav").symlink_to(folder / "nowhere")
    tree = open_tree(folder)
    assert "gone.wav" in tree.names()
    with pytest.raises(FileNotFoundError, match=r"gone.wav' is not there"):
        tree.read("gone.wav")


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    assert open_tree(write_files(tmp_path, FILES)).names() == sorted(FILES)


def test_an_unreadable_file_or_folder_is_named(tmp_path, monkeypatch):
    tree = open_tree(write_files(tmp_path, FILES))
    denied = PermissionError(13, "Permission denied")

    def refuse(*args):
        raise denied

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(PermissionError, match=r"'.*a.txt' cannot be read: Permission denied"):
        tree.read("a.txt")
    monkeypatch.undo()
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError, match=rf"'{tmp_path}' cannot be read: Permission denied"):
        open_tree(tmp_path)
