"""Links of a reverse copy: none leads out of the copied tree, in whatever order they are made."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyclustershell.ssh.sftp import localfile
from pyclustershell.ssh.sftp.localfile import LocalFile, make_link, why_link_leads_out

pytestmark = pytest.mark.posix_only("links need rights on Windows")

DIRECTORIES = ("", "d", "d/d", "d/d/d", "e")
PLACES = st.builds(
    os.path.join,
    st.sampled_from(DIRECTORIES),
    st.sampled_from(["a", "b", "c"]),
)
TARGETS = st.lists(st.sampled_from(["..", "..", "a", "b", "c", "d", "e", "."]), min_size=1).map(
    "/".join
)


@pytest.mark.parametrize(
    ("directory", "target", "safe"),
    [
        ("", "file", True),
        ("", "missing/file", True),
        ("d/d", "../../e/./file", True),
        ("d", "d/../d/file", True),
        ("d", "../d/d/../../e", True),
        ("d", "..", True),
        ("d", "../..", False),
        ("", "d/../../x", False),
        ("", "missing/../file", False),
        ("", "up/..", False),
        ("d", "../up/d/..", False),
        ("", "up/e/file", True),
        ("", "out/file", False),
    ],
)
def test_links_stay_in_the_tree(tmp_path: Path, directory: str, target: str, safe: bool) -> None:
    top = tmp_path / "top"
    for name in DIRECTORIES:
        (top / name).mkdir(exist_ok=True)
    (top / "up").symlink_to(".")
    (top / "out").symlink_to("..")
    reason = why_link_leads_out(str(top), str(top / directory), target)
    assert (reason is None) is safe, reason


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(PLACES, TARGETS), max_size=8))
def test_no_set_of_links_leads_out(links: list[tuple[str, str]]) -> None:
    parent = tempfile.mkdtemp()
    try:
        top = os.path.realpath(os.path.join(parent, "top"))
        for name in DIRECTORIES:
            os.makedirs(os.path.join(top, name), exist_ok=True)
        for place, target in links:
            path = os.path.join(top, place)
            if why_link_leads_out(top, os.path.dirname(path), target) is None:
                make_link(target, path)
        # All of them, now that each is there: and one that leads through two of them.
        made = [os.path.join(top, place) for place, _ in links]
        reached = [os.path.realpath(path) for path in made]
        reached += [os.path.realpath(f"{path}/a/b/c") for path in made]
        assert [path for path in reached if f"{path}/".startswith(f"{top}/") is False] == []
    finally:
        shutil.rmtree(parent)


@pytest.mark.parametrize("complete", [False, True])
def test_a_set_uid_file_is_none_before_the_first_byte_comes(tmp_path: Path, complete: bool) -> None:
    """The copy may stop after the half of a stranger's program."""
    path = tmp_path / "program"
    path.write_bytes(b"before")
    path.chmod(0o6750)
    file = LocalFile(str(path), 0o644, inplace=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o750
    file.write(0, memoryview(b"new"))
    if complete:
        file.finish(None, None)
    file.discard()
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o750


def test_no_link_is_written_through_without_a_flag_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows has no O_NOFOLLOW."""
    monkeypatch.setattr("pyclustershell.ssh.sftp.localfile._NO_FOLLOW", 0)
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "link").symlink_to("precious")
    with pytest.raises(OSError, match="symbolic link"):
        LocalFile(str(tmp_path / "link"), 0o644, inplace=True)
    assert (tmp_path / "precious").read_bytes() == b"precious"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match=r"No such device|Device not configured"):
        LocalFile(str(tmp_path / "pipe"), 0o644, inplace=True)


def replaced(path: Path) -> os.stat_result:
    """Replace a file; returns the status of the new one."""
    file = LocalFile(str(path), 0o644, inplace=False)
    file.write(0, memoryview(b"new"))
    file.finish(None, None)
    assert path.read_bytes() == b"new"
    return path.stat()


@pytest.mark.needs("root")
def test_a_file_that_is_replaced_keeps_owner_and_group(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    os.chown(path, 4711, 4712)
    path.chmod(0o640)
    found = replaced(path)
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (4711, 4712, 0o640)


@pytest.mark.parametrize(("before", "after"), [(0o660, 0o600), (0o674, 0o644), (0o640, 0o600)])
def test_another_group_may_do_no_more_than_everybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int, after: int
) -> None:
    """The group of the file was one that this user is no member of."""
    path = tmp_path / "file"
    path.write_bytes(b"before")
    path.chmod(before)
    status = os.lstat(path)
    other = SimpleNamespace(st_mode=status.st_mode, st_uid=status.st_uid, st_gid=status.st_gid + 1)
    monkeypatch.setattr(localfile, "_status_of", lambda _path: other)

    def refuse(*_arguments: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    assert stat.S_IMODE(replaced(path).st_mode) == after


def test_a_descriptor_is_closed_once_also_if_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With quotas and network file systems, close() may be the first call to fail."""
    path = tmp_path / "file"
    path.write_bytes(b"before")
    close, closed = os.close, []

    def fail(descriptor: int) -> None:
        close(descriptor)
        closed.append(descriptor)
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    file = LocalFile(str(path), 0o644, inplace=False)
    monkeypatch.setattr(os, "close", fail)
    with pytest.raises(OSError, match="Disk quota exceeded"):
        file.finish(None, None)
    file.discard()
    assert len(closed) == 1
    assert os.listdir(tmp_path) == ["file"]
    assert path.read_bytes() == b"before"
