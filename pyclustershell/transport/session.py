"""A session channel on one node: how it comes by its connection, and how it gives it back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable, Generic, NamedTuple, Optional

from paramiko import ChannelException

from ..engine.engine import Engine
from ..engine.timer import Timer
from ..exceptions import ConnectionLostError, NodeError, SessionError
from .config.settings import ConnectionSettings
from .connection import Connection
from .ending import SessionEnding
from .paramiko_hooks import ClientChannel
from .pool import TransportPool
from .reaper import Reaper
from .state import EventT, Failed, Record, StateT, move


class Assignment(NamedTuple):
    """What every session is made with: where to go, and for whom.

    Attributes:
        settings: whom to connect to; the pool's key.
        engine: the engine.
        pool: where the connection comes from.
        reaper: sees to the end of what is aborted.
        deliver: called on the engine's thread with each record; the last one is Exited or Failed.
        on_turn: called on the engine's thread when a connection has been found, to be dialed or
            reused: from now on, time is the node's.
        kill_grace: seconds that what is aborted has to end by itself before it is killed; None: it
            is not.
    """

    settings: ConnectionSettings
    engine: Engine
    pool: TransportPool
    reaper: Reaper
    deliver: Callable[[Record], Any]
    on_turn: Callable[[], Any]
    kill_grace: Optional[float]


class RemoteSession(Generic[StateT, EventT]):
    """What runs in a session channel (RFC 4254 6) over a leased connection.

    It asks for a connection, for a channel, and for what shall run in it; it asks again where the
    connection had died in the pool. From then on it is the subclass's, which says what to ask for,
    what to do with it, and which states there are.

    Its state belongs to the engine's thread. What is called where the transport is fed only sends
    the next request, or posts.

    Args:
        assignment: where to go, and for whom.
    """

    #: What is asked for, as RFC 4254 6.5 calls it.
    asks_for = "exec"
    #: What is said where the server refuses what was asked for.
    refusal = "The server refused the request"
    #: The receive window, in bytes; None for paramiko's 2 MiB.
    window: Optional[int] = None

    #: What moves it from state to state: a table, see ``state.py``.
    moves: Mapping[tuple[StateT, EventT], StateT]
    #: The state until what was asked for has been granted.
    first_state: StateT
    #: The state when it has ended, one way or the other.
    last_state: StateT
    #: The channel or the connection has closed.
    closed_event: EventT
    #: It has been aborted.
    aborted_event: EventT

    def __init__(self, assignment: Assignment) -> None:
        self.settings = assignment.settings
        self.on_turn = assignment.on_turn
        self.state = self.first_state
        self._engine = assignment.engine
        self._pool = assignment.pool
        self._reaper = assignment.reaper
        self._deliver = assignment.deliver
        self._kill_grace = assignment.kill_grace
        self._connection: Optional[Connection] = None
        self._reused = False
        self._channel: Optional[ClientChannel] = None
        self._requested = False
        self._silence: Optional[Timer] = None

    # -- states --

    @property
    def opening(self) -> bool:
        """Whether what was asked for has still to be granted."""
        return self.state is self.first_state

    @property
    def done(self) -> bool:
        """Whether the session has ended, one way or the other. Any callback may have ended it."""
        return self.state is self.last_state

    def _move(self, event: EventT) -> StateT:
        """Take an event; returns the state that it found."""
        before = self.state
        self.state = move(self.moves, before, event)
        return before

    def _move_to_done(self) -> bool:
        """The channel or the connection has closed; False if the session had ended before."""
        return self._move(self.closed_event) is not self.last_state

    # -- for the subclass to say --

    def _request(self, channel: ClientChannel) -> None:
        """Ask for what shall run; :meth:`_post_answer` is to be called with the answer."""
        raise NotImplementedError

    def _on_granted(self, channel: ClientChannel) -> None:
        """It runs. On the engine's thread."""
        raise NotImplementedError

    def _on_connection_lost(self, error: NodeError) -> None:
        """The connection could not be made, or it is gone, for good. On the engine's thread."""
        raise NotImplementedError

    def _stop(self) -> None:
        """Forget what was to be sent and received: the channel is about to be closed."""
        raise NotImplementedError

    def _ending(self, channel: ClientChannel, connection: Connection) -> Optional[SessionEnding]:
        """What still has to be ended on the node when the session is aborted; None for nothing."""
        raise NotImplementedError

    # -- getting a connection and a channel --

    def start(self) -> None:
        """Ask for a connection."""
        self._pool.lease(self)

    def on_leased(self, connection: Connection, reused: bool) -> None:
        """Ask for a channel. On the engine's thread, or on one that authenticated aside."""
        if self.done:
            self._pool.release(connection)
            return
        self._connection = connection
        self._reused = reused
        # A peer that vanished without a word is found out here, before anything starts.
        if reused:
            self._watch_opening(connection, self.settings.connect_timeout)
        else:
            # What a server does for a session (PAM, home directories) is still part of logging in.
            self._engine.post(self._watch_opening, connection, self.settings.auth_timeout)
        connection.transport.open_session_channel(self._on_opened, self.window)

    def _watch_opening(self, connection: Connection, patience: float) -> None:
        if self.opening:
            self._silence = self._engine.call_later(patience, lambda: self._on_silence(connection))

    def _on_opened(
        self, channel: Optional[ClientChannel], refusal: Optional[ChannelException]
    ) -> None:
        # Where the transport is fed.
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
        # Where the transport is fed, perhaps with the channel's lock held.
        self._engine.post(self._on_answer)

    def _on_silence(self, connection: Connection) -> None:
        """The server has not answered in time: replace a reused connection, or fail."""
        if self.opening and self._connection is connection:
            connection.close()
            phase = f"{self.asks_for} request" if self._requested else "channel open"
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
            # What was left running there (see kill_grace) still has a session, and the server
            # allows no more (MaxSessions in sshd_config(5)). A new connection has none.
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
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        if self.done or channel is None:
            return
        if channel.was_granted:
            self._on_granted(channel)
            return
        if not channel.was_refused and not channel.closed_by_server:
            return  # the connection has ended: on_lost follows, and knows why
        self._move_to_done()
        self._give_back()
        self._fail(SessionError(self.settings.node, self.refusal))

    # -- losing it --

    def on_lost(self, error: NodeError) -> None:
        """The connection could not be made, or it is gone. On the engine's thread."""
        if self.done:
            return
        if self.opening and self._reused and not self._requested:
            # It had died in the pool: nothing can have started. Nobody need know.
            self._lease_another()
        else:
            self._on_connection_lost(error)

    def _lease_another(self) -> None:
        self._connection = None
        self._reused = False
        self._pool.lease(self)

    # -- giving it back --

    def _close_channel(self) -> None:
        if self._channel is not None:
            self._channel.drop()
            self._channel = None

    def _give_back(self) -> None:
        """Close the channel, and give the connection to the next one."""
        self._stop()
        connection = self._connection
        self._connection = None
        self._close_channel()
        if connection is not None:
            self._pool.release(connection)

    def _fail(self, error: NodeError) -> None:
        """Tell why the session, which has ended, could not be or was lost."""
        self._deliver(Failed(error))

    def abort(self) -> None:
        """End the session, and deliver nothing any more.

        What it leaves on the node is ended in the background, see :class:`~.ending.SessionEnding`.
        """
        if self._move(self.aborted_event) is self.last_state:
            return
        channel, connection = self._channel if self._requested else None, self._connection
        ending: Optional[SessionEnding] = None
        if channel is not None and connection is not None and not channel.closed:
            # Before what was to be sent is forgotten: a part of it may have gone out.
            ending = self._ending(channel, connection)
        self._stop()
        self._channel = self._connection = None
        if connection is None:
            self._pool.cancel(self)
        elif channel is None:
            # Nothing has been asked for: there is nothing to end.
            connection.close()
        elif ending is None:
            channel.drop()
            self._pool.release(connection)
        else:
            ending.begin()
