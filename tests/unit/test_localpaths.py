"""Paths of this host: long ones, links, and two names of one file."""

from __future__ import annotations

import os
import stat
import sys
import weakref
from itertools import count, takewhile
from pathlib import Path

import pytest

from pyclustershell import platform
from pyclustershell.ssh.sftp import localpaths, names
from pyclustershell.ssh.sftp.localfile import LocalFile, make_link
from pyclustershell.ssh.sftp.localpaths import Place, Placed, PlacedTogether, extended, join, plain
from pyclustershell.ssh.sftp.source import Source


@pytest.mark.parametrize(
    ("path", "long"),
    [
        (r"C:\a\b", r"\\?\C:\a\b"),
        (r"C:\a/b\..\c", r"\\?\C:\a\c"),
        (r"\\server\share\a", r"\\?\UNC\server\share\a"),
        (r"\\?\C:\a", r"\\?\C:\a"),
        (r"\\?\UNC\server\share\a", r"\\?\UNC\server\share\a"),
    ],
)
def test_long_paths(path: str, long: str) -> None:
    assert extended(path) == long
    assert extended(plain(long)) == long
    assert "?" not in plain(long)


def test_short_paths_stay_as_they_are() -> None:
    assert join("a", "b") == os.path.join("a", "b")
    assert join("", "b") == "b"
    assert plain("/a/b") == "/a/b"


@pytest.mark.parametrize("size", [240, 1000])
def test_files_with_long_paths(tmp_path: Path, size: int) -> None:
    directory = str(tmp_path)
    while len(directory) < size:
        directory = join(directory, "d" * 50)
        os.mkdir(directory)
    path = join(directory, "file")
    file = LocalFile(path, 0o644, inplace=False)
    file.write(0, memoryview(b"contents"))
    file.finish((1, 2), None)
    file.discard()
    assert os.listdir(directory) == ["file"]
    # A source finds it again.
    source = Source(str(tmp_path))
    *_, last = takewhile(bool, map(source.entry, count()))
    assert last is not None
    assert last.relative.endswith(b"ddd/file")
    assert bytes(source.block(last, 0, 100)) == b"contents"
    source.close()


def test_targets_of_links() -> None:
    assert names.local_target("../a/b", windows=True) == r"..\a\b"
    assert names.remote_target(r"..\a\b", windows=True) == "../a/b"
    assert names.remote_target(r"\\?\C:\a", windows=True) == "C:/a"
    for target in ("../a/b", r"a\b"):
        assert names.local_target(target, windows=False) == target
        assert names.remote_target(target, windows=False) == target


# -- two names of one file ------------------------------------------------------------------------


def write(place: Place) -> None:
    place.check()
    with open(place.path, "ab") as file:
        file.write(place.name.encode())
    place.take()


def folds(directory: Path) -> bool:
    """True if this file system takes two names in upper and lower case for one."""
    (directory / "probe").touch()
    found = (directory / "PROBE").exists()
    (directory / "probe").unlink()
    return found


def test_names_in_upper_and_lower_case(tmp_path: Path) -> None:
    placed = Placed()
    first = Place(str(tmp_path / "Makefile"), "'/d/Makefile'", placed)
    second = Place(str(tmp_path / "makefile"), "'/d/makefile'", placed)
    write(first)
    write(first)  # itself again
    if not folds(tmp_path):
        write(second)
        assert len(os.listdir(tmp_path)) == 2
        return
    with pytest.raises(OSError, match=r"its name is that of '/d/Makefile', which"):
        write(second)
    assert (tmp_path / "Makefile").read_text() == 2 * first.name


@pytest.mark.parametrize("numbered", [True, False])
def test_one_file_under_two_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbered: bool
) -> None:
    """A file system that folds names is played, by a hard link that is not listed."""
    placed = Placed()
    first = Place(str(tmp_path / "\u00e9"), "composed", placed)
    second = Place(str(tmp_path / "e\u0301"), "decomposed", placed)
    write(first)
    os.link(first.path, second.path)
    second.check()  # as a hard link it is a file of its own
    monkeypatch.setattr(localpaths.os, "listdir", lambda _directory: ["\u00e9"])
    if not numbered:
        # A file system without numbers of files.
        real = os.lstat
        monkeypatch.setattr(
            localpaths.os,
            "lstat",
            lambda path: os.stat_result((*real(path)[:1], 0, 7, *real(path)[3:])),
        )
        placed = Placed()
        first, second = first._replace(siblings=placed), second._replace(siblings=placed)
        first.take()
    with pytest.raises(OSError, match="its name is that of composed, which"):
        second.check()
    first.check()


# -- no modes ------------------------------------------------------------------------------------


def test_a_host_without_modes_has_no_read_only_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows does not remove a read-only file, and a temporary one has to be removed."""
    monkeypatch.setattr(platform, "POSIX_FILES", False)
    file = LocalFile(str(tmp_path / "file"), 0o444, inplace=False)
    (part,) = tmp_path.iterdir()
    assert part.stat().st_mode & stat.S_IWUSR
    file.discard()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("inplace", [False, True])
def test_a_host_without_modes_refuses_read_only_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inplace: bool
) -> None:
    monkeypatch.setattr(platform, "POSIX_FILES", False)
    path = tmp_path / "file"
    path.write_bytes(b"precious")
    path.chmod(0o444)
    with pytest.raises(PermissionError, match="The file is read-only"):
        LocalFile(str(path), 0o644, inplace)
    assert [path] == list(tmp_path.iterdir())
    assert path.read_bytes() == b"precious"
    path.chmod(0o644)


@pytest.mark.skipif(sys.platform != "win32", reason="other systems replace open files")
def test_an_open_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"precious")
    with path.open("rb"):
        file = LocalFile(str(path), 0o644, inplace=False)
        file.write(0, memoryview(b"new"))
        with pytest.raises(PermissionError):
            file.finish(None, None)
        file.discard()
    assert [path] == list(tmp_path.iterdir())
    assert path.read_bytes() == b"precious"


# -- links -----------------------------------------------------------------------------------------


@pytest.fixture
def links(tmp_path: Path) -> Path:
    """A directory in which links can be made."""
    try:
        (tmp_path / "probe").symlink_to("nothing")
    except OSError as error:
        pytest.skip(f"no right to make links: {error}")
    if not (tmp_path / "probe").is_symlink():
        pytest.skip("wine 8 makes no links, and says that it did")
    (tmp_path / "probe").unlink()
    return tmp_path


def test_links_lead_to_files_and_directories(links: Path) -> None:
    (links / "sub" / "deep").mkdir(parents=True)
    (links / "sub" / "file").write_bytes(b"contents")
    make_link("sub/deep", str(links / "directory"))
    make_link("sub/file", str(links / "file"))
    assert (links / "directory").is_dir()
    assert (links / "file").read_bytes() == b"contents"
    source = Source(str(links), follow=False)
    found = {entry.relative: entry.target for entry in takewhile(bool, map(source.entry, count()))}
    assert found[b"directory"] == b"sub/deep"
    assert found[b"file"] == b"sub/file"


def test_files_are_together_while_a_copy_runs(tmp_path: Path) -> None:
    together = PlacedTogether()
    first = together.get()
    first.add(Place(str(tmp_path), "one", first))
    second = together.get()
    assert second is first
    del first
    assert together.get() is second
    files = weakref.ref(second)
    del second
    assert files() is None
    assert together.get() is not None
    held = together.get()
    together.clear()
    assert together.get() is not held
