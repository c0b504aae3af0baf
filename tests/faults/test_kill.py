"""Ended commands leave no process on the node, and no other process is ended."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyclustershell.event import EventHandler
from pyclustershell.ssh import remotekill
from pyclustershell.ssh.remotekill import kill_command
from pyclustershell.task import Task
from tests.faults.laboratory import processes_with
from tests.helpers.tasks import fresh_task, pool_of
from tests.helpers.waiting import wait_until
from tests.servers import phases
from tests.servers.leaks import no_leaks
from tests.servers.phases import PhaseServer
from tests.servers.sshd import Sshd
from tests.servers.trees import process_runs

pytestmark = pytest.mark.posix_only("it looks for the nodes' processes in /proc")

ROOT = Path(__file__).parents[2]
GONE_DEADLINE = 10.0

#: Servers by fixture: as an ordinary user; as root, to whose sessions sshd up to 9.7 hands on no
#: signals; and dropbear, which signals nothing but the shell.
SERVERS = {"sshd": ("account",), "root_sshd": (), "dropbear": ()}


@pytest.fixture(params=[pytest.param(n, marks=pytest.mark.needs(*m)) for n, m in SERVERS.items()])
def ssh_config(request: pytest.FixtureRequest) -> Path:
    """The client's configuration for one of the servers."""
    path: Path = request.getfixturevalue(request.param).ssh_config
    return path


@pytest.fixture
def task(ssh_config: Path) -> Iterator[Task]:
    with no_leaks(), fresh_task() as task:
        task.set_info("ssh_options", f"-F {ssh_config}")
        task.set_info("ssh_kill_grace", 0.3)
        task.run("true", nodes="node1")  # the connection is there
        yield task


@pytest.fixture
def mark(request: pytest.FixtureRequest) -> Iterator[str]:
    """A variable for a command's environment. Processes that have it in the end are killed."""
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
    """Calls a function at the first line of output."""

    def __init__(self, act: Any) -> None:
        self.act = act

    def ev_read(self, worker: Any, node: str, sname: str, msg: bytes) -> None:
        act, self.act = self.act, lambda _worker: None
        act(worker)


GROUPS = {
    "one process": "echo begun; exec sleep 300",
    "children": "sleep 300 & sleep 300 & echo begun; wait",
    "a pipeline": "echo begun; sleep 300 | sleep 300 | cat",
    "one that ignores TERM": "trap '' TERM; echo begun; sleep 300; sleep 300",
    "a child that ignores TERM": "sh -c 'trap \"\" TERM; echo begun; sleep 300; sleep 300' & wait",
    "one that stops": "echo begun; kill -STOP $$",
}


@pytest.mark.parametrize(
    "pty", [False, pytest.param(True, marks=pytest.mark.needs("terminals"))], ids=["pipes", "pty"]
)
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


@pytest.mark.parametrize("node", ["node1", "node2"])
def test_other_commands_of_that_user_go_on(task: Task, mark: str, node: str) -> None:
    doomed: Any = task.shell(f"export {mark}; echo begun; sleep 300", nodes="node1", timeout=0.5)
    other: Any = task.shell("sleep 1.5; echo done", nodes=node)
    task.resume()
    assert doomed.did_timeout()
    assert other.node_buffer(node) == b"done"
    wait_until_gone(mark)


def test_processes_of_earlier_commands_go_on(task: Task, mark: str) -> None:
    # The same connection, the same SSH_CONNECTION; but that command has ended, as ssh sees it.
    earlier = "nohup sleep 301 >/dev/null 2>&1 </dev/null &"
    task.run(f"export {mark}; {earlier}", nodes="node1", timeout=30)
    command = f"export {mark}; echo begun; sleep 300"
    task.run(command, nodes="node1", handler=Once(lambda worker: worker.abort()))
    task.close()
    [left] = running(mark)
    assert b"301" in Path(f"/proc/{left}/cmdline").read_bytes()


def test_a_late_script_does_not_end_the_next_command(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A node may be slow to start a shell. Meanwhile the command is gone by other means.
    script = kill_command(0.3).replace(b"'", b"'sleep 1; ", 1)
    monkeypatch.setattr(remotekill, "kill_command", lambda _grace: script)
    task.set_info("ssh_pool_size", 1)  # the next command waits for this connection
    task.run("sleep 0.2", nodes="node1", timeout=0.1)
    assert task.num_timeout() == 1
    task.run("sleep 2.5", nodes="node1")
    assert task.node_retcode("node1") == 0


def test_a_command_that_was_left_running_on_purpose_goes_on(task: Task, mark: str) -> None:
    def abort(worker: Any) -> None:
        worker.abort()

    task.set_info("ssh_kill_grace", None)
    task.run(f"export {mark}; echo begun; sleep 301", nodes="node1", handler=Once(abort))
    task.set_info("ssh_kill_grace", 0.3)
    command = f"export {mark}; echo begun; exec sleep 300"
    task.run(command, nodes="node1", handler=Once(abort))
    task.close()
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in running(mark)]
    assert any(b"301" in command for command in commands)


@pytest.mark.parametrize("grace", [0, 1])
def test_close_waits_for_the_end(task: Task, mark: str, grace: float) -> None:
    task.set_info("ssh_kill_grace", grace)
    command = f"export {mark}; trap '' TERM; echo begun; sleep 300; sleep 300"
    task.run(command, nodes="node1", handler=Once(lambda worker: worker.abort()))
    task.close()
    assert not list(task.iter_left_running())
    wait_until_gone(mark)


@pytest.mark.needs("root", "sshd")
def test_behind_a_jump_host(root_sshd: Sshd, mark: str, tmp_path: Path) -> None:
    config = root_sshd.write_ssh_config(
        tmp_path / "config", {"node2 node3": {"ProxyJump": "node1"}}
    )
    with no_leaks(), fresh_task() as task:
        task.set_info("ssh_options", f"-F {config}")
        task.set_info("ssh_kill_grace", 0.3)
        doomed: Any = task.shell(f"export {mark}; sleep 300", nodes="node2", timeout=0.7)
        other: Any = task.shell("sleep 2; echo done", nodes="node3")
        task.resume()
        assert doomed.did_timeout()
        assert other.node_buffer("node3") == b"done"
        wait_until_gone(mark)


# -- servers that give no second session, or run no script -----------------------------------------


def time_out(config: Path, command: str) -> list[tuple[str, list[str]]]:
    """Let a command time out; returns what may still run after the task's end."""
    with no_leaks(), fresh_task() as task:
        task.set_info("ssh_options", f"-F {config}")
        task.set_info("ssh_kill_grace", 0.5)
        worker: Any = task.run(command, nodes="node1", timeout=0.7)
        assert worker.did_timeout()
        task.close()
        return list(task.iter_left_running())


@pytest.mark.needs("sshd", "account")
def test_one_session_only_and_a_server_that_delivers_signals(tmp_path: Path, mark: str) -> None:
    with Sshd(tmp_path, MaxSessions=1) as server:
        assert time_out(server.ssh_config, f"export {mark}; sleep 300") == []
        wait_until_gone(mark)


def delivers_signals_to_root(server: Sshd) -> bool:
    """OpenSSH refuses that up to 9.7."""
    return (
        "refusing to send signal" not in server.log() and "signalling requires" not in server.log()
    )


@pytest.mark.needs("root", "sshd")
def test_one_session_only_as_root(tmp_path: Path, mark: str) -> None:
    with Sshd(tmp_path, user="root", MaxSessions=1) as server:
        left = time_out(server.ssh_config, f"export {mark}; sleep 300")
        if delivers_signals_to_root(server):
            assert left == []
        else:
            [(reason, nodes)] = left
            assert nodes == ["node1"]
            assert reason.startswith("the server refuses another session")
            assert running(mark)


@pytest.mark.needs("sshd")
def test_a_forced_command(tmp_path: Path) -> None:
    with Sshd(tmp_path, ForceCommand="sleep 4") as server:
        [(reason, nodes)] = time_out(server.ssh_config, "true")
        assert nodes == ["node1"]
        assert reason.startswith("the server has not run /bin/sh in time")


@pytest.mark.needs("sshd")
def test_the_forced_command_of_a_server_is_run_again_once_only(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as public, fresh_task() as task:
        Path(public).chmod(0o777)  # for the server's account
        note = Path(public, "note")
        with Sshd(tmp_path, ForceCommand=f"echo begun | tee -a {note}; sleep 60") as server:
            task.set_info("ssh_options", f"-F {server.ssh_config}")
            task.set_info("ssh_kill_grace", 1.0)
            for runs in (2, 3, 4):
                task.run("true", nodes="node1", handler=Once(lambda worker: worker.abort()))
                wait_until(lambda: not pool_of(task).cleanups.connections)
                assert len(note.read_text().split()) == runs
        [(reason, nodes)] = task.iter_left_running()
        assert nodes == ["node1"]
        assert "may have run a forced command" in reason


@pytest.mark.needs("sshd")
def test_the_forced_command_of_a_key_is_not_run_again(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as public, Sshd(tmp_path) as server:
        Path(public).chmod(0o777)  # for the server's account
        note = Path(public, "note")
        server.limit_key(f'command="echo begun >>{note}; sleep 4"')
        [(reason, nodes)] = time_out(server.ssh_config, "true")
        assert nodes == ["node1"]
        assert reason.startswith("the server runs a forced command only")
        assert note.read_text() == "begun\n"


@pytest.mark.needs("root", "sshd")
def test_pyclush_says_what_may_still_run(tmp_path: Path, mark: str) -> None:
    with Sshd(tmp_path, ForceCommand="sleep 4") as server:
        done = subprocess.run(
            [
                *(
                    sys.executable,
                    "-m",
                    "pyclustershell.cli.clush",
                    "-o",
                    f"-F {server.ssh_config}",
                ),
                *("-u", "1", "-w", "node[1-2]", "true"),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
        )
    assert b"node[1-2] (2): command timeout\n" in done.stdout
    assert b"node[1-2] (2): the command may still be running: the server has not " in done.stdout


def test_a_process_outside_the_group_keeps_running(task: Task, mark: str) -> None:
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
            # Long enough for a busy machine to connect and to start the command.
            worker: Any = task.run("true", nodes="node", timeout=2)
            assert worker.did_timeout()
            task.close()
        [(reason, nodes)] = task.iter_left_running()
    assert nodes == ["node"]
    assert "the signals that it was sent had no effect" in reason
    [record] = caplog.records
    assert record.getMessage() == f"node: the command may still be running: {reason}"


def test_control_c(ssh_config: Path, mark: str) -> None:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "pyclustershell.cli.clush", "-o", f"-F {ssh_config}"),
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
