"""Authentication, message by message, with a scripted mechanism and server."""

from __future__ import annotations

import os
import threading
from types import SimpleNamespace
from typing import Any, NamedTuple, Optional

import paramiko
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from paramiko.message import Message

from pyclustershell.ssh.protocol import CallbackEvent, ClientAuthHandler, gssapi_obstacle
from pyclustershell.ssh.protocol import userauth as auth_hooks


class Failure(Exception):
    """The mechanism's exception."""


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
    """Keeps the sent messages."""

    server_mode = False
    session_id = b"session"
    name = "test"
    auth_timeout = 1

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def _send_message(self, m: Message) -> None:
        self.sent.append(m.asbytes())

    def _log(self, *arguments: Any) -> None:
        pass

    def signature_algorithm(self, key: paramiko.PKey) -> str:
        return key.get_name()


def strings(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


@pytest.fixture
def handler(monkeypatch: pytest.MonkeyPatch) -> ClientAuthHandler:
    made = SimpleNamespace(GSSAuth=Mechanism, GSS_EXCEPTIONS=(Failure,), GSS_AUTH_AVAILABLE=True)
    monkeypatch.setattr(auth_hooks, "import_module", lambda _name: made)
    ended: list[str] = []
    transport: Any = FakeTransport()
    handler = ClientAuthHandler(transport, CallbackEvent(lambda: ended.append("ended")), True)
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


# -- without GSSAPI --------------------------------------------------------------------------------

SERVICE, REQUEST, PK_OK = 5, 50, 60


class Asked(NamedTuple):
    """A handler, the transport that it sends on, and how often its attempt was decided."""

    handler: ClientAuthHandler
    transport: Any
    ended: list[str]

    def kinds(self) -> list[int]:
        """Return the types of the sent messages."""
        return [message[0] for message in self.transport.sent]


@pytest.fixture
def asked() -> Asked:
    transport: Any = FakeTransport()
    transport.lock = threading.Lock()
    ended: list[str] = []
    handler = ClientAuthHandler(transport, CallbackEvent(lambda: ended.append("ended")))
    return Asked(handler, transport, ended)


class SlowKey(paramiko.ECDSAKey):
    """A key that notes whether the transport's lock is held while it signs."""

    transport: Any
    locked: list[bool]

    def sign_ssh_data(self, data: bytes, algorithm: Optional[str] = None) -> Message:
        self.locked.append(self.transport.lock.locked())
        return super().sign_ssh_data(data, algorithm)


def test_none_goes_out_together_with_the_request_for_the_service(asked: Asked) -> None:
    asked.handler.start_none("bob")
    assert asked.kinds() == [SERVICE, REQUEST]
    receive(asked.handler, 6, strings(b"ssh-userauth"))
    assert asked.kinds() == [SERVICE, REQUEST]
    receive(asked.handler, 51, strings(b"publickey,password") + b"\0")
    assert (asked.ended, asked.handler.allowed) == (["ended"], ("publickey", "password"))
    assert asked.handler.service_granted


@pytest.mark.parametrize("kind", [51, 52, 60])
def test_an_answer_before_the_service_is_granted(asked: Asked, kind: int) -> None:
    asked.handler.start_interactive("bob", lambda *_: [])
    with pytest.raises(paramiko.SSHException, match="before it has granted"):
        receive(asked.handler, kind, strings(b"", b"", b"") + b"\0\0\0\0")
    assert not asked.ended


def test_the_service_is_granted_once(asked: Asked) -> None:
    asked.handler.start_password("bob", "geheim")
    assert asked.kinds() == [SERVICE]
    with pytest.raises(paramiko.SSHException, match="another service"):
        receive(asked.handler, 6, strings(b"ssh-connection"))
    receive(asked.handler, 6, b"")  # as some old servers do
    assert asked.kinds() == [SERVICE, REQUEST]
    with pytest.raises(paramiko.SSHException, match="not asked for"):
        receive(asked.handler, 6, strings(b"ssh-userauth"))
    assert asked.kinds() == [SERVICE, REQUEST]


def test_a_signed_request_that_is_taken_for_a_question_is_sent_once_more(asked: Asked) -> None:
    made = ec.generate_private_key(ec.SECP256R1())
    key = SlowKey(vals=(made, made.public_key()))
    key.transport, key.locked = asked.transport, []
    asked.handler.service_granted = True
    asked.handler.start_publickey("bob", key)
    receive(asked.handler, PK_OK, strings(b"ecdsa-sha2-nistp256", key.asbytes()))
    assert asked.kinds() == [REQUEST, REQUEST]
    assert asked.transport.sent[0] == asked.transport.sent[1]
    assert key.locked == [False]
    with pytest.raises(paramiko.SSHException, match="again and again"):
        receive(asked.handler, PK_OK, strings(b"ecdsa-sha2-nistp256", key.asbytes()))


def test_a_request_to_change_the_password_ends_the_attempt(asked: Asked) -> None:
    asked.handler.service_granted = True
    asked.handler.start_password("bob", "geheim")
    receive(asked.handler, 60, strings(b"Choose \x1b[31manother", b"en"))
    assert asked.ended == ["ended"]
    assert asked.handler.change_request == "Choose ^[[31manother"
    assert asked.kinds() == [REQUEST]


def test_a_round_without_questions_is_answered(asked: Asked) -> None:
    asked.handler.service_granted = True
    asked.handler.start_interactive("bob", lambda _title, _text, prompts: ["x"] * len(prompts))
    receive(asked.handler, 60, strings(b"", b"", b"") + bytes(4))
    assert asked.transport.sent[1:] == [b"\x3d" + bytes(4)]
    assert not asked.ended


def test_passwords_and_answers_may_have_bytes_that_are_not_utf8(asked: Asked) -> None:
    asked.handler.service_granted = True
    text = os.fsdecode(b"gr\xfcn") if os.name != "nt" else "gr\udcfcn"
    asked.handler.start_password("bob", text)
    assert asked.transport.sent[0].endswith(b"\0" + strings(b"gr\xfcn"))
    asked.handler.start_interactive("bob", lambda *_request: [text])
    question = strings(b"", b"", b"") + b"\0\0\0\1" + strings(b"Password: ") + b"\0"
    receive(asked.handler, 60, question)
    assert asked.transport.sent[-1] == b"\x3d\0\0\0\1" + strings(b"gr\xfcn")


def test_a_secret_that_cannot_be_sent_is_not_shown(asked: Asked) -> None:
    asked.handler.service_granted = True
    with pytest.raises(paramiko.SSHException, match="characters that UTF-8") as failure:
        asked.handler.start_password("bob", "geheim\ud800")
    assert "geheim" not in repr(failure.value)
    assert failure.value.__suppress_context__
    asked.handler.start_interactive("bob", lambda *_request: ["geheim\ud800"])
    question = strings(b"", b"", b"") + b"\0\0\0\1" + strings(b"Password: ") + b"\0"
    with pytest.raises(paramiko.SSHException, match="characters that UTF-8"):
        receive(asked.handler, 60, question)
