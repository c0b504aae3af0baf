"""The engine selects on channels: it waits on the descriptor that a running command's channel has.

paramiko's ``Channel.fileno()`` makes a pipe, into which the transport's thread writes. Here the
descriptor is the one on which the channel's bytes arrive.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyclustershell.event import EventHandler
from pyclustershell.ssh.command import RemoteCommand
from pyclustershell.task import Task
from tests.helpers.tasks import fresh_task
from tests.servers.leaks import no_leaks
from tests.servers.sshd import Sshd, node_address

NODES = 3

# A command that runs until it is told to end.
COMMAND = "echo running; read line; echo $line"

# A ProxyCommand: passes bytes between its standard streams and a TCP connection.
RELAY = """
import os, socket, sys, threading
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def up():
    while data := os.read(0, 65536):
        sock.sendall(data)
threading.Thread(target=up, daemon=True).start()
while data := sock.recv(65536):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
"""


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[RemoteCommand]:
    """Every command that is started, in order."""
    started: list[RemoteCommand] = []
    start = RemoteCommand.start

    def record(command: RemoteCommand) -> None:
        started.append(command)
        start(command)

    monkeypatch.setattr(RemoteCommand, "start", record)
    return started


@pytest.fixture
def task() -> Iterator[Task]:
    with no_leaks(), fresh_task() as task:
        yield task


class Observer(EventHandler):
    """Looks at the engine and at all channels when all commands run, then lets them end."""

    def __init__(self, commands: list[RemoteCommand]) -> None:
        self.commands = commands
        self.running = 0
        self.watched: frozenset[int] = frozenset()
        self.descriptors: list[int] = []
        self.pipes: list[object] = []
        self.peers: list[Any] = []

    def ev_read(self, worker: Any, node: str, sname: str, msg: bytes) -> None:
        if msg != b"running":
            return
        self.running += 1
        if self.running < NODES:
            return
        channels = [channel_of(command) for command in self.commands]
        self.watched = self.commands[0]._engine.watched_descriptors
        self.descriptors = [channel.fileno() for channel in channels]
        self.pipes = [channel._pipe for channel in channels]
        self.peers = [peer_of(descriptor) for descriptor in self.descriptors]
        worker.write(b"done\n")
        worker.set_write_eof()


def channel_of(command: RemoteCommand) -> Any:
    assert command._channel is not None
    return command._channel


def peer_of(descriptor: int) -> Any:
    """The address at the other end of a socket; an OSError if the descriptor is no socket."""
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        return sock.getpeername()


def observe(task: Task, commands: list[RemoteCommand]) -> Observer:
    """Run a command on all nodes; return what was seen while all of them ran."""
    observer = Observer(commands)
    task.run(COMMAND, nodes=f"node[1-{NODES}]", handler=observer, timeout=40)
    assert list(task.iter_failures()) == []
    assert [bytes(buffer) for buffer, _nodes in task.iter_buffers()] == [b"running\ndone"]
    assert observer.running == len(commands) == NODES
    # The rule: the engine waits on the descriptor of each running command's channel.
    assert observer.watched.issuperset(observer.descriptors)
    assert observer.pipes == [None] * NODES
    assert pipes_of_next_run(task) == []
    return observer


def pipes_of_next_run(task: Task) -> list[Any]:
    """The pipes that a run of commands makes over connections that are there already."""
    made: list[Any] = []

    def pipe() -> tuple[int, int]:
        made.append(real_pipe())
        return made[-1]  # type: ignore[no-any-return]

    real_pipe = os.pipe
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pipe", pipe)  # paramiko's make_pipe() calls it as well
        task.run("echo ok", nodes=f"node[1-{NODES}]", timeout=40)
    assert [bytes(buffer) for buffer, _nodes in task.iter_buffers()] == [b"ok"]
    return made


def test_direct(sshd: Sshd, task: Task, commands: list[RemoteCommand]) -> None:
    task.set_info("ssh_options", f"-F {sshd.ssh_config}")
    observer = observe(task, commands)
    # Each channel has the socket of its node's connection.
    expected = [(node_address(index), sshd.port) for index in range(1, NODES + 1)]
    assert sorted(observer.peers) == expected


def test_behind_a_jump_host(
    sshd: Sshd, task: Task, commands: list[RemoteCommand], tmp_path: Path
) -> None:
    gate = {"HostName": node_address(100), "ProxyJump": "none"}
    config = sshd.write_ssh_config(tmp_path / "config", {"gate": gate}, ProxyJump="gate")
    task.set_info("ssh_options", f"-F {config}")
    observer = observe(task, commands)
    # All channels share the socket of the jump host's connection, which carries theirs.
    assert observer.peers == [(node_address(100), sshd.port)] * NODES
    assert len(set(observer.descriptors)) == 1


def test_behind_a_proxy_command(
    sshd: Sshd, task: Task, commands: list[RemoteCommand], tmp_path: Path
) -> None:
    script = tmp_path / "relay.py"
    script.write_text(RELAY)
    task.set_info("ssh_options", f"-F {sshd.ssh_config}")
    task.configure_ssh(overrides=[f"ProxyCommand='{sys.executable}' -S '{script}' %h %p"])
    observer = observe(task, commands)
    # Each channel has the socket that leads to its connection's command: a pair without names.
    assert observer.peers == [""] * NODES
    assert len(set(observer.descriptors)) == NODES
