"""Jump hosts: connections that carry other connections (ProxyJump in ssh_config(5)).

The nodes behind a jump host share one connection to it, a *jump connection*. Each node has its own
channel in it, which leads to the node. If a jump host limits the channels of a connection, more
connections are made. Jump connections run no commands, so they count neither for the fanout nor for
the limit of the pool.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Callable, Optional, TypeVar

from paramiko import ChannelException

from ..engine.engine import Engine
from ..exceptions import ConnectError, ConnectionLostError, NodeError, RouteResolvingError
from ..phases import LoginTimes
from .config.settings import ConnectionSettings
from .connect.connector import ConnectAttempt, Connector, ConnectorEvents, connect_error
from .connect.limiter import JUMP_FLOOR, Outcome
from .connect.tunnelstream import TunnelStream
from .connection import Connection
from .protocol import ClientChannel
from .watchlist import WatchList

logger = logging.getLogger("pyclustershell.connection")

#: Seconds during which a jump host that failed is used only if no other is left.
MEMORY = 60.0

# While a node logs in, its jump host is looked at so many times within the connect timeout. If it
# has sent nothing for three looks, it is asked, and it has until the fifth look to answer.
_LOOKS = 8
_LOOKS_BEFORE_QUESTION = 3
_LOOKS_BEFORE_END = 5

# The reason codes of a refused channel, RFC 4254 5.1.
_ADMINISTRATIVELY_PROHIBITED = 1
_CONNECT_FAILED = 2
_RESOURCE_SHORTAGE = 4

_REASONS = {
    _ADMINISTRATIVELY_PROHIBITED: "administratively prohibited",
    _CONNECT_FAILED: "Connection failed",
    _RESOURCE_SHORTAGE: "resource shortage",
}

JumpHostT = TypeVar("JumpHostT")


# -- decisions: pure --


def next_of(
    alternatives: Sequence[JumpHostT],
    failed: Mapping[JumpHostT, float],
    now: float,
    load: Optional[Callable[[JumpHostT], int]] = None,
) -> JumpHostT:
    """Choose the jump host to try next. Pure.

    1. Of those that have not failed lately, the first one, or the one with the least load.
    2. There is none: the one whose failure is the oldest.

    Args:
        alternatives: the jump hosts that are left, in the user's order.
        failed: the time of a jump host's last failure.
        now: the time.
        load: the number of connections that a jump host carries; None for the user's order.
    """
    good = [one for one in alternatives if one not in failed or now - failed[one] >= MEMORY]
    if not good:
        return min(alternatives, key=lambda one: failed[one])
    return good[0] if load is None else min(good, key=load)


def choose(carried: Iterable[int], limit: Optional[int]) -> Optional[int]:
    """Choose the jump connection for one more channel; None to open another one. Pure.

    1. The first one with fewer channels than the limit.
    2. There is none: open another one.

    Args:
        carried: the number of channels of each jump connection, requested ones included.
        limit: the number that one may carry; None if no limit is known.
    """
    for index, number in enumerate(carried):
        if limit is None or number < limit:
            return index
    return None


class Refusal(Enum):
    """The reason for which a channel was refused."""

    TARGET = "target"  # the jump host cannot connect to the target
    SHORTAGE = "shortage"  # the connection has as many channels as the jump host allows
    POLICY = "policy"  # the jump host does not forward


def judge(code: int, reason: str, others: int, first: bool) -> Refusal:
    """Decide why a jump host has refused a channel. Pure.

    1. The reason is a connection error: the target's fault.
    2. The reason is a shortage or a prohibition, and the connection carries channels that were
       requested before: the connection has reached a limit. (MaxSessions of sshd_config(5) does not
       count these channels; other servers and appliances have limits of their own, and do not
       name them.)
    3. Otherwise the jump host does not forward, or not to this target.

    The channel is requested again on emptier connections. If a connection without channels refuses
    it, this is case 3.

    Args:
        code: the reason code of RFC 4254 5.1.
        reason: the jump host's own words.
        others: the number of channels that the same connection carries.
        first: True if this channel was the first that was requested on the connection.
    """
    if code == _CONNECT_FAILED and reason != "open failed":
        return Refusal.TARGET
    shortage = code in (_ADMINISTRATIVELY_PROHIBITED, _RESOURCE_SHORTAGE, _CONNECT_FAILED)
    return Refusal.SHORTAGE if shortage and others and not first else Refusal.POLICY


def seen_from(node: str, error: NodeError) -> NodeError:
    """Turn a jump host's failure into one of a node behind it; it names jump host and phase."""
    if error.jump_host is not None:  # the failure of an earlier jump host, already named
        cause, sentence, jump_host = error.cause, error.sentence, error.jump_host
    else:
        jump_host = error.node
        cause = f"jump host {jump_host}: {error.cause}"
        sentence = f"jump host {jump_host}: {error.sentence}"
    made = type(error)(node, cause, sentence)
    made.jump_host = jump_host
    return made


# -- jump connections --


class JumpConnection:
    """One connection to a jump host, and the tunnels that it carries. It is the lessee.

    Args:
        jump_host: the jump host.
        engine: the engine.
    """

    def __init__(self, jump_host: JumpHost, engine: Engine) -> None:
        self.settings = jump_host.settings
        self.jump_host = jump_host
        self.connection: Optional[Connection] = None
        #: The tunnels that it carries or will carry, in the order of their requests.
        self.tunnels: dict[TunnelConnector, None] = {}
        #: True once a channel was requested.
        self.was_used = False
        #: True once the jump host is logged in to.
        self.up = False
        self.idle_since = engine.clock()
        self._engine = engine
        # The tunnels with a login under way. Meanwhile the jump host is looked at, so many seconds
        # apart; it has sent nothing between the last looks.
        self._logins: set[TunnelConnector] = set()
        self._interval = 0.0
        self._silent_looks = 0
        self._received = 0

    def __repr__(self) -> str:
        state = "up" if self.up else "connecting"
        return f"<JumpConnection {self.settings.node}: {state}, {len(self.tunnels)} tunnels>"

    # -- calls of the connection --

    def on_dequeued(self, login: Optional[LoginTimes]) -> None:
        """Do nothing: a jump connection has no timeout of its own."""

    def on_leased(self, connection: Connection, reused: bool) -> None:
        """The login has succeeded. Perhaps on a thread that runs a step of the authentication."""
        self._engine.post(self._on_up)

    def on_lost(self, error: NodeError) -> None:
        """The login has failed, or the connection has ended: tell each node behind it."""
        self.jump_host.on_jump_connection_ended(self, error, was_up=self.up)

    def _on_up(self) -> None:
        self.up = True
        self.watch()
        limit = self.jump_host.limit
        for number, tunnel in enumerate(list(self.tunnels)):
            if limit is None or number < limit:
                tunnel.open_channel(self)
            else:
                # The limit became known while this connection was made.
                self.jump_host.remove(self, tunnel)
                self.jump_host.assign(tunnel)

    # -- the peer --

    def watch(self) -> None:
        """Check that the jump host still answers (ServerAliveInterval), while the engine runs.

        Timers do not outlive a run: this is called again when the next run begins.
        """
        if self.up and self.connection is not None:
            self.connection.watch_peer()
        self._interval = 0.0
        for tunnel in list(self._logins):
            self.watch_for_silence(tunnel)

    def watch_for_silence(self, tunnel: TunnelConnector) -> None:
        """While a login goes through a tunnel, notice that the jump host has vanished.

        Silence alone proves nothing, as the node may be slow: the jump host is asked, and given up
        if it does not answer. The nodes then have time left for another one.
        """
        self._logins.add(tunnel)
        interval = min(self.settings.connect_timeout, tunnel.connect_timeout) / _LOOKS
        if not self._interval:
            self._interval = interval
            self._silent_looks, self._received = 0, self.bytes_received
            self._engine.call_later(interval, self._look)
        self._interval = min(self._interval, interval)

    def _look(self) -> None:
        if not self._logins or self.connection is None:
            self._interval = 0.0
            return
        before, self._received = self._received, self.bytes_received
        self._silent_looks = self._silent_looks + 1 if before == self._received else 0
        if self._silent_looks == _LOOKS_BEFORE_QUESTION:
            self.send_keepalive()
        elif self._silent_looks == _LOOKS_BEFORE_END:
            self.jump_host.note_failure()
            self.give_up()
            return
        self._engine.call_later(self._interval, self._look)

    def end_login(self, tunnel: TunnelConnector) -> None:
        """The login through a tunnel has ended. On any thread."""
        self._logins.discard(tunnel)

    @property
    def verdict_in(self) -> float:
        """The seconds until it is known whether a silent jump host has vanished; 0 if it speaks."""
        if not self._silent_looks or not self._interval:
            return 0.0
        return (_LOOKS_BEFORE_END - self._silent_looks + 1) * self._interval

    @property
    def bytes_received(self) -> int:
        """The number of bytes that the jump host has sent."""
        return self.connection.traffic[1] if self.connection is not None else 0

    def on_rerouted(self, error: NodeError) -> None:
        """The way to this jump host goes through another one now: tell each node behind it."""
        for tunnel in list(self.tunnels):
            tunnel.on_rerouted(error)

    def send_keepalive(self) -> None:
        """Send a request that the jump host answers if it is alive."""
        if self.connection is not None and self.up:
            self.connection.transport.send_keepalive()

    def give_up(self) -> None:
        """The jump host does not answer: end the connection, and tell the nodes behind it."""
        if self.connection is not None:
            self.connection.give_up_peer()

    def close(self) -> None:
        """End the connection; the nodes behind it are not told."""
        if self.connection is not None:
            self.connection.close()
            # It refers to this object, too: such a cycle would wait for the collector.
            self.connection = None


class JumpHost:
    """One jump host: its connections, and its limit of channels.

    Args:
        settings: the jump host's settings.
        jump_hosts: all jump hosts of the task.
    """

    def __init__(self, settings: ConnectionSettings, jump_hosts: JumpHosts) -> None:
        self.settings = settings
        self.jump_connections: list[JumpConnection] = []
        #: The number of tunnels that one connection may carry; None if no limit is known.
        self.limit: Optional[int] = None
        #: The tunnels that have chosen this jump host, and no connection of it yet.
        self.waiting: set[TunnelConnector] = set()
        self._jump_hosts = jump_hosts

    @property
    def load(self) -> int:
        """The number of tunnels that lead, or will lead, through this jump host."""
        load = len(self.waiting)
        for jump in self.jump_connections:
            load += len(jump.tunnels)
        return load

    def assign(self, tunnel: TunnelConnector) -> None:
        """Assign a tunnel to a connection; open one if needed. On the engine's thread."""
        with self._jump_hosts.lock:
            chosen = choose(
                (len(jump.tunnels) for jump in self.jump_connections),
                self.limit,
            )
            if chosen is not None:
                jump = self.jump_connections[chosen]
            else:
                jump = self._jump_hosts.new_jump_connection(self)
            tunnel.jump = jump
            jump.tunnels[tunnel] = None
            self.waiting.discard(tunnel)
        if jump.up:
            tunnel.open_channel(jump)
        elif chosen is None and jump.connection is not None:
            jump.connection.dial(jump)

    def remove(self, jump: JumpConnection, tunnel: TunnelConnector) -> None:
        """Remove a tunnel from its connection. On any thread."""
        with self._jump_hosts.lock:
            jump.tunnels.pop(tunnel, None)
            if not jump.tunnels:
                jump.idle_since = self._jump_hosts.clock()

    def cancel(self, jump: JumpConnection, tunnel: TunnelConnector) -> None:
        """Cancel a tunnel that is not open yet. On the engine's thread."""
        with self._jump_hosts.lock:
            self.remove(jump, tunnel)
            if not jump.tunnels and not jump.up:
                self._jump_hosts.drop(jump)

    def note_failure(self) -> None:
        """The jump host could not be used: the others are tried first for a while."""
        self._jump_hosts.note_failure(self.settings)

    def on_jump_connection_ended(
        self, jump: JumpConnection, error: NodeError, was_up: bool
    ) -> None:
        """A connection has ended, but not by our doing. On the engine's thread."""
        with self._jump_hosts.lock:
            if jump in self.jump_connections:
                self.jump_connections.remove(jump)
            tunnels, jump.tunnels = list(jump.tunnels), {}
        # A jump host on the way to this one may have failed, and there may be another way.
        lost_below = isinstance(error, ConnectionLostError) and error.jump_host is not None
        if not was_up and not lost_below:
            self.note_failure()
        for tunnel in tunnels:
            jump.end_login(tunnel)
            tunnel.on_jump_connection_ended(error)


class JumpHosts:
    """All jump hosts of one task.

    Args:
        engine: the task's engine.
        connect: makes a connection (not yet dialed) for settings, with the function to call when
            it has ended.
    """

    def __init__(
        self,
        engine: Engine,
        connect: Callable[[ConnectionSettings, Callable[[Connection], None]], Connection],
    ) -> None:
        # Guards all state here and in the jump connections: tunnels end on any thread.
        self.lock = threading.RLock()
        self.clock = engine.clock
        self._engine = engine
        self._connect = connect
        self._known: dict[ConnectionSettings, JumpHost] = {}
        self._watched = WatchList()
        self._failed: dict[ConnectionSettings, float] = {}

    def __repr__(self) -> str:
        with self.lock:
            found = ", ".join(map(repr, self._all_connections()))
        return f"<JumpHosts: {found or 'none'}>"

    def __len__(self) -> int:
        """Return the number of connections to jump hosts that are open or being opened."""
        with self.lock:
            return len(self._all_connections())

    def carried(self) -> dict[str, list[str]]:
        """Return the names of the nodes that are reached through each jump host that is up."""
        found: dict[str, list[str]] = {}
        with self.lock:
            for jump in self._all_connections():
                if jump.up:
                    nodes = found.setdefault(jump.settings.node, [])
                    nodes.extend(tunnel.node for tunnel in jump.tunnels)
        return found

    def _all_connections(self) -> list[JumpConnection]:
        return [jump for jump_host in self._known.values() for jump in jump_host.jump_connections]

    def of(self, settings: ConnectionSettings) -> JumpHost:
        """Return the jump host with these settings."""
        with self.lock:
            jump_host = self._known.get(settings)
            if jump_host is None:
                jump_host = self._known[settings] = JumpHost(settings, self)
            return jump_host

    def next_of(
        self, alternatives: Sequence[ConnectionSettings], balanced: bool
    ) -> ConnectionSettings:
        """Choose the jump host to try next, see :func:`next_of`.

        Args:
            alternatives: the jump hosts that are left, in the user's order.
            balanced: True to prefer those that carry the fewest tunnels.
        """
        return next_of(alternatives, self._failed, self.clock(), self._load if balanced else None)

    def _load(self, settings: ConnectionSettings) -> int:
        jump_host = self._known.get(settings)
        return 0 if jump_host is None else jump_host.load

    def note_failure(self, settings: ConnectionSettings) -> None:
        """A jump host could not be reached."""
        self._failed[settings] = self.clock()

    def new_jump_connection(self, jump_host: JumpHost) -> JumpConnection:
        """Make another connection to a jump host, not yet dialed. The lock is held."""
        jump = JumpConnection(jump_host, self._engine)

        def on_closed(connection: Connection) -> None:
            with self.lock:
                self._watched.discard(connection)
                if jump in jump_host.jump_connections:
                    jump_host.jump_connections.remove(jump)
                jump.connection = None

        jump.connection = self._connect(jump_host.settings, on_closed)
        self._watched.add(jump.connection)
        jump_host.jump_connections.append(jump)
        return jump

    # -- between two runs, and at the end --

    def on_run_begins(self) -> None:
        """The engine is about to run: it reads, and checks that the jump hosts answer."""
        with self.lock:
            self._watched.on_run_begins()
            for jump in self._all_connections():
                jump.watch()

    def on_run_ends(self) -> None:
        """The engine does not run any more."""
        with self.lock:
            self._watched.on_run_ends()

    def close_expired(self, ttl: float) -> Optional[float]:
        """Close the connections that have carried no tunnel for a time. On any thread.

        Args:
            ttl: that time, in seconds.

        Returns:
            The seconds until the next one expires; None if none is idle.
        """
        now = self.clock()
        least: Optional[float] = None
        with self.lock:
            for jump in self._all_connections():
                if jump.tunnels:
                    continue
                left = jump.idle_since + ttl - now
                if left <= 0:
                    self.drop(jump)
                elif least is None or left < least:
                    least = left
        return least

    def drop(self, jump: JumpConnection) -> None:
        """Close a connection; it does not count as open from now on. The lock is held."""
        if jump in jump.jump_host.jump_connections:
            jump.jump_host.jump_connections.remove(jump)
        jump.close()

    def close(self) -> None:
        """Close every connection. On any thread."""
        with self.lock:
            for jump in self._all_connections():
                self.drop(jump)
            self._known.clear()


# -- the tunnel to a node --


class TunnelConnector(Connector):
    """Opens a tunnel to the server through the first usable one of some jump hosts.

    If a jump host cannot be reached, refuses the login or does not forward, the next one is tried.
    If the node behind a jump host does not answer, that is the node's failure: no other jump host
    is tried.

    Args:
        attempt: the attempt that it is for.
        jump_hosts: all jump hosts of the task.
        events: the functions to call. None of them is called after :meth:`cancel`.
    """

    _floor = JUMP_FLOOR

    def __init__(
        self,
        attempt: ConnectAttempt,
        jump_hosts: JumpHosts,
        events: ConnectorEvents,
    ) -> None:
        super().__init__(attempt)
        self.jump: Optional[JumpConnection] = None
        self._jump_hosts = jump_hosts
        self._events = events
        # The jump hosts that have not been tried, in the user's order.
        self._untried = list(self._settings.proxies)
        self._jump_host: Optional[JumpHost] = None
        self._errors: list[NodeError] = []
        self._requested = False
        self._open = False
        # True if the channel was the first one requested on its jump connection.
        self._first = False
        # True once a jump connection has refused it.
        self._refused = False
        # True once it was assigned again because a jump connection had ended.
        self._reassigned = False

    @property
    def node(self) -> str:
        """The name of the node to which the tunnel leads."""
        return self._settings.node

    def start(self) -> None:
        """Wait for a permit, then for the jump host, then for the channel."""
        self._next_jump_host()

    def _next_jump_host(self) -> None:
        settings = self._jump_hosts.next_of(self._untried, self._settings.balance_proxies)
        self._untried.remove(settings)
        self._jump_host = self._jump_hosts.of(settings)
        self._jump_host.waiting.add(self)
        if self._permit is None:
            # All nodes behind one jump host share a limit: they may be one server under many names,
            # and the jump host itself is a bottleneck.
            self._acquire_permit(settings, self._assign)
        else:
            self._assign()

    def _assign(self) -> None:
        if self._jump_host is not None and not self._cancelled:
            self._timeout.pause()
            self._requested = False
            self._jump_host.assign(self)

    def open_channel(self, jump: JumpConnection) -> None:
        """The jump host is logged in to: request the channel. On the engine's thread."""
        if self._requested or self._cancelled or jump.connection is None:
            return
        self._requested = True
        self._first, jump.was_used = not jump.was_used, True
        self._timeout.run()
        jump.watch_for_silence(self)
        settings = self._settings

        def then(channel: Optional[ClientChannel], refusal: Optional[ChannelException]) -> None:
            # Called on the thread that feeds the jump host's transport.
            self._engine.post(self._on_answer, jump, channel, refusal)

        jump.connection.transport.open_tunnel(settings.hostname, settings.port, then)

    def _on_answer(
        self,
        jump: JumpConnection,
        channel: Optional[ClientChannel],
        refusal: Optional[ChannelException],
    ) -> None:
        connection = jump.connection
        if self._cancelled or self.jump is not jump or connection is None:
            if channel is not None:
                channel.close()
            return
        if channel is None:
            self._on_refused(jump, refusal)
            return
        self._open = True
        stream = TunnelStream(
            channel,
            connection,
            self._engine,
            self._settings.hostname,
            lambda: jump.jump_host.remove(jump, self),
        )
        self._then(stream, None)

    def _on_refused(self, jump: JumpConnection, refusal: Optional[ChannelException]) -> None:
        code, reason = refusal.args if refusal is not None else (0, "")
        # Not every server sends a text.
        reason = reason or _REASONS.get(code, "no reason given")
        jump_host = jump.jump_host
        jump_host.remove(jump, self)
        jump.end_login(self)
        self.jump = None
        verdict = judge(code, reason, len(jump.tunnels), self._first)
        if verdict is Refusal.SHORTAGE:
            # The limit is reached. If several channels are refused at once, the last one gives it.
            self._refused = True
            jump_host.limit = min(len(jump.tunnels), jump_host.limit or len(jump.tunnels))
            self._assign()
            return
        if verdict is Refusal.TARGET:
            name = jump.settings.node
            self._then(None, connect_error(self._settings, reason, through=name))
            return
        if self._refused:
            jump_host.limit = None  # the number of channels was not the reason
        name = jump.settings.node
        cause = f"jump host {name} does not forward: {reason}"
        error = ConnectError(self._settings.node, cause, cause)
        error.jump_host = name
        jump_host.note_failure()
        self._try_another(error)

    def on_jump_connection_ended(self, error: NodeError) -> None:
        """The jump host could not be reached, or its connection has ended."""
        self.jump = None
        if self._cancelled:
            return
        seen = seen_from(self._settings.node, error)
        if self._open:
            self._events.lost(seen)
            return
        if isinstance(error, ConnectionLostError) and not self._reassigned:
            # The login had succeeded before: try again, with the whole time.
            self._reassigned = True
            self._timeout.renew()
            self._assign()
            return
        self._try_another(seen)

    def _try_another(self, error: NodeError) -> None:
        self._errors.append(error)
        if self._untried:
            logger.warning("%s: %s; trying another jump host", self._settings.node, error.cause)
            self.on_rerouted(error)
            self._timeout.renew()
            self._next_jump_host()
            return
        kind = RouteResolvingError if self._settings.balance_proxies else type(error)
        if len(self._errors) > 1 or kind is not type(error):
            # Sorted: nodes that have tried them in another order have the same cause.
            causes = "; ".join(sorted(one.cause for one in self._errors))
            sentence = "; ".join(sorted(one.sentence for one in self._errors))
            last = error
            error = kind(last.node, causes, sentence)
            error.jump_host = last.jump_host
        self._then(None, error)

    def on_rerouted(self, error: NodeError) -> None:
        """A jump host has failed, this one or one before it, and another one is tried."""
        if not self._cancelled:
            self._events.rerouted(seen_from(self._settings.node, error))

    def timed_out(self) -> NodeError:
        """Return the error that it means if the time is over now."""
        through = self._jump_host.settings.node if self._jump_host is not None else ""
        return connect_error(self._settings, "Connection timed out", through)

    @property
    def connect_timeout(self) -> float:
        """The connect timeout of the node, in seconds."""
        return self._settings.connect_timeout

    @property
    def more_time(self) -> float:
        """See :attr:`.connector.Connector.more_time`."""
        return 0.0 if self.jump is None else self.jump.verdict_in

    def end_handshake(self, outcome: Outcome) -> None:
        """Release the permit, and watch the jump host no longer for the sake of this login."""
        super().end_handshake(outcome)
        if self.jump is not None:
            self.jump.end_login(self)

    def _abort(self) -> None:
        jump, self.jump = self.jump, None
        if self._jump_host is not None:
            self._jump_host.waiting.discard(self)
        if jump is not None and not self._open:
            jump.jump_host.cancel(jump, self)
