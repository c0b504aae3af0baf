"""A command's whole way against a real OpenSSH server, as administrators will run it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyclustershell.event import EventHandler
from pyclustershell.exceptions import (
    AuthenticationError,
    ConnectError,
    HandshakeError,
    HostKeyChangedError,
    NodeError,
    UnknownHostKeyError,
)
from pyclustershell.task import Task
from tests.helpers.sh import BEGUN
from tests.helpers.tasks import fresh_task, outputs
from tests.helpers.waiting import wait_until
from tests.servers import faults, processes
from tests.servers.faults import ScriptedServer, dropping_address, refusing_address
from tests.servers.leaks import no_leaks
from tests.servers.proxy import Proxy
from tests.servers.sshd import Sshd, make_key
from tests.servers.trees import process_runs

FANOUT = 64
MANY = 400


@contextlib.contextmanager
def task_on(server: Sshd) -> Iterator[Task]:
    """A task that reaches the nodes of a server, and leaves nothing behind when it is closed."""
    with no_leaks(), fresh_task() as task:
        task.set_info("ssh_options", f"-F {server.ssh_config}")
        task.set_info("fanout", FANOUT)
        yield task


@pytest.fixture
def task(sshd: Sshd) -> Iterator[Task]:
    """A task on the server that all tests share."""
    with task_on(sshd) as task:
        yield task


@pytest.fixture
def counted(tmp_path: Path) -> Iterator[Sshd]:
    """A server that only this test connects to."""
    with Sshd(tmp_path, nodes=MANY) as server:
        yield server


def names(first: int, last: int) -> list[str]:
    return [f"node{index}" for index in range(first, last + 1)]


# -- many nodes, few connections -------------------------------------------------------------------


def test_many_nodes_twice_over_no_more_connections_than_the_fanout(counted: Sshd) -> None:
    expected = dict.fromkeys(names(1, MANY), b"ok")
    with task_on(counted) as task, counted.watch_connections() as watch:
        # This is not about speed: on a busy machine a handshake may take its time.
        task.set_info("connect_timeout", 50)
        for _ in range(2):
            task.run("echo ok", nodes=f"node[1-{MANY}]", timeout=60)
            assert list(task.iter_failures()) == []
            assert outputs(task) == expected
            assert [(rc, len(nodes)) for rc, nodes in task.iter_retcodes()] == [(0, MANY)]
    # Never more; and the watch does see them, the last time while all are idle.
    assert watch.max_connections == FANOUT


def test_a_larger_pool_keeps_every_connection(counted: Sshd) -> None:
    # SSH_CONNECTION holds the client's port: the same one is the same connection.
    command = 'echo "$SSH_CONNECTION"'
    with task_on(counted) as task:
        task.set_info("ssh_pool_size", 100)
        task.run(command, nodes="node[1-100]")
        first = outputs(task)
        assert len(first) == 100
        assert counted.connections() == 100
        task.run(command, nodes="node[1-100]")
        assert outputs(task) == first
    wait_until(lambda: counted.connections() == 0)


def test_connections_are_made_anew_after_the_server_was_restarted(tmp_path: Path) -> None:
    with Sshd(tmp_path) as server, task_on(server) as task:
        task.run("echo before", nodes="node[1-5]")
        server.stop()
        server.start()
        task.run("echo after", nodes="node[1-5]")
        assert list(task.iter_failures()) == []
        assert outputs(task) == dict.fromkeys(names(1, 5), b"after")


def test_a_transport_that_died_without_a_word_is_replaced_silently(sshd: Sshd, task: Task) -> None:
    with Proxy(("127.0.0.1", sshd.port)) as proxy:
        task.configure_ssh(
            hostname="127.0.0.1",
            port=proxy.port,
            connect_timeout=2 * BEGUN,
        )
        task.run("echo before", nodes="node[1-3]")
        assert list(task.iter_failures()) == []
        assert proxy.stall() == 3
        # No end of file, no reset: each of them looks alive until it is asked for something.
        task.run("echo after", nodes="node[1-3]")
        assert list(task.iter_failures()) == []
        assert outputs(task) == dict.fromkeys(names(1, 3), b"after")
        # During a command it is a matter of the command's own timeout.
        worker = task.shell("sleep 0.5; echo done", nodes="node[1-3]", timeout=2)
        task.timer(0.2, Stall(proxy))
        task.resume()
        assert worker.did_timeout()
        task.close()


class Stall(EventHandler):
    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy

    def ev_timer(self, timer: Any) -> None:
        self.proxy.stall()


def test_a_peer_that_vanishes_during_a_command_is_noticed(sshd: Sshd, task: Task) -> None:
    with Proxy(("127.0.0.1", sshd.port)) as proxy:
        task.configure_ssh(
            hostname="127.0.0.1",
            port=proxy.port,
            keepalive=0.2,
            overrides=["ServerAliveCountMax=2"],
        )
        # A command that is silent for longer than that is not taken for dead.
        task.run("sleep 1.5; echo done", nodes="node1", timeout=10)
        assert outputs(task) == {"node1": b"done"}
        task.set_info("ssh_kill_grace", None)
        task.timer(0.3, Stall(proxy))
        task.run("echo here; sleep 60", nodes="node1", timeout=20)
        [(failure, _nodes)] = task.iter_failures()
        assert failure.cause == "Timeout, server not responding"
        assert task.node_buffer("node1") == b"here"
        assert task.num_timeout() == 0


@pytest.mark.parametrize(("retries", "answers"), [(0, 0), (10, 20)])
def test_connections_that_a_busy_server_turns_away_are_tried_again(
    tmp_path: Path, retries: int, answers: int
) -> None:
    # Of those that are not authenticated yet, it keeps one, and drops every other.
    with Sshd(tmp_path, MaxStartups="1:100:1") as server, no_leaks(), fresh_task() as task:
        task.set_info("ssh_options", f"-F {server.ssh_config}")
        task.configure_ssh(connect_retries=retries)
        task.run("echo ok", nodes="node[1-20]", timeout=50)
        if retries:
            assert list(task.iter_failures()) == []
            assert len(outputs(task)) == answers
        else:
            assert {failure.phase for failure, _nodes in task.iter_failures()} == {"handshake"}


def test_a_server_that_allows_one_session_per_connection(tmp_path: Path) -> None:
    with Sshd(tmp_path, MaxSessions=1) as server, task_on(server) as task:
        workers = [task.shell(f"echo {i}; sleep 0.2", nodes="node1") for i in range(3)]
        task.resume()
        assert [worker.node_buffer("node1") for worker in workers] == [b"0", b"1", b"2"]
        assert list(task.iter_failures()) == []


@pytest.mark.needs("strace")
def test_no_process_is_started(sshd: Sshd, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    probe = ["strace", "-f", "-qq", "-e", "trace=execve,execveat", "-o", str(trace)]
    if subprocess.run([*probe, "true"], capture_output=True, check=False).returncode:
        pytest.skip("strace may not trace processes here")

    def started(*lines: str) -> list[str]:
        script = f"""
            from pyclustershell.task import task_self
            with task_self() as task:
                task.set_info("ssh_options", "-F {sshd.ssh_config}")
                {"; ".join(lines)}
        """
        command = [*probe, sys.executable, "-c", textwrap.dedent(script)]
        subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
        return [line for line in trace.read_text().splitlines() if line.endswith(" = 0")]

    over_ssh = started(
        "task.run('echo ok', nodes='node[1-3]', timeout=20)",
        "assert sorted(task.iter_retcodes())[0][0] == 0 == task.max_retcode()",
        "task.run('sleep 60', nodes='node[1-3]', timeout=0.2)",
        "assert task.num_timeout() == 3",
    )
    assert len(over_ssh) == 1, over_ssh  # the interpreter itself
    # Otherwise the trace would miss the calls that matter.
    assert len(started("task.run('true')")) > 1


# -- failures --------------------------------------------------------------------------------------


class Ends(EventHandler):
    """When each node's command ended, in seconds from the start."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.after: dict[str, float] = {}

    def ev_hup(self, worker: Any, node: str, rc: int) -> None:
        self.after[node] = time.monotonic() - self.began


FAILURES: dict[str, tuple[type[NodeError], str]] = {
    "refused": (ConnectError, "Connection refused"),
    "dropped": (ConnectError, "Connection timed out"),
    "closes": (HandshakeError, "Connection closed during banner exchange"),
    "resets": (HandshakeError, "Connection reset during banner exchange"),
    "hangs": (HandshakeError, "timed out during banner exchange"),
    "stalls": (HandshakeError, "timed out"),
    "babbles": (HandshakeError, "banner"),
    "webserver": (HandshakeError, "banner"),
    "unknown": (UnknownHostKeyError, "Host key verification failed"),
    "changed": (HostKeyChangedError, "Host key verification failed"),
    "wrongkey": (AuthenticationError, "Permission denied (publickey)"),
}

if not faults.RESETS_ARE_SEEN:
    FAILURES["resets"] = FAILURES["closes"]

SCRIPTS: dict[str, faults.Script] = {
    "closes": faults.close_before_banner,
    "resets": faults.reset_before_banner,
    "hangs": faults.hang_in_banner,
    "stalls": faults.hang_in_key_exchange,
    "babbles": faults.garbage_banner,
    "webserver": faults.other_protocol,
}


@pytest.fixture
def failing_hosts(tmp_path: Path) -> Iterator[dict[str, dict[str, Any]]]:
    """The nodes of FAILURES, as blocks of an OpenSSH client configuration file."""
    empty, changed = tmp_path / "empty", tmp_path / "changed"
    empty.touch()
    changed.write_text(f"changed {make_key(tmp_path / 'host_key')}\n")
    hosts: dict[str, dict[str, Any]] = {
        "unknown": {"HostName": "127.0.0.1", "UserKnownHostsFile": empty},
        "changed": {
            "HostName": "127.0.0.1",
            "UserKnownHostsFile": changed,
            "HostKeyAlias": "changed",
        },
    }
    with contextlib.ExitStack() as stack:
        addresses = {
            name: stack.enter_context(ScriptedServer(script)).address
            for name, script in SCRIPTS.items()
        }
        addresses["refused"] = stack.enter_context(refusing_address())
        addresses["dropped"] = stack.enter_context(dropping_address())
        (tmp_path / "other").mkdir()
        other = stack.enter_context(Sshd(tmp_path / "other"))  # which takes its own key only
        addresses["wrongkey"] = ("127.0.0.1", other.port)
        hosts["wrongkey"] = {"UserKnownHostsFile": other.known_hosts}
        for name, (host, port) in addresses.items():
            hosts.setdefault(name, {}).update(HostName=host, Port=port)
        yield hosts


def test_each_failure_has_its_cause_and_hurts_nobody_else(
    sshd: Sshd, failing_hosts: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    config = sshd.write_ssh_config(tmp_path / "config", failing_hosts, ConnectTimeout=1)
    with fresh_task() as task:
        task.set_info("ssh_options", f"-F {config}")
        for _ in range(2):  # the task can run again
            ends = Ends()
            nodes = ",".join([*FAILURES, "node[1-10]"])
            task.run("echo ok", nodes=nodes, handler=ends, stderr=True, timeout=20)
            assert outputs(task) == dict.fromkeys(names(1, 10), b"ok")
            codes = {node: rc for rc, nodes in task.iter_retcodes() for node in nodes}
            assert codes == {**dict.fromkeys(names(1, 10), 0), **dict.fromkeys(FAILURES, 255)}
            failures = {node: it for it, nodes in task.iter_failures() for node in nodes}
            assert {node: type(it) for node, it in failures.items()} == {
                node: kind for node, (kind, _) in FAILURES.items()
            }
            for node, (_, words) in FAILURES.items():
                assert words in task.node_error(node).decode()
            # The limit is one second. A busy machine may take more; a hang takes far more.
            assert max(ends.after.values()) < 8


def test_nothing_is_left_of_failures(
    sshd: Sshd, failing_hosts: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    config = sshd.write_ssh_config(tmp_path / "config", failing_hosts, ConnectTimeout=1)
    with no_leaks(), fresh_task() as task:
        task.set_info("ssh_options", f"-F {config}")
        task.run("echo ok", nodes=",".join([*FAILURES, "node1"]), timeout=20)
        assert task.max_retcode() == 255


# -- the command's end -----------------------------------------------------------------------------


def test_streams_closed_long_before_the_end_cost_nothing(task: Task) -> None:
    task.run("true", nodes="node1")  # the connection is there
    before = time.process_time()
    task.run("exec >&- 2>&-; sleep 1; exit 3", nodes="node1")
    spent = time.process_time() - before
    assert task.node_retcode("node1") == 3
    assert spent < 0.05  # of CPU, not of time: a loop that spins takes the whole second


def test_return_codes(task: Task) -> None:
    commands = {"exit 0": 0, "exit 7": 7, "kill -9 $$": 137, "kill -TERM $$": 143, "no-such": 127}
    workers = {command: task.shell(command, nodes="node1") for command in commands}
    task.resume()
    codes = {command: worker.node_retcode("node1") for command, worker in workers.items()}
    assert codes == commands


@pytest.mark.needs("account")  # sshd hands on no signals to the sessions of root
def test_a_command_that_takes_too_long_is_ended_with_all_that_it_started(task: Task) -> None:
    handler = Ends()
    command = "sleep 60 & echo $$ $!; wait"
    worker: Any = task.run(command, nodes="node[1-2]", handler=handler, timeout=1)
    assert sorted(task.iter_keys_timeout()) == ["node1", "node2"]
    assert worker.did_timeout()
    pids = [int(pid) for output in outputs(task).values() for pid in output.split()]
    assert len(pids) == 4
    assert time.monotonic() - handler.began < 8  # of the 60 seconds
    wait_until(lambda: not any(map(process_runs, pids)), deadline=3)


# -- output ----------------------------------------------------------------------------------------


def test_much_output_on_both_streams_arrives_whole_and_apart(task: Task) -> None:
    lines = 20_000  # of 1,000 bytes
    command = f"seq -f E%0998.0f {lines} >&2 & seq -f O%0998.0f {lines}; wait"
    task.run(command, nodes="node1", stderr=True, timeout=50)
    assert task.node_retcode("node1") == 0
    numbers = [f"{number:0998d}" for number in range(1, lines + 1)]
    # Not compared by "assert a == b", whose explanation of 20 MB takes minutes.
    whole = task.node_buffer("node1") == "\n".join(f"O{it}" for it in numbers).encode()
    assert whole
    whole = task.node_error("node1") == "\n".join(f"E{it}" for it in numbers).encode()
    assert whole


def test_bytes_that_are_no_text_arrive_as_they_are(task: Task) -> None:
    wanted = bytes(byte for byte in range(256) if byte != ord("\n"))
    octal = "".join(f"\\{byte:03o}" for byte in wanted)
    task.run(f"printf '{octal}'", nodes="node[1-2]")
    assert outputs(task) == {"node1": wanted, "node2": wanted}


def test_the_example_of_the_readme(sshd: Sshd, tmp_path: Path) -> None:
    shutil.copy(sshd.ssh_config, tmp_path / "my_ssh_config")
    script = textwrap.dedent(
        """
        from pyclustershell import task_self, NodeSet
        task = task_self()
        task.set_info('ssh_options', '-F my_ssh_config')
        task.run('echo $PYCLUSTERSHELL_NODE; uname -s', nodes='node[1-40]', timeout=30)
        for buf, nodes in task.iter_buffers():
            print(NodeSet.fromlist(nodes), bytes(buf).decode())
        """
    )
    search = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, search))}
    done = subprocess.run(
        # Old paramiko warns by itself: only objects that we left open are reported.
        [sys.executable, "-W", "ignore", "-W", "error::ResourceWarning", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=40,
    )
    assert done.stderr == ""
    system = processes.run("uname", "-s").stdout.strip()
    assert done.stdout.split() == ["node[1-40]", system]
