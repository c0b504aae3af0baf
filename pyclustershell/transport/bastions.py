"""Jump hosts: connections that carry other connections (ProxyJump in ssh_config(5)).

The nodes behind a jump host share one connection to it, a *gateway* here: each has a channel of its
own, which leads to the node. Where a jump host limits the channels of a connection, more gateways
are made. Gateways count neither for the fanout nor for the pool's limit: they run no commands.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Callable, Optional, TypeVar

from paramiko import ChannelException

from ..engine.engine import Engine
from ..exceptions import ConnectError, ConnectionLostError, NodeError
from .config.settings import ConnectionSettings
from .handshakes import JUMP_FLOOR
from .paramiko_hooks import ClientChannel
from .tunnel import TunnelStream
from .ways import Journey, Way, connect_error

if TYPE_CHECKING:
    from .connection import Connection

logger = logging.getLogger("pyclustershell.connection")

#: For so many seconds a jump host that failed is only used where no other is left.
MEMORY = 60.0

# Reasons for which a channel is refused, RFC 4254 5.1.
_ADMINISTRATIVELY_PROHIBITED = 1
_CONNECT_FAILED = 2
_RESOURCE_SHORTAGE = 4

_REASONS = {
    _ADMINISTRATIVELY_PROHIBITED: "administratively prohibited",
    _CONNECT_FAILED: "Connection failed",
    _RESOURCE_SHORTAGE: "resource shortage",
}

BastionT = TypeVar("BastionT")


# -- decisions: pure --


def in_order(
    alternatives: Sequence[BastionT], failed: Mapping[BastionT, float], now: float
) -> list[BastionT]:
    """The order in which to try jump hosts.

    1. Those that have not failed lately, in the user's order.
    2. The others, that which failed longest ago first.

    Args:
        alternatives: the jump hosts, in the user's order.
        failed: when one failed last.
        now: the time.
    """
    good = [one for one in alternatives if one not in failed or now - failed[one] >= MEMORY]
    bad = [one for one in alternatives if one not in good]
    return good + sorted(bad, key=lambda one: failed[one])


def choose(carried: Iterable[int], limit: Optional[int]) -> Optional[int]:
    """Choose the gateway that carries one more channel; None to open another one. Pure.

    1. The first one that carries less than the limit.
    2. None does (or there is none): another one.

    Args:
        carried: how many channels each gateway carries, those asked for included.
        limit: how many one gateway may carry, as far as that is known.
    """
    for index, number in enumerate(carried):
        if limit is None or number < limit:
            return index
    return None


class Refusal(Enum):
    """Whose trouble it is that a channel was refused."""

    TARGET = "target"  # the jump host cannot connect to it
    SHORTAGE = "shortage"  # the jump host has enough channels as it is
    POLICY = "policy"  # the jump host does not do this


def judge(code: int, reason: str, others: int, first: bool) -> Refusal:
    """Judge why a jump host refuses a channel. Pure.

    1. It tells the error of a connection: that is the target's.
    2. It speaks of a shortage or of a prohibition while the connection carries others that were
       asked for before: so many, and no more. (MaxSessions of sshd_config(5) does not count these
       channels; other servers and appliances have limits of their own, and few words for them.)
    3. Else it does not forward, or not there. Whoever is refused goes on to a connection that
       carries less, at last to one where it is the first: that tells.

    Args:
        code: the reason code of RFC 4254 5.1.
        reason: the jump host's own words.
        others: how many channels the same connection carries.
        first: whether this channel was the first that the connection was asked for.
    """
    if code == _CONNECT_FAILED and reason != "open failed":
        return Refusal.TARGET
    shortage = code in (_ADMINISTRATIVELY_PROHIBITED, _RESOURCE_SHORTAGE, _CONNECT_FAILED)
    return Refusal.SHORTAGE if shortage and others and not first else Refusal.POLICY


def seen_from(node: str, error: NodeError) -> NodeError:
    """A jump host's failure as the failure of a node behind it: it names jump host and phase."""
    if error.jump_host is not None:  # of one before this one, which is named already
        cause, sentence, jump_host = error.cause, error.sentence, error.jump_host
    else:
        jump_host = error.node
        cause = f"jump host {jump_host}: {error.cause}"
        sentence = f"jump host {jump_host}: {error.sentence}"
    made = type(error)(node, cause, sentence)
    made.jump_host = jump_host
    return made


# -- gateways --


class Gateway:
    """One connection to a jump host, and the tunnels that it carries. The connection's lessee.

    Args:
        bastion: the jump host.
        engine: the engine.
    """

    def __init__(self, bastion: Bastion, engine: Engine) -> None:
        self.settings = bastion.settings
        self.bastion = bastion
        self.connection: Optional[Connection] = None
        #: The tunnels that it carries or shall carry, in the order in which they came.
        self.tunnels: dict[JumpWay, None] = {}
        #: Whether it has been asked for a tunnel.
        self.was_asked = False
        #: Whether the jump host has been reached.
        self.up = False
        self.idle_since = engine.clock()
        self._engine = engine

    def __repr__(self) -> str:
        state = "up" if self.up else "connecting"
        return f"<Gateway {self.settings.node}: {state}, {len(self.tunnels)} tunnels>"

    # -- what a connection tells its lessee --

    def on_turn(self) -> None:
        """The connection is being dialed."""

    def on_leased(self, connection: Connection, reused: bool) -> None:
        """The jump host is reached. Perhaps on a thread that authenticates aside."""
        self._engine.post(self._on_up)

    def on_lost(self, error: NodeError) -> None:
        """The jump host is not reached, or not any more: each node hears of it."""
        self.bastion.on_gateway_ended(self, error, was_up=self.up)

    def _on_up(self) -> None:
        self.up = True
        self.watch()
        limit = self.bastion.limit
        for number, tunnel in enumerate(list(self.tunnels)):
            if limit is None or number < limit:
                tunnel.ask(self)
            else:
                # The limit has been found out while this connection was made.
                self.bastion.remove(self, tunnel)
                self.bastion.carry(tunnel)

    # -- the peer --

    def watch(self) -> None:
        """Look whether the jump host is still there (ServerAliveInterval), while the engine runs.

        Timers do not outlive a run: this is said again when the next one begins.
        """
        if self.up and self.connection is not None:
            self.connection.watch_peer()

    @property
    def bytes_received(self) -> int:
        """How many bytes the jump host has sent."""
        return self.connection.traffic[1] if self.connection is not None else 0

    def ask_for_a_sign_of_life(self) -> None:
        """Have the jump host answer, if it is still there."""
        if self.connection is not None and self.up:
            self.connection.transport.ask_for_a_sign_of_life()

    def give_up(self) -> None:
        """The jump host does not answer: end the connection, and tell the nodes."""
        if self.connection is not None:
            self.connection.give_up_peer()

    def close(self) -> None:
        """End the connection; nobody is told."""
        if self.connection is not None:
            self.connection.close()


class Bastion:
    """One jump host: its gateways, and what is known of it.

    Args:
        settings: its settings.
        bastions: all of them.
    """

    def __init__(self, settings: ConnectionSettings, bastions: Bastions) -> None:
        self.settings = settings
        self.gateways: list[Gateway] = []
        #: How many tunnels one gateway may carry, as far as that is known.
        self.limit: Optional[int] = None
        self._bastions = bastions

    def carry(self, tunnel: JumpWay) -> None:
        """Find a gateway for a tunnel, or open one. On the engine's thread."""
        with self._bastions.lock:
            chosen = choose((len(gateway.tunnels) for gateway in self.gateways), self.limit)
            if chosen is not None:
                gateway = self.gateways[chosen]
            else:
                gateway = self._bastions.new_gateway(self)
            tunnel.gateway = gateway
            gateway.tunnels[tunnel] = None
        if gateway.up:
            tunnel.ask(gateway)
        elif chosen is None and gateway.connection is not None:
            gateway.connection.dial(gateway)

    def remove(self, gateway: Gateway, tunnel: JumpWay) -> None:
        """A gateway carries a tunnel no more. On any thread."""
        with self._bastions.lock:
            gateway.tunnels.pop(tunnel, None)
            if not gateway.tunnels:
                gateway.idle_since = self._bastions.clock()

    def abandon(self, gateway: Gateway, tunnel: JumpWay) -> None:
        """A tunnel that was still waited for is not wanted any more. On the engine's thread."""
        with self._bastions.lock:
            self.remove(gateway, tunnel)
            if not gateway.tunnels and not gateway.up:
                self._bastions.drop(gateway)

    def note_failure(self) -> None:
        """The jump host could not be used: others come first for a while."""
        self._bastions.note_failure(self.settings)

    def on_gateway_ended(self, gateway: Gateway, error: NodeError, was_up: bool) -> None:
        """A gateway has ended by itself. On the engine's thread."""
        with self._bastions.lock:
            if gateway in self.gateways:
                self.gateways.remove(gateway)
            tunnels, gateway.tunnels = list(gateway.tunnels), {}
        if not was_up:
            self.note_failure()
        for tunnel in tunnels:
            tunnel.on_gateway_ended(error)


class Bastions:
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
        # Guards everything here and in the gateways: tunnels end on any thread.
        self.lock = threading.RLock()
        self.clock = engine.clock
        self._engine = engine
        self._connect = connect
        self._known: dict[ConnectionSettings, Bastion] = {}
        # Connections that are open, and those that were closed until their descriptors are freed.
        self._unfreed: set[Connection] = set()
        self._failed: dict[ConnectionSettings, float] = {}

    def __repr__(self) -> str:
        with self.lock:
            found = ", ".join(map(repr, self._gateways()))
        return f"<Bastions: {found or 'none'}>"

    def __len__(self) -> int:
        """How many connections to jump hosts are open or being opened."""
        with self.lock:
            return len(self._gateways())

    def _gateways(self) -> list[Gateway]:
        return [gateway for bastion in self._known.values() for gateway in bastion.gateways]

    def of(self, settings: ConnectionSettings) -> Bastion:
        """The jump host with these settings."""
        with self.lock:
            bastion = self._known.get(settings)
            if bastion is None:
                bastion = self._known[settings] = Bastion(settings, self)
            return bastion

    def in_order(self, alternatives: Sequence[ConnectionSettings]) -> list[ConnectionSettings]:
        """The order in which to try jump hosts, see :func:`in_order`."""
        return in_order(alternatives, self._failed, self.clock())

    def note_failure(self, settings: ConnectionSettings) -> None:
        """A jump host could not be reached."""
        self._failed[settings] = self.clock()

    def new_gateway(self, bastion: Bastion) -> Gateway:
        """Make another connection to a jump host, not yet dialed. The lock is held."""
        gateway = Gateway(bastion, self._engine)

        def on_closed(connection: Connection) -> None:
            with self.lock:
                self._unfreed.discard(connection)
                if gateway in bastion.gateways:
                    bastion.gateways.remove(gateway)

        gateway.connection = self._connect(bastion.settings, on_closed)
        self._unfreed.add(gateway.connection)
        bastion.gateways.append(gateway)
        return gateway

    # -- while no run is on, and at the end --

    def on_run_begins(self) -> None:
        """The engine is about to run: it reads for jump hosts and watches over them."""
        with self.lock:
            for connection in list(self._unfreed):
                connection.read_now()
                connection.watch()
            for gateway in self._gateways():
                gateway.watch()

    def on_run_ends(self) -> None:
        """The engine does not run any more."""
        with self.lock:
            for connection in list(self._unfreed):
                connection.unwatch()
            self._unfreed &= {
                gateway.connection for gateway in self._gateways() if gateway.connection is not None
            }

    def close_expired(self, ttl: float) -> Optional[float]:
        """Close the connections that have carried nothing for too long. On any thread.

        Returns:
            Seconds until the next one will have, None where none is idle.
        """
        now = self.clock()
        least: Optional[float] = None
        with self.lock:
            for gateway in self._gateways():
                if gateway.tunnels:
                    continue
                left = gateway.idle_since + ttl - now
                if left <= 0:
                    self.drop(gateway)
                elif least is None or left < least:
                    least = left
        return least

    def drop(self, gateway: Gateway) -> None:
        """Close a gateway, and count it as closed from now on. The lock is held."""
        if gateway in gateway.bastion.gateways:
            gateway.bastion.gateways.remove(gateway)
        gateway.close()

    def close(self) -> None:
        """Close every connection. On any thread."""
        with self.lock:
            for gateway in self._gateways():
                self.drop(gateway)


# -- a node's way --


class JumpWay(Way):
    """A tunnel to the server through the first of some jump hosts that can be used.

    Another jump host is tried where one cannot be reached, does not let us in or does not forward.
    That a node behind it does not answer is the node's failure, and not tried by another way.

    Args:
        journey: the attempt that it is for.
        bastions: the jump hosts.
        on_lost: called on the engine's thread when the jump host's connection has ended and
            with it the stream.
    """

    _floor = JUMP_FLOOR

    def __init__(
        self,
        journey: Journey,
        bastions: Bastions,
        on_lost: Callable[[NodeError], None],
    ) -> None:
        super().__init__(journey)
        self.gateway: Optional[Gateway] = None
        self._bastions = bastions
        self._on_lost = on_lost
        self._alternatives = bastions.in_order(self._settings.proxies)
        self._bastion: Optional[Bastion] = None
        self._errors: list[NodeError] = []
        self._asked = False
        self._open = False
        # Whether it was the first that its gateway was asked for, and whether one has refused it.
        self._first = False
        self._refused = False
        self._moved = False

    def start(self) -> None:
        """Wait for our turn, then for the jump host, then for the channel."""
        self._next_bastion()

    def _next_bastion(self) -> None:
        settings = self._alternatives.pop(0)
        self._bastion = self._bastions.of(settings)
        if self._ticket is None:
            # What is behind one jump host shares a limit: many a gateway has one server behind it
            # under many names, and is itself a bottleneck.
            self._take_turn(settings, self._carry)
        else:
            self._carry()

    def _carry(self) -> None:
        if self._bastion is not None and not self._left:
            self._patience.pause()
            self._asked = False
            self._bastion.carry(self)

    def ask(self, gateway: Gateway) -> None:
        """The jump host is reached: ask for the channel. On the engine's thread."""
        if self._asked or self._left or gateway.connection is None:
            return
        self._asked = True
        self._first, gateway.was_asked = not gateway.was_asked, True
        self._patience.run()
        self._watch_for_silence(gateway)
        settings = self._settings

        def then(
            channel: Optional[ClientChannel], refusal: Optional[ChannelException]
        ) -> None:  # where the jump host's transport is fed
            self._engine.post(self._on_answer, gateway, channel, refusal)

        gateway.connection.transport.open_tunnel(settings.hostname, settings.port, then)

    def _watch_for_silence(self, gateway: Gateway) -> None:
        """A jump host that vanished since it was used last is found out, and replaced in time."""
        before = gateway.bytes_received
        patience = min(self._settings.connect_timeout, gateway.settings.connect_timeout)

        def is_silent() -> bool:
            waits = self._asked and not self._open and self.gateway is gateway and not self._left
            return waits and gateway.bytes_received == before

        def wonder() -> None:
            # Silence alone says nothing: it may itself wait for the node.
            if is_silent():
                gateway.ask_for_a_sign_of_life()
                self._engine.call_later(patience / 4, give_up)

        def give_up() -> None:
            if is_silent():
                gateway.give_up()

        self._engine.call_later(patience / 2, wonder)

    def _on_answer(
        self,
        gateway: Gateway,
        channel: Optional[ClientChannel],
        refusal: Optional[ChannelException],
    ) -> None:
        connection = gateway.connection
        if self._left or self.gateway is not gateway or connection is None:
            if channel is not None:
                channel.close()
            return
        if channel is None:
            self._on_refused(gateway, refusal)
            return
        self._open = True
        stream = TunnelStream(
            channel,
            connection,
            self._engine,
            self._settings.hostname,
            lambda: gateway.bastion.remove(gateway, self),
        )
        self._then(stream, None)

    def _on_refused(self, gateway: Gateway, refusal: Optional[ChannelException]) -> None:
        code, reason = refusal.args if refusal is not None else (0, "")
        # Not every server has words for it.
        reason = reason or _REASONS.get(code, "no reason given")
        bastion = gateway.bastion
        bastion.remove(gateway, self)
        self.gateway = None
        verdict = judge(code, reason, len(gateway.tunnels), self._first)
        if verdict is Refusal.SHORTAGE:
            # So many, and no more. Where several are refused at once, the last tells the number.
            self._refused = True
            bastion.limit = min(len(gateway.tunnels), bastion.limit or len(gateway.tunnels))
            self._carry()
            return
        if verdict is Refusal.TARGET:
            name = gateway.settings.node
            self._then(None, connect_error(self._settings, reason, through=name))
            return
        if self._refused:
            bastion.limit = None  # it was not about their number
        name = gateway.settings.node
        cause = f"jump host {name} does not forward: {reason}"
        error = ConnectError(self._settings.node, cause, cause)
        error.jump_host = name
        bastion.note_failure()
        self._try_another(error)

    def on_gateway_ended(self, error: NodeError) -> None:
        """The jump host could not be reached, or its connection has ended."""
        self.gateway = None
        if self._left:
            return
        seen = seen_from(self._settings.node, error)
        if self._open:
            self._on_lost(seen)
            return
        if isinstance(error, ConnectionLostError) and not self._moved:
            # It had been there: it is worth another try, with all the time that there is.
            self._moved = True
            self._patience.renew()
            self._carry()
            return
        self._try_another(seen)

    def _try_another(self, error: NodeError) -> None:
        self._errors.append(error)
        if self._alternatives:
            logger.warning(
                "%s: %s; trying jump host %s",
                self._settings.node,
                error.cause,
                self._alternatives[0].node,
            )
            self._patience.renew()
            self._next_bastion()
            return
        if len(self._errors) > 1:
            causes = "; ".join(one.cause for one in self._errors)
            sentence = "; ".join(one.sentence for one in self._errors)
            last = error
            error = type(last)(last.node, causes, sentence)
            error.jump_host = last.jump_host
        self._then(None, error)

    def timed_out(self) -> NodeError:
        """What it means that time ran out on the way."""
        through = self._bastion.settings.node if self._bastion is not None else ""
        return connect_error(self._settings, "Connection timed out", through)

    def _give_up(self) -> None:
        gateway, self.gateway = self.gateway, None
        if gateway is not None and not self._open:
            gateway.bastion.abandon(gateway, self)
