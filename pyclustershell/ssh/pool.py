"""The pool of transports: it leases connections, queues requests, and closes idle connections."""

from __future__ import annotations

import threading
import weakref
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Callable, NamedTuple, Optional, Union

from ..engine.delayed import DelayedCalls
from ..engine.engine import Engine
from ..engine.timer import Timer
from .cleanup import RunningCleanups
from .config.settings import ConnectionSettings
from .connection import Connection, Lessee
from .jumphosts import JumpHosts
from .states import ConnectionState
from .stats import PoolStats
from .watchlist import WatchList

# Seconds that a delayed call comes later than an idle connection expires: one call is enough then.
_EXPIRY_MARGIN = 0.01

_CONNECTING = frozenset(
    {ConnectionState.DIALING, ConnectionState.HANDSHAKING, ConnectionState.AUTHENTICATING}
)


class Reuse(NamedTuple):
    """Give the lessee this idle connection."""

    connection: Connection


class Open(NamedTuple):
    """Open a new connection; close this idle one first, if there is one."""

    evict: Optional[Connection]


class Wait(NamedTuple):
    """All connections are in use: wait until one is released."""


Decision = Union[Reuse, Open, Wait]


def decide(
    wanted: ConnectionSettings,
    idle: Iterable[Connection],
    open_count: int,
    limit: int,
    waited_for: Mapping[ConnectionSettings, int],
) -> Decision:
    """Decide which connection a command gets. Pure: the caller carries the decision out.

    1. There is an idle connection with the same settings: reuse it.
    2. There is room for one more: open it.
    3. There is no room, but there are idle connections with other settings: evict the least
       recently used one, and open. Prefer one that no command waits for.
    4. All connections are in use: wait.

    Args:
        wanted: the settings of the connection that is wanted.
        idle: the idle connections, the least recently used one first.
        open_count: the number of connections that are open or being opened, idle ones included.
        limit: the number allowed.
        waited_for: the number of other commands that wait for a connection, by settings.
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


class TransportPool:
    """The connections of one task.

    A connection serves one command at a time. It outlives the run and serves the next one. An idle
    connection is closed after ``idle_ttl`` seconds.

    Args:
        engine: the task's engine.
        connect: makes a connection (not yet dialed) from settings, and from the function to call
            when the connection has ended.
        delayed_calls: closes idle connections while the engine does not run.
        limit: the number of connections that may be open at once.
        idle_ttl: seconds after which an idle connection is closed.
        jump_hosts: the connections to jump hosts; they are closed along with the pool's own.

    Attributes:
        limit: as given; may be set at any time.
        idle_ttl: as given; may be set at any time.
        cleanups: the cleanups of aborted sessions, which lease connections of this pool.
    """

    def __init__(
        self,
        engine: Engine,
        connect: Callable[[ConnectionSettings, Callable[[Connection], None]], Connection],
        delayed_calls: DelayedCalls,
        limit: int,
        idle_ttl: float,
        jump_hosts: Optional[JumpHosts] = None,
    ) -> None:
        self.limit = limit
        self.idle_ttl = idle_ttl
        # A weak reference: the pool and its cleanups would wait for the garbage collector.
        this = weakref.ref(self)

        def release(connection: Connection) -> None:
            pool = this()
            if pool is not None:
                pool.release(connection)

        self.cleanups = RunningCleanups(delayed_calls, engine.clock, release)
        self._engine = engine
        self._connect = connect
        self._delayed_calls = delayed_calls
        self._jump_hosts = jump_hosts
        # The mutable state of the pool, all of it, and its lock: connections are released by the
        # engine's thread and, after a run, by the thread of the delayed calls.
        self._lock = threading.RLock()
        self._open: set[Connection] = set()
        self._watched = WatchList()
        self._idle: dict[ConnectionSettings, dict[Connection, None]] = {}
        self._recent: dict[Connection, None] = {}  # all idle ones, least recently used first
        self._waiting: deque[Lessee] = deque()
        self._waited_for: Counter[ConnectionSettings] = Counter()
        # For stats(); retries and bytes are those of connections that have ended.
        self._opened = self._reused = self._evicted = self._retried = 0
        self._bytes_sent = self._bytes_received = 0
        # Idle connections expire by a timer of the engine while it runs, otherwise by a delayed
        # call.
        self._expiry_timer: Optional[Timer] = None
        self._cancel_expiry_call: Optional[Callable[[], None]] = None
        self._at_rest = False

    def __repr__(self) -> str:
        with self._lock:
            states = Counter(connection.state.value for connection in self._open)
        found = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
        return f"<TransportPool of {self.limit}: {found or 'empty'}; {len(self._waiting)} wait>"

    # -- leases, on the engine's thread --

    def lease(self, lessee: Lessee) -> None:
        """Lease a connection to a command: now, or when one is available.

        The lessee's ``on_leased`` or ``on_lost`` is called. Commands get their connections in the
        order of their calls.
        """
        with self._lock:
            self._waiting.append(lessee)
            self._waited_for[lessee.settings] += 1
        self._serve()

    def cancel(self, lessee: Lessee) -> None:
        """Cancel a request: remove it from the queue, or close the connection being dialed."""
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
        """Serve the queue, in order, as far as there are connections."""
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
                        # It was dead: decide again, without it.
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
                    self._watched.add(connection)
            if isinstance(decision, Reuse):
                lessee.on_dequeued(None)
                lessee.on_leased(connection, reused=True)
            else:
                lessee.on_dequeued(connection.login_times)
                connection.dial(lessee)

    def _decide(self, wanted: ConnectionSettings) -> Decision:
        # First the idle connections with the same settings: decide() need not see the others then.
        own = self._idle.get(wanted)
        idle = own if own else self._recent if len(self._open) >= self.limit else ()
        return decide(wanted, idle, len(self._open), self.limit, self._waited_for)

    # -- releases and ends --

    def release(self, connection: Connection) -> None:
        """A command has ended: its connection is idle from now on. On any thread."""
        with self._lock:
            if not connection.release() or connection not in self._open:
                self._forget(connection)
            elif len(self._open) > self.limit:
                # The limit was lowered meanwhile.
                self._drop(connection)
            else:
                self._idle.setdefault(connection.settings, {})[connection] = None
                self._recent[connection] = None
                self._start_expiry_timer()
        if self._waiting:
            self._engine.post(self._serve)

    def _on_closed(self, connection: Connection) -> None:
        """A connection has ended, on the engine's thread."""
        with self._lock:
            self._take_from_idle(connection)
            self._forget(connection)
            self._watched.discard(connection)
        self._serve()

    def _take_from_idle(self, connection: Connection) -> None:
        if connection in self._recent:
            del self._recent[connection]
            same = self._idle[connection.settings]
            del same[connection]
            if not same:
                del self._idle[connection.settings]

    def _drop(self, connection: Connection) -> None:
        """Close a connection; it does not count as open from now on."""
        self._take_from_idle(connection)
        connection.close()
        self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        """Stop counting a connection as open; add its counters to the totals."""
        if connection in self._open:
            self._open.discard(connection)
            sent, received = connection.traffic
            self._bytes_sent += sent
            self._bytes_received += received
            self._retried += connection.retries

    # -- the end of idle connections --

    def _start_expiry_timer(self) -> None:
        """While the engine runs, its timer closes expired connections."""
        if self._expiry_timer is None and self._engine.running:
            self._expiry_timer = self._engine.call_later(self.idle_ttl, self._on_expiry_timer)

    def _on_expiry_timer(self) -> None:
        left = self.close_expired()
        self._expiry_timer = (
            None if left is None else self._engine.call_later(left, self._on_expiry_timer)
        )

    def close_expired(self) -> Optional[float]:
        """Close the connections that have been idle for ``idle_ttl`` seconds. On any thread.

        Returns:
            The seconds until the next one expires; None if none is idle.
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
        # After the connections of the nodes behind them, which keep them in use.
        idle = (
            self._jump_hosts.close_expired(self.idle_ttl) if self._jump_hosts is not None else None
        )
        return min((left for left in (least, idle) if left is not None), default=None)

    def on_run_begins(self) -> None:
        """The engine is about to run: it reads, and closes expired connections, from now on."""
        self._stop_expiry_calls()
        if self._jump_hosts is not None:
            # First: the bytes of the other connections come through them.
            self._jump_hosts.on_run_begins()
        with self._lock:
            self._watched.on_run_begins()
            self._forget_closed()
            # If the limit was lowered, the least recently used connections are closed.
            for connection in list(self._recent)[: max(0, len(self._open) - self.limit)]:
                self._drop(connection)
        self.close_expired()

    def on_run_ends(self) -> None:
        """The engine does not run any more: delayed calls close expired connections."""
        with self._lock:
            self._watched.on_run_ends()
        if self._jump_hosts is not None:
            self._jump_hosts.on_run_ends()
        self._expiry_timer = None
        with self._lock:
            self._drop_strays()
            self._at_rest = True
        self._expire_at_rest()

    def _drop_strays(self) -> None:
        """Close the connections of commands that do not exist any more, after a run.

        There are none, unless an exception has cut a change of this pool in two: a handler of a
        signal can raise one anywhere. They would count as open for ever.
        """
        self._waiting.clear()
        self._waited_for.clear()
        for connection in self._open - self._recent.keys() - self.cleanups.connections:
            self._drop(connection)

    def _forget_closed(self) -> None:
        """Stop counting connections that ended while the engine was at rest."""
        for connection in list(self._open):
            if connection.state is ConnectionState.CLOSED:
                self._take_from_idle(connection)
                self._forget(connection)

    def _expire_at_rest(self) -> None:
        """Close expired connections, and plan the next call. Also called as a delayed call."""
        with self._lock:
            if not self._at_rest:
                return  # a run has begun, or the pool was closed, before this call
            self._forget_closed()
            left = self.close_expired()
            self._cancel_call()
            if left is not None:
                self._cancel_expiry_call = self._delayed_calls.call_later(
                    left + _EXPIRY_MARGIN, self._expire_at_rest
                )

    def _stop_expiry_calls(self) -> None:
        with self._lock:
            self._at_rest = False
            self._cancel_call()

    def _cancel_call(self) -> None:
        if self._cancel_expiry_call is not None:
            self._cancel_expiry_call()
            self._cancel_expiry_call = None

    def close(self) -> None:
        """Close every connection, after the cleanups of aborted sessions. On any thread."""
        self.cleanups.close()
        self._stop_expiry_calls()
        with self._lock:
            connections = list(self._open)
            for connection in connections:
                self._drop(connection)
        if self._jump_hosts is not None:
            self._jump_hosts.close()

    def abandon(self) -> None:
        """In a forked child: the connections are the parent's, and so are the queued requests."""
        self._lock = threading.RLock()
        self._at_rest = False
        # If the child was forked by a handler, calls of this pool are under way: they find nothing.
        self._waiting.clear()
        self._waited_for.clear()
        self._idle.clear()
        self._recent.clear()
        self._open.clear()
        self._watched = WatchList()

    def gateways(self) -> dict[str, list[str]]:
        """Return the nodes that are reached through each jump host with an open connection."""
        return {} if self._jump_hosts is None else self._jump_hosts.carried()

    def stats(self) -> PoolStats:
        """Return the present state and the totals. On any thread."""
        with self._lock:
            traffic = [connection.traffic for connection in self._open]
            return PoolStats(
                open=len(self._open),
                idle=len(self._recent),
                handshakes=sum(c.state in _CONNECTING for c in self._open),
                waiting=len(self._waiting),
                jump_hosts=len(self._jump_hosts) if self._jump_hosts is not None else 0,
                opened=self._opened,
                reused=self._reused,
                evicted=self._evicted,
                retried=self._retried + sum(c.retries for c in self._open),
                bytes_sent=self._bytes_sent + sum(sent for sent, _ in traffic),
                bytes_received=self._bytes_received + sum(received for _, received in traffic),
            )

    @property
    def open_count(self) -> int:
        """The number of connections that are open or being opened."""
        return len(self._open)
