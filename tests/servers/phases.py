"""SSH servers that follow the protocol up to a moment that a test chooses, and break it then.

They are paramiko's servers with a packetizer that has rules of the test. A rule belongs to the
number of a client's message (RFC 4250, section 4.1.2). It is called before the server handles the
message, and may replace that. The messages of a rule are encrypted like all others.
"""

from __future__ import annotations

import io
import logging
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple, Optional, cast

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_SUCCEEDED
from paramiko.message import Message
from paramiko.packet import Packetizer
from paramiko.server import InteractiveQuery

from tests.servers.faults import ScriptedServer, reset, wait_for_hangup

# Message numbers: RFC 4250, section 4.1.2.
DISCONNECT = 1
IGNORE = 2
SERVICE_REQUEST = 5
KEXINIT = 20
NEWKEYS = 21
KEX_INIT = 30  # the client's half of the exchange
USERAUTH_REQUEST = 50
GLOBAL_REQUEST = 80
CHANNEL_OPEN = 90
CHANNEL_OPEN_CONFIRMATION = 91
CHANNEL_OPEN_FAILURE = 92
WINDOW_ADJUST = 93
CHANNEL_DATA = 94
CHANNEL_EXTENDED_DATA = 95
CHANNEL_EOF = 96
CHANNEL_CLOSE = 97
CHANNEL_REQUEST = 98
CHANNEL_SUCCESS = 99
CHANNEL_FAILURE = 100

# The phases of a connection, each with the client's message that begins it.
PHASES: Mapping[str, int] = {
    "key exchange": KEXINIT,
    "keys": KEX_INIT,
    "new keys": NEWKEYS,
    "service": SERVICE_REQUEST,
    "authentication": USERAUTH_REQUEST,
    "channel open": CHANNEL_OPEN,
    "exec request": CHANNEL_REQUEST,
}

# paramiko logs every broken connection; here, breaking connections is the purpose.
_LOG = "tests.servers.phases"
logging.getLogger(_LOG).addHandler(logging.NullHandler())
logging.getLogger(_LOG).propagate = False

Rule = Callable[["Peer", bytes], Any]
"""Handles a message of the client (its payload without the number). Returns True if the server is
to handle the message afterwards."""


class Hangup(EOFError):
    """Ends the transport's thread, as the end of the client's stream would."""


class Peer(Packetizer):
    """The server's packetizer, with which a rule sends and receives.

    Attributes:
        sock: the connection.
        channel: the client's number of the last channel that it asked for.
    """

    def __init__(self, sock: socket.socket, rules: Mapping[int, Rule]) -> None:
        super().__init__(sock)
        self.sock = sock
        self.channel = 0
        self._rules = rules
        self._otherwise = command(*ok())

    def start_handshake(self, timeout: float) -> None:
        """Do nothing: paramiko would start a thread for each connection."""

    def read_message(self) -> tuple[int, Message]:
        """The next message of the client that no rule replaces."""
        while True:
            number, message = super().read_message()
            if number == CHANNEL_OPEN:
                message.get_text()
                self.channel = message.get_int()
                message.rewind()
            payload = message.get_remainder()
            rules = (self._rules.get(number), self._otherwise.get(number))
            if all(rule is None or rule(self, payload) for rule in rules):
                return number, message

    def say(self, number: int, *fields: Any) -> None:
        """Send a message: numbers as uint32, bytes and text as strings, booleans as such."""
        message = Message()
        message.add_byte(bytes([number]))
        for field in fields:
            if isinstance(field, bool):
                message.add_boolean(field)
            elif isinstance(field, int):
                message.add_int(field)
            else:
                message.add_string(field)
        self.send_message(message)


class Logins(NamedTuple):
    """How clients can log in. Every password, key and answer is right, or none.

    Attributes:
        password: by a key or a password.
        interactive: by answers.
    """

    password: bool = True
    interactive: bool = False


class _Door(paramiko.ServerInterface):
    """Accepts every client by the methods that are open, and records the attempts."""

    def __init__(self, logins: Logins, tried: set[str]) -> None:
        self._logins = logins
        self._tried = tried

    def get_allowed_auths(self, username: str) -> str:
        return "publickey,password,keyboard-interactive"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return self._knock("publickey", self._logins.password)

    def check_auth_password(self, username: str, password: str) -> int:
        return self._knock("password", self._logins.password)

    def check_auth_interactive(self, username: str, submethods: str) -> Any:
        self._knock("keyboard-interactive", False)
        return InteractiveQuery("", "", ("Code: ", False))

    def check_auth_interactive_response(self, responses: Any) -> int:
        return self._knock("keyboard-interactive", self._logins.interactive)

    def _knock(self, method: str, opens: bool) -> int:
        self._tried.add(method)
        return AUTH_SUCCESSFUL if opens else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED


def host_key() -> paramiko.Ed25519Key:
    """A new key for a server."""
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    return paramiko.Ed25519Key(file_obj=io.StringIO(pem.decode()))


ANYBODY = Logins()


class PhaseServer(ScriptedServer):
    """An SSH server with rules of a test's own.

    Without rules for channels and commands, every command says "ok".

    Attributes:
        known_host: a known_hosts line for it.
        tried: the methods by which clients have tried to log in.

    Args:
        rules: by the number of the client's message.
        key: the host key; a new one by default.
        logins: how clients can log in; by default, every key and password is right.
        offer: called with each connection's transport before it starts, to change its algorithms.
    """

    def __init__(
        self,
        rules: Mapping[int, Rule],
        *,
        key: Optional[paramiko.PKey] = None,
        logins: Logins = ANYBODY,
        offer: Callable[[paramiko.Transport], object] = lambda transport: None,
        host: str = "127.0.0.1",
    ) -> None:
        self._rules = rules
        self._offer = offer
        self._key = key or host_key()
        self._logins = logins
        self.tried: set[str] = set()
        super().__init__(self._serve, host)
        self.known_host = (
            f"[{self.address[0]}]:{self.port} {self._key.get_name()} {self._key.get_base64()}"
        )

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport = paramiko.Transport(
            connection,
            packetizer_class=lambda sock: Peer(sock, self._rules),  # type: ignore[arg-type]
        )
        transport.set_log_channel(_LOG)
        # paramiko sets 0.1 s. No timeout is needed: stop() shuts the socket down.
        connection.settimeout(None)
        transport.add_server_key(self._key)
        self._offer(transport)
        transport.daemon = True
        try:
            transport.start_server(
                event=cast(Any, _Never()), server=_Door(self._logins, self.tried)
            )
            transport.join()
        finally:
            transport.close()


class _Never:
    """Replaces an event on which no thread waits."""

    def set(self) -> None:
        """Do nothing."""

    def clear(self) -> None:
        """Do nothing."""

    def is_set(self) -> bool:
        """Always False."""
        return False


# -- rules -----------------------------------------------------------------------------------------


def swallow(peer: Peer, payload: bytes) -> None:
    """Never answer; later messages of other numbers are handled."""


def hang(peer: Peer, payload: bytes) -> None:
    """Never answer this or any later message."""
    wait_for_hangup(peer.sock)
    raise Hangup


def close(peer: Peer, payload: bytes) -> None:
    """End the stream."""
    peer.sock.shutdown(socket.SHUT_WR)
    wait_for_hangup(peer.sock)
    raise Hangup


def cut(peer: Peer, payload: bytes) -> None:
    """Reset the connection."""
    reset(peer.sock)
    raise Hangup


def garble(peer: Peer, payload: bytes) -> None:
    """Send bytes that are no packet, and wait."""
    peer.sock.sendall(bytes(range(256)) * 16)
    wait_for_hangup(peer.sock)
    raise Hangup


def giant(peer: Peer, payload: bytes) -> None:
    """Send the beginning of a packet of 4 GB, as far as possible without the cipher."""
    peer.sock.sendall(struct.pack(">I", 0xFFFFFFF4) + bytes(1 << 20))
    wait_for_hangup(peer.sock)
    raise Hangup


def goodbye(peer: Peer, payload: bytes) -> None:
    """Disconnect as the protocol has it (RFC 4253, section 11.1), and end the stream."""
    peer.say(DISCONNECT, 11, "Going down for maintenance", "")
    peer.sock.shutdown(socket.SHUT_WR)
    wait_for_hangup(peer.sock)
    raise Hangup


def wrong(number: int, *fields: Any) -> Rule:
    """Send a message that is not allowed there, and never answer again."""

    def rule(peer: Peer, payload: bytes) -> None:
        peer.say(number, *fields)
        hang(peer, payload)

    return rule


def first(number: int, *fields: Any) -> Rule:
    """Send a message before the server's answer."""

    def rule(peer: Peer, payload: bytes) -> bool:
        peer.say(number, *fields)
        return True

    return rule


# -- commands --------------------------------------------------------------------------------------

Step = Callable[[Peer], Any]


def command(*steps: Step, window: int = 1 << 21, packet: int = 1 << 15) -> dict[int, Rule]:
    """Rules that grant every channel and play the steps as every command.

    Args:
        steps: called in order when a command or a subsystem is asked for.
        window: how many bytes of standard input the server takes at first.
        packet: how many in one packet.
    """

    def grant(peer: Peer, payload: bytes) -> None:
        peer.say(CHANNEL_OPEN_CONFIRMATION, peer.channel, 0, window, packet)

    def run(peer: Peer, payload: bytes) -> None:
        message = Message(payload)
        message.get_int()
        if message.get_text() in ("exec", "subsystem"):
            for step in steps:
                step(peer)

    def ignore(peer: Peer, payload: bytes) -> None:
        pass

    rules: dict[int, Rule] = dict.fromkeys(
        (CHANNEL_DATA, CHANNEL_EOF, CHANNEL_CLOSE, WINDOW_ADJUST), ignore
    )
    return {**rules, CHANNEL_OPEN: grant, CHANNEL_REQUEST: run}


def accept(peer: Peer) -> None:
    """Grant the request for the command."""
    peer.say(CHANNEL_SUCCESS, peer.channel)


def refuse(peer: Peer) -> None:
    """Refuse it."""
    peer.say(CHANNEL_FAILURE, peer.channel)


def say(data: bytes) -> Step:
    """Standard output."""
    return lambda peer: peer.say(CHANNEL_DATA, peer.channel, data)


def complain(data: bytes, kind: int = 1) -> Step:
    """Standard error, or data of a kind that RFC 4254, section 5.2, does not know."""
    return lambda peer: peer.say(CHANNEL_EXTENDED_DATA, peer.channel, kind, data)


def eof(peer: Peer) -> None:
    """The end of both streams."""
    peer.say(CHANNEL_EOF, peer.channel)


def exit_status(code: int) -> Step:
    """The command's exit status."""
    return lambda peer: peer.say(CHANNEL_REQUEST, peer.channel, "exit-status", False, code)


def exit_signal(name: str) -> Step:
    """The signal that ended the command."""
    return lambda peer: peer.say(
        CHANNEL_REQUEST, peer.channel, "exit-signal", False, name, False, "", ""
    )


def end(peer: Peer) -> None:
    """Close the channel."""
    peer.say(CHANNEL_CLOSE, peer.channel)


def message(number: int, *fields: Any) -> Step:
    """Any message."""
    return lambda peer: peer.say(number, *fields)


def endless(line: bytes) -> Step:
    """Send standard output without end and ignore the window (RFC 4254, section 5.2)."""

    def step(peer: Peer) -> None:
        while True:
            peer.say(CHANNEL_DATA, peer.channel, line)

    return step


def break_off(rule: Rule) -> Step:
    """Apply a rule."""
    return lambda peer: rule(peer, b"")


def ok(data: bytes = b"ok\n", code: int = 0) -> Sequence[Step]:
    """A command as it should be."""
    return (accept, say(data), eof, exit_status(code), end)
