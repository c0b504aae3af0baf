"""A session channel on one node: it leases a connection, opens the channel, and gives both back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable, Generic, NamedTuple, Optional

from paramiko import ChannelException

from ..engine.aftermath import Aftermath
from ..engine.engine import Engine
from ..engine.timer import Timer
from ..exceptions import ConnectionLostError, NodeError, SessionError
from ..phases import LoginTimes
from ..records import Failed, Record, Rerouted
from .cleanup import RemoteCleanup
from .config.settings import ConnectionSettings
from .connection import Connection
from .pool import TransportPool
from .protocol import ClientChannel
from .states import EventT, StateT, move

# The aftermath of the sessions that nobody waits for.
_UNCOUNTED = Aftermath()


class SessionContext(NamedTuple):
    """The parameters that every session has: the node's settings, and the objects it works with.

    Attributes:
        settings: the settings of the connection; the pool's key.
        engine: the engine.
        pool: the pool that leases the connection.
        deliver: called on the engine's thread with each record; the last one is Exited or Failed.
        on_dequeued: called on the engine's thread when the pool has found a connection, with the
            stopwatch of its login if it is to be dialed, or None if it is reused. The node's
            timeout begins.
        kill_grace: seconds that an aborted command has to end by itself before it is killed; None
            to leave it running.
    """

    settings: ConnectionSettings
    engine: Engine
    pool: TransportPool
    deliver: Callable[[Record], Any]
    on_dequeued: Callable[[Optional[LoginTimes]], Any]
    kill_grace: Optional[float]


class RemoteSession(Generic[StateT, EventT]):
    """A session channel (RFC 4254 6) over a leased connection.

    It leases a connection, opens a channel, and sends a request: to run a command, or to start a
    subsystem. If an idle connection of the pool turns out to be dead, it leases another one. The
    subclass makes the request, uses the channel, and has the states.

    The state belongs to the engine's thread. Callbacks on the thread that feeds the transport
    only send the next request, or post.

    Args:
        context: the node's settings, and the objects to work with.
    """

    #: The type of the request, in the words of RFC 4254 6.5.
    request_type = "exec"
    #: The cause of the failure if the server refuses the request.
    refusal = "The server refused the request"
    #: The receive window, in bytes; None for paramiko's 2 MiB.
    window: Optional[int] = None

    #: The transition table, see ``states.py``.
    moves: Mapping[tuple[StateT, EventT], StateT]
    #: The state until the request is granted.
    first_state: StateT
    #: The state after the end.
    last_state: StateT
    #: The event: the channel or the connection has closed.
    closed_event: EventT
    #: The event: the session was aborted.
    aborted_event: EventT

    def __init__(self, context: SessionContext) -> None:
        self.settings = context.settings
        self.on_dequeued = context.on_dequeued
        self.state = self.first_state
        self._engine = context.engine
        self._pool = context.pool
        self._deliver = context.deliver
        self._kill_grace = context.kill_grace
        self._connection: Optional[Connection] = None
        self._reused = False
        # How often a jump host has failed before the request was sent.
        self._jump_hosts_lost = 0
        self._channel: Optional[ClientChannel] = None
        self._requested = False
        self._opening_timer: Optional[Timer] = None
        #: Counts the cleanup of an aborted session; the caller may put another one here.
        self.aftermath = _UNCOUNTED

    # -- states --

    @property
    def opening(self) -> bool:
        """True until the request is granted or the session has ended."""
        return self.state is self.first_state

    @property
    def done(self) -> bool:
        """True if the session has ended. Any callback may have ended it."""
        return self.state is self.last_state

    def _move(self, event: EventT) -> StateT:
        """Take an event; returns the state before it."""
        before = self.state
        self.state = move(self.moves, before, event)
        return before

    def _move_to_done(self) -> bool:
        """The channel or the connection has closed; False if the session had ended before."""
        return self._move(self.closed_event) is not self.last_state

    # -- for subclasses --

    def _request(self, channel: ClientChannel) -> None:
        """Send the request, and have :meth:`_post_answer` called when the answer arrives."""
        raise NotImplementedError

    def _on_granted(self, channel: ClientChannel) -> None:
        """The server has granted the request. On the engine's thread."""
        raise NotImplementedError

    def _on_connection_lost(self, error: NodeError) -> None:
        """The connection could not be made, or it has ended. On the engine's thread."""
        raise NotImplementedError

    def _stop(self) -> None:
        """Drop the bytes to send and receive: the channel is about to be closed."""
        raise NotImplementedError

    def _cleanup(self, channel: ClientChannel, connection: Connection) -> Optional[RemoteCleanup]:
        """Return the cleanup that the node needs when the session is aborted; None for none."""
        raise NotImplementedError

    # -- getting a connection and a channel --

    def start(self) -> None:
        """Ask for a connection."""
        self._pool.lease(self)

    def on_leased(self, connection: Connection, reused: bool) -> None:
        """Open a channel.

        On the engine's thread, or on one that runs a step of the authentication.
        """
        if self.done:
            self._pool.release(connection)
            return
        self._connection = connection
        self._reused = reused
        # A peer that vanished silently is noticed here, before the command starts.
        if reused:
            self._watch_opening(connection, self.settings.connect_timeout)
        else:
            # The server's work for a session (PAM, home directories) is still part of the login.
            self._engine.post(self._watch_opening, connection, self.settings.auth_timeout)
        connection.transport.open_session_channel(self._on_opened, self.window)

    def _watch_opening(self, connection: Connection, wait: float) -> None:
        if self.opening:
            self._opening_timer = self._engine.call_later(
                wait, lambda: self._on_opening_timeout(connection)
            )

    def _on_opened(
        self, channel: Optional[ClientChannel], refusal: Optional[ChannelException]
    ) -> None:
        # Called on the thread that feeds the transport.
        if channel is None:
            self._engine.post(self._on_refused, refusal)
            return
        if self.done:
            channel.close()
            return
        self._channel = channel
        self._requested = True
        self._request(channel)

    def _post_answer(self) -> None:
        # Called on the thread that feeds the transport, perhaps with the channel's lock held.
        self._engine.post(self._on_answer)

    def _on_opening_timeout(self, connection: Connection) -> None:
        """The server has not answered in time: replace a reused connection, or fail."""
        if self.opening and self._connection is connection:
            connection.close()
            phase = f"{self.request_type} request" if self._requested else "channel open"
            self.on_lost(
                ConnectionLostError(
                    self.settings.node,
                    f"Connection timed out during {phase}",
                    f"Timeout, server {self.settings.hostname} not responding to {phase}.",
                )
            )

    def _on_refused(self, refusal: Optional[ChannelException]) -> None:
        connection = self._connection
        if self._reused and connection is not None and not self.done:
            # A command that was left running (see kill_grace) still has its session, and the
            # server allows no more (MaxSessions in sshd_config(5)). A new connection has none.
            connection.close()
            self._lease_another()
            return
        if not self._move_to_done():
            return
        reason = refusal.args[1] if refusal is not None else "no reason given"
        self._give_back()
        self._fail(SessionError(self.settings.node, f"The server refused a session: {reason}"))

    def _on_answer(self) -> None:
        """The server has answered the request."""
        channel = self._channel
        if self._opening_timer is not None:
            self._opening_timer.cancel()
            self._opening_timer = None
        if self.done or channel is None:
            return
        if channel.was_granted:
            self._on_granted(channel)
            return
        if not channel.was_refused and not channel.closed_by_server:
            return  # the connection has ended: on_lost follows, with the reason
        self._move_to_done()
        self._give_back()
        self._fail(SessionError(self.settings.node, self.refusal))

    # -- the loss of the connection --

    def on_rerouted(self, error: NodeError) -> None:
        """A jump host has failed, and another one is tried. On the engine's thread."""
        if not self.done:
            self._deliver(Rerouted(error))

    def on_lost(self, error: NodeError) -> None:
        """The connection could not be made, or it has ended. On the engine's thread."""
        if self.done:
            return
        if self.opening and not self._requested and self._may_use_another(error):
            # The command cannot have started.
            self._lease_another()
        else:
            self._on_connection_lost(error)

    def _may_use_another(self, error: NodeError) -> bool:
        """True if another connection may help where this one was lost."""
        if self._reused:
            return True  # it was dead in the pool
        if not isinstance(error, ConnectionLostError) or error.jump_host is None:
            return False
        # A jump host has failed under a login. Perhaps there is another one; or it is up again.
        self._jump_hosts_lost += 1
        return self._jump_hosts_lost <= len(self.settings.proxies)

    def _lease_another(self) -> None:
        self._connection = None
        self._reused = False
        self._pool.lease(self)

    # -- the end --

    def _close_channel(self) -> None:
        if self._channel is not None:
            self._channel.drop()
            self._channel = None

    def _give_back(self) -> None:
        """Close the channel, and release the connection for the next session."""
        self._stop()
        connection = self._connection
        self._connection = None
        self._close_channel()
        if connection is not None:
            self._pool.release(connection)

    def _fail(self, error: NodeError) -> None:
        """Deliver the reason why the session, which has ended, failed."""
        self._deliver(Failed(error))

    def abort(self) -> None:
        """End the session. Nothing more is delivered.

        A :class:`~.cleanup.RemoteCleanup` ends the command on the node, in the background.
        """
        if self._move(self.aborted_event) is self.last_state:
            return
        channel, connection = self._channel if self._requested else None, self._connection
        cleanup: Optional[RemoteCleanup] = None
        if channel is not None and connection is not None and not channel.closed:
            # Before _stop() drops the bytes to send: a part of a packet may have been sent.
            cleanup = self._cleanup(channel, connection)
        self._stop()
        self._channel = self._connection = None
        if connection is None:
            self._pool.cancel(self)
        elif channel is None:
            # No request was sent: there is nothing to end.
            connection.close()
        elif cleanup is None:
            channel.drop()
            self._pool.release(connection)
        else:
            self.aftermath.begin()
            cleanup.when_over = self.aftermath.end
            cleanup.begin()
