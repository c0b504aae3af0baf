"""SFTP servers for the tests of copies: four correct ones, and one scripted by a test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Optional
from unittest import mock

from pyclustershell.loopback import LoopbackCluster
from pyclustershell.loopback.sftpserver import SFTPSubsystem
from pyclustershell.ssh.protocol.fields import ssh_string
from pyclustershell.ssh.sftp import codec
from pyclustershell.task import Task
from tests.helpers.sh import SHELL
from tests.servers import processes
from tests.servers.sshd import SFTP_SERVER, Sshd, make_key

SERVERS = ("loopback", "internal-sftp", "sftp-server", "asyncssh")


class Nodes:
    """A few nodes of one of the servers.

    Attributes:
        names: their names, as NodeSet has them.
        directory: a directory of this host that the nodes may write to.
    """

    def __init__(self, names: str, directory: str, configure: Callable[[Task], Any]) -> None:
        self.names = names
        self.directory = directory
        self.configure = configure

    def path(self, *names: str) -> str:
        """A path that the nodes may write to, and its directories."""
        path = "/".join((self.directory, *names))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        directory = os.path.dirname(path)
        while directory.startswith(self.directory):
            processes.set_mode(directory, 0o777)  # for the nodes' account
            directory = os.path.dirname(directory)
        return path


@contextlib.contextmanager
def open_directory() -> Iterator[str]:
    """A directory that every account may write to; those of pytest are closed to others."""
    directory = tempfile.mkdtemp(prefix="copy-")
    try:
        processes.set_mode(directory, 0o777)  # for the nodes' account
        yield processes.node_path(directory)
    finally:
        processes.remove_tree(directory)


@contextlib.contextmanager
def loopback_nodes() -> Iterator[Nodes]:
    with open_directory() as directory, LoopbackCluster("node[1-3]", shell=SHELL) as cluster:
        yield Nodes("node[1-3]", directory, cluster.configure)


@contextlib.contextmanager
def openssh_nodes(directory: Path, subsystem: str, **settings: Any) -> Iterator[Nodes]:
    with open_directory() as place:
        with Sshd(directory, nodes=3, Subsystem=f"sftp {subsystem}", **settings) as server:
            options = f"-F {server.ssh_config}"
            yield Nodes("node[1-3]", place, lambda task: task.set_info("ssh_options", options))


async def end_other_tasks() -> None:
    """End the other tasks (closing connections, commands), which need the running loop for that."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@contextlib.contextmanager
def asyncssh_nodes(directory: Path) -> Iterator[Nodes]:
    import asyncssh

    key = directory / "id_ed25519"
    public = make_key(key)
    loop = asyncio.new_event_loop()
    # One thread, started now: asyncio would start more while the server waits for files, and the
    # check for leaks would take them for threads of the test.
    files = ThreadPoolExecutor(max_workers=1, thread_name_prefix="asyncssh server's files")
    files.submit(int).result()
    loop.set_default_executor(files)
    thread = threading.Thread(target=loop.run_forever, name="asyncssh server")
    thread.start()

    async def listen() -> Any:
        return await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
            authorized_client_keys=asyncssh.import_authorized_keys(public + "\n"),
            sftp_factory=True,
        )

    async def close() -> None:
        server.close()
        await server.wait_closed()
        await end_other_tasks()

    server = asyncio.run_coroutine_threadsafe(listen(), loop).result()

    def configure(task: Task) -> None:
        task.configure_ssh(
            user="anybody",
            hostname="127.0.0.1",
            port=server.get_port(),
            pkeys=[str(key)],
            agent=False,
            host_key_policy="off",
            config_files=[],
        )

    try:
        with open_directory() as place:
            yield Nodes("node[1-3]", place, configure)
    finally:
        asyncio.run_coroutine_threadsafe(close(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        files.shutdown()
        loop.close()


@contextlib.contextmanager
def good_nodes(kind: str, directory: Path) -> Iterator[Nodes]:
    """Nodes of one of SERVERS."""
    if kind == "loopback":
        with loopback_nodes() as nodes:
            yield nodes
    elif kind == "asyncssh":
        with asyncssh_nodes(directory) as nodes:
            yield nodes
    else:
        program = SFTP_SERVER if kind == "sftp-server" else kind
        with openssh_nodes(directory, program) as nodes:
            yield nodes


# -- the scripted one ------------------------------------------------------------------------------

#: Answers a request: gets the server, the request's number and its fields. Returns the reply (see
#: :func:`names` and so on), b'' for none, or None for the reply of a correct server.
Answer = Callable[["ScriptedSftp", int, codec.ReplyFields], Optional[bytes]]


class ScriptedSftp(SFTPSubsystem):
    """The loopback cluster's SFTP server, with answers of a test's own to some requests."""

    script: dict[int, Answer]

    def _process(self, kind: int, number: int, message: Any) -> None:
        answer = self.script.get(kind)
        fields = codec.ReplyFields(message.get_remainder())
        reply = None if answer is None else answer(self, number, fields)
        if reply is None:
            super()._process(kind, number, message)
        elif reply:
            self.send_bytes(len(reply).to_bytes(4, "big") + reply)

    def send_bytes(self, data: bytes) -> None:
        """Send these bytes as they are."""
        self._channel.sendall(data)


@contextlib.contextmanager
def scripted_nodes(script: dict[int, Answer]) -> Iterator[Nodes]:
    """A loopback cluster whose SFTP servers have a script: answers by the type of request."""
    server = type("Scripted", (ScriptedSftp,), {"script": script})
    with mock.patch("pyclustershell.loopback.server.SFTPSubsystem", server):
        with loopback_nodes() as nodes:
            yield nodes


def _reply(kind: int, number: int, fields: bytes) -> bytes:
    return bytes([kind]) + codec.uint32(number) + fields


def status(number: int, code: int, text: bytes = b"") -> bytes:
    """A STATUS reply."""
    return _reply(codec.STATUS, number, codec.uint32(code) + ssh_string(text) + ssh_string(b""))


def names(number: int, *entries: tuple[bytes, codec.Attributes]) -> bytes:
    """A NAME reply."""
    listed = b"".join(
        ssh_string(name) + ssh_string(b"") + found.encode() for name, found in entries
    )
    return _reply(codec.NAME, number, codec.uint32(len(entries)) + listed)


def attributes(number: int, found: codec.Attributes) -> bytes:
    """An ATTRS reply."""
    return _reply(codec.ATTRS, number, found.encode())


def data(number: int, contents: bytes) -> bytes:
    """A DATA reply."""
    return _reply(codec.DATA, number, ssh_string(contents))


def extended(number: int, contents: bytes) -> bytes:
    """An EXTENDED_REPLY."""
    return _reply(codec.EXTENDED_REPLY, number, contents)


def handle(number: int, name: bytes) -> bytes:
    """A HANDLE reply."""
    return _reply(codec.HANDLE, number, ssh_string(name))
