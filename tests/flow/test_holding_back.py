"""Worker.pause_output() holds back the commands of one worker; when_gone() waits for kills."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, Optional

import pytest

from pyclustershell import EventHandler, StreamWorker, WorkerSsh
from pyclustershell.exceptions import ConnectionLostError
from pyclustershell.loopback import LoopbackCluster
from pyclustershell.ssh.config.memo import LookupPending
from pyclustershell.task import Task
from pyclustershell.worker.worker import Worker
from tests.helpers.sh import BEGUN, SHELL, sh
from tests.helpers.waiting import wait_until
from tests.servers.leaks import no_leaks
from tests.servers.trees import local_process_runs

SECONDS = 30.0
LINES = 20_000
#: 20 MB in lines of 999 digits: more than any window and pipe.
MUCH = f"seq -f %0999.0f {LINES}"


@pytest.fixture(scope="module")
def cluster() -> Iterator[LoopbackCluster]:
    with LoopbackCluster("node[1-4]", shell=SHELL) as cluster:
        yield cluster


@pytest.fixture
def task(cluster: LoopbackCluster) -> Iterator[Task]:
    with no_leaks():
        task = Task()
        cluster.configure(task)
        task.set_info("ssh_kill_grace", 0.3)
        try:
            yield task
        finally:
            task.abort(kill=True)
            task.thread.join(10)


class Counting(EventHandler):
    """Counts the lines of stdout, and pauses at the first one of each node."""

    def __init__(self, pause: bool = True) -> None:
        self.lines = 0
        self.ends: list[str] = []
        self._pause = pause

    def ev_read(self, worker: Worker, node: str, sname: str, msg: bytes) -> None:
        self.lines += 1
        if self._pause:
            self._pause = False
            worker.pause_output()

    def ev_result(self, worker: Worker, node: str, result: Any) -> None:
        self.ends.append(node)


PLACES: dict[str, dict[str, Any]] = {
    "over SSH": {"nodes": "node1"},
    "a local command": {},
    "local commands for nodes": {"nodes": "node1", "remote": False},
}


def at(place: dict[str, Any], command: str) -> str:
    """A command as the shell of a place takes it: the nodes have SHELL."""
    if place is PLACES["over SSH"]:
        return command
    if place is PLACES["local commands for nodes"]:
        command = command.replace("%", "%%")  # else a placeholder
    return sh(command)


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_paused_command_is_held_back_and_no_other(task: Task, place: dict[str, Any]) -> None:
    handler = Counting()
    command = at(place, f"{MUCH}; echo end >&2")
    held = task.submit(command, handler=handler, stderr=True, **place)
    wait_until(lambda: held.worker.output_paused)
    # Another command of the same node, and the same amount of output.
    others = task.submit(MUCH, nodes="node[1-4]").result(SECONDS)
    assert all(len(result.stdout.splitlines()) == LINES for result in others.values())
    # What was read in the pass that paused is delivered: not more than the window.
    assert 0 < handler.lines < 3000
    assert handler.ends == []
    held.worker.resume_output()
    [result] = held.result(SECONDS).values()
    assert (len(result.stdout.splitlines()), result.stderr, result.rc) == (LINES, b"end", 0)
    assert handler.lines == LINES + 1


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_the_end_comes_after_the_output(task: Task, place: dict[str, Any]) -> None:
    # The command has ended long before its output is read.
    handler = Counting(pause=False)
    command = at(place, "echo a; echo b >&2; exit 3")
    worker: Any = task.command_worker(command, handler=handler, stderr=True, **place)
    worker.pause_output()
    future = task.submit(worker)
    assert task.submit("true", nodes="node[1-4]").result(SECONDS).check()
    assert (handler.lines, handler.ends, future.done()) == (0, [], False)
    worker.resume_output()
    [result] = future.result(SECONDS).values()
    assert (result.stdout, result.stderr, result.rc) == (b"a", b"b", 3)


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_paused_command_can_be_aborted(task: Task, place: dict[str, Any]) -> None:
    future = task.submit(at(place, MUCH), handler=Counting(), **place)
    wait_until(lambda: future.worker.output_paused)
    future.worker.abort()
    [result] = future.result(SECONDS).values()
    assert (result.aborted, result.timed_out) == (True, False)


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_paused_command_can_time_out(task: Task, place: dict[str, Any]) -> None:
    # On a busy machine, it may time out before its first line.
    for timeout in (0.2, 1.0, 5.0, 20.0):
        future = task.submit(at(place, MUCH), handler=Counting(), timeout=timeout, **place)
        [result] = future.result(SECONDS).values()
        assert (result.aborted, result.timed_out) == (False, True)
        if future.worker.output_paused:
            break
    assert future.worker.output_paused


def test_a_lost_connection_is_reported_while_paused(task: Task) -> None:
    handler = Counting()
    future = task.submit("echo begun; exec sleep 60", handler=handler, nodes="node4")
    wait_until(lambda: future.worker.output_paused)
    worker: Any = future.worker
    ours = socket.socket(fileno=worker._clients[0]._command._channel.fileno())
    ours.shutdown(socket.SHUT_RDWR)
    ours.detach()
    result = future.result(SECONDS)["node4"]
    assert (result.stdout, result.rc) == (b"begun", 255)
    assert isinstance(result.failure, ConnectionLostError)


def test_read_ahead_is_the_window(task: Task) -> None:
    worker: Any = task.command_worker(MUCH, nodes="node1")
    worker.read_ahead = 1 << 16
    worker.pause_output()
    future = task.submit(worker)
    wait_until(lambda: worker.started)
    channel = worker._clients[0]._command._channel
    # The window is full, and nothing opens it.
    wait_until(lambda: len(channel.in_buffer) == 1 << 16)
    worker.resume_output()
    assert len(future.result(SECONDS)["node1"].stdout.splitlines()) == LINES


def test_output_is_not_kept_if_nobody_wants_it(task: Task) -> None:
    handler = Counting(pause=False)
    worker = task.command_worker("echo a; echo b", nodes="node1", handler=handler)
    worker.keep_output = False
    assert task.submit(worker).result(SECONDS)["node1"].stdout == b""
    assert handler.lines == 2


def test_some_workers_cannot_hold_back() -> None:
    with pytest.raises(NotImplementedError, match="StreamWorker"):
        StreamWorker(handler=None).pause_output()


def test_input_counts_while_settings_are_looked_up(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = task._connections
    settings_of = connections.settings_of
    lookups: list[Callable[[], Any]] = []

    def look_up(*arguments: Any) -> Any:
        if not lookups:
            raise LookupPending
        node, ssh, _wait, *others = arguments
        return settings_of(node, ssh, True, *others)

    monkeypatch.setattr(connections, "settings_of", look_up)
    monkeypatch.setattr(connections, "look_up", lambda *arguments: lookups.append(arguments[-1]))
    future = task.submit("wc -c", nodes="node1")
    worker: Any = future.worker
    wait_until(lambda: lookups)
    task.post(worker.write, bytes(2 << 20))
    wait_until(lambda: worker.input_full)
    task.post(lookups[0])
    task.post(worker.set_write_eof)
    assert future.result(SECONDS)["node1"].stdout.strip() == str(2 << 20).encode()
    assert not worker.input_full


# -- when_gone -------------------------------------------------------------------------------------

STUBBORN = "trap '' TERM; echo $$ >{}; sleep 60; sleep 60"


def wait_for_call(register: Callable[[Callable[[Worker], Any]], Any]) -> Callable[[], bool]:
    """Have a callback registered; returns a function that waits for its call."""
    called = threading.Event()
    register(lambda _worker: called.set())
    return lambda: called.wait(SECONDS)


@pytest.mark.parametrize("timeout", [None, BEGUN], ids=["abort", "timeout"])
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_when_gone_waits_for_the_kill(
    task: Task, tmp_path: Path, place: dict[str, Any], timeout: Optional[float]
) -> None:
    note = tmp_path / "pid"
    command = at(place, STUBBORN.format(note.as_posix()))
    future = task.submit(command, timeout=timeout, **place)
    wait_for_it = wait_for_call(future.worker.when_gone)
    wait_until(lambda: note.exists() and note.read_text().strip())
    if timeout is None:
        future.worker.abort()
    assert wait_for_it()
    assert not local_process_runs(int(note.read_text()))


def test_when_gone_is_called_in_any_case(task: Task) -> None:
    done = task.submit("true", nodes="node1")
    done.result(SECONDS)
    assert wait_for_call(done.worker.when_gone)()
    task.set_info("fanout", 1)
    first = task.submit("sleep 60", nodes="node1")
    waiting = WorkerSsh("node2", command="true")
    future = task.submit(waiting)
    wait_for_it = wait_for_call(waiting.when_gone)
    waiting.abort()
    assert wait_for_it()
    assert future.result(SECONDS)["node2"].aborted
    wait_for_first = wait_for_call(first.worker.when_gone)
    task.abort(kill=True)
    assert wait_for_first()
