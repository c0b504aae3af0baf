"""The keys of an SSH agent, by the protocol of draft-ietf-sshm-ssh-agent.

paramiko's own client knows only the socket of the environment, and shares one connection between
all its keys without a lock. Here each request has a connection of its own, so keys can be used by
any thread at any time, and an agent can be named.
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

logger = logging.getLogger("pyclustershell.auth")

WINDOWS_PIPE = r"\\.\pipe\openssh-ssh-agent"
"""Where the agent of OpenSSH for Windows listens."""

PAGEANT = "pageant"
"""The name of the agent of PuTTY, which has no socket."""

_REQUEST_IDENTITIES, _IDENTITIES_ANSWER = 11, 12
_SIGN_REQUEST, _SIGN_RESPONSE = 13, 14
_SIGN_FLAGS = {"rsa-sha2-256": 2, "rsa-sha2-512": 4}
MAX_MESSAGE = 256 * 1024
"""How many bytes a request or an answer may have, as in OpenSSH."""

_CERTIFICATE = "-cert-v01@openssh.com"


class AgentError(Exception):
    """An agent could not be reached, or refused."""


class Identity(NamedTuple):
    """One key that an agent holds: the public key (or certificate) and its comment."""

    blob: bytes
    comment: str


class AgentConnection:
    """One conversation with an agent: a request, its answer, and the next one. For one thread."""

    def __init__(self, path: str, timeout: Optional[float] = None) -> None:
        """Remember where the agent is; it is connected to with the first request.

        Args:
            path: path of its socket, name of a Windows pipe, or ``PAGEANT``.
            timeout: seconds to wait for an answer (an agent may ask its user), None for ever.
        """
        self.path = path
        self.timeout = timeout
        self._stream: Optional[_Stream] = None

    def ask(self, message: bytes) -> bytes:
        """Send one request and return the answer, both with their type and without their length.

        Raises:
            AgentError: the agent could not be reached, or its answer makes no sense.
        """
        try:
            if self._stream is None:
                self._stream = _connect(self.path, self.timeout)
            self._stream.sendall(len(message).to_bytes(4, "big") + message)
            size = int.from_bytes(_receive(self._stream, 4), "big")
            if not 0 < size <= MAX_MESSAGE:
                raise AgentError("the agent's answer makes no sense")
            return _receive(self._stream, size)
        except OSError as error:
            raise AgentError(f"the agent cannot be reached: {error.strerror or error}") from error

    def close(self) -> None:
        """End the conversation."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


class AgentClient:
    """Asks one agent. Safe to use from several threads: every request has its own connection."""

    def __init__(self, path: str, timeout: Optional[float] = None) -> None:
        """Remember where the agent is; nothing is opened yet.

        Args:
            path: path of its socket, name of a Windows pipe, or ``PAGEANT``.
            timeout: seconds to wait for an answer (an agent may ask its user), None for ever.
        """
        self.path = path
        self._timeout = timeout

    def identities(self) -> list[Identity]:
        """Return the keys that the agent holds, in its order.

        Raises:
            AgentError: it could not be reached, or refused.
        """
        answer = self._ask(_REQUEST_IDENTITIES, b"", _IDENTITIES_ANSWER)
        return [
            Identity(answer.get_binary(), answer.get_binary().decode("utf-8", "replace"))
            for _ in range(answer.get_int())
        ]

    def sign(self, blob: bytes, data: bytes, algorithm: str) -> bytes:
        """Have data signed with the key of this public half.

        Args:
            blob: the public key or certificate, as :meth:`identities` gave it.
            data: what to sign.
            algorithm: the signature algorithm; it matters for RSA keys.

        Raises:
            AgentError: the agent could not be reached, or refused.
        """
        request = Message()
        request.add_string(blob)
        request.add_string(data)
        request.add_int(_SIGN_FLAGS.get(algorithm.replace(_CERTIFICATE, ""), 0))
        return bytes(self._ask(_SIGN_REQUEST, request.asbytes(), _SIGN_RESPONSE).get_binary())

    def _ask(self, request: int, body: bytes, expected: int) -> Message:
        with closing(AgentConnection(self.path, self._timeout)) as connection:
            answer = connection.ask(bytes([request]) + body)
        if answer[0] != expected:
            raise AgentError("the agent refused")
        return Message(answer[1:])


class _Stream(Protocol):
    def sendall(self, data: bytes, /) -> object: ...
    def recv(self, size: int, /) -> bytes: ...
    def close(self) -> object: ...


class _Pipe:
    """A Windows pipe, or Pageant, with the methods of a socket."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.recv = connection.recv
        self.close = connection.close

    def sendall(self, data: bytes) -> None:
        while data:
            data = data[self._connection.send(data) or len(data) :]


_PIPE_BUSY = 231  # Windows' ERROR_PIPE_BUSY: all of its instances are in use
_BUSY_INTERVAL = 0.01


class _PipeFile:
    """A Windows pipe opened by its name. Reading from it waits as long as the agent likes."""

    def __init__(self, path: str, timeout: Optional[float]) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                self._file = open(path, "r+b", buffering=0)  # noqa: SIM115 - closed by close()
                break
            except OSError as error:
                over = deadline is not None and time.monotonic() > deadline
                if getattr(error, "winerror", None) != _PIPE_BUSY or over:
                    raise
            time.sleep(_BUSY_INTERVAL)
        self.close = self._file.close

    def send(self, data: bytes) -> int:
        return self._file.write(data) or 0

    def recv(self, size: int) -> bytes:
        return self._file.read(size) or b""


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
        return _Pipe(import_module("paramiko.win_pageant").PageantConnection())
    return _Pipe(_PipeFile(path, timeout))


def _receive(stream: _Stream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = stream.recv(size - len(data))
        if not piece:
            raise AgentError("the agent closed the connection")
        data += piece
    return data


def default_agent() -> Optional[str]:
    """Return where the user's agent is, or None if there is none.

    On Windows, where SSH_AUTH_SOCK is rarely set: Pageant if it runs, else the pipe of OpenSSH.
    """
    path = os.environ.get("SSH_AUTH_SOCK")
    if path or not platform.WINDOWS:
        return path or None
    pageant = import_module("paramiko.win_pageant")
    return PAGEANT if pageant.can_talk_to_agent() else WINDOWS_PIPE


class AgentKey(paramiko.PKey):
    """A private key that an agent holds: signs by asking the agent."""

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
        """Return True: the agent does."""
        return True

    @property
    def _fields(self) -> tuple[object, ...]:
        return self.client.path, self.blob

    def sign_ssh_data(self, data: bytes, algorithm: Optional[str] = None) -> Message:
        """Have data signed by the agent.

        An agent may refuse: it is locked, or its user says no. paramiko signs on the transport's
        thread, where an exception would end the connection although other keys are left to try.
        So an empty signature is returned then, which the server turns down like a wrong one.
        """
        try:
            return Message(self.client.sign(self.blob, data, algorithm or self.name))
        except AgentError as error:
            logger.warning("agent key %r cannot sign: %s", self.comment, error)
            return Message()
