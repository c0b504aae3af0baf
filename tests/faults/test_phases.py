"""Every phase of a connection and of a command times out by itself, and says so."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from pyclustershell.exceptions import (
    AuthenticationError,
    ConnectError,
    HandshakeError,
    NodeError,
    ResolveError,
    SessionError,
)
from pyclustershell.task import Task
from tests.helpers.tasks import connect_to, fresh_task
from tests.servers import faults, phases
from tests.servers.faults import ScriptedServer, dropping_address
from tests.servers.leaks import no_leaks
from tests.servers.phases import PhaseServer, Rule

SHORT = 0.3


@pytest.fixture
def task() -> Iterator[Task]:
    """A task with short timeouts, which leaves nothing behind."""
    with no_leaks(), fresh_task() as task:
        task.configure_ssh(
            connect_timeout=SHORT,
            auth_timeout=SHORT,
            connect_retries=0,
            user="me",
            password="secret",
            agent=False,
            config_files=[],
        )
        yield task


def fail(task: Task) -> NodeError:
    """The failure of the node."""
    task.run("true", nodes="node")
    [(failure, nodes)] = task.iter_failures()
    assert nodes == ["node"]
    assert task.node_retcode("node") == 255
    assert task.num_timeout() == 0
    return failure


def phase_failure(task: Task, rules: Mapping[int, Rule]) -> NodeError:
    with PhaseServer(rules) as server:
        connect_to(task, server.address, server.known_host)
        return fail(task)


def test_resolve(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    look_up = socket.getaddrinfo

    def slow(host: str, *args: Any, **options: Any) -> Any:
        if host == "slow.test" and not args[-1]:  # no flags: not a look whether it is numeric
            answer.wait(30)
            raise socket.gaierror(socket.EAI_AGAIN, "too late")
        return look_up(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    connect_to(task, ("slow.test", 22))
    try:
        failure = fail(task)
    finally:
        answer.set()
    assert isinstance(failure, ResolveError)
    assert failure.phase == "resolve"
    assert failure.cause == "Could not resolve hostname: timed out"


def test_connect(task: Task) -> None:
    with dropping_address() as address:
        connect_to(task, address)
        failure = fail(task)
    assert isinstance(failure, ConnectError)
    assert (failure.phase, failure.cause) == ("connect", "Connection timed out")


def test_an_endless_banner_is_not_waited_for(task: Task) -> None:
    with ScriptedServer(faults.endless_line) as server:
        connect_to(task, server.address)
        failure = fail(task)
    assert isinstance(failure, HandshakeError)
    assert failure.cause == "No SSH banner: the peer does not speak SSH"


@pytest.mark.parametrize(
    ("script", "phase"),
    [
        (faults.hang_before_banner, "banner exchange"),
        (faults.hang_in_banner, "banner exchange"),
        (faults.hang_before_key_exchange, "key exchange"),
        (faults.half_key_exchange, "key exchange"),
        (faults.hang_in_key_exchange, "key exchange"),
    ],
)
def test_handshake(task: Task, script: faults.Script, phase: str) -> None:
    with ScriptedServer(script) as server:
        connect_to(task, server.address)
        failure = fail(task)
    assert isinstance(failure, HandshakeError)
    assert failure.phase == "handshake"
    assert failure.cause == f"Connection timed out during {phase}"


@pytest.mark.parametrize(
    "swallowed",
    [
        # The first authentication request comes with the service request, before it is granted.
        (phases.SERVICE_REQUEST, phases.USERAUTH_REQUEST),
        (phases.USERAUTH_REQUEST,),
    ],
)
def test_authentication(task: Task, swallowed: tuple[int, ...]) -> None:
    failure = phase_failure(task, dict.fromkeys(swallowed, phases.swallow))
    assert isinstance(failure, AuthenticationError)
    assert (failure.phase, failure.cause) == ("authentication", "Authentication timed out")


@pytest.mark.parametrize(
    ("number", "phase"),
    [(phases.CHANNEL_OPEN, "channel open"), (phases.CHANNEL_REQUEST, "exec request")],
)
def test_session(task: Task, number: int, phase: str) -> None:
    failure = phase_failure(task, {number: phases.swallow})
    assert isinstance(failure, SessionError)
    assert failure.phase == "session"
    assert failure.cause == f"Connection timed out during {phase}"


def test_a_session_on_a_connection_that_is_used_again(task: Task) -> None:
    silent = threading.Event()

    def fall_silent(peer: phases.Peer, payload: bytes) -> bool:
        return not silent.is_set()

    with PhaseServer({phases.CHANNEL_REQUEST: fall_silent}) as server:
        connect_to(task, server.address, server.known_host)
        task.run("true", nodes="node")
        assert task.max_retcode() == 0
        silent.set()
        failure = fail(task)
        # The command had been asked for: it may run, and is not asked for again.
        assert failure.cause == "Connection timed out during exec request"
        assert server.accepted == 1


def test_command(task: Task) -> None:
    with PhaseServer(phases.command(phases.accept, phases.say(b"begun\n"))) as server:
        connect_to(task, server.address, server.known_host)
        task.set_info("ssh_kill_grace", 0)
        worker: Any = task.run("true", nodes="node", timeout=SHORT)
        assert list(worker.iter_keys_timeout()) == ["node"]
        assert worker.node_buffer("node") == b"begun"
        assert list(worker.iter_failures()) == []


def test_close_of_a_channel(task: Task) -> None:
    # The server never closes its side, and ignores that ours is closed.
    steps = (phases.accept, phases.say(b"ok\n"), phases.eof, phases.exit_status(0))
    with PhaseServer(phases.command(*steps)) as server:
        connect_to(task, server.address, server.known_host)
        for _ in range(3):
            task.run("true", nodes="node")
            assert task.node_retcode("node") == 0
        assert server.accepted == 1


def test_close_of_a_connection(task: Task) -> None:
    def deaf(peer: phases.Peer, payload: bytes) -> None:
        over.wait(30)

    over = threading.Event()
    rules = {**phases.command(phases.accept), phases.CHANNEL_DATA: deaf}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(PhaseServer(rules))
        stack.callback(over.set)
        connect_to(task, server.address, server.known_host)
        worker: Any = task.shell("cat", nodes="node", timeout=SHORT)
        # More than fits into the sockets of a peer that has ceased to read.
        worker.write(bytes(8 << 20))
        task.set_info("ssh_kill_grace", 0)
        task.resume()
        assert worker.did_timeout()
        task.close()
