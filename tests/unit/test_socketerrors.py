"""Errors of sockets have the system's words, and lost connections their reason."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pyclustershell.engine.socketerrors import lookup_error, socket_error
from pyclustershell.ssh.errors import authentication_ended, connection_lost, handshake_ended
from pyclustershell.task import Task
from tests.helpers.tasks import fresh_task


@pytest.fixture
def task() -> Iterator[Task]:
    with fresh_task() as task:
        yield task


def causes(task: Task) -> list[str]:
    return [failure.cause for failure, _ in task.iter_failures()]


def system_words(code: int) -> str:
    if sys.platform != "win32":
        return os.strerror(code)
    import ctypes

    return ctypes.FormatError(code).rstrip(".")


def test_a_refused_connection(task: Task) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        task.configure_ssh(hostname="127.0.0.1", port=unused.getsockname()[1], user="me")
        task.run("true", nodes="node1")
    assert causes(task) == [system_words(errno.ECONNREFUSED)]
    assert "nknown" not in causes(task)[0]


def test_a_name_that_does_not_exist(task: Task) -> None:
    task.configure_ssh(hostname="no-such-host.invalid", user="me")
    task.run("true", nodes="node1")
    (cause,) = causes(task)
    assert cause.startswith("Could not resolve hostname: ")
    assert "getaddrinfo" not in cause


def test_classes_of_errors() -> None:
    assert isinstance(socket_error(errno.ECONNREFUSED), ConnectionRefusedError)
    assert isinstance(socket_error(errno.ECONNRESET), ConnectionResetError)
    assert socket_error(errno.ECONNREFUSED).errno == errno.ECONNREFUSED
    other = OSError(errno.EMFILE, "no descriptors")
    assert lookup_error(other) is other


SETTINGS: Any = SimpleNamespace(node="n", hostname="host", port=22)
STREAM: Any = SimpleNamespace(address="192.0.2.1", why_ended=lambda: None)


def ended(error: BaseException) -> Any:
    return SimpleNamespace(
        get_exception=lambda: error,
        disconnect_message="",
        is_violated=False,
        remote_version="",
    )


@pytest.mark.parametrize(
    ("error", "cause", "transient"),
    [
        (ConnectionResetError(), "Connection reset during banner exchange", True),
        # Windows' other error for that.
        (ConnectionAbortedError(), "Connection reset during banner exchange", True),
        (EOFError(), "Connection closed during banner exchange", True),
        (OSError(9, "No way there"), "No way there during banner exchange", False),
        (ValueError("?"), "No SSH banner: the peer does not speak SSH", False),
    ],
)
def test_a_handshake_that_ends(error: BaseException, cause: str, transient: bool) -> None:
    failure = handshake_ended(SETTINGS, ended(error), STREAM)
    assert (failure.cause, failure.transient) == (cause, transient)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (ConnectionResetError(), "Connection lost"),
        (ConnectionAbortedError(), "Connection lost"),
        (EOFError(), "Connection lost"),
        (OSError(9, "No way there"), "Connection lost: No way there"),
    ],
)
def test_a_connection_that_ends(error: BaseException, cause: str) -> None:
    assert connection_lost(SETTINGS, ended(error), STREAM).cause == cause


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (ConnectionAbortedError(), "Connection closed during authentication"),
        (OSError(9, "No way there"), "No way there during authentication"),
        (ValueError("garbled"), "garbled"),
    ],
)
def test_an_authentication_that_ends(error: BaseException, cause: str) -> None:
    authenticator: Any = SimpleNamespace(disconnection=lambda cause: cause)
    assert authentication_ended(ended(error), STREAM, authenticator) == cause
