"""Files in folders and in archives: the same names, the same bytes, the same refusals."""

import os
import stat
import zipfile

import pytest
from audio_files import write_files, write_zip

from zforcing_pyro.data.formats.tree import Tree

FILES = {"b/two.txt": b"2", "a.txt": b"1", "b/c/three.txt": b"3" * 1000, "B.txt": b""}
NO_FILES = {".hidden": b"x", "b/.cache/x": b"x", "__MACOSX/a.txt": b"x"}


@pytest.mark.parametrize("write, name", [(write_files, "tree"), (write_zip, "tree.ZIP")])
def test_tree_names_and_contents(tmp_path, write, name):
    tree = Tree(str(write(tmp_path / name, FILES | NO_FILES)))
    assert tree.names() == ["B.txt", "a.txt", "b/c/three.txt", "b/two.txt"]
    for name, content in FILES.items():
        assert tree.read(name) == content
        with tree.open(name) as file:
            assert file.read(1) == content[:1] and file.seek(0) == 0
            assert file.read() == content


def test_tree_archives_that_would_do_harm_are_refused(tmp_path, monkeypatch):
    for name in ("/evil.txt", "a/../../evil.txt", "..\\evil.txt"):
        path = write_zip(tmp_path / "slip.zip", FILES | {name: b"x"})
        with pytest.raises(ValueError, match=r"slip.zip' must only have names inside .*evil.txt'"):
            Tree(path)
    link = zipfile.ZipInfo("a.wav")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ValueError, match=r"link.zip/a.wav' must not be a symbolic link"):
        Tree(tmp_path / "link.zip")
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        archive.writestr("a.wav", "1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.wav", "2")
    with pytest.raises(ValueError, match=r"twice.zip/a.wav' must be there once, got it twice"):
        Tree(tmp_path / "twice.zip")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:  # C2
        archive.writestr("a.wav", bytes(10**6))
    tree = Tree(tmp_path / "bomb.zip")
    assert tree.read("a.wav") == bytes(10**6)
    monkeypatch.setattr("zforcing_pyro.data.formats.files.available_memory", lambda: 10**5)
    with pytest.raises(ValueError, match=r"bomb.zip/a.wav' must fit in memory, got"):
        tree.read("a.wav")


def test_tree_that_is_broken_or_missing_is_named(tmp_path):
    path = write_zip(tmp_path / "broken.zip", {"a.txt": b"1" * 100, "b.txt": b"2"})
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"broken.zip' must be a zip file, got"):
        Tree(path)
    path.write_bytes(content.replace(b"1" * 100, b"1" * 99 + b"9"))
    tree = Tree(path)
    assert tree.read("b.txt") == b"2"
    with pytest.raises(ValueError, match=r"broken.zip/a.txt' cannot be read: BadZipFile: Bad CRC"):
        tree.read("a.txt")
    (tmp_path / "a.tar").write_bytes(b"x")
    for name, error in (("a.tar", ValueError), ("b.zip", FileNotFoundError)):
        with pytest.raises(error, match=f"'path' must be a folder or a zip file, got '.*{name}'"):
            Tree(tmp_path / name)


def test_tree_links_are_followed_loops_refused_and_pipes_left_out(tmp_path):
    folder = write_files(tmp_path / "tree", FILES)
    other = write_files(tmp_path / "other", {"d.txt": b"4"})
    (folder / "linked").symlink_to(other)
    (folder / "gone.wav").symlink_to(folder / "nowhere")
    (folder / "self").symlink_to(folder / "self")
    os.mkfifo(folder / "pipe.wav")
    (folder / "to_pipe.wav").symlink_to(folder / "pipe.wav")  # C2: reading would wait forever
    tree = Tree(folder)
    assert tree.read("linked/d.txt") == b"4"
    assert set(tree.names()) == {*FILES, "linked/d.txt", "gone.wav", "self"}
    for name in ("gone.wav", "self"):
        with pytest.raises(OSError, match=f"'{folder / name}'"):
            tree.read(name)
    (other / "back").symlink_to(folder)
    with pytest.raises(ValueError, match=r"linked/back' must not be a link to a folder"):
        Tree(folder)
