"""Servers that cannot be trusted, that fail, and that say something else than SFTP."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import struct
import subprocess
import sys
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
from pyclustershell.task import Task
from pyclustershell.transport.sftp import codec, download
from pyclustershell.transport.sftp.codec import Attributes, Fields
from tests.conftest import require_sshd
from tests.recorder import Recorder
from tests.servers import sftp
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
from tests.tasks import fresh_task

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes and links are POSIX's")

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
    return sorted(str(path.relative_to(top)) for path in top.rglob("*"))


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
            codec.READ: lambda _server, number, _fields: sftp.data(number, b"evil"),
        }

    def stat(self, _server: ScriptedSftp, number: int, fields: Fields) -> bytes:
        known = dict(self.entries).get(os.path.basename(fields.string()), DIRECTORY)
        return sftp.attributes(number, known)

    def readdir(self, _server: ScriptedSftp, number: int, _fields: Fields) -> bytes:
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


def test_nothing_is_written_through_a_link(task: Task, tmp_path: Path) -> None:
    """First a link, then a directory of the same name: nothing must come to where the link leads.

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

    def endless(_server: ScriptedSftp, number: int, _fields: Fields) -> bytes:
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

    def deeper(_server: ScriptedSftp, number: int, _fields: Fields) -> bytes:
        if next(turns) % 2:
            return sftp.status(number, codec.EOF)
        return sftp.names(number, (b"d", DIRECTORY))

    with scripted_nodes({**listing.script, codec.READDIR: deeper}) as nodes:
        rcopy(task, nodes, "/data", tmp_path)
    assert "more than 20 directories deep" in only_failure(task).cause


# -- sizes -----------------------------------------------------------------------------------------


def with_file(size: Optional[int], read: Callable[[int, int, int], bytes]) -> dict[int, Any]:
    """A server with one file: its size, and what it answers to reads (number, offset, size)."""
    found = Attributes(size=size, mode=stat.S_IFREG | 0o644)

    def answer(_server: ScriptedSftp, number: int, fields: Fields) -> bytes:
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
    assert "11 bytes of data where 10 were asked for" in error.cause
    assert everything(tmp_path) == []


def test_empty_data_do_not_go_on_for_ever(task: Task, tmp_path: Path) -> None:
    with scripted_nodes(with_file(10, lambda number, *_: sftp.data(number, b""))) as nodes:
        rcopy(task, nodes, "/data", tmp_path)
    assert isinstance(only_failure(task), SFTPProtocolError)


def test_a_file_of_unknown_size_ends(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_UNKNOWN_SIZE_LIMIT", 1 << 20)
    script = with_file(0, lambda number, _offset, size: sftp.data(number, bytes(size)))
    with scripted_nodes(script) as nodes:
        rcopy(task, nodes, "/data", tmp_path)
    assert "goes on beyond 1048576 bytes" in only_failure(task).cause
    assert everything(tmp_path) == []


def test_short_answers_are_completed(task: Task, tmp_path: Path) -> None:
    """The protocol lets a server send less than was asked for."""
    contents = os.urandom(100_000)

    def read(number: int, offset: int, size: int) -> bytes:
        return sftp.data(number, contents[offset : offset + min(size, 777)])

    with scripted_nodes(with_file(len(contents), read)) as nodes:
        rcopy(task, nodes, "/data", tmp_path)
    assert task.max_retcode() == 0
    assert (tmp_path / "data.node1").read_bytes() == contents


# -- what is no SFTP -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [
        b"\x65\0\0\0\x63\0\0\0\0",  # STATUS for a request that never was
        b"\x99",
        struct.pack(">BI", codec.HANDLE, 1),
        struct.pack(">BII", codec.VERSION, 3, 9),
    ],
)
def test_what_breaks_the_protocol_ends_the_session(
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
    def garbage(server: ScriptedSftp, _number: int, _fields: Fields) -> bytes:
        server.send_bytes(os.urandom(5000))
        return b""

    with scripted_nodes({codec.STAT: garbage}) as nodes:
        rcopy(task, nodes, "/data", tmp_path)
    assert isinstance(only_failure(task), SFTPProtocolError)


def test_a_server_that_ignores_the_window_is_stopped(task: Task, tmp_path: Path) -> None:
    def flood(server: ScriptedSftp, _number: int, _fields: Fields) -> bytes:
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
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        yield str(path)


def test_output_of_login_scripts_is_explained(task: Task, tmp_path: Path) -> None:
    require_sshd()
    if not os.path.exists(SFTP_SERVER):
        pytest.skip(f"no {SFTP_SERVER}")
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
    require_sshd()
    server = tmp_path / "server"
    server.mkdir()
    with program(script) as path, openssh_nodes(server, path) as nodes:
        rcopy(task, nodes, "/etc/hostname", tmp_path)
    error = only_failure(task, rc=255)
    assert isinstance(error, SessionError)
    assert error.cause.endswith(what)


def test_a_server_without_sftp(task: Task, tmp_path: Path) -> None:
    require_sshd()
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

    def stall(self, _server: ScriptedSftp, _number: int, _fields: Fields) -> None:
        self._seen += 1
        if self._seen == 5:
            self.reached.set()
            assert self.go_on.wait(DEADLINE)


def settled(task: Task) -> None:
    """Wait until what goes on in the background is over."""
    task.close()


def test_a_timeout_leaves_nothing_behind(task: Task, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(8 << 20))
    stalling = Stalling(codec.WRITE)
    with scripted_nodes(stalling.script) as nodes:
        target = Path(nodes.path("dest", "target"))
        target.write_bytes(b"before")
        handler = Recorder()
        copy(task, nodes, source, str(target), timeout=1.0, handler=handler)
        assert list(task.iter_keys_timeout()) == ["node1"]
        assert not [event for event in handler.of("node1") if event[0] == "hup"]
        assert handler.events[-1] == ("close", "WorkerSsh", True)
        assert len(everything(target.parent)) == 2  # the temporary file is there: it was begun
        stalling.go_on.set()
        settled(task)
        assert everything(target.parent) == ["target"]
        assert target.read_bytes() == b"before"


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
        copy(task, nodes, source, str(target), handler=handler)
        assert [event[0] for event in handler.events] == ["start", "pickup", "written", "close"]
        # The connection is given back, and serves the next one.
        task.run("true", nodes="node1")
        assert task.max_retcode() == 0
        settled(task)
        assert everything(target.parent) == []


def test_a_server_that_ends_with_its_input_removes_temporary_files_first(
    task: Task, tmp_path: Path
) -> None:
    def never(_server: ScriptedSftp, _number: int, _fields: Fields) -> bytes:
        return b""

    def remove(server: ScriptedSftp, _number: int, _fields: Fields) -> Optional[bytes]:
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


def test_a_run_that_times_out_leaves_nothing_behind(task: Task, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(8 << 20))
    stalling = Stalling(codec.WRITE)
    with scripted_nodes(stalling.script) as nodes:
        target = Path(nodes.path("dest", "target"))
        nodes.configure(task)
        task.copy(str(source), str(target), nodes="node[1-3]")
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
        rcopy(task, nodes, str(data), tmp_path, timeout=1.0)
        assert list(task.iter_keys_timeout()) == ["node1"]
        assert everything(tmp_path) == ["data.node1"]
        assert (tmp_path / "data.node1").read_bytes() == b"before"
        stalling.go_on.set()
        settled(task)


@pytest.mark.parametrize("kind", ["cut", "reset"])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_connection_that_breaks(task: Task, tmp_path: Path, reverse: bool, kind: str) -> None:
    require_sshd()
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
        os.chmod(f"{place}/large", 0o666)  # noqa: S103 for the nodes' account
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
            # (The connection is gone, and nobody is there to remove the temporary file.)
            assert Path(place, "large").read_bytes() == b"before"


@pytest.mark.parametrize("where", ["there", "here"])
def test_a_full_disk(task: Task, tmp_path: Path, where: str) -> None:
    require_sshd()
    full = tmp_path / "full"
    full.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=777", "none", str(full)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here: run as root to see this")
    try:
        (full / "large.node1").write_bytes(b"before")
        large = tmp_path / "large"
        large.write_bytes(os.urandom(4 << 20))
        with loopback_nodes() as nodes:
            if where == "there":
                copy(task, nodes, large, str(full / "large.node1"))
            else:
                rcopy(task, nodes, str(large), full)
        cause = only_failure(task).cause
        assert "No space left on device" in cause
        assert str(full if where == "there" else large) in cause
        assert everything(full) == ["large.node1"]
        assert (full / "large.node1").read_bytes() == b"before"
    finally:
        subprocess.run(["umount", str(full)], check=True)


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
            patch.setattr("pyclustershell.transport.server.files.SFTPSubsystem.EXTENSIONS", {})
            for expected in (b"new", b"newer"):
                source.write_bytes(expected)
                copy(task, nodes, source, str(target))
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
        copy(task, nodes, source, str(target))
        thread.join()
        assert only_failure(task).cause == f"{source}: it became shorter while it was copied"
        assert everything(target.parent) == []


@pytest.mark.parametrize("by", ["server", "client"])
def test_rekeys_in_the_middle(task: Task, tmp_path: Path, by: str) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(24 << 20))
    require_sshd()
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
