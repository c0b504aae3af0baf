"""One SSH connection: from a node's settings to an authenticated transport, and its end."""

from __future__ import annotations

import logging
import socket
import threading
import time
from typing import Any, Callable, Optional, Protocol, cast

from paramiko.ssh_exception import IncompatiblePeer

from ..engine.engine import READ, WRITE, Engine, Watch
from ..exceptions import (
    AuthenticationError,
    ConnectError,
    ConnectionLostError,
    HandshakeError,
    NodeError,
    ResolveError,
)
from .auth.authenticator import Authenticator, KeyStore
from .auth.forwarding import forward_agent
from .background import Background
from .config.settings import ConnectionSettings
from .dialer import Address, Dialer, Resolver
from .hostkeys.checker import HostKeyChecker
from .packet_socket import PacketSocket, PacketStream
from .paramiko_hooks import ClientTransport, ExecChannel
from .state import CONNECTION_MOVES, ConnectionEvent, ConnectionState, move

logger = logging.getLogger("pyclustershell.connection")


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
    it is done.

    Args:
        settings: whom to connect to, and how.
        engine: the engine of the pool.
        resolver: looks up names.
        aside: takes the steps that may block.
        keys: the private keys, parsed once for all connections.
        host_keys: says whom to trust.
        on_closed: called once on the engine's thread when the connection has ended.
    """

    def __init__(
        self,
        settings: ConnectionSettings,
        engine: Engine,
        resolver: Resolver,
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
        self._engine = engine
        self._resolver = resolver
        self._aside = aside
        self._host_keys = host_keys
        self._authenticator = Authenticator(settings, keys)
        self._on_closed = on_closed
        # Guards state, lessee and watch: the engine's thread moves them, and others that close.
        self._lock = threading.Lock()
        # Held by who feeds the transport: the engine, or who closes or reaps between two runs.
        self._feeding = threading.RLock()
        self._dialer: Optional[Dialer] = None
        self._stream: Optional[PacketStream] = None
        self._watch: Optional[Watch] = None
        self._transport: Optional[ClientTransport] = None
        self._auth_deadline = 0.0
        self._unanswered = 0
        self._began = 0.0
        self._stalled = 0.0
        self._address = ""

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

    # -- dialing, on the engine's thread --

    def dial(self, lessee: Lessee) -> None:
        """Begin to connect for a lessee, who is told how it ends."""
        settings = self.settings
        with self._lock:
            self._move(ConnectionEvent.DIAL)
            self.lessee = lessee
        self._began = self._engine.clock()
        self._stalled = self._engine.stalled
        self._engine.call_later(settings.connect_timeout, self._on_deadline)
        self._resolver.resolve(
            settings.hostname, settings.port, settings.address_family, self._on_addresses
        )

    def _on_addresses(self, addresses: list[Address], error: Optional[OSError]) -> None:
        # On a resolver's thread, or on the engine's for a numeric address.
        if error is None:
            self._engine.post(self._connect, addresses)
            return
        self._fail_resolve(error.strerror or str(error))

    def _connect(self, addresses: list[Address]) -> None:
        if self.state is ConnectionState.DIALING:
            self._dialer = Dialer(
                self._engine,
                addresses,
                self.settings.bind_address,
                self.settings.tcp_keepalive,
                self._on_dialed,
            )
            self._dialer.start()

    def _on_dialed(self, sock: Optional[socket.socket], error: Optional[OSError]) -> None:
        self._dialer = None
        if sock is None:
            self._fail_connect(
                error.strerror or str(error) if error else "no address to connect to"
            )
            return
        with self._lock:
            if self._move(ConnectionEvent.CONNECTED) is ConnectionState.CLOSED:
                sock.close()
                return
        self._address = str(sock.getpeername()[0])
        self._stream = PacketSocket(sock, lambda: self._engine.post(self._on_blocked))
        self._transport = transport = ClientTransport(self._stream, self._on_transport_ended)
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

    # -- reading and writing --

    def watch(self) -> None:
        """Have the engine read from now on. On the engine's thread."""
        with self._lock:
            stream = self._stream
            if stream is None or self._watch is not None or self.transport.paused:
                return
            if self.state is not ConnectionState.CLOSED:
                events = READ if stream.flush() else READ | WRITE
                self._watch = self._engine.register(stream, events, self._on_ready)

    def unwatch(self) -> None:
        """Have the engine read no more. On the engine's thread, or when it does not run."""
        with self._lock:
            if self._watch is not None:
                self._engine.unregister(self._watch)
                self._watch = None
            if self.state is ConnectionState.CLOSED and self._stream is not None:
                self._stream.free()

    def _on_ready(self, events: int) -> None:
        watch, stream = self._watch, self._stream
        if events & WRITE and watch is not None and stream is not None and stream.flush():
            self._engine.modify(watch, READ)
        if events & READ:
            self._read()

    def _on_blocked(self) -> None:
        """The peer does not take what is written: wait until it does."""
        if self._watch is not None:
            self._engine.modify(self._watch, READ | WRITE)

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
        """Read what has come, without waiting. On any thread, also while the engine is at rest."""
        if self._transport is None:
            return
        with self._feeding:
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

    def _on_deadline(self) -> None:
        """The connect timeout, then the one for authentication."""
        state = self.state
        stalled = self._engine.stalled - self._stalled
        if stalled:
            # A slow handler kept us from reading: that is not the peer's fault.
            self._stalled += stalled
            self._engine.call_later(stalled, self._on_deadline)
            return
        if state is ConnectionState.DIALING and self._dialer is None:
            self._fail_resolve("timed out")
        elif state is ConnectionState.DIALING:
            self._fail_connect("Connection timed out")
        elif state is ConnectionState.HANDSHAKING:
            phase = "key exchange" if self.transport.remote_version else "banner exchange"
            self._fail_handshake(f"Connection timed out during {phase}")
        elif state is ConnectionState.AUTHENTICATING:
            left = self._auth_deadline - self._engine.clock()
            if left > 0:
                self._engine.call_later(left, self._on_deadline)
            else:
                self._fail(
                    AuthenticationError(
                        self.settings.node,
                        "Authentication timed out",
                        f"{self.settings.user}@{self.settings.hostname}: Authentication timed out",
                    )
                )

    def forward_agent(self, channel: ExecChannel) -> None:
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
                cause = "Timeout, server not responding"
                self._fail(
                    ConnectionLostError(
                        self.settings.node,
                        cause,
                        f"Timeout, server {self.settings.hostname} not responding.",
                    )
                )
                return
            self.transport.ask_for_a_sign_of_life()
            self._engine.call_later(self.settings.keepalive, check)

        return check

    # -- handshake and authentication --

    def _on_keyed(self) -> None:
        transport = self.transport
        if not transport.is_active():
            return  # _on_transport_ended follows
        try:
            # Not trusted, under the policy 'off': then no password is given away.
            self._authenticator.server_is_trusted = self._host_keys.check(
                self.settings, *transport.server_key, self._address
            )
        except NodeError as error:
            self._fail(error)
            return
        with self._lock:
            self._auth_deadline = self._engine.clock() + self.settings.auth_timeout
            if self._move(ConnectionEvent.KEYED) is ConnectionState.CLOSED:
                return
        if self._authenticator.may_block:
            self.transport.aside = self._step_aside
            self._step_aside(lambda: self._authenticate(None, partial=False))
        else:
            self._authenticate(None, partial=False)

    def _authenticate(self, allowed: Optional[tuple[str, ...]], partial: bool) -> None:
        """Make the next attempt, where there is one. Returns at once; the answer comes later."""
        attempt = self._authenticator.next(allowed, partial)
        if attempt is None:
            self._fail(self._authenticator.failure(allowed))
            return
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

    def _on_auth_answer(self) -> None:
        transport = self.transport
        if transport.is_authenticated():
            self._on_authenticated()
        elif transport.is_active():
            self._authenticate(transport.auth_answer.allowed, transport.auth_answer.partial)
        # Otherwise the connection has ended: _on_transport_ended follows.

    def _on_authenticated(self) -> None:
        with self._lock:
            self._move(ConnectionEvent.AUTHENTICATED)
            if self.state is ConnectionState.CLOSED:
                return
            self._move(ConnectionEvent.LEASE)
            lessee = self.lessee
        self.transport.aside = None
        if logger.isEnabledFor(logging.INFO):
            logger.info(
                "%s: connected to %s port %s as %s in %.3f s",
                self.settings.node,
                self._address,
                self.settings.port,
                self.settings.user,
                time.monotonic() - self._began,
            )
        if lessee is not None:
            lessee.on_leased(self, reused=False)

    # -- the end --

    def _on_transport_ended(self) -> None:
        """The transport has ended: by the peer or by an error."""
        state = self.state
        if state in (ConnectionState.CLOSED, ConnectionState.READY):
            self._fail(None)
            return
        self._fail(self._diagnose(state))

    def _diagnose(self, state: ConnectionState) -> NodeError:
        """Why a transport ended by itself, in ssh's words."""
        transport = self.transport
        settings = self.settings
        error = transport.get_exception()
        said = transport.disconnect_message
        where = f"{self._address} port {settings.port}"
        if state is ConnectionState.LEASED:
            return ConnectionLostError(
                settings.node,
                "Connection lost" + (f": {said}" if said else ""),
                (said and f"Received disconnect from {where}: {said}")
                or f"Connection to {settings.hostname} closed by remote host.",
            )
        if state is ConnectionState.AUTHENTICATING:
            ended = error is None or isinstance(error, (EOFError, OSError))
            cause = said or ("Connection closed during authentication" if ended else str(error))
            return self._authenticator.cut_off(cause)
        phase = "key exchange" if transport.remote_version else "banner exchange"
        # Before the banner paramiko wraps whatever happened in one sentence.
        origin = error.__context__ if error is not None and error.__context__ else error
        transient = False
        if said:
            cause = said
        elif isinstance(origin, ConnectionResetError):
            cause = f"Connection reset during {phase}"
            transient = True
        elif isinstance(error, IncompatiblePeer):
            cause = f"Unable to negotiate: {error}"
        elif origin is None or isinstance(origin, EOFError):
            cause = f"Connection closed during {phase}"
            transient = True
        elif not transport.remote_version:
            cause = "No SSH banner: the peer does not speak SSH"
        else:
            cause = f"Key exchange failed: {error}"
        failure = self._handshake_error(cause)
        failure.transient = transient
        return failure

    def _handshake_error(self, cause: str) -> HandshakeError:
        where = f"{self._address} port {self.settings.port}"
        return HandshakeError(self.settings.node, cause, f"ssh: {where}: {cause}")

    def _fail_resolve(self, reason: str) -> None:
        host = self.settings.hostname
        self._fail(
            ResolveError(
                self.settings.node,
                f"Could not resolve hostname: {reason}",
                f"ssh: Could not resolve hostname {host}: {reason}",
            )
        )

    def _fail_handshake(self, cause: str) -> None:
        self._fail(self._handshake_error(cause))

    def _fail_connect(self, cause: str) -> None:
        host, port = self.settings.hostname, self.settings.port
        self._fail(
            ConnectError(
                self.settings.node, cause, f"ssh: connect to host {host} port {port}: {cause}"
            )
        )

    def close(self) -> None:
        """End the connection; its lessee, if it has one, is not told. On any thread."""
        with self._lock:
            self.lessee = None
        # Now, not in _after_close: the engine may never run again. One that is being dialed is
        # closed on the engine's thread, or while the engine is at rest.
        if self._dialer is not None:
            self._dialer.cancel()
        self._fail(None)

    def _fail(self, error: Optional[NodeError]) -> None:
        """Close, and tell the lessee why. Only the first call counts. On any thread."""
        with self._lock:
            if self._move(ConnectionEvent.CLOSE) is ConnectionState.CLOSED:
                return
            lessee, self.lessee = self.lessee, None
        if self._transport is not None:
            self._transport.close()
        if self._stream is not None:
            self._stream.close()
            with self._lock:
                if self._watch is None:
                    self._stream.free()
        self._engine.post(self._after_close, lessee, error)

    def _after_close(self, lessee: Optional[Lessee], error: Optional[NodeError]) -> None:
        if self._dialer is not None:
            self._dialer.cancel()
            self._dialer = None
        self.unwatch()
        self._on_closed(self)
        if lessee is not None and error is not None:
            lessee.on_lost(error)
