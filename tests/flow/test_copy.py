"""Copies to nodes and back: the same on every SFTP server."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyclustershell import NodeSet, WorkerSsh
from pyclustershell.exceptions import ConnectError, CopyError
from pyclustershell.ssh.sftp import source as source_module
from pyclustershell.task import Task
from tests.helpers.needs import require
from tests.helpers.recorder import Recorder
from tests.helpers.tasks import fresh_task
from tests.servers import processes
from tests.servers.processes import node_path
from tests.servers.sftp import SERVERS, Nodes, good_nodes

ODD_NAMES = [b"\xff\xfe not text", b"new\nline", b" blanks ", "\u00e9\u20ac".encode(), b"-rf", b"~"]


@pytest.fixture(scope="module", params=SERVERS)
def nodes(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Nodes]:
    if "sftp" in request.param:
        require("sshd")
    if request.param in ("sftp-server", "asyncssh"):
        require(request.param)
    with good_nodes(request.param, tmp_path_factory.mktemp("server")) as found:
        yield found


@pytest.fixture
def task(nodes: Nodes) -> Iterator[Task]:
    with fresh_task() as task:
        nodes.configure(task)
        # Some tests look at the modes that files get.
        before = os.umask(0o022)
        yield task
        os.umask(before)


@pytest.fixture
def place(nodes: Nodes) -> Iterator[str]:
    """An empty directory on the nodes: the same on all of them."""
    path = nodes.path("place", "x")
    yield os.path.dirname(path)
    processes.remove_tree(os.path.dirname(path))


def make_tree(top: Path) -> Path:
    """Files, directories and links of every kind that is copied."""
    tree = top / "tree"
    (tree / "sub" / "empty").mkdir(parents=True)
    (tree / "file").write_bytes(b"contents\n")
    (tree / "nothing").write_bytes(b"")
    (tree / "sub" / "large").write_bytes(bytes(range(256)) * 4000)
    (tree / "program").write_bytes(b"#!/bin/sh\n")
    (tree / "program").chmod(0o755)
    (tree / "secret").write_bytes(b"secret")
    (tree / "secret").chmod(0o600)
    if os.name == "posix":  # making links needs rights on Windows
        (tree / "link").symlink_to("file")
        (tree / "sub" / "up").symlink_to("../file")
        (tree / "sub" / "round").symlink_to("empty/../../sub/large")
    return tree


def contents(top: Any) -> dict[str, Any]:
    """The tree below a directory: contents of files, None for directories, targets of links."""
    found: dict[str, Any] = {}
    top = os.fsencode(top)
    for directory, names, files in os.walk(top):
        for name in names + files:
            path = os.path.join(directory, name)
            shown = repr(os.path.relpath(path, top).replace(os.sep.encode(), b"/"))
            if os.path.islink(path):
                found[shown] = ("link", os.readlink(path))
            elif os.path.isdir(path):
                found[shown] = None
            else:
                with open(path, "rb") as file:
                    found[shown] = file.read()
    return found


def followed(top: Any) -> dict[str, Any]:
    """The same with the contents of their targets in place of links."""
    found = contents(top)
    for shown, value in found.items():
        if isinstance(value, tuple):
            path = os.path.join(os.fsencode(top), eval(shown))  # noqa: S307 its own repr()
            with open(path, "rb") as file:
                found[shown] = file.read()
    return found


def check(task: Task) -> None:
    assert [repr(error) for error, _ in task.iter_failures()] == []
    assert task.max_retcode() == 0
    assert task.num_timeout() == 0


def copy(task: Task, source: Any, dest: Any, nodes: str = "node1", **options: Any) -> Any:
    worker = task.copy(str(source), node_path(dest), nodes=nodes, **options)
    task.resume()
    return worker


def rcopy(task: Task, source: Any, dest: Any, nodes: str = "node1", **options: Any) -> Any:
    worker = task.rcopy(node_path(source), str(dest), nodes=nodes, **options)
    task.resume()
    return worker


# -- there -----------------------------------------------------------------------------------------


def test_a_file_to_a_new_name_into_a_directory_and_over_a_file(
    task: Task, place: str, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"one")
    for dest in (f"{place}/new", place, f"{place}/"):
        copy(task, source, dest)
        check(task)
    assert contents(place) == {"b'new'": b"one", "b'source'": b"one"}
    source.write_bytes(b"two")
    copy(task, source, f"{place}/new")
    check(task)
    assert contents(place) == {"b'new'": b"two", "b'source'": b"one"}


def test_a_tree_into_a_directory_and_to_a_new_name(task: Task, place: str, tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    expected = followed(tree)
    copy(task, tree, place)
    check(task)
    assert contents(f"{place}/tree") == expected
    copy(task, f"{tree}/", f"{place}/new/")
    check(task)
    assert contents(f"{place}/new") == expected
    # Again, over the existing files.
    copy(task, tree, place)
    check(task)
    assert contents(f"{place}/tree") == expected


@pytest.mark.posix_only("it makes symbolic links, which needs rights on Windows")
def test_links_are_copied_as_links_on_request(task: Task, place: str, tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    (tree / "dangling").symlink_to("/nowhere")
    for _ in range(2):
        copy(task, tree, place, follow_symlinks=False)
        check(task)
        assert contents(f"{place}/tree") == contents(tree)


@pytest.mark.posix_only("names of Windows are Unicode text")
def test_names_of_any_bytes(task: Task, nodes: Nodes, place: str, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ODD_NAMES:
        with open(os.path.join(os.fsencode(tree), name), "wb") as file:
            file.write(name)
    copy(task, tree, place)
    check(task)
    assert contents(f"{place}/tree") == contents(tree)
    back = tmp_path / "back"
    back.mkdir()
    rcopy(task, f"{place}/tree", back)
    check(task)
    assert contents(back / "tree.node1") == contents(tree)


def test_times(task: Task, place: str, tmp_path: Path) -> None:
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(b"contents")
    os.utime(source, (1_000_000_001, 1_000_000_002))
    copy(task, source, f"{place}/kept", preserve=True)
    check(task)
    copy(task, source, f"{place}/plain")
    check(task)
    assert os.stat(f"{place}/kept").st_mtime == 1_000_000_002
    assert os.stat(f"{place}/plain").st_mtime > 1_000_000_002
    back.mkdir()
    rcopy(task, f"{place}/kept", back, preserve=True)
    check(task)
    assert (back / "kept.node1").stat().st_mtime == 1_000_000_002


@pytest.mark.posix_only("it looks at modes of POSIX")
def test_times_and_modes(task: Task, place: str, tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    for path in (tree / "file", tree / "sub" / "large", tree / "sub", tree):
        os.utime(path, (1_000_000_001, 1_000_000_002))
    (tree / "sub").chmod(0o750)
    copy(task, tree, f"{place}/plain")
    check(task)
    copy(task, tree, f"{place}/kept", preserve=True)
    check(task)
    for name in ("file", "sub/large", "sub", ""):
        assert os.stat(f"{place}/kept/{name}").st_mtime == 1_000_000_002
        assert os.stat(f"{place}/plain/{name}").st_mtime > 1_000_000_002
    for name, mode in (("program", 0o755), ("secret", 0o600), ("sub", 0o750)):
        for copied in ("plain", "kept"):
            assert stat.S_IMODE(os.stat(f"{place}/{copied}/{name}").st_mode) == mode


@pytest.mark.posix_only("it looks at modes of POSIX")
def test_set_uid_bits_stay_behind(task: Task, place: str, tmp_path: Path) -> None:
    """As with scp -p: nine bits of files; directories on nodes may be sticky."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "program").write_bytes(b"#!/bin/sh\n")
    for top in (tree, Path(place, "tree")):
        if top != tree:
            copy(task, tree, place, preserve=True)
            check(task)
            assert stat.S_IMODE(os.stat(top).st_mode) == 0o755
        (top / "program").chmod(0o6755)
        top.chmod(0o3755 if top != tree else 0o2755)
    copy(task, tree / "program", f"{place}/other", preserve=True)
    check(task)
    assert stat.S_IMODE(os.stat(f"{place}/other").st_mode) == 0o755
    tree.chmod(0o1755)
    copy(task, tree, f"{place}/sticky", preserve=True)
    check(task)
    assert stat.S_IMODE(os.stat(f"{place}/sticky").st_mode) == 0o1755
    back = tmp_path / "back"
    back.mkdir()
    rcopy(task, f"{place}/tree", back, preserve=True)
    check(task)
    for path in (back / "tree.node1", back / "tree.node1" / "program"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o755


@pytest.mark.posix_only("it looks at modes of POSIX")
@pytest.mark.parametrize("inplace", [False, True])
def test_no_strangers_file_becomes_a_set_uid_program(
    task: Task, place: str, tmp_path: Path, inplace: bool
) -> None:
    """Also if there is one, whose mode the file that replaces it keeps."""
    Path(place, "program").write_bytes(b"#!/bin/sh\n")
    target = tmp_path / "program.node1"
    target.write_bytes(b"before")
    target.chmod(0o6750)
    rcopy(task, f"{place}/program", tmp_path, inplace=inplace)
    check(task)
    assert stat.S_IMODE(target.stat().st_mode) == 0o750


@pytest.mark.posix_only("it makes symbolic links, which needs rights on Windows")
def test_links_of_an_earlier_copy_are_not_written_through(
    task: Task, place: str, tmp_path: Path
) -> None:
    precious = Path(place, "precious")
    precious.mkdir()
    (precious / "file").write_bytes(b"precious")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").symlink_to(precious / "file")
    (tree / "sub").symlink_to(precious)
    copy(task, tree, place, follow_symlinks=False)
    check(task)
    for name in ("file", "sub"):
        (tree / name).unlink()
    (tree / "sub").mkdir()
    for name in ("file", "sub/file"):
        (tree / name).write_bytes(b"new")
    copy(task, tree, place, follow_symlinks=False, inplace=True)
    assert task.max_retcode() == 1
    assert contents(precious) == {"b'file'": b"precious"}
    copy(task, tree, place, follow_symlinks=False)
    assert failure(task).cause.startswith(f"{place}/tree/sub: it is a link there")
    assert contents(precious) == {"b'file'": b"precious"}
    assert not os.path.islink(f"{place}/tree/file")
    assert Path(place, "tree", "file").read_bytes() == b"new"


@pytest.mark.posix_only("it looks at modes of POSIX")
def test_a_file_that_is_replaced_keeps_its_mode(task: Task, place: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"new")
    source.chmod(0o755)
    copy(task, source, f"{place}/target")
    os.chmod(f"{place}/target", 0o640)
    before = os.stat(f"{place}/target")
    copy(task, source, f"{place}/target")
    check(task)
    after = os.stat(f"{place}/target")
    assert stat.S_IMODE(after.st_mode) == 0o640
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino
    copy(task, source, f"{place}/target", inplace=True)
    check(task)
    assert os.stat(f"{place}/target").st_ino == after.st_ino
    copy(task, source, f"{place}/target", preserve=True)
    check(task)
    assert stat.S_IMODE(os.stat(f"{place}/target").st_mode) == 0o755


@pytest.mark.posix_only("it makes symbolic links, which needs rights on Windows")
def test_a_target_that_is_a_link_stays_one(task: Task, place: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"new")
    os.mkdir(f"{place}/real")
    os.chmod(f"{place}/real", 0o777)  # noqa: S103 for the nodes' account
    copy(task, source, f"{place}/real/file")
    os.symlink("real/file", f"{place}/link")
    source.write_bytes(b"newer")
    copy(task, source, f"{place}/link")
    check(task)
    assert os.readlink(f"{place}/link") == "real/file"
    assert contents(f"{place}/real") == {"b'file'": b"newer"}


@pytest.mark.posix_only("it looks at modes of POSIX")
def test_a_device_is_written_to_and_not_replaced(task: Task, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"for nobody")
    copy(task, source, "/dev/null")
    check(task)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.posix_only("it makes a named pipe")
def test_special_files_are_refused_and_the_rest_is_copied(
    task: Task, place: str, tmp_path: Path
) -> None:
    tree = make_tree(tmp_path)
    os.mkfifo(tree / "pipe")
    (tree / "loop").symlink_to(".")
    (tree / "dangling").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tree / "socket"))
        copy(task, tree, place, stderr=True)
    expected = make_tree(tmp_path / "other")
    assert contents(f"{place}/tree") == followed(expected)
    assert task.max_retcode() == 1
    told = bytes(next(iter(task.iter_errors()))[0]).decode()
    assert sorted(told.splitlines()) == [
        f"{tree}/dangling: No such file or directory",
        f"{tree}/loop: the link leads back to a directory that it is in",
        f"{tree}/pipe: not a regular file",
        f"{tree}/socket: not a regular file",
    ]


def test_many_nodes_and_one_reader(
    task: Task, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(1 << 20))
    read = []

    class Counting(source_module.Source):
        def _read(self, entry: Any, offset: int, size: int) -> bytes:
            data = super()._read(entry, offset, size)
            read.append(len(data))
            return data

    monkeypatch.setattr(source_module, "Source", Counting)
    copy(task, source, f"{place}/target", nodes="node[1-3]")
    check(task)
    assert Path(f"{place}/target").read_bytes() == source.read_bytes()
    assert sum(read) == 1 << 20


# -- and back --------------------------------------------------------------------------------------


def test_files_come_back_under_their_nodes_names(task: Task, place: str, tmp_path: Path) -> None:
    Path(place, "file").write_bytes(b"on the node")
    rcopy(task, f"{place}/file", tmp_path, "node[1-3]")
    check(task)
    assert contents(tmp_path) == {f"b'file.node{n}'": b"on the node" for n in (1, 2, 3)}
    Path(place, "file").write_bytes(b"newer")
    rcopy(task, f"{place}/file", tmp_path, "node[1-3]")
    assert contents(tmp_path) == {f"b'file.node{n}'": b"newer" for n in (1, 2, 3)}


def test_trees_come_back(task: Task, place: str, tmp_path: Path) -> None:
    tree = make_tree(Path(place))
    os.chmod(tree / "secret", 0o644)
    for path in [str(tree), f"{tree}/"]:
        rcopy(task, path, tmp_path, "node[1-3]")
        check(task)
        for node in NodeSet("node[1-3]"):
            assert contents(tmp_path / f"tree.{node}") == followed(tree)
    if os.name == "posix":
        assert stat.S_IMODE(os.stat(tmp_path / "tree.node1" / "program").st_mode) == 0o755


def test_links_come_back_as_links_on_request(task: Task, place: str, tmp_path: Path) -> None:
    tree = make_tree(Path(place))
    os.chmod(tree / "secret", 0o644)
    for _ in range(2):
        rcopy(task, tree, tmp_path, follow_symlinks=False)
        check(task)
        assert contents(tmp_path / "tree.node1") == contents(tree)


def test_times_and_modes_come_back(task: Task, place: str, tmp_path: Path) -> None:
    tree = make_tree(Path(place))
    os.chmod(tree / "secret", 0o644)
    for path in (tree / "file", tree / "sub"):
        os.utime(path, (1_000_000_001, 1_000_000_002))
    (tree / "sub").chmod(0o755)
    rcopy(task, tree, tmp_path, preserve=True)
    check(task)
    for name in ("file", "sub"):
        assert os.stat(tmp_path / "tree.node1" / name).st_mtime == 1_000_000_002
    target = tmp_path / "tree.node1" / "file"
    target.chmod(0o600)
    rcopy(task, tree / "file", tmp_path)
    os.replace(tmp_path / "file.node1", target)
    rcopy(task, tree, tmp_path)
    check(task)
    assert target.read_bytes() == b"contents\n"


@pytest.mark.posix_only("it looks at modes of POSIX")
def test_a_file_of_this_host_that_is_replaced_keeps_its_mode(
    task: Task, place: str, tmp_path: Path
) -> None:
    Path(place, "file").write_bytes(b"1")
    rcopy(task, f"{place}/file", tmp_path)
    (tmp_path / "file.node1").chmod(0o600)
    rcopy(task, f"{place}/file", tmp_path)
    check(task)
    assert stat.S_IMODE(os.stat(tmp_path / "file.node1").st_mode) == 0o600


@pytest.mark.posix_only("it makes a named pipe")
def test_special_files_do_not_come_back_and_the_rest_does(
    task: Task, place: str, tmp_path: Path
) -> None:
    tree = make_tree(Path(place))
    os.chmod(tree / "secret", 0o644)
    expected = followed(tree)
    os.mkfifo(tree / "pipe")
    (tree / "loop").symlink_to("..")
    (tree / "sub" / "back").symlink_to("../sub")
    (tree / "dangling").symlink_to("nowhere")
    rcopy(task, tree, tmp_path, stderr=True)
    assert contents(tmp_path / "tree.node1") == expected
    assert task.max_retcode() == 1
    told = bytes(next(iter(task.iter_errors()))[0]).decode()
    assert sorted(told.splitlines()) == [
        f"{tree}/dangling: No such file or directory",
        f"{tree}/loop: the link leads back to a directory that it is in",
        f"{tree}/pipe: not a regular file",
        f"{tree}/sub/back: the link leads back to a directory that it is in",
    ]


@pytest.mark.posix_only("only Linux has files that do not know their size")
@pytest.mark.parametrize(
    "path", ["/proc/version", "/proc/self/limits", "/sys/devices/system/cpu/online"]
)
def test_files_that_do_not_know_their_size(
    task: Task, place: str, tmp_path: Path, path: str
) -> None:
    """Files of /proc say that they are empty, files of /sys that they are one page long."""
    if not os.path.exists(path):
        pytest.skip(f"no {path}")
    expected = Path(path).read_bytes()
    assert os.stat(path).st_size != len(expected) > 0
    copy(task, path, f"{place}/copied")
    check(task)
    assert Path(place, "copied").read_bytes() == expected
    rcopy(task, path, tmp_path)
    check(task)
    copied = (tmp_path / f"{os.path.basename(path)}.node1").read_bytes()
    # (Limits are those of the server's process.)
    assert copied[:20] == expected[:20]
    assert len(copied) == len(expected)


# -- unchanged files -------------------------------------------------------------------------------


@pytest.mark.posix_only("it looks at owners and inodes of POSIX")
def test_unchanged_files_are_left_alone(task: Task, place: str, tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    options = {"preserve": True, "skip_unchanged": True}
    assert copy(task, tree, place, **options).skipped("node1") == []
    (tree / "file").write_bytes(b"CONTENTS\n")
    os.utime(tree / "file", (1_000_000_001, 1_000_000_002))
    inode = os.stat(f"{place}/tree/program").st_ino
    handler = Recorder()
    worker = copy(task, tree, place, handler=handler, **options)
    check(task)
    skipped = {
        Path(path).relative_to(f"{place}/tree").as_posix() for path in worker.skipped("node1")
    }
    assert skipped == {"nothing", "program", "secret", "sub/large", "sub/round"}
    assert os.stat(f"{place}/tree/program").st_ino == inode
    assert contents(f"{place}/tree") == followed(tree)
    # Skipped files count for the progress.
    total = sum(len(c) for c in followed(tree).values() if c is not None)
    assert [event for event in handler.of("node1") if event[0] == "written"][-1][3] == total


def test_unchanged_contents_are_left_alone(task: Task, place: str, tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    copy(task, tree, place)
    # The same size and time, and other contents; the same contents, and another time.
    (tree / "file").write_bytes(b"CONTENTS\n")
    times = os.stat(f"{place}/tree/file")
    os.utime(tree / "file", (times.st_atime, times.st_mtime))
    os.utime(tree / "sub" / "large", (5, 5))
    worker = copy(task, tree, place, skip_unchanged=True, checksum=True)
    check(task)
    skipped = {
        Path(path).relative_to(f"{place}/tree").as_posix() for path in worker.skipped("node1")
    }
    assert "sub/large" in skipped
    assert "file" not in skipped
    assert contents(f"{place}/tree") == followed(tree)


def test_unchanged_files_do_not_come_back(task: Task, place: str, tmp_path: Path) -> None:
    tree = make_tree(Path(place))
    os.chmod(tree / "secret", 0o644)
    options = {"preserve": True, "skip_unchanged": True}
    rcopy(task, tree, tmp_path, **options)
    (tree / "file").write_bytes(b"CONTENTS\n")
    os.utime(tree / "file", (5, 5))
    worker = rcopy(task, tree, tmp_path, **options)
    check(task)
    assert str(tmp_path / "tree.node1" / "sub" / "large") in worker.skipped("node1")
    assert str(tmp_path / "tree.node1" / "file") not in worker.skipped("node1")
    worker = rcopy(task, tree, tmp_path, skip_unchanged=True, checksum=True)
    assert str(tmp_path / "tree.node1" / "file") in worker.skipped("node1")
    assert contents(tmp_path / "tree.node1") == followed(tree)


# -- events and failures ---------------------------------------------------------------------------


def test_events(task: Task, place: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(1_000_000))
    handler = Recorder()
    copy(task, source, place, nodes="node[1-2]", handler=handler)
    assert handler.events[0] == ("start",)
    assert handler.events[-1] == ("close", "WorkerSsh", False)
    for node in ("node1", "node2"):
        first, *written, last = handler.of(node)
        assert first == ("pickup", node)
        assert last == ("hup", node, 0)
        sizes = [event[3] for event in written]
        assert {event[:3] for event in written} == {("written", node, "copy")}
        assert sizes == sorted(sizes)
        assert sizes[-1] == 1_000_000
    back = Recorder()
    rcopy(task, f"{place}/source", tmp_path, nodes="node1", handler=back)
    assert back.of("node1")[-2:] == [
        ("written", "node1", "copy", 1_000_000),
        ("hup", "node1", 0),
    ]


def failure(task: Task) -> CopyError:
    assert task.max_retcode() == 1
    ((error, found),) = task.iter_failures()
    assert list(found) == ["node1"]
    assert isinstance(error, CopyError)
    assert error.node == "node1"
    assert error.phase == "copy"
    return error


def test_failures_name_node_path_and_cause(task: Task, place: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x")
    copy(task, tmp_path / "missing", place)
    with pytest.raises(FileNotFoundError) as missing:  # in the words of the system
        os.stat(tmp_path / "missing")
    assert failure(task).cause == f"{tmp_path / 'missing'}: {missing.value.strerror}"
    copy(task, source, f"{place}/no/such/directory")
    error = failure(task)
    assert error.path == f"{place}/no/such/directory"
    assert error.cause == f"{place}/no/such/directory: No such file or directory"
    assert error.status == 2
    copy(task, source, f"{place}/missing/")
    assert failure(task).cause == f"{place}/missing/: No such directory"
    copy(task, source, place)
    copy(task, tmp_path, f"{place}/source")
    assert failure(task).cause == f"{place}/source: Not a directory"
    os.mkdir(f"{place}/dir")
    os.mkdir(f"{place}/dir/source")
    copy(task, source, f"{place}/dir")
    assert failure(task).cause == f"{place}/dir/source: Is a directory"
    rcopy(task, f"{place}/missing", tmp_path)
    assert failure(task).cause == f"{place}/missing: No such file or directory"
    (tmp_path / "source.node1").mkdir()
    rcopy(task, f"{place}/source", tmp_path)
    on_this_host = f"{place}/source: on this host: "
    # Windows has no error of its own for directories.
    reasons = {"Is a directory", "Access denied", "Access is denied"}
    assert failure(task).cause in {on_this_host + reason for reason in reasons}
    assert os.listdir(tmp_path / "source.node1") == []
    assert sorted(os.listdir(tmp_path)) == ["source", "source.node1"]


def test_a_node_that_cannot_be_reached(task: Task, place: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x")
    task.configure_ssh("node2", port=1, hostname="127.0.0.1")
    handler = Recorder()
    copy(task, source, place, nodes="node[1-2]", handler=handler)
    assert handler.of("node1")[-1] == ("hup", "node1", 0)
    assert handler.of("node2")[0] == ("pickup", "node2")
    assert handler.of("node2")[-1] == ("hup", "node2", 255)
    ((error, found),) = task.iter_failures()
    assert isinstance(error, ConnectError)
    assert list(found) == ["node2"]


def test_relative_paths_begin_at_home(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)  # asyncssh's server has no other
    source = tmp_path / "copied-by-a-test"
    source.write_bytes(b"at home")
    worker = WorkerSsh("node1", None, source=str(source), dest="~/copied-by-a-test")
    task.schedule(worker)
    task.resume()
    if task.max_retcode():
        # The account of some servers has no home directory that it may write to.
        ((error, _),) = task.iter_failures()
        assert "copied-by-a-test: " in str(error)
        return
    for path in (
        "copied-by-a-test",
        "~/copied-by-a-test",
        "~//copied-by-a-test",
        "./copied-by-a-test",
    ):
        rcopy(task, path, tmp_path)
        check(task)
        assert (tmp_path / "copied-by-a-test.node1").read_bytes() == b"at home"
        (tmp_path / "copied-by-a-test.node1").unlink()
    task.run("rm -f copied-by-a-test", nodes="node1")  # if the server runs commands


def test_nothing_is_left_open(
    task: Task, place: str, tmp_path: Path, no_leaks: None, request: pytest.FixtureRequest
) -> None:
    if os.name == "nt" and "asyncssh" in request.node.name:
        pytest.skip("not on Windows: asyncio frees the sockets of its server late there")
    tree = make_tree(tmp_path)
    copy(task, tree, place, nodes="node[1-3]")
    back = tmp_path / "back"
    back.mkdir()
    rcopy(task, f"{place}/tree", back, nodes="node[1-3]")
    check(task)
    task.close()
