"""A local command that is ended ends with all its descendants, on POSIX and on Windows.

The processes of a tree hold connections to the test. A connection ends with its process.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyclustershell import EventHandler
from pyclustershell.engine.delayed import DelayedCalls
from pyclustershell.local import shell
from pyclustershell.local.process import PipedProcess
from pyclustershell.loopback import LoopbackCluster
from pyclustershell.task import Task
from tests.helpers.tasks import fresh_task
from tests.helpers.waiting import wait_until

DEADLINE = 30.0
DEPTH = 3

# Starts another one of its kind, DEPTH times. The last one says that all of them run.
TREE = """
import socket, subprocess, sys
port, depth = int(sys.argv[1]), int(sys.argv[2])
with socket.create_connection(("127.0.0.1", port)) as connection:
    if depth:
        subprocess.Popen([sys.executable, __file__, str(port), str(depth - 1)], stdout=sys.stdout)
    else:
        print("up", flush=True)
    connection.recv(1)
"""

# Starts a command, and does not wait for it.
LEAVE = """
import subprocess, sys
null = subprocess.DEVNULL
subprocess.Popen(sys.argv[1:], stdin=null, stdout=null, stderr=null)
"""


class Tree:
    """A command that starts processes of several generations, which run until they are ended."""

    def __init__(self, directory: Path, listener: socket.socket) -> None:
        script = directory / "tree.py"
        script.write_text(TREE)
        port = listener.getsockname()[1]
        self.words = [sys.executable, str(script), str(port), str(DEPTH)]
        # Without quotes, which cmd.exe and sh treat differently.
        self.command = " ".join(self.words)
        self._listener = listener

    @contextlib.contextmanager
    def grown(self) -> Iterator[list[socket.socket]]:
        """The connections of all processes, once there are as many."""
        with contextlib.ExitStack() as stack:
            connections = []
            for _ in range(1 + DEPTH):
                connection, _ = self._listener.accept()
                connections.append(stack.enter_context(connection))
                connection.settimeout(DEADLINE)
            yield connections

    def check_ended(self) -> None:
        """Check that every process has ended."""
        with self.grown() as connections:
            check_closed(connections)


def check_closed(connections: list[socket.socket]) -> None:
    for connection in connections:
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE)
        yield Tree(tmp_path, listener)


@pytest.fixture
def task() -> Iterator[Task]:
    with fresh_task() as task:
        yield task


def no_thread_at_a_pipe() -> bool:
    return not any("pyclustershell pipe" in thread.name for thread in threading.enumerate())


class Aborter(EventHandler):
    """Aborts a worker when its command has written a line."""

    def ev_read(self, worker: Any, node: Any, sname: str, msg: bytes) -> None:
        worker.abort()


class TimeoutAfterLine(EventHandler):
    """Lets the time of a client run out when its command has written a line."""

    def __init__(self) -> None:
        self.timed_out = False

    def ev_read(self, worker: Any, node: Any, sname: str, msg: bytes) -> None:
        for client in list(worker.task._engine._started):
            client.on_timeout()

    def ev_close(self, worker: Any, timedout: bool) -> None:
        self.timed_out = timedout


def test_abort(task: Task, tree: Tree) -> None:
    task.shell(tree.command, key="local", handler=Aborter())
    task.resume()
    tree.check_ended()
    wait_until(no_thread_at_a_pipe)


def test_timeout(task: Task, tree: Tree) -> None:
    handler = TimeoutAfterLine()
    task.shell(tree.command, key="local", handler=handler)
    task.resume()
    assert handler.timed_out
    tree.check_ended()
    wait_until(no_thread_at_a_pipe)


def test_the_timeout_of_a_group_source(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "MAX_OUTPUT", 1)
    with pytest.raises(OSError, match="bytes of output"):
        shell.run_upcall(tree.command, None, DEADLINE)
    tree.check_ended()


def test_a_proxy_command(tree: Tree) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        ours.settimeout(DEADLINE)
        process = PipedProcess(tree.command, theirs, DelayedCalls())
        assert ours.recv(2) == b"up"
        process.end()
        tree.check_ended()


def test_a_command_of_the_loopback_cluster(task: Task, tree: Tree) -> None:
    with LoopbackCluster("node1") as cluster:
        cluster.configure(task)
        task.shell(tree.command, nodes="node1", handler=Aborter())
        task.resume()
        tree.check_ended()


def test_the_end_of_the_loopback_cluster(tree: Tree, tmp_path: Path) -> None:
    """Processes that a command left behind end with the cluster, which removes its directory."""
    leave = tmp_path / "leave.py"
    leave.write_text(LEAVE)
    with LoopbackCluster("node1") as cluster, fresh_task() as task:
        cluster.configure(task)
        directory = Path(cluster.ssh_config).parent
        task.run(" ".join([sys.executable, str(leave), *tree.words]), nodes="node1")
        assert task.max_retcode() == 0
        with tree.grown() as connections:
            cluster.stop()
            assert not directory.exists()
            check_closed(connections)


# Presses Ctrl-C in its own console when its local command runs, which is to be left running.
INTERRUPTED = """
import ctypes, sys
from pyclustershell import EventHandler, task_self

class Interrupter(EventHandler):
    def ev_read(self, *_arguments):
        ctypes.WinDLL("kernel32").GenerateConsoleCtrlEvent(0, 0)

task = task_self()
task.set_info("ssh_kill_grace", None)
task.shell(" ".join(sys.argv[1:]), key="local", handler=Interrupter())
try:
    task.resume()
except KeyboardInterrupt:
    sys.exit(7)
"""

# Answers a byte, once it has said that it runs.
ANSWERING = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
    print("up", flush=True)
    connection.sendall(connection.recv(1))
"""


@pytest.mark.skipif(sys.platform != "win32", reason="consoles and their Ctrl-C are Windows's")
def test_ctrl_c_does_not_reach_local_commands(tmp_path: Path) -> None:
    interrupted, answering = tmp_path / "interrupted.py", tmp_path / "answering.py"
    interrupted.write_text(INTERRUPTED)
    answering.write_text(ANSWERING)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE)
        port = str(listener.getsockname()[1])
        command = [sys.executable, str(answering), port]
        status = subprocess.call(
            [sys.executable, str(interrupted), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            creationflags=getattr(subprocess, "CREATE_NEW_CONSOLE", 0),
        )
        assert status == 7
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(DEADLINE)
            connection.sendall(b"x")
            assert connection.recv(1) == b"x"
