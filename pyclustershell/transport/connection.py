"""One SSH connection: from a node's settings to an authenticated transport, and its end."""

from __future__ import annotations

import logging
import random
import threading
from typing import Any, Callable, Optional, Protocol, cast

from ..engine.engine import Engine
from ..exceptions import AuthenticationError, HandshakeError, HostKeyError, NodeError
from .auth.authenticator import Attempt, Authenticator, KeyStore
from .auth.forwarding import forward_agent
from .background import Background
from .config.settings import ConnectionSettings
from .diagnosis import diagnose, handshake_error, silence
from .handshakes import Outcome
from .hostkeys.checker import HostKeyChecker
from .hostkeys.knownhosts import fingerprint
from .paramiko_hooks import ClientChannel, ClientTransport
from .state import CONNECTION_MOVES, ConnectionEvent, ConnectionState, move
from .stream import PacketStream
from .ways import Arrived, Patience, Way

logger = logging.getLogger("pyclustershell.connection")

# Seconds before a server that turned us away is asked again, about.
_FIRST_RETRY = 0.1
_LONGEST_RETRY = 2.0

#: Finds the way to a server: given its settings, the connection's patience, what to call with what
#: comes of it, and what to call where the way itself has ended.
FindWay = Callable[[ConnectionSettings, Patience, Arrived, Callable[[NodeError], None]], Way]


class Lessee(Protocol):
    """Who uses a connection: one command."""

    settings: ConnectionSettings

    def on_turn(self) -> None:
        """A connection is being dialed for you, or follows at once. On the engine's thread."""
        ...

    def on_leased(self, connection: Connection, reused: bool) -> None:
        """The connection is yours.

        Called on the engine's thread; for a new connection perhaps on one that asks an agent or a
        user for what authenticates it.
        """
        ...

    def on_lost(self, error: NodeError) -> None:
        """The connection could not be made, or it has ended. Called on the engine's thread."""
        ...


class Connection:
    """One paramiko transport and its state.

    It goes on by itself whenever the engine reads something for it: keys exchanged, host key
    checked, authenticated, given to its lessee. Nothing waits for it. What may block (an agent, a
    prompt, a key that has to be decrypted) is done on a thread aside, and the engine reads on when
    it is done. Where a server turns it away it tries again, within its ``connect_timeout``.

    Args:
        settings: whom to connect to, and how.
        engine: the engine of the pool.
        find_way: finds the way to the server, for each attempt.
        aside: takes the steps that may block.
        keys: the private keys, parsed once for all connections.
        host_keys: says whom to trust.
        on_closed: called once on the engine's thread when the connection has ended.
    """

    def __init__(
        self,
        settings: ConnectionSettings,
        engine: Engine,
        find_way: FindWay,
        aside: Background,
        keys: KeyStore,
        host_keys: HostKeyChecker,
        on_closed: Callable[[Connection], Any],
    ) -> None:
        self.settings = settings
        self.state = ConnectionState.NEW
        self.lessee: Optional[Lessee] = None
        #: When it was last given back, on the engine's clock.
        self.idle_since = 0.0
        #: How often the server turned it away and was asked again.
        self.retries = 0
        self._engine = engine
        self._find_way = find_way
        self._aside = aside
        self._keys = keys
        self._host_keys = host_keys
        self._turn_has_come = False
        self._on_closed = on_closed
        # Guards state and lessee, and who watches the stream: the engine's thread moves them, and
        # others that close.
        self._lock = threading.Lock()
        # Held by who feeds the transport: the engine, or who closes or reaps between two runs.
        self._feeding = threading.RLock()
        self._patience = Patience(engine, settings.connect_timeout, self._on_deadline)
        # Of one attempt.
        self._way: Optional[Way] = None
        self._stream: Optional[PacketStream] = None
        self._transport: Optional[ClientTransport] = None
        self._authenticator = self._new_authenticator()
        self._auth_deadline = 0.0
        # Bytes sent and received by the attempts before.
        self._former_traffic = (0, 0)
        self._unanswered = 0
        # When it set out, and when it got how far, on the engine's clock.
        self._began = self._arrived = self._keyed = 0.0
        # How the last attempt to authenticate was made.
        self._method = ""

    def __repr__(self) -> str:
        where = f"{self.settings.user}@{self.settings.hostname} port {self.settings.port}"
        return f"<Connection to {self.settings.node} ({where}): {self.state.value}>"

    @property
    def transport(self) -> ClientTransport:
        """The transport.

        Raises:
            RuntimeError: there is none yet.
        """
        if self._transport is None:
            raise RuntimeError(f"{self!r} has no transport yet")
        return self._transport

    @property
    def traffic(self) -> tuple[int, int]:
        """How many bytes were sent, and how many received."""
        sent, received = self._former_traffic
        stream = self._stream
        if stream is not None:
            sent += stream.bytes_sent
            received += stream.bytes_received
        return sent, received

    def _move(self, event: ConnectionEvent) -> ConnectionState:
        """Take an event; returns the state that it found. The lock is held."""
        before = self.state
        self.state = move(CONNECTION_MOVES, before, event)
        return before

    # -- leases --

    def lease(self, lessee: Lessee) -> bool:
        """Give the idle connection to a lessee; False if it has ended meanwhile."""
        # What the peer did while nobody looked: it may have hung up.
        self.read_now()
        with self._lock:
            if self.state is not ConnectionState.READY:
                return False
            self._move(ConnectionEvent.LEASE)
            self.lessee = lessee
        return True

    def release(self) -> bool:
        """Take it back from its lessee; False if it has ended meanwhile. On any thread."""
        with self._lock:
            self.lessee = None
            self._move(ConnectionEvent.RELEASE)
            self.idle_since = self._engine.clock()
            return self.state is ConnectionState.READY

    # -- on the way, on the engine's thread --

    def dial(self, lessee: Lessee) -> None:
        """Begin to connect for a lessee, who is told how it ends."""
        with self._lock:
            self._move(ConnectionEvent.DIAL)
            self.lessee = lessee
        self._began = self._engine.clock()
        self._set_out()

    def _set_out(self) -> None:
        """Make an attempt."""
        if self.state is ConnectionState.DIALING:
            self._way = self._find_way(
                self.settings, self._patience, self._on_arrived, self._on_way_lost
            )
            self._way.start()

    def _on_arrived(self, stream: Optional[PacketStream], error: Optional[NodeError]) -> None:
        if stream is None:
            self._fail(error)
            return
        self._arrived = self._engine.clock()
        with self._lock:
            self._stream = stream
            closed = self._move(ConnectionEvent.CONNECTED) is ConnectionState.CLOSED
        if closed:
            stream.close()
            stream.free()
            return
        self._authenticator = self._new_authenticator()
        transport = ClientTransport(stream, lambda: self._on_transport_ended(transport, stream))
        self._transport = transport
        transport.name = f"pyclustershell {self.settings.node}"
        if self._apply_algorithms(transport):
            self.watch()
            transport.negotiate(self._on_keyed)

    def _apply_algorithms(self, transport: ClientTransport) -> bool:
        settings = self.settings
        transport.use_compression(settings.compression)
        transport.limit_keys(*settings.rekey_limit)
        # A server shows the key that we like best: it had better be one that can be compared.
        known = self._host_keys.known_algorithms(settings)
        for kind, wanted, first in (
            ("ciphers", settings.ciphers, ()),
            ("macs", settings.macs, ()),
            ("kex", settings.kex, ()),
            ("keys", settings.host_key_algorithms, known),
        ):
            if not transport.offer(kind, wanted, first):
                asked = ", ".join(wanted or ())
                self._fail_handshake(f"none of the {kind} asked for is supported: {asked}")
                return False
        return True

    def _new_authenticator(self) -> Authenticator:
        authenticator = Authenticator(self.settings, self._keys)
        authenticator.wake = lambda: self._engine.post(self._on_turn)
        return authenticator

    def _try_again(self, transport: ClientTransport, error: NodeError) -> None:
        """The server turned us away: ask again after a while, if there is time.

        Many clients that a busy server has turned away should not come back all at once: they wait
        longer each time, and never quite as long.
        """
        way, stream, allowed = self._way, self._stream, self.settings.connect_retries
        if self._transport is not transport or way is None or stream is None:
            return
        delay = min(_LONGEST_RETRY, _FIRST_RETRY * 2**self.retries) * (0.5 + random.random())  # noqa: S311
        if delay >= self._patience.left or (allowed is not None and self.retries >= allowed):
            self._fail(error)
            return
        with self._lock:
            if self.state is not ConnectionState.HANDSHAKING:
                return  # timed out or closed since
            self._move(ConnectionEvent.TURNED_AWAY)
        self.retries += 1
        logger.debug("%s: %s; again in %.2f s", self.settings.node, error.cause, delay)
        way.end_handshake(Outcome.TURNED_AWAY)
        way.leave()
        stream.close()
        stream.unwatch()
        stream.free()
        self._former_traffic = self.traffic
        self._way = self._stream = self._transport = None
        self._engine.call_later(delay, self._set_out)

    # -- reading --

    def watch(self) -> None:
        """Have the engine read from now on. On the engine's thread."""
        with self._lock:
            stream, transport = self._stream, self._transport
            if stream is None or transport is None or stream.watched or transport.paused:
                return
            if self.state is not ConnectionState.CLOSED:
                stream.watch(self._read)

    def unwatch(self) -> None:
        """Have the engine read no more. On the engine's thread, or when it does not run."""
        with self._lock:
            if self._stream is not None:
                self._stream.unwatch()
                if self.state is ConnectionState.CLOSED:
                    self._stream.free()

    def is_drained(self, then: Callable[[], Any]) -> bool:
        """Whether the peer has taken all that was written. On the engine's thread.

        Args:
            then: called there, once, when it has, if it has not: who sends much waits for it.
        """
        stream = self._stream
        return stream is None or stream.is_drained(lambda: self._engine.post(then))

    def _read(self) -> bool:
        """Feed the transport with what has come; False where that is nothing."""
        stream, transport = self._stream, self._transport
        if stream is None or transport is None:
            return False
        with self._feeding:
            try:
                data = stream.read()
            except OSError as error:
                transport.end(error)
                return False
            if data:
                transport.feed(data)
            elif data is not None:
                transport.end(EOFError())
            return bool(data)

    def read_now(self) -> None:
        """Read what has come, without waiting. On any thread, also while the engine is at rest.

        What the peer did not take before is sent, too, as far as it takes it now.
        """
        if self._transport is None or self._stream is None:
            return
        with self._feeding:
            self._stream.fetch()
            self._stream.flush()
            while self.state is not ConnectionState.CLOSED and not self.transport.paused:
                if not self._read():
                    break

    def fileno(self) -> int:
        """The descriptor that is readable when :meth:`read_now` has something to read."""
        if self._stream is None:
            raise RuntimeError(f"{self!r} has no stream yet")
        return self._stream.fileno()

    def _step_aside(self, step: Callable[[], Any]) -> None:
        """Take a step that may block on another thread. Until it is over, nothing is read."""
        transport = self.transport
        transport.paused = True
        self.unwatch()

        def job() -> None:
            transport.guard(step)
            self._engine.post(self._come_back)

        self._aside.submit(job)

    def _come_back(self) -> None:
        if self.state is not ConnectionState.CLOSED:
            with self._feeding:
                self.transport.resume()
            self.watch()
            if self._turn_has_come:
                self._on_turn()

    def _on_deadline(self) -> None:
        """The connect timeout, then the one for authentication."""
        state = self.state
        if state is ConnectionState.DIALING and self._way is not None:
            self._fail(self._way.timed_out())
        elif state is ConnectionState.HANDSHAKING:
            phase = "key exchange" if self.transport.remote_version else "banner exchange"
            self._fail_handshake(f"Connection timed out during {phase}")
        elif state is ConnectionState.AUTHENTICATING:
            left = self._auth_deadline - self._engine.clock()
            if left > 0:
                self._patience.grant(left)
            else:
                self._fail(self._authenticator.cut_off("Authentication timed out"))

    def forward_agent(self, channel: ClientChannel) -> None:
        """Let the command of a channel use the user's agent, before it is asked for."""
        if self._authenticator.server_is_trusted:
            forward_agent(self.transport, channel, self.settings)
        else:
            # As OpenSSH has it: whoever poses as the host could log in elsewhere.
            logger.warning(
                "%s: its host key has changed, so the agent is not forwarded", self.settings.node
            )

    # -- dead peers, on the engine's thread --

    def watch_peer(self) -> None:
        """While a command runs, find out whether the peer is still there (ServerAliveInterval).

        paramiko's own keepalive never gives up on a dead one (paramiko#2463).
        """
        if self.settings.keepalive > 0 and self._stream is not None:
            self._stream.received = False
            self._unanswered = 0
            self._engine.call_later(self.settings.keepalive, self._check_peer(self.lessee))

    def _check_peer(self, lessee: Optional[Lessee]) -> Callable[[], None]:
        def check() -> None:
            stream = self._stream
            if self.state is not ConnectionState.LEASED or self.lessee is not lessee or not stream:
                return
            self._unanswered = 0 if stream.received else self._unanswered + 1
            stream.received = False
            if self._unanswered > self.settings.keepalive_count:
                self.give_up_peer()
                return
            self.transport.ask_for_a_sign_of_life()
            self._engine.call_later(self.settings.keepalive, check)

        return check

    def give_up_peer(self) -> None:
        """The peer does not answer: end the connection, and tell the lessee so."""
        self._fail(silence(self.settings))

    # -- handshake and authentication --

    def _on_keyed(self) -> None:
        transport, stream = self._transport, self._stream
        if transport is None or stream is None or not transport.is_active():
            return  # _on_transport_ended follows
        try:
            # Not trusted, under the policy 'off': then no password is given away.
            self._authenticator.server_is_trusted = self._host_keys.check(
                self.settings, *transport.server_key, stream.address
            )
        except NodeError as error:
            self._fail(error)
            return
        self._keyed = self._engine.clock()
        with self._lock:
            self._auth_deadline = self._keyed + self.settings.auth_timeout
            if self._move(ConnectionEvent.KEYED) is ConnectionState.CLOSED:
                return
        if self._authenticator.may_block:
            self.transport.aside = self._step_aside
            self._step_aside(lambda: self._authenticate(None, partial=False))
        else:
            self._authenticate(None, partial=False)

    def _authenticate(self, allowed: Optional[tuple[str, ...]], partial: bool) -> None:
        """Make the next attempt, where there is one. Returns at once; the answer comes later."""
        self._attempt(self._authenticator.next(allowed, partial))

    def _attempt(self, attempt: Optional[Attempt]) -> None:
        if attempt is None:
            self._fail(self._authenticator.failure(None))
            return
        if attempt.method == "wait":
            return  # _on_turn follows
        self._method = attempt.description
        logger.debug("%s: trying %s", self.settings.node, attempt.description)
        user = self.settings.user
        handler = self.transport.start_auth(self._on_auth_answer)
        if attempt.pkey is not None:
            handler.auth_publickey(user, attempt.pkey, handler.then)
        elif attempt.password is not None:
            handler.auth_password(user, attempt.password, handler.then)
        elif attempt.handler is not None:
            # Any sequence of strings will do for paramiko, whatever its type stubs say.
            handler.auth_interactive(user, cast(Any, attempt.handler), handler.then)
        elif attempt.method == "gssapi-with-mic":
            settings = self.settings
            handler.start_gssapi(user, settings.gssapi_host, settings.gssapi_delegate)
        else:
            handler.auth_none(user, handler.then)

    def _on_turn(self) -> None:
        """Another connection has tried the answer that this one waits for."""
        if self.state is ConnectionState.AUTHENTICATING:
            self._turn_has_come = self.transport.paused
            if not self._turn_has_come:
                self._step_aside(lambda: self._attempt(self._authenticator.again()))

    def _on_auth_answer(self) -> None:
        transport = self.transport
        if transport.is_authenticated():
            self._on_authenticated()
        elif transport.is_active():
            self._authenticate(transport.auth_answer.allowed, transport.auth_answer.partial)
        # Otherwise the connection has ended: _on_transport_ended follows.

    def _on_authenticated(self) -> None:
        self._authenticator.succeed()
        with self._lock:
            self._move(ConnectionEvent.AUTHENTICATED)
            if self.state is ConnectionState.CLOSED:
                return
            self._move(ConnectionEvent.LEASE)
            lessee = self.lessee
        self.transport.aside = None
        if self._way is not None:
            self._way.end_handshake(Outcome.SERVED)
        if logger.isEnabledFor(logging.INFO):
            self._log_connected()
        if lessee is not None:
            lessee.on_leased(self, reused=False)

    def _log_connected(self) -> None:
        """Say whom we are connected to, as whom and how, and how long each step took."""
        now, stream = self._engine.clock(), self._stream
        key_type, blob = self.transport.server_key
        logger.info(
            "%s: connected to %s port %s as %s by %s, host key %s %s, in %.3f s "
            "(TCP %.3f, key exchange %.3f, authentication %.3f)",
            self.settings.node,
            stream.address if stream is not None else self.settings.hostname,
            self.settings.port,
            self.settings.user,
            self._method,
            key_type,
            fingerprint(blob),
            now - self._began,
            self._arrived - self._began,
            self._keyed - self._arrived,
            now - self._keyed,
        )

    # -- the end --

    def _on_transport_ended(self, transport: ClientTransport, stream: PacketStream) -> None:
        """A transport has ended: by the peer or by an error."""
        if self._transport is not transport:
            return  # of an attempt before this one
        state = self.state
        if state in (ConnectionState.CLOSED, ConnectionState.READY):
            self._fail(None)
            return
        if stream.ended_below:
            return  # _on_way_lost follows, and knows why
        error = diagnose(self.settings, state, transport, stream, self._authenticator)
        if isinstance(error, HandshakeError) and error.transient:
            self._engine.post(self._try_again, transport, error)
        else:
            self._fail(error)

    def _on_way_lost(self, error: NodeError) -> None:
        """What carries the connection has ended. On the engine's thread."""
        transport = self._transport
        if self.state is ConnectionState.HANDSHAKING and transport is not None:
            self._try_again(transport, error)
        else:
            self._fail(error)

    def _fail_handshake(self, cause: str) -> None:
        address = self._stream.address if self._stream is not None else self.settings.hostname
        self._fail(handshake_error(self.settings, address, cause))

    def close(self) -> None:
        """End the connection; its lessee, if it has one, is not told. On any thread."""
        with self._lock:
            self.lessee = None
        self._fail(None)

    def _fail(self, error: Optional[NodeError]) -> None:
        """Close, and tell the lessee why. Only the first call counts. On any thread."""
        with self._lock:
            before = self._move(ConnectionEvent.CLOSE)
            if before is ConnectionState.CLOSED:
                return
            lessee, self.lessee = self.lessee, None
        if self._way is not None:
            self._way.end_handshake(_outcome(error))
            if before is ConnectionState.DIALING:
                # Now, not in _after_close: the engine may never run again. One that is on its way
                # is closed on the engine's thread, or while the engine is at rest.
                self._way.leave()
        self._authenticator.end()
        if self._transport is not None:
            self._transport.close()
        if self._stream is not None:
            self._stream.close()
            with self._lock:
                if not self._stream.watched:
                    self._stream.free()
        self._engine.post(self._after_close, lessee, error)

    def _after_close(self, lessee: Optional[Lessee], error: Optional[NodeError]) -> None:
        self._patience.pause()
        if self._way is not None:
            self._way.leave()
        self.unwatch()
        self._on_closed(self)
        if lessee is not None and error is not None:
            lessee.on_lost(error)
        self._let_go()

    def _let_go(self) -> None:
        """Part with what refers back to this connection, or else it waits for the collector."""
        self._former_traffic = self.traffic
        self._authenticator.wake = lambda: None
        self._patience.let_go()
        if self._transport is not None:
            self._transport.let_go()
        self._way = self._stream = self._transport = None


def _outcome(error: Optional[NodeError]) -> Outcome:
    """What a failure says about how many handshakes the server bears."""
    if isinstance(error, HandshakeError) and error.transient:
        return Outcome.TURNED_AWAY
    served = isinstance(error, (AuthenticationError, HostKeyError)) and error.jump_host is None
    return Outcome.SERVED if served else Outcome.UNKNOWN
