"""Through jump hosts: real OpenSSH servers as jump hosts and as nodes."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from pyclustershell.task import Task
from tests.servers.leaks import no_leaks
from tests.servers.sshd import Sshd
from tests.tasks import fresh_task


def wait_until(condition: Callable[[], Any], deadline: float = 10.0) -> None:
    """Wait for what another process or thread does; fail if it does not in time."""
    limit = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < limit, "it did not happen in time"
        threading.Event().wait(0.02)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Sshd]:
    """A jump host as administrators set one up."""
    (tmp_path / "gate").mkdir()
    with Sshd(tmp_path / "gate", nodes=1, MaxStartups="10:30:60", MaxSessions=10) as server:
        yield server


def block(server: Sshd, **options: Any) -> dict[str, Any]:
    """What a configuration file says of a server that is a jump host."""
    return {
        "HostName": "127.0.0.1",
        "Port": server.port,
        "User": server.user,
        "IdentityFile": server.key,
        "UserKnownHostsFile": server.known_hosts,
        "ProxyJump": "none",
        **options,
    }


@contextlib.contextmanager
def task_through(
    nodes: Sshd, path: Path, hosts: dict[str, dict[str, Any]], **options: Any
) -> Iterator[Task]:
    """A task that reaches the nodes of a server as the configuration says."""
    config = nodes.write_ssh_config(path / "config", hosts, **options)
    with no_leaks(), fresh_task() as task:
        task.set_info("ssh_options", f"-F {config}")
        yield task


def outputs(task: Task) -> dict[str, bytes]:
    return {node: bytes(buffer) for buffer, nodes in task.iter_buffers() for node in nodes}


def names(last: int) -> list[str]:
    return [f"node{index}" for index in range(1, last + 1)]


def test_many_nodes_share_one_connection_to_the_jump_host(
    sshd: Sshd, gate: Sshd, tmp_path: Path
) -> None:
    with task_through(sshd, tmp_path, {"gate": block(gate)}, ProxyJump="gate") as task:
        with gate.watch_connections() as watch:
            for _ in range(2):
                task.run("echo ok", nodes="node[1-40]", timeout=40)
                assert list(task.iter_failures()) == []
                assert outputs(task) == dict.fromkeys(names(40), b"ok")
            assert task.pool.stats().bastions == 1
        assert watch.max_connections == 1
        # Not counted as one of the pool's.
        assert task.pool.stats().open == 40
        task.close()
    wait_until(lambda: gate.connections() == 0)
