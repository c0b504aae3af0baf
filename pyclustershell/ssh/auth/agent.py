"""Uses the keys of an SSH agent (draft-ietf-sshm-ssh-agent).

paramiko's own client knows only the socket of the environment, and shares one connection between
all its keys without a lock. Here each request has a connection of its own, so that any thread can
use a key at any time, and the user can name an agent.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from contextlib import closing
from importlib import import_module
from typing import Any, NamedTuple, Optional, Protocol

import paramiko
from paramiko.message import Message

from ... import platform
from ..protocol.algorithms import CERTIFICATE_SUFFIX
from ..protocol.fields import Fields, ssh_string

logger = logging.getLogger("pyclustershell.auth")

WINDOWS_PIPE = r"\\.\pipe\openssh-ssh-agent"
"""The pipe of the agent of OpenSSH for Windows."""

PAGEANT = "pageant"
"""Stands for PuTTY's agent, which has no socket."""

_REQUEST_IDENTITIES, _IDENTITIES_ANSWER = 11, 12
_SIGN_REQUEST, _SIGN_RESPONSE = 13, 14
_SIGN_FLAGS = {"rsa-sha2-256": 2, "rsa-sha2-512": 4}
MAX_MESSAGE = 256 * 1024
"""The longest request or reply in bytes, as in OpenSSH."""

MAX_IDENTITIES = 2048
"""The most keys that an agent may list, as in OpenSSH's authfd.c."""


class AgentError(Exception):
    """An agent cannot be reached, refuses a request or sends an invalid reply."""


class Identity(NamedTuple):
    """One key that an agent holds: the public key (or certificate) and its comment."""

    blob: bytes
    comment: str


class AgentConnection:
    """One connection to an agent, for one request after another. For one thread."""

    def __init__(self, path: str, timeout: Optional[float] = None) -> None:
        """Note the agent's path. The first request connects to it.

        Args:
            path: path of its socket, name of a Windows pipe, or ``PAGEANT``.
            timeout: seconds to wait for a reply (an agent may ask its user); None for no limit.
        """
        self.path = path
        self.timeout = timeout
        self._stream: Optional[_Stream] = None

    def ask(self, message: bytes) -> bytes:
        """Send one request and return the reply, both with their type and without their length.

        Raises:
            AgentError: the agent cannot be reached, or its reply is invalid.
        """
        try:
            if self._stream is None:
                self._stream = _connect(self.path, self.timeout)
            # The limit is that of the whole reply: an agent may send it byte by byte.
            deadline = None if self.timeout is None else time.monotonic() + self.timeout
            self._stream.sendall(ssh_string(message))
            size = int.from_bytes(_receive(self._stream, 4, deadline), "big")
            if not 0 < size <= MAX_MESSAGE:
                raise AgentError(
                    f"the agent's reply claims to have {size} bytes: is this an SSH agent?"
                )
            return _receive(self._stream, size, deadline)
        except OSError as error:
            raise AgentError(f"the agent cannot be reached: {error.strerror or error}") from error

    def close(self) -> None:
        """Close the connection."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


class AgentClient:
    """Client of one agent. Safe to use from several threads: it opens a connection per request."""

    def __init__(self, path: str, timeout: Optional[float] = None) -> None:
        """Note the agent's path; nothing is opened yet.

        Args:
            path: path of its socket, name of a Windows pipe, or ``PAGEANT``.
            timeout: seconds to wait for a reply (an agent may ask its user); None for no limit.
        """
        self.path = path
        self._timeout = timeout

    def identities(self) -> list[Identity]:
        """Return the agent's keys, in its order.

        Raises:
            AgentError: the agent cannot be reached, or refuses.
        """
        reply = self._ask(_REQUEST_IDENTITIES, b"", _IDENTITIES_ANSWER)
        try:
            count = reply.uint32()
            if count > MAX_IDENTITIES:
                raise AgentError(
                    f"the agent claims to hold {count} keys, more than {MAX_IDENTITIES}"
                )
            return [
                Identity(reply.string(), reply.string().decode("utf-8", "replace"))
                for _ in range(count)
            ]
        except ValueError as error:
            raise AgentError(str(error)) from None

    def sign(self, blob: bytes, data: bytes, algorithm: str) -> bytes:
        """Let the agent sign data with one of its keys.

        Args:
            blob: the public key or certificate, as returned by :meth:`identities`.
            data: the data to sign.
            algorithm: the signature algorithm; it only matters for RSA keys.

        Raises:
            AgentError: the agent cannot be reached, or refuses.
        """
        request = Message()
        request.add_string(blob)
        request.add_string(data)
        request.add_int(_SIGN_FLAGS.get(algorithm.replace(CERTIFICATE_SUFFIX, ""), 0))
        try:
            return self._ask(_SIGN_REQUEST, request.asbytes(), _SIGN_RESPONSE).string()
        except ValueError as error:
            raise AgentError(str(error)) from None

    def _ask(self, request: int, body: bytes, expected: int) -> Fields:
        with closing(AgentConnection(self.path, self._timeout)) as connection:
            reply = connection.ask(bytes([request]) + body)
        if reply[0] != expected:
            raise AgentError("the agent refused")
        return Fields(reply[1:], "the agent's reply")


class _Stream(Protocol):
    def sendall(self, data: bytes, /) -> object: ...
    def recv(self, size: int, /) -> bytes: ...
    def settimeout(self, timeout: Optional[float], /) -> None: ...
    def close(self) -> object: ...


class _Pageant:
    """Pageant, with the methods of a socket. It answers within the call, without a time limit."""

    def __init__(self) -> None:
        connection: Any = import_module("paramiko.win_pageant").PageantConnection()
        self.sendall = connection.send
        self.recv = connection.recv
        self.close = connection.close

    def settimeout(self, timeout: Optional[float]) -> None:
        pass


def _connect(path: str, timeout: Optional[float]) -> _Stream:
    if not platform.WINDOWS:
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            stream.settimeout(timeout)
            stream.connect(path)
        except BaseException:
            stream.close()
            raise
        return stream
    if path.lower() == PAGEANT:
        return _Pageant()
    from .winpipe import WindowsPipe

    return WindowsPipe(path, timeout)


def _receive(stream: _Stream, size: int, deadline: Optional[float]) -> bytes:
    data = bytearray()
    while len(data) < size:
        if deadline is not None:
            # 0 would mean not to wait at all.
            stream.settimeout(max(deadline - time.monotonic(), 0.001))
        piece = stream.recv(size - len(data))
        if not piece:
            raise AgentError("the agent closed the connection")
        data += piece
    return bytes(data)


def default_agent() -> Optional[str]:
    """Return the path of the user's agent, or None if there is none.

    SSH_AUTH_SOCK is rarely set on Windows: Pageant if it runs, otherwise OpenSSH's pipe if there is
    one. (The service of OpenSSH's agent is switched off on a new system.)
    """
    path = os.environ.get("SSH_AUTH_SOCK")
    if path or not platform.WINDOWS:
        return path or None
    if import_module("paramiko.win_pageant").can_talk_to_agent():
        return PAGEANT
    from .winpipe import pipe_exists

    return WINDOWS_PIPE if pipe_exists(WINDOWS_PIPE) else None


class AgentKey(paramiko.PKey):
    """A private key of an agent, which makes the signatures."""

    def __init__(self, client: AgentClient, identity: Identity) -> None:
        self.client = client
        self.blob = identity.blob
        self.comment = identity.comment
        self.name = Message(identity.blob).get_text()
        self.public_blob: Any = None

    def asbytes(self) -> bytes:
        """Return the public key or certificate."""
        return self.blob

    def get_name(self) -> str:
        """Return the type of the key or certificate."""
        return self.name

    def can_sign(self) -> bool:
        """Return True: the agent can sign with it."""
        return True

    @property
    def _fields(self) -> tuple[object, ...]:
        return self.client.path, self.blob

    def sign_ssh_data(self, data: bytes, algorithm: Optional[str] = None) -> Message:
        """Let the agent sign data.

        An agent may refuse: it is locked, or its user does not agree. An exception here would end
        the connection, although other keys could still be tried. So this method returns an empty
        signature then. The server refuses it like a wrong one.
        """
        try:
            return Message(self.client.sign(self.blob, data, algorithm or self.name))
        except AgentError as error:
            logger.warning("agent key %r cannot sign: %s", self.comment, error)
            return Message()
