"""Servers that cannot be trusted, that fail, and that say something else than SFTP."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, Optional

import pytest

from pyclustershell import platform
from pyclustershell.exceptions import (
    ConnectionLostError,
    CopyError,
    SessionError,
    SFTPProtocolError,
    TimeoutError,
    UnsafeCopyError,
)
from pyclustershell.ssh.sftp import codec, download
from pyclustershell.ssh.sftp.codec import Attributes, ReplyFields
from pyclustershell.task import Task
from tests.helpers.needs import require
from tests.helpers.recorder import Recorder
from tests.helpers.tasks import fresh_task
from tests.servers import processes, sftp
from tests.servers.processes import node_path
from tests.servers.proxy import FaultyProxy, Plan
from tests.servers.sftp import (
    SFTP_SERVER,
    Nodes,
    ScriptedSftp,
    loopback_nodes,
    openssh_nodes,
    scripted_nodes,
)
from tests.servers.sshd import Sshd

DIRECTORY = Attributes(mode=stat.S_IFDIR | 0o755)
FILE = Attributes(size=4, mode=stat.S_IFREG | 0o644)
LINK = Attributes(mode=stat.S_IFLNK | 0o777)

DEADLINE = 10.0


@pytest.fixture
def task() -> Iterator[Task]:
    with fresh_task() as task:
        yield task


def everything(top: Path) -> list[str]:
    """The files and directories below a directory."""
    return sorted(path.relative_to(top).as_posix() for path in top.rglob("*"))


def failures(task: Task) -> list[CopyError]:
    return [error for error, _ in task.iter_failures()]  # type: ignore[misc]


def only_failure(task: Task, rc: int = 1) -> Any:
    assert task.max_retcode() == rc
    (error,) = failures(task)
    assert error.node == "node1"
    return error


def rcopy(task: Task, nodes: Nodes, source: str, dest: Path, **options: Any) -> Any:
    nodes.configure(task)
    worker = task.rcopy(source, str(dest), nodes="node1", **options)
    task.resume()
    return worker


def copy(task: Task, nodes: Nodes, source: Path, dest: str, **options: Any) -> Any:
    nodes.configure(task)
    worker = task.copy(str(source), dest, nodes="node1", **options)
    task.resume()
    return worker


# -- names and links -------------------------------------------------------------------------------


class Listing:
    """A server that has one directory, with the entries that a test gives."""

    def __init__(self, *entries: tuple[bytes, Attributes], target: bytes = b"") -> None:
        self.entries = entries
        self.target = target
        self.listed = False
        self.script = {
            codec.STAT: self.stat,
            codec.OPENDIR: lambda _server, number, _fields: sftp.handle(number, b"d"),
            codec.READDIR: self.readdir,
            codec.CLOSE: lambda _server, number, _fields: sftp.status(number, codec.OK),
            codec.READLINK: lambda _server, number, _fields: sftp.names(
                number, (self.target, Attributes())
            ),
            codec.OPEN: lambda _server, number, _fields: sftp.handle(number, b"f"),
            codec.FSTAT: lambda _server, number, _fields: sftp.attributes(number, FILE),
            codec.READ: self.read,
        }

    def stat(self, _server: ScriptedSftp, number: int, fields: ReplyFields) -> bytes:
        known = dict(self.entries).get(os.path.basename(fields.string()), DIRECTORY)
        return sftp.attributes(number, known)

    def read(self, _server: ScriptedSftp, number: int, fields: ReplyFields) -> bytes:
        fields.string()
        ended = fields.uint64() >= 4
        return sftp.status(number, codec.EOF) if ended else sftp.data(number, b"evil")

    def readdir(self, _server: ScriptedSftp, number: int, _fields: ReplyFields) -> bytes:
        if self.listed:
            return sftp.status(number, codec.EOF)
        self.listed = True
        return sftp.names(number, *self.entries)


@pytest.mark.parametrize(
    "name",
    [b"../evil", b"/tmp/evil", b"a/b", b"", b"a\0b", b"x/../../evil"],
)
def test_a_name_that_leads_out_is_refused(task: Task, tmp_path: Path, name: bytes) -> None:
    dest = tmp_path / "dest"
    dest.mkdir()
    listing = Listing((b"good", FILE), (name, FILE), (b"better", FILE))
    with scripted_nodes(listing.script) as nodes:
        rcopy(task, nodes, "/data", dest)
    error = only_failure(task)
    assert isinstance(error, UnsafeCopyError)
    assert error.path == "/data"
    assert "is refused" in error.cause
    assert everything(tmp_path) == [
        "dest",
        "dest/data.node1",
        "dest/data.node1/better",
        "dest/data.node1/good",
    ]


def test_dot_and_dot_dot_are_no_entries(task: Task, tmp_path: Path) -> None:
    with scripted_nodes(Listing((b".", DIRECTORY), (b"..", DIRECTORY)).script) as nodes:
        rcopy(task, nodes, "/data", tmp_path)
    assert task.max_retcode() == 0
    assert everything(tmp_path) == ["data.node1"]


@pytest.mark.parametrize("target", [b"/etc/passwd", b"../..", b"x/../../../y", b""])
def test_a_link_that_leads_out_is_refused(task: Task, tmp_path: Path, target: bytes) -> None:
    with scripted_nodes(Listing((b"link", LINK), target=target).script) as nodes:
        rcopy(task, nodes, "/data", tmp_path, follow_symlinks=False)
    assert isinstance(only_failure(task), UnsafeCopyError)
    assert everything(tmp_path) == ["data.node1"]


@pytest.mark.posix_only("it makes symbolic links, which needs rights on Windows")
@pytest.mark.parametrize("again", [False, True])
def test_a_chain_of_links_that_leads_out_is_refused(
    task: Task, tmp_path: Path, again: bool
) -> None:
    """The text of each stays in the tree; the two together do not."""
    (tmp_path / "outside").write_bytes(b"precious")
    dest = tmp_path / "dest"
    dest.mkdir()
    with loopback_nodes() as nodes:
        tree = Path(nodes.path("tree", "a", "b", "x")).parent.parent.parent
        (tree / "a" / "b" / "up").symlink_to("../..")
        (tree / "a" / "good").symlink_to("b/../b/up")
        if again:
            rcopy(task, nodes, node_path(tree), dest, follow_symlinks=False)
            assert task.max_retcode() == 0
        (tree / "a" / "evil").symlink_to("b/up/../../outside")
        rcopy(task, nodes, node_path(tree), dest, follow_symlinks=False)
        error = only_failure(task)
        assert isinstance(error, UnsafeCopyError)
        assert error.path == f"{tree}/a/evil"
        assert "goes back ('..') from something else than a directory" in error.cause
    assert everything(dest / "tree.node1") == ["a", "a/b", "a/b/up", "a/good"]


@pytest.mark.posix_only("it makes symbolic links, which needs rights on Windows")
def test_a_link_through_an_own_link_out_is_refused(task: Task, tmp_path: Path) -> None:
    (tmp_path / "data.node1").mkdir()
    (tmp_path / "data.node1" / "own").symlink_to(tmp_path)
    with scripted_nodes(Listing((b"link", LINK), target=b"own/secret").script) as nodes:
        rcopy(task, nodes, "/data", tmp_path, follow_symlinks=False)
    assert "leads out of the copied directory, through a link" in only_failure(task).cause
    assert everything(tmp_path / "data.node1") == ["own"]


@pytest.mark.posix_only("it makes symbolic links, which needs rights on Windows")
def test_links_are_made_after_all_files(task: Task, tmp_path: Path) -> None:
    """Where names differ in upper and lower case only, a file would be written through a link."""
    source = tmp_path / "source"
    (source / "b").mkdir(parents=True)
    (source / "A").symlink_to("b")
    for name in ("a", "b/file", "c"):
        (source / name).write_bytes(b"x")
    seen = []

    def note(kind: int) -> Callable[..., None]:
        return lambda *_: seen.append(kind)

    kinds = (codec.SYMLINK, codec.OPEN, codec.MKDIR)
    with scripted_nodes({kind: note(kind) for kind in kinds}) as nodes:
        copy(task, nodes, source, nodes.path("dest"), follow_symlinks=False)
    assert task.max_retcode() == 0
    assert seen.index(codec.SYMLINK) == len(seen) - 1 == 5


@pytest.mark.posix_only("it looks at modes of POSIX")
@pytest.mark.parametrize(("refuse", "expected"), [(False, 0o4755), (True, 0o755)])
def test_set_uid_bits_go_with_their_owner(
    task: Task, tmp_path: Path, refuse: bool, expected: int
) -> None:
    """A file that is replaced keeps them only if it keeps its owner."""
    source = tmp_path / "source"
    source.write_bytes(b"new")
    source.chmod(0o755)

    def fsetstat(_server: ScriptedSftp, number: int, fields: ReplyFields) -> Optional[bytes]:
        fields.string()
        owned = fields.attributes().uid is not None
        return sftp.status(number, codec.PERMISSION_DENIED) if owned and refuse else None

    with scripted_nodes({codec.FSETSTAT: fsetstat}) as nodes:
        target = Path(nodes.path("dest", "target"))
        target.write_bytes(b"old")
        target.chmod(0o4755)
        copy(task, nodes, source, node_path(target))
        assert task.max_retcode() == 0
        assert stat.S_IMODE(target.stat().st_mode) == expected


@pytest.mark.posix_only("it makes symbolic links, which needs rights on Windows")
def test_nothing_is_written_through_a_link(task: Task, tmp_path: Path) -> None:
    """First a link, then a directory of the same name: nothing may be written to the link's target.

    Nor through a link that an earlier copy has made.
    """
    dest = tmp_path / "dest"
    (dest / "inside").mkdir(parents=True)
    entries = [(b"a", LINK), (b"a", DIRECTORY)]
    for _ in range(2):
        listing = Listing(*entries, target=b"inside")
        with scripted_nodes(listing.script) as nodes:
            rcopy(task, nodes, "/data", dest, follow_symlinks=False)
        task.close()
    assert everything(dest / "inside") == []
    shutil.rmtree(dest / "data.node1")
    (dest / "data.node1").mkdir()
    (dest / "data.node1" / "a").symlink_to("../inside")
    with scripted_nodes(Listing((b"a", DIRECTORY)).script) as nodes:
        rcopy(task, nodes, "/data", dest)
    assert "Not a directory" in only_failure(task).cause
    assert everything(dest / "inside") == []


@pytest.mark.posix_only("it makes symbolic links, which needs rights on Windows")
def test_an_own_link_in_the_place_of_a_file_is_replaced(task: Task, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    (tmp_path / "data.node1").mkdir()
    (tmp_path / "data.node1" / "file").symlink_to(outside)
    with scripted_nodes(Listing((b"file", FILE)).script) as nodes:
        rcopy(task, nodes, "/data", tmp_path)
        assert task.max_retcode() == 0
        assert outside.read_bytes() == b"precious"
        assert (tmp_path / "data.node1" / "file").read_bytes() == b"evil"
        (tmp_path / "data.node1" / "file").unlink()
        (tmp_path / "data.node1" / "file").symlink_to(outside)
    with scripted_nodes(Listing((b"file", FILE)).script) as nodes:
        rcopy(task, nodes, "/data", tmp_path, inplace=True)
    assert task.max_retcode() == 1
    assert outside.read_bytes() == b"precious"


def test_windows_hosts_refuse_more(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "WINDOWS_PATHS", True)
    refused = [b"C:evil", b"..\\evil", b"CON", b"file:stream", b"dot."]
    listing = Listing(*((name, FILE) for name in refused), (b"good", FILE))
    with scripted_nodes(listing.script) as nodes:
        rcopy(task, nodes, "/data", tmp_path)
    assert task.max_retcode() == 1
    assert everything(tmp_path) == ["data.node1", "data.node1/good"]


def test_an_endless_listing_ends(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_MOST_ENTRIES", 1000)
    listing = Listing()

    def endless(_server: ScriptedSftp, number: int, _fields: ReplyFields) -> bytes:
        return sftp.names(number, *[(b"..", DIRECTORY)] * 100)

    with scripted_nodes({**listing.script, codec.READDIR: endless}) as nodes:
        rcopy(task, nodes, "/data", tmp_path)
    error = only_failure(task)
    assert isinstance(error, UnsafeCopyError)
    assert error.cause == "/data: the server lists more than 1000 files"


def test_an_endless_tree_ends(task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_DEEPEST", 20)
    listing = Listing()
    turns = iter(range(1_000_000))

    def deeper(_server: ScriptedSftp, number: int, _fields: ReplyFields) -> bytes:
        if next(turns) % 2:
            return sftp.status(number, codec.EOF)
        return sftp.names(number, (b"d", DIRECTORY))

    with scripted_nodes({**listing.script, codec.READDIR: deeper}) as nodes:
        rcopy(task, nodes, "/data", tmp_path)
    assert "more than 20 directories deep" in only_failure(task).cause


# -- sizes -----------------------------------------------------------------------------------------


def with_file(size: Optional[int], read: Callable[[int, int, int], bytes]) -> dict[int, Any]:
    """A server with one file: its size, and its answers to reads (number, offset, size)."""
    found = Attributes(size=size, mode=stat.S_IFREG | 0o644)

    def answer(_server: ScriptedSftp, number: int, fields: ReplyFields) -> bytes:
        fields.string()
        return read(number, fields.uint64(), fields.uint32())

    return {
        **Listing().script,
        codec.STAT: lambda _server, number, _fields: sftp.attributes(number, found),
        codec.FSTAT: lambda _server, number, _fields: sftp.attributes(number, found),
        codec.READ: answer,
    }


def test_a_file_that_is_shorter_than_it_says_is_refused(task: Task, tmp_path: Path) -> None:
    def read(number: int, offset: int, _size: int) -> bytes:
        return sftp.data(number, b"x" * 10) if offset == 0 else sftp.status(number, codec.EOF)

    (tmp_path / "data.node1").write_bytes(b"before")
    with scripted_nodes(with_file(1 << 60, read)) as nodes:
        rcopy(task, nodes, "/data", tmp_path)
    error = only_failure(task)
    assert isinstance(error, UnsafeCopyError)
    assert error.cause == f"/data: it ends after 10 of {1 << 60} bytes"
    assert everything(tmp_path) == ["data.node1"]
    assert (tmp_path / "data.node1").read_bytes() == b"before"


def test_more_data_than_was_asked_for_is_refused(task: Task, tmp_path: Path) -> None:
    with scripted_nodes(with_file(10, lambda number, *_: sftp.data(number, b"x" * 11))) as nodes:
        rcopy(task, nodes, "/data", tmp_path)
    error = only_failure(task)
    assert isinstance(error, SFTPProtocolError)
    assert "11 bytes of data, and 10 were requested" in error.cause
    assert everything(tmp_path) == []


def test_empty_data_do_not_go_on_for_ever(task: Task, tmp_path: Path) -> None:
    with scripted_nodes(with_file(10, lambda number, *_: sftp.data(number, b""))) as nodes:
        rcopy(task, nodes, "/data", tmp_path)
    assert isinstance(only_failure(task), SFTPProtocolError)


def test_an_endless_file_ends_with_the_timeout(task: Task, tmp_path: Path) -> None:
    script = with_file(0, lambda number, _offset, size: sftp.data(number, bytes(size)))
    with scripted_nodes(script) as nodes:
        rcopy(task, nodes, "/data", tmp_path, timeout=1.0)
    assert list(task.iter_keys_timeout()) == ["node1"]
    assert everything(tmp_path) == []


def contents_of(contents: bytes, most: int = 1 << 20) -> Callable[[int, int, int], bytes]:
    """Answers to reads of a file, with at most so many bytes each."""

    def read(number: int, offset: int, size: int) -> bytes:
        found = contents[offset : offset + min(size, most)]
        return sftp.data(number, found) if found else sftp.status(number, codec.EOF)

    return read


def test_short_answers_are_completed(task: Task, tmp_path: Path) -> None:
    """The protocol lets a server send less than was asked for."""
    contents = os.urandom(100_000)
    with scripted_nodes(with_file(len(contents), contents_of(contents, 777))) as nodes:
        rcopy(task, nodes, "/data", tmp_path)
    assert task.max_retcode() == 0
    assert (tmp_path / "data.node1").read_bytes() == contents


@pytest.mark.parametrize("most", [777, 1 << 20])
@pytest.mark.parametrize("said", [None, 0, 1, 777, 90_000, 99_999])
def test_a_file_that_is_longer_than_it_says_is_read_to_its_end(
    task: Task, tmp_path: Path, said: Optional[int], most: int
) -> None:
    contents = os.urandom(100_000)
    with scripted_nodes(with_file(said, contents_of(contents, most))) as nodes:
        rcopy(task, nodes, "/data", tmp_path)
    assert failures(task) == []
    assert (tmp_path / "data.node1").read_bytes() == contents


def test_contents_are_compared_to_the_end(task: Task, tmp_path: Path) -> None:
    """The server's size and the first bytes are those of the local file, and more follow."""
    here = tmp_path / "here"
    here.mkdir()
    for local in (here / "data.node1", tmp_path / "data"):
        local.write_bytes(b"1234")
    options = {"skip_unchanged": True, "checksum": True}
    with scripted_nodes(with_file(4, contents_of(b"12345678"))) as nodes:
        worker = rcopy(task, nodes, "/data", here, **options)
        assert failures(task) == []
        assert worker.skipped("node1") == []
        assert (here / "data.node1").read_bytes() == b"12345678"
        del nodes
    script = with_file(4, contents_of(b"12345678"))
    del script[codec.OPEN], script[codec.CLOSE]
    script[codec.LSTAT] = script[codec.STAT]
    with scripted_nodes(script) as nodes:
        target = Path(nodes.path("target"))
        target.write_bytes(b"12345678")
        worker = copy(task, nodes, tmp_path / "data", node_path(target), **options)
        assert failures(task) == []
        assert worker.skipped("node1") == []
        assert target.read_bytes() == b"1234"


@pytest.mark.parametrize("reverse", [False, True])
def test_a_log_that_grows_is_copied(task: Task, tmp_path: Path, reverse: bool) -> None:
    """It ends at its end: there are more than 3 MB, and the copy begins as the log did."""
    appended = iter(range(20))
    before = os.urandom(3 << 20)

    def append(_server: ScriptedSftp, _number: int, _fields: ReplyFields) -> None:
        for turn in appended:
            with open(log, "ab") as file:
                file.write(b"%3d a line\n" % turn * 1000)
            return

    here = tmp_path / "here"
    here.mkdir()
    with scripted_nodes({codec.READ if reverse else codec.WRITE: append}) as nodes:
        log = nodes.path("log") if reverse else str(tmp_path / "log")
        Path(log).write_bytes(before)
        if reverse:
            rcopy(task, nodes, log, here)
        else:
            copy(task, nodes, Path(log), node_path(here / "log.node1"))
        copied = (here / "log.node1").read_bytes()
        now = Path(log).read_bytes()
    assert failures(task) == []
    assert len(copied) > len(before)
    assert now.startswith(copied)


class Ending:
    """A file of 200,000 bytes, of which a server sends 100,000; the sizes that it reports in turn.

    Attributes:
        blocks: the size of its file system.
    """

    def __init__(self, *sizes: int, blocks: int = 1000, ends_at: int = 100_000) -> None:
        self._sizes = list(sizes)
        self._blocks = blocks
        self.script = with_file(200_000, contents_of(bytes(ends_at)))
        self.script[codec.FSTAT] = self.fstat
        self.script[codec.EXTENDED] = self.extended

    def fstat(self, _server: ScriptedSftp, number: int, _fields: ReplyFields) -> bytes:
        size = self._sizes.pop(0)
        return sftp.attributes(number, Attributes(size=size, mode=stat.S_IFREG | 0o644))

    def extended(self, _server: ScriptedSftp, number: int, fields: ReplyFields) -> Optional[bytes]:
        if fields.string() != b"statvfs@openssh.com":
            return None
        numbers = [4096, 4096, self._blocks, *[0] * 8]
        return sftp.extended(number, struct.pack(">11Q", *numbers))


@pytest.mark.parametrize(
    ("sizes", "cause"),
    [
        ((200_000, 200_000), "it ends after 100000 of 200000 bytes"),
        ((200_000, 300_000), "it ends after 100000 of 200000 bytes"),
        ((200_000, 100_000), "it became shorter while it was copied"),
        ((200_000, 0), "it became shorter while it was copied"),
    ],
)
def test_a_file_that_ends_too_early_fails(
    task: Task, tmp_path: Path, sizes: tuple[int, ...], cause: str
) -> None:
    with scripted_nodes(Ending(*sizes).script) as nodes:
        rcopy(task, nodes, "/data", tmp_path)
    assert only_failure(task).cause == f"/data: {cause}"
    assert everything(tmp_path) == []


def test_a_file_that_ends_early_where_sizes_mean_nothing(task: Task, tmp_path: Path) -> None:
    """As files of /sys, which have a page each, and end before."""
    with scripted_nodes(Ending(200_000, 200_000, blocks=0).script) as nodes:
        rcopy(task, nodes, "/data", tmp_path)
    assert failures(task) == []
    assert (tmp_path / "data.node1").read_bytes() == bytes(100_000)


def test_a_file_that_ends_and_goes_on_fails(task: Task, tmp_path: Path) -> None:
    """It was cut and grew again between two answers: zero bytes would fill the gap."""
    good = contents_of(bytes(1 << 20))

    def read(number: int, offset: int, size: int) -> bytes:
        return (
            sftp.status(number, codec.EOF) if 0 < offset < 400_000 else good(number, offset, size)
        )

    with scripted_nodes(with_file(1 << 20, read)) as nodes:
        rcopy(task, nodes, "/data", tmp_path)
    assert (
        only_failure(task).cause == "/data: it changed while it was copied: it ended, and went on"
    )
    assert everything(tmp_path) == []


# -- answers that are not SFTP ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [
        b"\x65\0\0\0\x63\0\0\0\0",  # STATUS for a request that never was
        b"\x99",
        struct.pack(">BI", codec.HANDLE, 1),
        struct.pack(">BII", codec.VERSION, 3, 9),
    ],
)
def test_messages_that_break_the_protocol_end_the_session(
    task: Task, tmp_path: Path, reply: bytes
) -> None:
    with scripted_nodes({codec.STAT: lambda *_: reply}) as nodes:
        rcopy(task, nodes, "/data", tmp_path)
        error = only_failure(task)
        assert isinstance(error, SFTPProtocolError)
        assert "broke the SFTP protocol" in error.cause
        # The connection itself is as good as before.
        task.run("true", nodes="node1")
        assert task.max_retcode() == 0


def test_random_replies_end_the_session(task: Task, tmp_path: Path) -> None:
    def garbage(server: ScriptedSftp, _number: int, _fields: ReplyFields) -> bytes:
        server.send_bytes(os.urandom(5000))
        return b""

    with scripted_nodes({codec.STAT: garbage}) as nodes:
        rcopy(task, nodes, "/data", tmp_path)
    assert isinstance(only_failure(task), SFTPProtocolError)


def test_a_server_that_ignores_the_window_is_stopped(task: Task, tmp_path: Path) -> None:
    def flood(server: ScriptedSftp, _number: int, _fields: ReplyFields) -> bytes:
        with server._channel.lock:
            server._channel.out_window_size = 1 << 30
        server.send_bytes(struct.pack(">IBII", 9 + (1 << 16), codec.DATA, 99, 1 << 16))
        server.send_bytes(bytes(1 << 16))
        return b""

    with scripted_nodes({codec.STAT: flood}) as nodes:
        rcopy(task, nodes, "/data", tmp_path)
    assert isinstance(only_failure(task), SFTPProtocolError)


@contextlib.contextmanager
def program(script: str) -> Iterator[str]:
    """A program that the nodes' account may run."""
    with sftp.open_directory() as directory:
        path = Path(directory, "program")
        path.write_bytes(f"#!/bin/sh\n{script}\n".encode())
        processes.set_mode(path, 0o755)
        yield node_path(path)


def test_output_of_login_scripts_is_explained(task: Task, tmp_path: Path) -> None:
    require("sshd", "sftp-server")
    server = tmp_path / "server"
    server.mkdir()
    with program(f"echo Welcome to the cluster; exec {SFTP_SERVER}") as path:
        with openssh_nodes(server, path) as nodes:
            rcopy(task, nodes, "/etc/hostname", tmp_path)
    error = only_failure(task)
    assert isinstance(error, SFTPProtocolError)
    assert "Garbage packet" in error.cause
    assert "~/.bashrc" in error.cause
    assert "Welcome to the cluster" in error.cause


@pytest.mark.parametrize(
    ("script", "what"), [("exit 3", " (exit status 3)"), ("exit 0", "SFTP session")]
)
def test_a_server_program_that_ends_at_once(
    task: Task, tmp_path: Path, script: str, what: str
) -> None:
    require("sshd")
    server = tmp_path / "server"
    server.mkdir()
    with program(script) as path, openssh_nodes(server, path) as nodes:
        rcopy(task, nodes, "/etc/hostname", tmp_path)
    error = only_failure(task, rc=255)
    assert isinstance(error, SessionError)
    assert error.cause.endswith(what)


def test_a_server_without_sftp(task: Task, tmp_path: Path) -> None:
    require("sshd")
    server = tmp_path / "server"
    server.mkdir()
    with Sshd(server, nodes=1, Subsystem="other internal-sftp") as sshd:
        task.set_info("ssh_options", f"-F {sshd.ssh_config}")
        task.rcopy("/etc/hostname", str(tmp_path), nodes="node1")
        task.resume()
    assert "no SFTP subsystem" in only_failure(task, rc=255).cause


# -- nothing half done -----------------------------------------------------------------------------


class Stalling:
    """A server that stops in the middle of a write or a read, until it is told to go on."""

    def __init__(self, kind: int) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()
        self._seen = 0
        self.script = {kind: self.stall}

    def stall(self, _server: ScriptedSftp, _number: int, _fields: ReplyFields) -> None:
        self._seen += 1
        if self._seen == 5:
            self.reached.set()
            assert self.go_on.wait(DEADLINE)


def settled(task: Task) -> None:
    """Wait until background work is over."""
    task.close()


@pytest.mark.posix_only("a loopback server on Windows removes no file that is open")
def test_a_timeout_leaves_nothing_behind(task: Task, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(8 << 20))
    stalling = Stalling(codec.WRITE)
    with scripted_nodes(stalling.script) as nodes:
        target = Path(nodes.path("dest", "target"))
        target.write_bytes(b"before")
        handler = Recorder()
        copy(task, nodes, source, node_path(target), timeout=1.0, handler=handler)
        assert list(task.iter_keys_timeout()) == ["node1"]
        assert not [event for event in handler.of("node1") if event[0] == "hup"]
        assert handler.events[-1] == ("close", "WorkerSsh", True)
        assert len(everything(target.parent)) == 2  # the temporary file is there: it was begun
        stalling.go_on.set()
        settled(task)
        assert everything(target.parent) == ["target"]
        assert target.read_bytes() == b"before"


@pytest.mark.posix_only("a loopback server on Windows removes no file that is open")
def test_an_abort_leaves_nothing_behind(task: Task, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(64 << 20))

    class Aborting(Recorder):
        def ev_written(self, worker: Any, node: Any, sname: str, size: int) -> None:
            super().ev_written(worker, node, sname, size)
            worker.abort()

    with loopback_nodes() as nodes:
        target = Path(nodes.path("dest", "target"))
        handler = Aborting()
        copy(task, nodes, source, node_path(target), handler=handler)
        assert [event[0] for event in handler.events] == ["start", "pickup", "written", "close"]
        # The connection is given back, and serves the next one.
        task.run("true", nodes="node1")
        assert task.max_retcode() == 0
        settled(task)
        assert everything(target.parent) == []


@pytest.mark.posix_only("a loopback server on Windows removes no file that is open")
def test_a_server_that_ends_with_its_input_removes_temporary_files_first(
    task: Task, tmp_path: Path
) -> None:
    def never(_server: ScriptedSftp, _number: int, _fields: ReplyFields) -> bytes:
        return b""

    def remove(server: ScriptedSftp, _number: int, _fields: ReplyFields) -> Optional[bytes]:
        # As OpenSSH's: it looks for the end of its input before each request. An end that was sent
        # together with the request would have come by then.
        for _ in range(20):
            if server._channel.eof_received:
                return b""
            threading.Event().wait(0.01)
        return None

    source = tmp_path / "source"
    source.mkdir()
    for number in range(3):
        (source / str(number)).write_bytes(b"contents")
    with scripted_nodes({codec.WRITE: never, codec.REMOVE: remove}) as nodes:
        target = Path(nodes.path("dest"))
        target.mkdir()
        task.set_info("ssh_kill_grace", 20.0)
        copy(task, nodes, source, str(target / "copy"), timeout=0.5)
        assert list(task.iter_keys_timeout()) == ["node1"]
        assert len(everything(target)) == 4
        settled(task)
        assert everything(target) == ["copy"]


@pytest.mark.posix_only("a loopback server on Windows removes no file that is open")
def test_a_run_that_times_out_leaves_nothing_behind(task: Task, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(8 << 20))
    stalling = Stalling(codec.WRITE)
    with scripted_nodes(stalling.script) as nodes:
        target = Path(nodes.path("dest", "target"))
        nodes.configure(task)
        task.copy(str(source), node_path(target), nodes="node[1-3]")
        with pytest.raises(TimeoutError):
            task.resume(1.0)
        stalling.go_on.set()
        settled(task)
        # (The other nodes may have come to their end in time.)
        assert set(everything(target.parent)) <= {"target"}


def test_a_timeout_of_a_reverse_copy_leaves_nothing_behind(task: Task, tmp_path: Path) -> None:
    stalling = Stalling(codec.READ)
    (tmp_path / "data.node1").write_bytes(b"before")
    with scripted_nodes(stalling.script) as nodes:
        data = Path(nodes.path("data"))
        data.write_bytes(os.urandom(8 << 20))
        rcopy(task, nodes, node_path(data), tmp_path, timeout=1.0)
        assert list(task.iter_keys_timeout()) == ["node1"]
        assert everything(tmp_path) == ["data.node1"]
        assert (tmp_path / "data.node1").read_bytes() == b"before"
        stalling.go_on.set()
        settled(task)


@pytest.mark.parametrize("kind", ["cut", "reset"])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_connection_that_breaks(task: Task, tmp_path: Path, reverse: bool, kind: str) -> None:
    require("sshd")
    large = tmp_path / "large"
    large.write_bytes(os.urandom(8 << 20))
    here = tmp_path / "here"
    here.mkdir()
    (here / "large.node1").write_bytes(b"before")
    server = tmp_path / "server"
    server.mkdir()
    plan = Plan(kind, towards="client" if reverse else "server", after=4 << 20)
    with sftp.open_directory() as place, Sshd(server, nodes=1) as sshd:
        Path(place, "large").write_bytes(b"before")
        processes.set_mode(f"{place}/large", 0o666)  # for the nodes' account
        with FaultyProxy(("127.0.0.1", sshd.port), plan) as proxy:
            hosts = {"node1": {"HostName": "127.0.0.1"}}
            config = sshd.write_ssh_config(server / "proxied", hosts, Port=proxy.port)
            task.set_info("ssh_options", f"-F {config}")
            if reverse:
                shutil.copy(large, f"{place}/large")
                task.rcopy(f"{place}/large", str(here), nodes="node1")
            else:
                task.copy(str(large), f"{place}/large", nodes="node1")
            task.resume()
        assert isinstance(only_failure(task, rc=255), ConnectionLostError)
        assert everything(here) == ["large.node1"]
        assert (here / "large.node1").read_bytes() == b"before"
        if not reverse:
            # (The connection is gone, so nothing can remove the temporary file.)
            assert Path(place, "large").read_bytes() == b"before"


@pytest.mark.parametrize("where", ["there", "here"])
def test_a_full_disk(task: Task, tmp_path: Path, where: str) -> None:
    require("sshd")
    full = tmp_path / "full"
    full.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=777", "none", full]
    mounted = processes.run(*mount, check=False)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here: run as root to see this")
    try:
        (full / "large.node1").write_bytes(b"before")
        large = tmp_path / "large"
        large.write_bytes(os.urandom(4 << 20))
        with loopback_nodes() as nodes:
            if where == "there":
                copy(task, nodes, large, node_path(full / "large.node1"))
            else:
                rcopy(task, nodes, node_path(large), full)
        cause = only_failure(task).cause
        assert "No space left on device" in cause
        assert node_path(full if where == "there" else large) in cause
        assert everything(full) == ["large.node1"]
        assert (full / "large.node1").read_bytes() == b"before"
    finally:
        processes.run("umount", full)


def test_a_failure_without_a_reason_says_what_is_known(task: Task, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * 1000)
    script: dict[int, Any] = {
        codec.WRITE: lambda _server, number, _fields: sftp.status(number, codec.FAILURE)
    }
    with scripted_nodes(script) as nodes:
        target = nodes.path("dest", "target")
        copy(task, nodes, source, target)
        assert only_failure(task).cause.startswith(f"{target}: Failure; ")
        assert everything(Path(target).parent) == []


def test_a_refusal_names_the_file_and_not_the_temporary_one(task: Task, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x")
    script: dict[int, Any] = {
        codec.OPEN: lambda _server, number, _fields: sftp.status(number, codec.PERMISSION_DENIED)
    }
    with scripted_nodes(script) as nodes:
        target = nodes.path("dest", "target")
        nodes.configure(task)
        task.copy(str(source), target, nodes="node[1-3]")
        task.resume()
    ((error, found),) = task.iter_failures()
    assert len(list(found)) == 3
    assert error.cause == f"{target}: Permission denied"


def test_a_server_without_posix_rename(task: Task, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"new")
    with scripted_nodes({}) as nodes:
        target = Path(nodes.path("dest", "target"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("pyclustershell.loopback.sftpserver.SFTPSubsystem.EXTENSIONS", {})
            for expected in (b"new", b"newer"):
                source.write_bytes(expected)
                copy(task, nodes, source, node_path(target))
                assert task.max_retcode() == 0
                assert target.read_bytes() == expected
        assert everything(target.parent) == ["target"]


def test_a_source_that_changes_meanwhile(task: Task, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(8 << 20))
    stalling = Stalling(codec.WRITE)
    with scripted_nodes(stalling.script) as nodes:
        target = Path(nodes.path("dest", "target"))

        def shorten() -> None:
            assert stalling.reached.wait(DEADLINE)
            os.truncate(source, 100)
            stalling.go_on.set()

        thread = threading.Thread(target=shorten)
        thread.start()
        copy(task, nodes, source, node_path(target))
        thread.join()
        assert only_failure(task).cause == f"{source}: it became shorter while it was copied"
        assert everything(target.parent) == []


@pytest.mark.parametrize("by", ["server", "client"])
def test_rekeys_in_the_middle(task: Task, tmp_path: Path, by: str) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(24 << 20))
    require("sshd")
    server = tmp_path / "server"
    server.mkdir()
    limit = {"RekeyLimit": "1M"} if by == "server" else {}
    with openssh_nodes(server, "internal-sftp", **limit) as nodes:
        plain = nodes.configure

        def configure(task: Task) -> None:
            plain(task)
            if by == "client":
                task.set_info("ssh_options", f"{task.info('ssh_options')} -o RekeyLimit=1M")

        nodes.configure = configure
        os.chmod(source, 0o644)
        target = nodes.path("dest", "target")
        copy(task, nodes, source, target)
        assert task.max_retcode() == 0
        rcopy(task, nodes, target, tmp_path)
        assert task.max_retcode() == 0
        assert (tmp_path / "target.node1").read_bytes() == source.read_bytes()
