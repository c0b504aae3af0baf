"""One SSH connection: its states, its leases, its reading and its end."""

from __future__ import annotations

import logging
import random
import threading
from typing import Any, Callable, Optional, Protocol

from ..exceptions import NodeError
from ..phases import WAITING, LoginTimes
from .auth.forwarding import forward_agent
from .config.settings import ConnectionSettings
from .connect.connecttimeout import PausableTimeout
from .connect.limiter import Outcome
from .errors import connection_lost, peer_silent
from .link import Link
from .login import Login, LoginServices, outcome_of
from .protocol import ClientChannel, ClientTransport
from .states import CONNECTION_MOVES, ConnectionEvent, ConnectionState, move

logger = logging.getLogger("pyclustershell.connection")

# Seconds before the second login attempt, about; twice as long before each further one.
_FIRST_RETRY = 0.1
_LONGEST_RETRY = 2.0


class Lessee(Protocol):
    """The user of a connection: one command, one copy, or the tunnels through a jump host."""

    settings: ConnectionSettings

    def on_dequeued(self, login: Optional[LoginTimes]) -> None:
        """The pool has found a connection: it is dialed now, or leased at once.

        On the engine's thread.

        Args:
            login: the stopwatch of its login; None if it is leased at once.
        """
        ...

    def on_leased(self, connection: Connection, reused: bool) -> None:
        """The connection is yours.

        On the engine's thread; for a new connection perhaps on a thread that runs a step of the
        authentication.
        """
        ...

    def on_rerouted(self, error: NodeError) -> None:
        """A jump host has failed, and another one is tried. On the engine's thread."""
        ...

    def on_lost(self, error: NodeError) -> None:
        """The connection could not be made, or it has ended. On the engine's thread."""
        ...


class Connection:
    """One SSH connection: a state machine with at most one lessee.

    Each attempt to log in is a :class:`.login.Login`. It reports its outcome to this object, which
    leases itself to the lessee, makes another attempt within ``connect_timeout``, or fails.

    Args:
        settings: the server, the user and the credentials.
        services: the objects that all logins share.
        on_closed: called once on the engine's thread when the connection has ended.

    Attributes:
        settings: as given.
        state: the state.
        lessee: the present user of the connection.
        idle_since: when it was last given back, on the engine's clock.
        retries: how many logins were turned away and tried again.
        login_times: the stopwatch of the login, all attempts together.
    """

    def __init__(
        self,
        settings: ConnectionSettings,
        services: LoginServices,
        on_closed: Callable[[Connection], Any],
    ) -> None:
        self.settings = settings
        self.state = ConnectionState.NEW
        self.lessee: Optional[Lessee] = None
        self.idle_since = 0.0
        self.retries = 0
        self.login_times = LoginTimes()
        self._services = services
        self._engine = services.engine
        self._on_closed = on_closed
        # Guards state, lessee, login and link: the engine's thread moves them, any thread closes.
        self._lock = threading.Lock()
        self._timeout = PausableTimeout(self._engine, settings.connect_timeout)
        # The attempt under way; None before and after.
        self._login: Optional[Login] = None
        # Set as soon as the server is reached, until the connection has ended.
        self._link: Optional[Link] = None
        self._server_is_trusted = True
        # Bytes sent and received over the links of earlier attempts.
        self._previous_traffic = (0, 0)
        # Keepalives in a row without an answer.
        self._unanswered = 0
        self._began = 0.0

    def __repr__(self) -> str:
        endpoint = f"{self.settings.user}@{self.settings.hostname} port {self.settings.port}"
        return f"<Connection to {self.settings.node} ({endpoint}): {self.state.value}>"

    @property
    def transport(self) -> ClientTransport:
        """The transport.

        Raises:
            RuntimeError: there is none, before the server is reached and after the end.
        """
        if self._link is None:
            raise RuntimeError(f"{self!r} has no transport")
        return self._link.transport

    @property
    def traffic(self) -> tuple[int, int]:
        """The number of bytes sent, and of bytes received."""
        sent, received = self._previous_traffic
        link = self._link
        if link is not None:
            sent += link.stream.bytes_sent
            received += link.stream.bytes_received
        return sent, received

    def _move(self, event: ConnectionEvent) -> ConnectionState:
        """Take an event; returns the state before it. The lock is held."""
        before = self.state
        self.state = move(CONNECTION_MOVES, before, event)
        return before

    # -- leases --

    def lease(self, lessee: Lessee) -> bool:
        """Give the idle connection to a lessee; False if the connection has ended meanwhile."""
        # The peer may have hung up: read the bytes it sent while the connection was idle.
        if self._link is not None:
            self._link.read_now(on_engine=True)
        with self._lock:
            if self.state is not ConnectionState.READY:
                return False
            self._move(ConnectionEvent.LEASE)
            self.lessee = lessee
        return True

    def release(self) -> bool:
        """Take the connection back from its lessee; False if it has ended. On any thread."""
        link = self._link
        if link is not None and link.transport.on_agent_channel is not None:
            # The command has ended: as with ssh, the remote host has the agent no longer.
            link.transport.end_agent_forwarding()
        with self._lock:
            self.lessee = None
            self._move(ConnectionEvent.RELEASE)
            self.idle_since = self._engine.clock()
            return self.state is ConnectionState.READY

    # -- logging in --

    def dial(self, lessee: Lessee) -> None:
        """Begin to connect for a lessee; it gets the outcome. On the engine's thread."""
        with self._lock:
            self._move(ConnectionEvent.DIAL)
            self.lessee = lessee
        self._began = self._engine.clock()
        self._log_in()

    def _log_in(self) -> None:
        """Make an attempt. On the engine's thread."""
        if self.state is ConnectionState.DIALING:
            self._login = Login(
                self.settings, self._services, self._timeout, self, self._began, self.login_times
            )
            self._login.start()

    def on_connected(self, link: Link) -> bool:
        """The login has reached the server; see :class:`.login.LoginOwner`."""
        with self._lock:
            if self._move(ConnectionEvent.CONNECTED) is ConnectionState.CLOSED:
                return False
            self._link = link
        return True

    def on_keyed(self) -> bool:
        """Keys are exchanged and the host key is accepted; see :class:`.login.LoginOwner`."""
        with self._lock:
            return self._move(ConnectionEvent.KEYED) is not ConnectionState.CLOSED

    def on_ready(self, link: Link, server_is_trusted: bool) -> None:
        """The server has accepted the user; see :class:`.login.LoginOwner`."""
        with self._lock:
            if self._move(ConnectionEvent.AUTHENTICATED) is ConnectionState.CLOSED:
                return
            self._move(ConnectionEvent.LEASE)
            self._login = None
            self._server_is_trusted = server_is_trusted
            self.login_times.succeed(self._engine.clock())
            link.on_ended = self._on_transport_ended
            lessee = self.lessee
        if lessee is not None:
            lessee.on_leased(self, reused=False)

    def on_turned_away(self, error: NodeError) -> None:
        """The handshake was cut off: make another attempt after a delay, if there is time.

        Many clients that a busy server has turned away should not come back all at once: each one
        waits longer every time, and for a random part of the delay.

        Called after the handshake as well, if a jump host's connection has ended. On the engine's
        thread.
        """
        allowed = self.settings.connect_retries
        delay = min(_LONGEST_RETRY, _FIRST_RETRY * 2**self.retries) * (0.5 + random.random())  # noqa: S311
        if (
            self.state is not ConnectionState.HANDSHAKING
            or delay >= self._timeout.left
            or (allowed is not None and self.retries >= allowed)
        ):
            self.fail(error)
            return
        with self._lock:
            if self._move(ConnectionEvent.TURNED_AWAY) is ConnectionState.CLOSED:
                return
            self._previous_traffic = self.traffic
            login, self._login = self._login, None
            link, self._link = self._link, None
        self.retries += 1
        self.login_times.enter(WAITING, self._engine.clock())
        logger.debug("%s: %s; again in %.2f s", self.settings.node, error.cause, delay)
        if login is not None:
            login.cancel(Outcome.TURNED_AWAY)
        if link is not None:
            link.close()
            link.unwatch()
            link.drop_references()
        self._engine.call_later(delay, self._log_in)

    def on_rerouted(self, error: NodeError) -> None:
        """The login goes on through another jump host; see :class:`.login.LoginOwner`."""
        if self.lessee is not None:
            self.lessee.on_rerouted(error)

    # -- reading --

    def watch(self) -> None:
        """Make the engine read from now on. On the engine's thread."""
        if self._link is not None:
            self._link.watch()

    def unwatch(self) -> None:
        """Stop the engine's reading. On the engine's thread, or while the engine is at rest."""
        if self._link is not None:
            self._link.unwatch()

    def read_now(self, on_engine: bool = False) -> None:
        """Read and handle the bytes that have arrived; see :meth:`.link.Link.read_now`."""
        if self._link is not None:
            self._link.read_now(on_engine)

    def fileno(self) -> int:
        """Return the descriptor that is readable when bytes have arrived; -1 if there is none."""
        return -1 if self._link is None else self._link.stream.fileno()

    def is_drained(self, then: Callable[[], Any]) -> bool:
        """Return True if the peer has accepted all bytes written. On the engine's thread.

        Args:
            then: called once, on the engine's thread, when the peer has accepted them; not called
                if this method returns True.
        """
        link = self._link
        return link is None or link.stream.is_drained(lambda: self._engine.post(then))

    def forward_agent(self, channel: ClientChannel) -> None:
        """Let the command of a channel use the user's agent. Called before the command starts."""
        if self._server_is_trusted:
            forward_agent(self.transport, channel, self.settings)
        else:
            # As OpenSSH does: an impostor could log in elsewhere with the agent.
            logger.warning(
                "%s: its host key has changed, so the agent is not forwarded", self.settings.node
            )

    # -- dead peers, on the engine's thread --

    def watch_peer(self) -> None:
        """While the lessee runs, check that the peer still answers (ServerAliveInterval).

        paramiko's own keepalive never gives up on a dead peer (paramiko#2463).
        """
        interval, lessee, link = self.settings.keepalive, self.lessee, self._link
        if interval <= 0 or link is None:
            return
        stream, transport = link.stream, link.transport

        def check() -> None:
            if self.state is not ConnectionState.LEASED or self.lessee is not lessee:
                return
            self._unanswered = 0 if stream.received else self._unanswered + 1
            stream.received = False
            if self._unanswered > self.settings.keepalive_count:
                self.give_up_peer()
                return
            transport.send_keepalive()
            self._engine.call_later(interval, check)

        stream.received = False
        self._unanswered = 0
        self._engine.call_later(interval, check)

    def give_up_peer(self) -> None:
        """The peer does not answer: end the connection, and tell the lessee."""
        self.fail(peer_silent(self.settings))

    # -- the end --

    def _on_transport_ended(self) -> None:
        """The peer or an error has ended the transport after the login. On the reading thread."""
        link = self._link
        if link is None or self.state is not ConnectionState.LEASED:
            self.close()
        elif not link.stream.ended_below:
            self.fail(connection_lost(self.settings, link.transport, link.stream))
        # Otherwise on_turned_away follows, from the jump host's connection, with the reason.

    def close(self) -> None:
        """End the connection; the lessee, if there is one, is not told. On any thread."""
        with self._lock:
            self.lessee = None
        self._end(None)

    def fail(self, error: NodeError) -> None:
        """End the connection, and tell the lessee why. On any thread."""
        self._end(error)

    def _end(self, error: Optional[NodeError]) -> None:
        """End the connection. Only the first call counts."""
        with self._lock:
            if self._move(ConnectionEvent.CLOSE) is ConnectionState.CLOSED:
                return
            lessee, self.lessee = self.lessee, None
            login, link = self._login, self._link
        # Now, not in _after_end: the engine may never run again.
        if login is not None:
            login.cancel(outcome_of(error))
        if link is not None:
            link.close()
        self._engine.post(self._after_end, lessee, error)

    def _after_end(self, lessee: Optional[Lessee], error: Optional[NodeError]) -> None:
        """Take the last steps, on the engine's thread."""
        self._timeout.stop()
        self.unwatch()
        self._on_closed(self)
        if lessee is not None and error is not None:
            lessee.on_lost(error)
        # Drop the references in a circle, so that the connection is freed at once.
        self._previous_traffic = self.traffic
        if self._link is not None:
            self._link.drop_references()
        self._login = self._link = None
