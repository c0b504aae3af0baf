"""Through local commands (ProxyCommand), to real OpenSSH servers."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyclustershell.event import EventHandler
from pyclustershell.exceptions import ConnectionLostError, HandshakeError, NodeError
from pyclustershell.task import Task
from tests.helpers.tasks import fresh_task
from tests.helpers.waiting import wait_until
from tests.servers.leaks import no_leaks
from tests.servers.sshd import Sshd
from tests.servers.trees import process_runs

# As nc does, it passes bytes between its standard streams and a TCP connection. It writes its
# process id to a file.
RELAY = """
import os, socket, sys, threading
host, port, directory = sys.argv[1:]
open(os.path.join(directory, str(os.getpid())), "w").close()
sock = socket.create_connection((host, int(port)))
def up():
    while True:
        data = os.read(0, 65536)
        if not data:
            return
        sock.sendall(data)
threading.Thread(target=up, daemon=True).start()
while True:
    data = sock.recv(65536)
    if not data:
        break
    while data:
        data = data[os.write(1, data):]
"""


class Relays:
    """A program to be the ProxyCommand, and the processes that it became."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "pids"
        self.directory.mkdir()
        script = directory / "relay.py"
        script.write_text(RELAY)
        # -S: without the site's packages it starts in no time.
        self.command = f"'{sys.executable}' -S '{script}' %h %p '{self.directory}'"

    def pids(self) -> list[int]:
        return [int(name) for name in os.listdir(self.directory)]

    def alive(self) -> list[int]:
        return [pid for pid in self.pids() if process_runs(pid)]


@pytest.fixture
def relays(tmp_path: Path) -> Relays:
    return Relays(tmp_path)


@pytest.fixture
def task(sshd: Sshd) -> Iterator[Task]:
    with no_leaks(), fresh_task() as task:
        task.set_info("ssh_options", f"-F {sshd.ssh_config}")
        yield task


def use(task: Task, command: str) -> None:
    task.configure_ssh(overrides=[f"ProxyCommand={command}"])


def failure_of(task: Task) -> NodeError:
    [(failure, _nodes)] = task.iter_failures()
    return failure


def test_commands_over_a_local_command_which_ends_with_the_connection(
    task: Task, relays: Relays
) -> None:
    use(task, relays.command)
    expected = {f"node{n}": b"ok" for n in range(1, 6)}
    for _ in range(2):
        task.run("echo ok", nodes="node[1-5]", timeout=40)
        assert list(task.iter_failures()) == []
        found = {node: bytes(buffer) for buffer, nodes in task.iter_buffers() for node in nodes}
        assert found == expected
    # One for each connection, and the connections were used again.
    assert len(relays.alive()) == len(relays.pids()) == 5
    task.close()
    wait_until(lambda: not relays.alive())


def test_much_in_both_directions(task: Task, relays: Relays) -> None:
    use(task, relays.command)
    worker = task.shell("cat", nodes="node1", timeout=40)
    sent = os.urandom(2_000_000).replace(b"\n", b" ") + b"\n"
    worker.write(sent)
    worker.set_write_eof()
    task.resume()
    same = task.node_buffer("node1") == sent[:-1]
    assert same


@pytest.mark.parametrize(
    ("command", "cause"),
    [
        (
            "sh -c 'echo some noise >&2; echo no way to %h >&2; exit 3'",
            "ProxyCommand ended with exit status 3: no way to 127.0.1.1",
        ),
        ("sh -c 'kill -9 $$'", "ProxyCommand ended with signal 9"),
        ("/no/such/program", "ProxyCommand ended with exit status 127: .*/no/such/program.*"),
        ("echo hello", "No SSH banner.*|Connection closed during banner exchange"),
    ],
)
def test_a_command_that_fails_says_why(task: Task, command: str, cause: str) -> None:
    use(task, command)
    task.configure_ssh(connect_timeout=5, connect_retries=0)
    task.run("echo ok", nodes="node1", timeout=40)
    failure = failure_of(task)
    assert isinstance(failure, HandshakeError)
    assert re.fullmatch(cause, failure.cause)


def test_a_command_that_cannot_be_started(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHELL", str(tmp_path / "no-such-shell"))
    use(task, "true")
    task.run("echo ok", nodes="node1", timeout=40)
    assert failure_of(task).cause.startswith("cannot start the ProxyCommand: ")


def test_a_command_that_says_nothing_is_ended_in_time(task: Task, tmp_path: Path) -> None:
    use(task, f"sh -c 'echo $$ >{tmp_path}/pid; sleep 60'")
    task.configure_ssh(connect_timeout=1)
    task.run("echo ok", nodes="node1", timeout=40)
    assert failure_of(task).cause == "Connection timed out during banner exchange"
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: not process_runs(pid))


def test_a_command_that_ignores_term_is_killed(task: Task, tmp_path: Path) -> None:
    use(task, f"""sh -c 'trap "" TERM; echo $$ >{tmp_path}/pid; while :; do sleep 1; done'""")
    task.configure_ssh(connect_timeout=1)
    task.run("echo ok", nodes="node1", timeout=40)
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: not process_runs(pid))


def test_a_command_that_ends_during_the_remote_one_ends_its_node(
    task: Task, relays: Relays
) -> None:
    use(task, relays.command)

    class Kill(EventHandler):
        def ev_read(self, worker: Any, node: str, sname: str, msg: bytes) -> None:
            if msg == b"here":
                [pid] = relays.pids()
                os.kill(pid, 15)

    task.run("echo here; sleep 60", nodes="node1", handler=Kill(), timeout=40)
    failure = failure_of(task)
    assert isinstance(failure, ConnectionLostError)
    assert failure.cause == "Connection lost: ProxyCommand ended with signal 15"
