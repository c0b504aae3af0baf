"""A local command that carries a connection (ProxyCommand in ssh_config(5))."""

from __future__ import annotations

import socket
from typing import Optional

from ...engine.delayed import DelayedCalls
from ...engine.engine import Engine
from ...local.process import PipedProcess
from .connector import ConnectAttempt, Connector, connect_error
from .tcpstream import TCPStream


class ProxyCommandStream(TCPStream):
    """Standard input and output of a local command as the stream under a transport.

    Args:
        sock: the socket that is connected to the process's standard input and output.
        process: the command, which this object owns from now on.
        engine: the engine.
        address: the server's name, for messages.
    """

    def __init__(
        self, sock: socket.socket, process: PipedProcess, engine: Engine, address: str
    ) -> None:
        super().__init__(sock, engine, address)
        self._process = process

    def why_ended(self) -> Optional[str]:
        """Return how the command failed, with the last line of its stderr; None if it did not."""
        reason = self._process.why_ended()
        return reason and f"ProxyCommand {reason}"

    def abandon(self) -> None:
        """In a forked child: see :meth:`.bytestream.ByteStream.abandon`."""
        super().abandon()
        self._process.abandon()

    def close(self) -> None:
        """Close the socket and end the command. On any thread."""
        super().close()
        self._process.end()


class ProxyCommandConnector(Connector):
    """Starts a local command that connects to the server.

    Args:
        attempt: the login attempt.
        command: the command.
        delayed_calls: ends a command that ignores TERM.
    """

    def __init__(self, attempt: ConnectAttempt, command: str, delayed_calls: DelayedCalls) -> None:
        super().__init__(attempt)
        self._command = command
        self._delayed_calls = delayed_calls

    def start(self) -> None:
        """Wait for a permit, start the command."""
        self._acquire_permit(
            ("ProxyCommand", self._settings.hostname, self._settings.port), self._run
        )

    def _run(self) -> None:
        try:
            ours, theirs = socket.socketpair()
            try:
                process = PipedProcess(self._command, theirs, self._delayed_calls)
            except BaseException:
                ours.close()
                theirs.close()
                raise
        except (OSError, ValueError) as error:
            cause = f"cannot start the ProxyCommand: {error}"
            self._then(None, connect_error(self._settings, cause))
            return
        address = self._settings.hostname
        self._then(ProxyCommandStream(ours, process, self._engine, address), None)

    def _abort(self) -> None:
        """Do nothing: the stream owns the process."""
