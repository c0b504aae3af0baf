"""What is ended on a node is gone, and nothing else."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyclustershell.event import EventHandler
from pyclustershell.task import Task
from tests.faults.laboratory import processes_with
from tests.servers import phases
from tests.servers.leaks import no_leaks
from tests.servers.phases import PhaseServer
from tests.servers.sshd import Sshd, process_runs
from tests.tasks import fresh_task

ROOT = Path(__file__).parents[2]
GONE_DEADLINE = 10.0


@pytest.fixture
def task(sshd: Sshd) -> Iterator[Task]:
    with no_leaks(), fresh_task() as task:
        task.set_info("ssh_options", f"-F {sshd.ssh_config}")
        task.set_info("ssh_kill_grace", 0.3)
        task.run("true", nodes="node1")  # the connection is there
        yield task


@pytest.fixture
def mark(request: pytest.FixtureRequest) -> Iterator[str]:
    """What a command has in its environment; what is left of it in the end is killed."""
    mark = f"KILLTEST={os.getpid()}.{time.monotonic_ns()}"
    yield mark
    for pid in processes_with(mark):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def running(mark: str) -> list[int]:
    return [pid for pid in processes_with(mark) if process_runs(pid)]


def wait_until_gone(mark: str) -> None:
    deadline = time.monotonic() + GONE_DEADLINE
    while left := running(mark):
        assert time.monotonic() < deadline, f"still running: {left}"
        time.sleep(0.02)


class Once(EventHandler):
    """Does something when the first line has come."""

    def __init__(self, act: Any) -> None:
        self.act = act

    def ev_read(self, worker: Any, node: str, sname: str, msg: bytes) -> None:
        act, self.act = self.act, lambda _worker: None
        act(worker)


GROUPS = {
    "children": "sleep 300 & sleep 300 & echo begun; wait",
    "a pipeline": "echo begun; sleep 300 | sleep 300 | cat",
    "one that ignores TERM": "trap '' TERM; echo begun; sleep 300; sleep 300",
    "one that stops": "echo begun; kill -STOP $$",
}


@pytest.mark.parametrize("pty", [False, True])
@pytest.mark.parametrize("command", GROUPS.values(), ids=GROUPS)
def test_the_whole_group_is_gone(task: Task, mark: str, command: str, pty: bool) -> None:
    task.configure_ssh(pty=pty)
    seen = []

    def end(worker: Any) -> None:
        seen.extend(running(mark))
        worker.abort()

    task.run(f"export {mark}; {command}", nodes="node1", handler=Once(end))
    assert seen
    wait_until_gone(mark)
    # The connection serves the next command.
    task.run("echo ok", nodes="node1")
    assert task.node_buffer("node1").strip() == b"ok"


def test_other_commands_of_that_user_go_on(task: Task, mark: str) -> None:
    doomed: Any = task.shell(f"export {mark}; echo begun; sleep 300", nodes="node1", timeout=0.5)
    other: Any = task.shell("sleep 1.5; echo done", nodes="node1")
    task.resume()
    assert doomed.did_timeout()
    assert other.node_buffer("node1") == b"done"
    wait_until_gone(mark)


def test_what_left_the_group_goes_on(task: Task, mark: str) -> None:
    # As a daemon does: it is not the command's any more.
    daemon = "setsid sh -c 'echo begun; exec sleep 300 > /dev/null 2>&1 < /dev/null' &"
    command = f"export {mark}; {daemon} sleep 300"
    task.run(command, nodes="node1", handler=Once(lambda worker: worker.abort()))
    task.close()
    [left] = running(mark)
    assert b"sleep" in Path(f"/proc/{left}/cmdline").read_bytes()


@pytest.mark.parametrize("grace", [0, 0.2])
def test_a_server_that_delivers_no_signals(grace: float, caplog: pytest.LogCaptureFixture) -> None:
    with PhaseServer(phases.command(phases.accept)) as server, fresh_task() as task:
        host, port = server.address
        task.configure_ssh(
            user="me", password="x", hostname=host, port=port, known_hosts=[server.known_host]
        )
        task.set_info("ssh_kill_grace", grace)
        with caplog.at_level(logging.WARNING, "pyclustershell"):
            worker: Any = task.run("true", nodes="node", timeout=0.3)
            assert worker.did_timeout()
            task.close()
    [record] = caplog.records
    assert record.getMessage().startswith("node: the command was sent TERM and KILL")
    assert "may go on" in record.getMessage()


def test_control_c(sshd: Sshd, mark: str) -> None:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "pyclustershell.cli.clush", "-o", f"-F {sshd.ssh_config}"),
            *("-w", "node[1-4]", f"export {mark}; echo begun; sleep 300"),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        for _ in range(4):
            assert process.stdout.readline().endswith(b": begun\n")
        assert running(mark)
        process.send_signal(signal.SIGINT)
        _out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"interrupted" in err
    assert b"Traceback" not in err
    wait_until_gone(mark)
