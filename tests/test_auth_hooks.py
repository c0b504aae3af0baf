"""GSSAPI, message by message: the mechanism and the server are the test's own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import paramiko
import pytest
from paramiko.message import Message

from pyclustershell.transport.paramiko_hooks import (
    ClientAuthHandler,
    Then,
    gssapi_obstacle,
)
from pyclustershell.transport.paramiko_hooks import (
    auth as auth_hooks,
)


class Failure(Exception):
    """What the mechanism raises."""


class Mechanism:
    """Two tokens, then the context is complete."""

    def __init__(self, method: str, delegate: bool) -> None:
        self.made = (method, delegate)
        self.tokens = [b"first", b"second", None]
        self.asked: list[tuple[object, ...]] = []

    def ssh_gss_oids(self) -> bytes:
        return b"\0\0\0\1\0\0\0\3oid"

    def ssh_init_sec_context(self, *arguments: object) -> object:
        self.asked.append(arguments)
        token = self.tokens.pop(0)
        if token == b"fail":
            raise Failure
        return token

    def ssh_get_mic(self, session_id: bytes) -> bytes:
        return b"mic of " + session_id


class FakeTransport:
    """Keeps what is sent."""

    server_mode = False
    auth_service_granted = True
    session_id = b"session"
    name = "test"
    auth_timeout = 1

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def _send_message(self, m: Message) -> None:
        self.sent.append(m.asbytes())

    def _log(self, *arguments: Any) -> None:
        pass


def strings(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


@pytest.fixture
def handler(monkeypatch: pytest.MonkeyPatch) -> ClientAuthHandler:
    made = SimpleNamespace(GSSAuth=Mechanism, GSS_EXCEPTIONS=(Failure,), GSS_AUTH_AVAILABLE=True)
    monkeypatch.setattr(auth_hooks, "import_module", lambda _name: made)
    ended: list[str] = []
    transport: Any = FakeTransport()
    handler = ClientAuthHandler(transport, Then(lambda: ended.append("ended")))
    handler.ended = ended  # type: ignore[attr-defined]
    handler.kept = transport  # type: ignore[attr-defined] # paramiko holds it weakly
    return handler


def receive(handler: ClientAuthHandler, kind: int, content: bytes) -> None:
    handler._client_handler_table[kind](Message(content))


def test_tokens_go_back_and_forth_and_the_session_is_signed(handler: Any) -> None:
    assert gssapi_obstacle() == ""
    handler.start_gssapi("bob", "gate.org", True)
    request = b"\x32" + strings(b"bob", b"ssh-connection", b"gssapi-with-mic")
    assert handler.transport.sent == [request + b"\0\0\0\1\0\0\0\3oid"]
    receive(handler, 60, strings(b"krb5"))
    receive(handler, 61, strings(b"from server"))
    receive(handler, 61, strings(b"from server, too"))
    assert handler.transport.sent[1:] == [
        b"\x3d" + strings(b"first"),
        b"\x3d" + strings(b"second"),
        b"\x42" + strings(b"mic of session"),
    ]
    assert handler._gss.made == ("gssapi-with-mic", True)
    assert handler._gss.asked == [
        ("gate.org", b"krb5", "bob"),
        ("gate.org", b"krb5", "bob", b"from server"),
        ("gate.org", b"krb5", "bob", b"from server, too"),
    ]
    assert handler.ended == []


def test_without_a_ticket_the_attempt_is_over(handler: Any) -> None:
    handler.start_gssapi("bob", "gate.org", False)
    handler._gss.tokens = [b"fail"]
    receive(handler, 60, strings(b"krb5"))
    assert len(handler.transport.sent) == 1
    assert (handler.ended, handler.allowed) == (["ended"], None)


def test_a_servers_explanations_are_followed_by_its_refusal(handler: Any) -> None:
    handler.start_gssapi("bob", "gate.org", False)
    receive(handler, 64, b"")
    receive(handler, 65, b"")
    assert handler.ended == []
    receive(handler, 51, strings(b"publickey") + b"\0")
    assert (handler.ended, handler.allowed) == (["ended"], ("publickey",))


def test_the_numbers_mean_something_else_in_other_methods(handler: Any) -> None:
    assert 61 not in handler._client_handler_table or (
        handler._client_handler_table[61] != handler._parse_gssapi_token
    )


@pytest.mark.parametrize("available", [True, False])
def test_obstacles(monkeypatch: pytest.MonkeyPatch, available: bool) -> None:
    def fail(name: str) -> object:
        if available:
            return SimpleNamespace(GSS_AUTH_AVAILABLE=False)
        raise ImportError(name)

    monkeypatch.setattr(auth_hooks, "import_module", fail)
    expected = "'gssapi' is not installed" if available else f"paramiko {paramiko.__version__} has"
    assert expected in gssapi_obstacle()
