"""A local command as the way to a server (ProxyCommand in ssh_config(5))."""

from __future__ import annotations

import socket
from typing import Optional

from ..engine.engine import Engine
from .packet_socket import PacketSocket
from .process import PipedProcess
from .reaper import Reaper
from .ways import Journey, Way, connect_error


class CommandStream(PacketSocket):
    """Standard input and output of a local command as the stream under a transport.

    Args:
        sock: the socket that the process's pipes lead to and from.
        process: the command, which this object owns from now on.
        engine: the engine.
        address: whom it leads to, for messages.
    """

    def __init__(
        self, sock: socket.socket, process: PipedProcess, engine: Engine, address: str
    ) -> None:
        super().__init__(sock, engine, address)
        self._process = process

    def why_ended(self) -> Optional[str]:
        """How the command ended, and what it said on stderr."""
        how = self._process.why_ended()
        return how and f"ProxyCommand {how}"

    def close(self) -> None:
        """End the command, on any thread."""
        super().close()
        self._process.end()


class CommandWay(Way):
    """A local command that connects to the server.

    Args:
        journey: the attempt that it is for.
        command: the command.
        reaper: sees to its end.
    """

    def __init__(self, journey: Journey, command: str, reaper: Reaper) -> None:
        super().__init__(journey)
        self._command = command
        self._reaper = reaper

    def start(self) -> None:
        """Wait for our turn, start the command."""
        self._take_turn(("ProxyCommand", self._settings.hostname, self._settings.port), self._run)

    def _run(self) -> None:
        try:
            ours, its = socket.socketpair()
            try:
                process = PipedProcess(self._command, its, self._reaper)
            except BaseException:
                ours.close()
                its.close()
                raise
        except (OSError, ValueError) as error:
            cause = f"cannot start the ProxyCommand: {error}"
            self._then(None, connect_error(self._settings, cause))
            return
        address = self._settings.hostname
        self._then(CommandStream(ours, process, self._engine, address), None)

    def _give_up(self) -> None:
        """Nothing is under way that is not the stream's."""
