"""The ways to a server: a TCP connection of our own, a local command, a tunnel through a jump host.

A way is taken once: by one attempt to connect. All of it happens on the engine's thread.
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Hashable
from typing import Any, Callable, NamedTuple, Optional

from ..engine.engine import Engine
from ..engine.timer import Timer
from ..exceptions import ConnectError, NodeError, ResolveError
from .config.settings import ConnectionSettings
from .dialer import Address, Dialer, Resolver
from .handshakes import HandshakeGate, Outcome, Ticket
from .packet_socket import PacketSocket
from .stream import PacketStream

#: Told what came of a way: the open stream, or why there is none.
Arrived = Callable[[Optional[PacketStream], Optional[NodeError]], Any]


class Patience:
    """How long a connection may take. It runs only while the server is waited for, and not while
    the connection waits for its turn or for a jump host, or the engine for a slow handler.

    Args:
        engine: the engine.
        seconds: how long; all attempts together.
        on_exhausted: called on the engine's thread when the time is over.
    """

    def __init__(self, engine: Engine, seconds: float, on_exhausted: Callable[[], Any]) -> None:
        self._engine = engine
        self._seconds = self._left = seconds
        self._on_exhausted = on_exhausted
        self._since: Optional[float] = None
        self._stalled = 0.0
        self._timer: Optional[Timer] = None

    @property
    def left(self) -> float:
        """How many seconds are left."""
        if self._since is None:
            return self._left
        return self._left - (self._engine.clock() - self._since)

    def run(self) -> None:
        """The server is waited for from now on."""
        if self._since is None:
            self._since = self._engine.clock()
            self._stalled = self._engine.stalled
            self._timer = self._engine.call_later(self._left, self._on_timer)

    def _on_timer(self) -> None:
        stalled = self._engine.stalled - self._stalled
        if stalled:
            # A slow handler kept us from reading: that is not the peer's fault.
            self.grant(stalled)
        else:
            self._on_exhausted()

    def pause(self) -> None:
        """The server is not waited for."""
        self._left = self.left
        self._since = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def let_go(self) -> None:
        """Nobody is waited for any more, and nobody is told."""
        self.pause()
        self._on_exhausted = lambda: None

    def grant(self, seconds: float) -> None:
        """Wait for so many seconds from now on."""
        self.pause()
        self._left = seconds
        self.run()

    def renew(self) -> None:
        """What was waited for was not the server's fault: have all the time again."""
        self.pause()
        self._left = self._seconds


class Journey(NamedTuple):
    """One attempt to get to a server, whatever the way.

    Attributes:
        settings: the server's.
        engine: the engine.
        gate: says when the handshake may begin.
        patience: how long it may take.
        then: called once with what came of it, unless the way was left before.
    """

    settings: ConnectionSettings
    engine: Engine
    gate: HandshakeGate
    patience: Patience
    then: Arrived


class Way(ABC):
    """One way to one server.

    Args:
        journey: the attempt that it is for.
    """

    #: The least number of handshakes at once that this way's limit may come down to.
    _floor = 1.0

    def __init__(self, journey: Journey) -> None:
        self._settings, self._engine, self._gate, self._patience, self._then = journey
        self._ticket: Optional[Ticket] = None
        self._left = False

    @abstractmethod
    def start(self) -> None:
        """Set out."""

    @abstractmethod
    def _give_up(self) -> None:
        """Stop what is under way; ``then`` is not called any more."""

    def timed_out(self) -> NodeError:
        """What it means that time ran out on the way."""
        return connect_error(self._settings, "Connection timed out")

    def leave(self) -> None:
        """The connection has ended, or is not wanted any more."""
        if not self._left:
            self._left = True
            self.end_handshake(Outcome.UNKNOWN)
            self._give_up()

    def end_handshake(self, outcome: Outcome) -> None:
        """The handshake over this way has ended. On any thread; the first call counts."""
        if self._ticket is not None:
            self._ticket.leave(outcome)

    def _take_turn(self, server: Hashable, proceed: Callable[[], Any]) -> None:
        """Go on when the server bears another handshake."""

        def enter() -> None:
            self._patience.run()
            proceed()

        self._patience.pause()
        self._ticket = self._gate.enter(server, self._floor, enter)


class DirectWay(Way):
    """A TCP connection to the server.

    Args:
        journey: the attempt that it is for.
        resolver: looks up names.
    """

    def __init__(self, journey: Journey, resolver: Resolver) -> None:
        super().__init__(journey)
        self._resolver = resolver
        self._dialer: Optional[Dialer] = None
        self._resolved = False

    def start(self) -> None:
        """Look the name up, wait for our turn, connect."""
        self._patience.run()
        settings = self._settings
        self._resolver.resolve(
            settings.hostname, settings.port, settings.address_family, self._on_addresses
        )

    def _on_addresses(self, addresses: list[Address], error: Optional[OSError]) -> None:
        # On a resolver's thread, or on the engine's for a numeric address.
        self._engine.post(self._on_resolved, addresses, error)

    def _on_resolved(self, addresses: list[Address], error: Optional[OSError]) -> None:
        if self._left:
            return
        if error is not None:
            self._then(None, self._resolve_error(error.strerror or str(error)))
            return
        self._resolved = True
        server = addresses[0].sockaddr[:2] if addresses else None
        self._take_turn(server, lambda: self._dial(addresses))

    def _resolve_error(self, reason: str) -> ResolveError:
        host = self._settings.hostname
        return ResolveError(
            self._settings.node,
            f"Could not resolve hostname: {reason}",
            f"ssh: Could not resolve hostname {host}: {reason}",
        )

    def timed_out(self) -> NodeError:
        """What it means that time ran out on the way."""
        return super().timed_out() if self._resolved else self._resolve_error("timed out")

    def _dial(self, addresses: list[Address]) -> None:
        self._dialer = Dialer(
            self._engine,
            addresses,
            self._settings.bind_address,
            self._settings.tcp_keepalive,
            self._on_dialed,
        )
        self._dialer.start()

    def _on_dialed(self, sock: Optional[socket.socket], error: Optional[OSError]) -> None:
        self._dialer = None
        if sock is not None:
            try:
                address = str(sock.getpeername()[0])
            except OSError:
                # Reset in the meantime: the transport finds out, and tries again.
                address = self._settings.hostname
            self._then(PacketSocket(sock, self._engine, address), None)
            return
        cause = error.strerror or str(error) if error else "no address to connect to"
        self._then(None, connect_error(self._settings, cause))

    def _give_up(self) -> None:
        if self._dialer is not None:
            self._dialer.cancel()
            self._dialer = None


def connect_error(settings: ConnectionSettings, cause: str, through: str = "") -> ConnectError:
    """There is no connection to the server, in ssh's words.

    Args:
        settings: the server's.
        cause: why not.
        through: the jump host that says so, if it is one.
    """
    where = f"host {settings.hostname} port {settings.port}"
    if through:
        where += f" through jump host {through}"
    return ConnectError(settings.node, cause, f"ssh: connect to {where}: {cause}")
