"""Connectors: each makes one byte stream to a server, for one login attempt.

There is a connector for TCP, one for a local command (ProxyCommand) and one for a tunnel through a
jump host. They run on the engine's thread.
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Hashable
from typing import Any, Callable, NamedTuple, Optional

from ...engine.engine import Engine
from ...exceptions import ConnectError, NodeError, ResolveError
from ...phases import CONNECTING, RESOLVING, WAITING, LoginTimes
from ..config.settings import ConnectionSettings
from ..protocol.bytestream import ByteStream
from .connecttimeout import PausableTimeout
from .happyeyeballs import Address, HappyEyeballs, Resolver
from .limiter import HandshakeLimiter, Outcome, Permit
from .tcpstream import TCPStream

#: Called with the open stream, or with the reason why there is none.
OnConnected = Callable[[Optional[ByteStream], Optional[NodeError]], Any]


class ConnectorEvents(NamedTuple):
    """The functions that a connector calls.

    Attributes:
        connected: called once with the outcome, unless the connector was cancelled before.
        lost: called on the engine's thread when the connection that carries the open stream (that
            of a jump host) has ended.
        rerouted: called on the engine's thread with the failure of a jump host, before another one
            is tried.
    """

    connected: OnConnected
    lost: Callable[[NodeError], Any]
    rerouted: Callable[[NodeError], Any]


class ConnectAttempt(NamedTuple):
    """One attempt to connect to a server: the parameters of every connector.

    Attributes:
        settings: the server's settings.
        engine: the engine.
        limiter: says when the handshake may begin.
        timeout: the time left.
        times: the stopwatch of the login.
        then: called once with the outcome, unless the connector was cancelled before.
    """

    settings: ConnectionSettings
    engine: Engine
    limiter: HandshakeLimiter
    timeout: PausableTimeout
    times: LoginTimes
    then: OnConnected


class Connector(ABC):
    """Makes one byte stream to one server.

    Args:
        attempt: the attempt that it is for.
    """

    #: The handshake limiter allows at least this number of handshakes at once.
    _floor = 1.0

    def __init__(self, attempt: ConnectAttempt) -> None:
        self._settings, self._engine, self._limiter, self._timeout, self._times, self._then = (
            attempt
        )
        self._permit: Optional[Permit] = None
        self._cancelled = False

    @abstractmethod
    def start(self) -> None:
        """Begin to connect."""

    @abstractmethod
    def _abort(self) -> None:
        """Stop all that is under way; ``then`` is not called any more."""

    def timed_out(self) -> NodeError:
        """Return the error that it means if the time is over now."""
        return connect_error(self._settings, "Connection timed out")

    @property
    def more_time(self) -> float:
        """Seconds to wait when the time is over, as it will be known then whose fault that is."""
        return 0.0

    def cancel(self) -> None:
        """Give up: the login has ended. The stream, if there is one, has another owner by now.

        Before there is a stream: on the engine's thread, or while the engine is at rest. After that
        on any thread. Only the first call counts.
        """
        if not self._cancelled:
            self._cancelled = True
            self.end_handshake(Outcome.UNKNOWN)
            self._abort()

    def end_handshake(self, outcome: Outcome) -> None:
        """Release the permit: the handshake has ended. On any thread; the first call counts."""
        if self._permit is not None:
            self._permit.release(outcome)

    def _acquire_permit(self, server: Hashable, proceed: Callable[[], Any]) -> None:
        """Call ``proceed()`` when the server accepts another handshake."""

        def start() -> None:
            self._timeout.run()
            self._times.enter(CONNECTING, self._engine.clock())
            proceed()

        self._timeout.pause()
        self._times.enter(WAITING, self._engine.clock())
        self._permit = self._limiter.acquire(server, self._floor, start)


class TCPConnector(Connector):
    """A TCP connection to the server.

    Args:
        attempt: the attempt that it is for.
        resolver: looks up names.
    """

    def __init__(self, attempt: ConnectAttempt, resolver: Resolver) -> None:
        super().__init__(attempt)
        self._resolver = resolver
        self._happy_eyeballs: Optional[HappyEyeballs] = None
        self._resolved = False

    def start(self) -> None:
        """Look the name up, wait for a permit, connect."""
        self._timeout.run()
        self._times.enter(RESOLVING, self._engine.clock())
        settings = self._settings
        self._resolver.resolve(
            settings.hostname, settings.port, settings.address_family, self._on_addresses
        )

    def _on_addresses(self, addresses: list[Address], error: Optional[OSError]) -> None:
        # On a resolver's thread, or on the engine's for a numeric address.
        self._engine.post(self._on_resolved, addresses, error)

    def _on_resolved(self, addresses: list[Address], error: Optional[OSError]) -> None:
        if self._cancelled:
            return
        if error is not None:
            self._then(None, self._resolve_error(error.strerror or str(error)))
            return
        self._resolved = True
        server = addresses[0].sockaddr[:2] if addresses else None
        self._acquire_permit(server, lambda: self._connect(addresses))

    def _resolve_error(self, reason: str) -> ResolveError:
        host = self._settings.hostname
        return ResolveError(
            self._settings.node,
            f"Could not resolve hostname: {reason}",
            f"ssh: Could not resolve hostname {host}: {reason}",
        )

    def timed_out(self) -> NodeError:
        """Return the error that it means if the time is over now."""
        return super().timed_out() if self._resolved else self._resolve_error("timed out")

    def _connect(self, addresses: list[Address]) -> None:
        self._happy_eyeballs = HappyEyeballs(
            self._engine,
            addresses,
            self._settings.bind_address,
            self._settings.tcp_keepalive,
            self._on_socket,
        )
        self._happy_eyeballs.start()

    def _on_socket(self, sock: Optional[socket.socket], error: Optional[OSError]) -> None:
        self._happy_eyeballs = None
        if sock is not None:
            try:
                address = str(sock.getpeername()[0])
            except OSError:
                # The peer has reset it meanwhile: the transport notices, and the login is repeated.
                address = self._settings.hostname
            self._then(TCPStream(sock, self._engine, address), None)
            return
        cause = error.strerror or str(error) if error else "no address to connect to"
        self._then(None, connect_error(self._settings, cause))

    def _abort(self) -> None:
        if self._happy_eyeballs is not None:
            self._happy_eyeballs.cancel()
            self._happy_eyeballs = None


def connect_error(settings: ConnectionSettings, cause: str, through: str = "") -> ConnectError:
    """Return the error of a connection that could not be made, in ssh's words.

    Args:
        settings: the server's settings.
        cause: the reason.
        through: the jump host that gave the reason, if it was one.
    """
    target = f"host {settings.hostname} port {settings.port}"
    if through:
        target += f" through jump host {through}"
    return ConnectError(settings.node, cause, f"ssh: connect to {target}: {cause}")
