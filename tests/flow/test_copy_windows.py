"""Copies from and to a Windows host, which is played on other systems where that is possible."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyclustershell import NodeSet, platform
from pyclustershell.loopback import LoopbackCluster
from pyclustershell.ssh.sftp import codec
from pyclustershell.ssh.sftp.codec import Attributes, ReplyFields
from pyclustershell.task import Task
from tests.helpers.tasks import fresh_task
from tests.servers import sftp
from tests.servers.sftp import ScriptedSftp, scripted_nodes

DIRECTORY = Attributes(mode=stat.S_IFDIR | 0o755)
FILE = Attributes(size=4, mode=stat.S_IFREG | 0o444, atime=1_000_000_000, mtime=1_000_000_000)


@pytest.fixture
def task() -> Iterator[Task]:
    with fresh_task() as task:
        yield task


class Tree:
    """A server with the files and directories that a test names; each file holds its own name."""

    def __init__(self, *paths: str) -> None:
        self.paths = [path.encode() for path in paths]
        self._listed: set[bytes] = set()
        self.script = {
            codec.STAT: self.stat,
            codec.OPENDIR: self.open,
            codec.READDIR: self.readdir,
            codec.CLOSE: lambda _server, number, _fields: sftp.status(number, codec.OK),
            codec.OPEN: self.open,
            codec.FSTAT: self.stat,
            codec.READ: self.read,
        }

    def _attributes(self, path: bytes) -> Attributes:
        is_file = path in self.paths
        return FILE._replace(size=len(path)) if is_file else DIRECTORY

    def stat(self, _server: ScriptedSftp, number: int, fields: ReplyFields) -> bytes:
        return sftp.attributes(number, self._attributes(fields.string()))

    def open(self, _server: ScriptedSftp, number: int, fields: ReplyFields) -> bytes:
        return sftp.handle(number, fields.string())

    def read(self, _server: ScriptedSftp, number: int, fields: ReplyFields) -> bytes:
        path, offset = fields.string(), fields.uint64()
        if offset >= len(path):
            return sftp.status(number, codec.EOF)
        return sftp.data(number, path[offset:])

    def readdir(self, _server: ScriptedSftp, number: int, fields: ReplyFields) -> bytes:
        directory = fields.string() + b"/"
        below = [p[len(directory) :].split(b"/")[0] for p in self.paths if p.startswith(directory)]
        if directory in self._listed or not below:
            self._listed.discard(directory)  # for the next node
            return sftp.status(number, codec.EOF)
        self._listed.add(directory)
        found = [(name, self._attributes(directory + name)) for name in dict.fromkeys(below)]
        return sftp.names(number, *found)


def rcopy(task: Task, tree: Tree, dest: Path, source: str = "/data", **options: Any) -> Any:
    nodes = options.pop("nodes", "node1")
    with scripted_nodes(tree.script) as cluster:
        cluster.configure(task)
        worker = task.rcopy(source, str(dest), nodes=nodes, **options)
        task.resume()
    return worker


def causes(task: Task) -> list[str]:
    return [failure.cause for failure, _ in task.iter_failures()]


def everything(top: Path) -> list[str]:
    return sorted(path.relative_to(top).as_posix() for path in top.rglob("*"))


def folds(directory: Path) -> bool:
    """True if a file system takes two names in upper and lower case for one."""
    (directory / "probe").touch()
    found = (directory / "PROBE").exists()
    (directory / "probe").unlink()
    return found


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "paths",
    [
        ["/data/Makefile", "/data/makefile", "/data/other"],
        ["/data/makefile", "/data/MAKEFILE/x", "/data/other"],
        ["/data/Sub/x", "/data/sub/y", "/data/other"],
    ],
)
@pytest.mark.parametrize("options", [{}, {"inplace": True}, {"skip_unchanged": True}])
def test_names_of_one_file_fail(
    task: Task, tmp_path: Path, paths: list[str], options: dict[str, bool]
) -> None:
    """Both are named; and nothing is lost where both can be."""
    rcopy(task, Tree(*paths), tmp_path, **options)
    copied = {path.read_text(encoding="utf-8") for path in tmp_path.rglob("*") if path.is_file()}
    assert "/data/other" in copied
    if not folds(tmp_path):
        assert causes(task) == []
        assert copied == set(paths)
        return
    assert task.max_retcode() == 1
    (cause,) = causes(task)
    first, second = ("/".join(path.split("/")[:3]) for path in paths[:2])
    text = "{}: on this host: its name is that of '{}', which is copied as well"
    assert cause in (text.format(second, first), text.format(first, second))
    assert len(copied) == 2


def test_copies_of_two_nodes_with_one_name_fail(task: Task, tmp_path: Path) -> None:
    with LoopbackCluster(["node1"]) as cluster:
        home = Path(cluster.home("node1"))
        (home / "file").write_bytes(b"contents")
        cluster.configure(task)
        task.configure_ssh("NODE1", hostname="127.0.0.1", port=cluster.port("node1"))
        task.configure_ssh(
            "NODE1",
            user=cluster.user,
            identity_files=[cluster.identity_file],
            host_key_policy="off",
        )
        task.rcopy("file", str(tmp_path), nodes="node1,NODE1")
        task.resume()
    if not folds(tmp_path):
        assert causes(task) == []
        assert everything(tmp_path) == ["file.NODE1", "file.node1"]
        return
    assert task.max_retcode() == 1
    (cause,) = causes(task)
    assert cause in (
        "file: on this host: its name is that of 'file' of node1, which is copied as well",
        "file: on this host: its name is that of 'file' of NODE1, which is copied as well",
    )


def test_two_sources_with_one_name_fail(task: Task, tmp_path: Path) -> None:
    tree = Tree("/a/Makefile", "/b/makefile")
    with scripted_nodes(tree.script) as nodes:
        nodes.configure(task)
        for source in ("/a/Makefile", "/b/makefile"):
            task.rcopy(source, str(tmp_path), nodes="node1")
        task.resume()
        both = causes(task)
        # In another run, the later copy replaces the earlier one.
        task.rcopy("/b/makefile", str(tmp_path), nodes="node1")
        task.resume()
        assert causes(task) == []
    names = sorted(path.read_text(encoding="utf-8") for path in tmp_path.iterdir())
    if folds(tmp_path):
        (cause,) = both
        assert cause.endswith(" of node1, which is copied as well")
        assert names == ["/b/makefile"]
    else:
        assert both == []
        assert names == ["/a/Makefile", "/b/makefile"]


@pytest.mark.parametrize(
    ("source", "node"),
    [
        ("/data/a:b", "node1"),
        ("/data/a\\b", "node1"),
        ("C:\\data", "node1"),
        ("/data/CON", "node1"),
        ("/data/nul", "node1"),
        ("/data/a", "fe80::1"),
        ("/data/a", "node1."),
    ],
)
def test_a_copy_without_a_safe_name_fails(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, node: str
) -> None:
    monkeypatch.setattr(platform, "WINDOWS_PATHS", True)
    rcopy(task, Tree("/data/a"), tmp_path, source, nodes=NodeSet.fromlist([node]))
    assert task.max_retcode() == 255
    (cause,) = causes(task)
    name = f"{source.rpartition('/')[2]}.{node}"
    assert cause.startswith(f"{name!r} cannot be the name of a copy on this host: it ")
    assert everything(tmp_path) == []


def test_names_that_windows_changes_are_refused(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "WINDOWS_PATHS", True)
    refused = ["a:b", "a\\b", "CON", "nul", "COM1.txt", "dot.", "blank ", "x/con/y"]
    rcopy(task, Tree(*(f"/data/{name}" for name in refused), "/data/good"), tmp_path)
    assert task.max_retcode() == 1
    assert everything(tmp_path) == ["data.node1", "data.node1/good", "data.node1/x"]


# -- modes -----------------------------------------------------------------------------------------


def test_a_host_without_modes_leaves_those_of_nodes(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The umask of the server decides; a file that exists keeps its mode. Times are preserved."""
    monkeypatch.setattr(platform, "POSIX_FILES", False)
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    for name in ("new", "old", "sub/new"):
        path = tmp_path / "tree" / name
        path.write_bytes(b"contents")
        path.chmod(0o666)
        os.utime(path, (1_000_000_000, 1_000_000_000))
    (tmp_path / "tree" / "sub").chmod(0o777)
    set_modes = []

    def note(_server: ScriptedSftp, _number: int, fields: ReplyFields) -> None:
        fields.string()
        set_modes.append(fields.attributes().mode)

    with scripted_nodes({codec.SETSTAT: note, codec.FSETSTAT: note}) as nodes:
        nodes.configure(task)
        target = Path(nodes.path("target", "tree", "x")).parent
        old = target / "old"
        old.write_bytes(b"before")
        old.chmod(0o640)
        mode = stat.S_IMODE(old.stat().st_mode)
        task.copy(str(tmp_path / "tree"), str(target.parent), nodes="node1", preserve=True)
        task.resume()
        assert causes(task) == []
        assert set(set_modes) == {None, mode}
        assert stat.S_IMODE(old.stat().st_mode) == mode
        for name in ("new", "old", "sub/new"):
            assert (target / name).read_bytes() == b"contents"
            assert int((target / name).stat().st_mtime) == 1_000_000_000


def test_a_read_only_file_of_a_node_is_none_here(task: Task, tmp_path: Path) -> None:
    """Windows: it could be neither copied again nor removed."""
    for _ in range(2):
        rcopy(task, Tree("/data/file"), tmp_path)
        assert causes(task) == []
    (tmp_path / "data.node1" / "file").unlink()
