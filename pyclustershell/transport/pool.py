"""The pool of transports: who gets which, who waits, who goes."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional, Protocol, Union

from ..engine.engine import Engine
from ..engine.polling import wait_readable
from ..engine.timer import Timer
from .reaper import Reaper
from .state import ConnectionState
from .stats import PoolStats

if TYPE_CHECKING:
    from .bastions import Bastions
    from .config.settings import ConnectionSettings
    from .connection import Connection, Lessee

# While a closing thread reads instead of the engine, in seconds: the engine may read, too.
_GLANCE = 0.05


_CONNECTING = frozenset(
    {ConnectionState.DIALING, ConnectionState.HANDSHAKING, ConnectionState.AUTHENTICATING}
)


class Reuse(NamedTuple):
    """Give the lessee this idle connection."""

    connection: Connection


class Open(NamedTuple):
    """Open a new connection, after closing another one where there is no room."""

    evict: Optional[Connection]


class Wait(NamedTuple):
    """All connections are in use: wait until one is given back."""


Decision = Union[Reuse, Open, Wait]


def decide(
    wanted: ConnectionSettings,
    idle: Iterable[Connection],
    open_count: int,
    limit: int,
    waited_for: Mapping[ConnectionSettings, int],
) -> Decision:
    """Decide what a command's connection shall be. Pure: the caller does what it says.

    1. An idle connection of that very endpoint: reuse it.
    2. Room for one more: open it.
    3. No room, but idle connections of other endpoints: evict the least recently used one, of
       those that nobody waits for if there are any, and open.
    4. Everything is in use: wait.

    Args:
        wanted: the settings of the connection that is wanted.
        idle: the idle connections, the least recently used one first.
        open_count: how many connections are open or being opened, idle ones included.
        limit: how many may be.
        waited_for: how many other commands wait for a connection with these settings.
    """
    oldest: Optional[Connection] = None
    unwanted: Optional[Connection] = None
    for connection in idle:
        if connection.settings == wanted:
            return Reuse(connection)
        if oldest is None:
            oldest = connection
        if unwanted is None and not waited_for.get(connection.settings):
            unwanted = connection
    if open_count < limit:
        return Open(evict=None)
    if oldest is not None:
        return Open(evict=unwanted or oldest)
    return Wait()


class Ending(Protocol):
    """A command that is being killed, or a copy that removes what it had begun."""

    #: Seconds until it is over, at the most.
    grace: float
    #: Where it is under way.
    connection: Connection

    @property
    def is_gone(self) -> bool:
        """Whether it is over."""
        ...

    def kill(self) -> None:
        """Wait no longer: send a command KILL, and give the connection back."""
        ...


class TransportPool:
    """The connections of one task.

    A connection serves one command at a time. It outlives the run and serves the next one; idle,
    it lives ``idle_ttl`` seconds.

    Args:
        engine: the task's engine.
        connect: makes a connection (not yet dialed) for settings, with the function to call when
            it has ended.
        reaper: closes idle connections while the engine does not run.
        limit: how many connections may be open at once.
        idle_ttl: seconds after which an idle connection is closed.
        bastions: the connections to jump hosts, which are closed along with the pool's own.
    """

    def __init__(
        self,
        engine: Engine,
        connect: Callable[[ConnectionSettings, Callable[[Connection], None]], Connection],
        reaper: Reaper,
        limit: int,
        idle_ttl: float,
        bastions: Optional[Bastions] = None,
    ) -> None:
        self.limit = limit
        self.idle_ttl = idle_ttl
        self._engine = engine
        self._connect = connect
        self._reaper = reaper
        self._bastions = bastions
        # The mutable state of the pool, all of it, and its lock: connections are given back by
        # the engine's thread and, after a run, by the reaper's.
        self._lock = threading.RLock()
        self._open: set[Connection] = set()
        # These and those that were closed, until their descriptors are freed.
        self._unfreed: set[Connection] = set()
        self._idle: dict[ConnectionSettings, dict[Connection, None]] = {}
        self._recent: dict[Connection, None] = {}  # all idle ones, least recently used first
        self._waiting: deque[Lessee] = deque()
        self._waited_for: Counter[ConnectionSettings] = Counter()
        # Whether they are gone, and give their connections back just now.
        self._endings: dict[Ending, bool] = {}
        # What stats() tells; of retries and bytes, those of connections that are gone.
        self._opened = self._reused = self._evicted = self._retried = 0
        self._bytes_sent = self._bytes_received = 0
        self._ended = threading.Condition(self._lock)
        self._expiry: Optional[Timer] = None
        self._cancel_reaping: Optional[Callable[[], None]] = None
        # Whether the engine does not run, and the reaper sees to what is idle.
        self._at_rest = False

    def __repr__(self) -> str:
        with self._lock:
            states = Counter(connection.state.value for connection in self._open)
        found = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
        return f"<TransportPool of {self.limit}: {found or 'empty'}; {len(self._waiting)} wait>"

    # -- leases, on the engine's thread --

    def lease(self, lessee: Lessee) -> None:
        """Give a command its connection: now, or when there is one.

        The lessee hears of it through ``on_leased`` or ``on_lost``. Commands get their connections
        in the order in which they asked.
        """
        with self._lock:
            self._waiting.append(lessee)
            self._waited_for[lessee.settings] += 1
        self._serve()

    def cancel(self, lessee: Lessee) -> None:
        """A command gives up what it has asked for: its place in the queue, or its dial."""
        with self._lock:
            if lessee in self._waiting:
                self._waiting.remove(lessee)
                self._count_out(lessee)
                return
            dialing = [c for c in self._open if c.lessee is lessee]
        for connection in dialing:
            connection.close()

    def _count_out(self, lessee: Lessee) -> None:
        self._waited_for[lessee.settings] -= 1
        if not self._waited_for[lessee.settings]:
            del self._waited_for[lessee.settings]

    def _serve(self) -> None:
        """Serve those who wait, in order, as far as there are connections."""
        while True:
            with self._lock:
                if not self._waiting:
                    return
                lessee = self._waiting[0]
                decision = self._decide(lessee.settings)
                if isinstance(decision, Wait):
                    return
                self._waiting.popleft()
                self._count_out(lessee)
                if isinstance(decision, Reuse):
                    connection = decision.connection
                    self._take_from_idle(connection)
                    if not connection.lease(lessee):
                        # It died unnoticed: ask again, for another one.
                        self._forget(connection)
                        self._waiting.appendleft(lessee)
                        self._waited_for[lessee.settings] += 1
                        continue
                    self._reused += 1
                else:
                    if decision.evict is not None:
                        self._evicted += 1
                        self._drop(decision.evict)
                    connection = self._connect(lessee.settings, self._on_closed)
                    self._opened += 1
                    self._open.add(connection)
                    self._unfreed.add(connection)
            lessee.on_turn()
            if isinstance(decision, Reuse):
                lessee.on_leased(connection, reused=True)
            else:
                connection.dial(lessee)

    def _decide(self, wanted: ConnectionSettings) -> Decision:
        # The endpoint's own idle connections first: decide() then need not look at the others.
        own = self._idle.get(wanted)
        idle = own if own else self._recent if len(self._open) >= self.limit else ()
        return decide(wanted, idle, len(self._open), self.limit, self._waited_for)

    # -- the way back --

    def release(self, connection: Connection) -> None:
        """A command is done with its connection. On any thread."""
        with self._lock:
            if not connection.release() or connection not in self._open:
                self._forget(connection)
            elif len(self._open) > self.limit:
                # The limit was lowered meanwhile.
                self._drop(connection)
            else:
                self._idle.setdefault(connection.settings, {})[connection] = None
                self._recent[connection] = None
                self._watch_expiry()
        if self._waiting:
            self._engine.post(self._serve)

    def _on_closed(self, connection: Connection) -> None:
        """A connection has ended, on the engine's thread."""
        with self._lock:
            self._take_from_idle(connection)
            self._forget(connection)
            self._unfreed.discard(connection)
        self._serve()

    def _take_from_idle(self, connection: Connection) -> None:
        if connection in self._recent:
            del self._recent[connection]
            same = self._idle[connection.settings]
            del same[connection]
            if not same:
                del self._idle[connection.settings]

    def _drop(self, connection: Connection) -> None:
        """Close a connection, and count it as closed from now on."""
        self._take_from_idle(connection)
        connection.close()
        self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        """A connection does not count as open any more; what it did, does."""
        if connection in self._open:
            self._open.discard(connection)
            sent, received = connection.traffic
            self._bytes_sent += sent
            self._bytes_received += received
            self._retried += connection.retries

    # -- commands that are being killed --

    def begin_ending(self, ending: Ending) -> None:
        """A command is being killed, say: its connection stays in use until it is gone."""
        with self._lock:
            self._endings[ending] = False

    def finish_ending(self, ending: Ending, give_back: Callable[[], Any]) -> bool:
        """It is gone; False if that was said before. On any thread.

        Args:
            ending: what is gone.
            give_back: called here, unless it was said before: releases the connection. Who closes
                the pool waits for that, too: connections may be released on another thread, and
                need the engine for it.
        """
        with self._lock:
            if self._endings.get(ending) is not False:
                return False
            self._endings[ending] = True
        try:
            give_back()
        finally:
            with self._lock:
                del self._endings[ending]
                self._ended.notify_all()
        return True

    # -- the end of idle connections --

    def _watch_expiry(self) -> None:
        """While the engine runs, its timer closes what is idle too long."""
        if self._expiry is None and self._engine.running:
            self._expiry = self._engine.call_later(self.idle_ttl, self._on_expiry)

    def _on_expiry(self) -> None:
        left = self.close_expired()
        self._expiry = None if left is None else self._engine.call_later(left, self._on_expiry)

    def close_expired(self) -> Optional[float]:
        """Close the connections that have been idle too long. On any thread.

        Returns:
            Seconds until the next one will have been, None where none is idle.
        """
        now = self._engine.clock()
        least: Optional[float] = None
        with self._lock:
            for connection in list(self._recent):
                left = connection.idle_since + self.idle_ttl - now
                if left > 0:
                    least = left
                    break
                self._drop(connection)
        # After their nodes' connections, which have kept them busy.
        idle = self._bastions.close_expired(self.idle_ttl) if self._bastions is not None else None
        return min((left for left in (least, idle) if left is not None), default=None)

    def on_run_begins(self) -> None:
        """The engine is about to run: it watches over idle connections from now on."""
        self._stop_reaping()
        if self._bastions is not None:
            # First: what comes for the others comes through them.
            self._bastions.on_run_begins()
        with self._lock:
            for connection in list(self._unfreed):
                connection.read_now()
                connection.watch()
            self._forget_closed()
            # Where the limit was lowered, the least recently used ones go.
            for connection in list(self._recent)[: max(0, len(self._open) - self.limit)]:
                self._drop(connection)
        self.close_expired()

    def on_run_ends(self) -> None:
        """The engine does not run any more: the reaper watches over idle connections."""
        with self._lock:
            for connection in list(self._unfreed):
                connection.unwatch()
            self._unfreed &= self._open
        if self._bastions is not None:
            self._bastions.on_run_ends()
        self._expiry = None
        with self._lock:
            self._at_rest = True
        self._reap()

    def _forget_closed(self) -> None:
        """Drop what ended while nobody was there to hear of it."""
        for connection in list(self._open):
            if connection.state is ConnectionState.CLOSED:
                self._take_from_idle(connection)
                self._forget(connection)

    def _reap(self) -> None:
        """Close what has been idle too long, and come back. On the reaper's thread, too."""
        with self._lock:
            if not self._at_rest:
                return  # a run began, or the pool was closed, while the reaper was on its way
            self._forget_closed()
            left = self.close_expired()
            self._cancel_call()
            if left is not None:
                self._cancel_reaping = self._reaper.call_later(left + 0.01, self._reap)

    def _stop_reaping(self) -> None:
        with self._lock:
            self._at_rest = False
            self._cancel_call()

    def _cancel_call(self) -> None:
        if self._cancel_reaping is not None:
            self._cancel_reaping()
            self._cancel_reaping = None

    def close(self) -> None:
        """Close every connection and wait for their threads to end. On any thread.

        Commands that are being killed are waited for until their grace period is over.
        """
        with self._lock:
            endings = list(self._endings)
        self._await(endings, max((ending.grace for ending in endings), default=0.0))
        with self._lock:
            left = list(self._endings)
        for ending in left:
            ending.kill()
        self._stop_reaping()
        with self._lock:
            connections = list(self._open)
            for connection in connections:
                self._drop(connection)
        if self._bastions is not None:
            self._bastions.close()

    def _await(self, endings: list[Ending], patience: float) -> None:
        """Wait until commands that are being killed are gone: nobody else reads for them now."""
        clock = self._engine.clock
        deadline = clock() + patience
        while (left := deadline - clock()) > 0:
            endings = [ending for ending in endings if not ending.is_gone]
            if not endings:
                break
            wait_readable([ending.connection for ending in endings], min(left, _GLANCE))
            for ending in endings:
                ending.connection.read_now()
        with self._lock:
            # What follows is the reaper's: see Termination.
            self._ended.wait_for(lambda: not self._endings, max(0.0, deadline - clock()))

    def stats(self) -> PoolStats:
        """What the pool does now, and has done so far. On any thread."""
        with self._lock:
            traffic = [connection.traffic for connection in self._open]
            return PoolStats(
                open=len(self._open),
                idle=len(self._recent),
                handshakes=sum(c.state in _CONNECTING for c in self._open),
                waiting=len(self._waiting),
                bastions=len(self._bastions) if self._bastions is not None else 0,
                opened=self._opened,
                reused=self._reused,
                evicted=self._evicted,
                retried=self._retried + sum(c.retries for c in self._open),
                bytes_sent=self._bytes_sent + sum(sent for sent, _ in traffic),
                bytes_received=self._bytes_received + sum(received for _, received in traffic),
            )

    @property
    def open_count(self) -> int:
        """How many connections are open or being opened."""
        return len(self._open)
