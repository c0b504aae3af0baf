"""A server on paramiko that wants several methods, one after the other (RFC 4252 5.1).

sshd does it with AuthenticationMethods, but has no keyboard-interactive without PAM; asyncssh does
not do it.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import paramiko
from paramiko.common import (
    AUTH_FAILED,
    AUTH_PARTIALLY_SUCCESSFUL,
    AUTH_SUCCESSFUL,
    OPEN_SUCCEEDED,
)
from paramiko.server import InteractiveQuery

from tests.servers.faults import ScriptedServer
from tests.servers.passwords import PASSWORD


class _Session(paramiko.ServerInterface):
    """One connection, with the methods that it has still to complete."""

    def __init__(self, server: StepServer) -> None:
        self.server = server
        self.left = list(server.methods)

    def get_allowed_auths(self, username: str) -> str:
        return ",".join(self.left[:1])

    def _step(self, method: str, right: bool) -> int:
        right = right and self.left[:1] == [method]
        self.server.steps.append((method, right))
        if not right:
            return AUTH_FAILED
        del self.left[0]
        return AUTH_PARTIALLY_SUCCESSFUL if self.left else AUTH_SUCCESSFUL

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return self._step("publickey", key.asbytes() == self.server.client_key.asbytes())

    def check_auth_password(self, username: str, password: str) -> int:
        return self._step("password", password == PASSWORD)

    def check_auth_interactive(self, username: str, submethods: str) -> Any:
        return InteractiveQuery("Second factor", "", ("Code: ", False))

    def check_auth_interactive_response(self, responses: Any) -> int:
        return self._step("keyboard-interactive", responses == [PASSWORD])

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        def answer() -> None:
            # The client may have gone when it knows the status.
            with suppress(OSError, EOFError):
                channel.send(b"ok\n")
                channel.send_exit_status(0)
                channel.close()

        threading.Timer(0.05, answer).start()
        return True


class StepServer(ScriptedServer):
    """The server.

    Attributes:
        steps: each attempt: the method, and whether it was the expected one and succeeded.
        host_key: its public host key, type and base64.
    """

    def __init__(self, methods: Sequence[str], client_key: paramiko.PKey) -> None:
        super().__init__(self._serve)
        self.methods = list(methods)
        self.client_key = client_key
        self.steps: list[tuple[str, bool]] = []
        self._key = paramiko.ECDSAKey.generate()
        self.host_key = f"{self._key.get_name()} {self._key.get_base64()}"

    def _serve(self, sock: socket.socket) -> None:
        transport = paramiko.Transport(sock)
        transport.add_server_key(self._key)
        with suppress(paramiko.SSHException, EOFError):  # the client has gone
            transport.start_server(event=threading.Event(), server=_Session(self))
        transport.join()
