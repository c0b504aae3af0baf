"""One attempt to log in on a server: connect, exchange keys, check the host key, authenticate."""

from __future__ import annotations

import functools
import logging
from typing import Any, Callable, NamedTuple, Optional, Protocol

from ..engine.engine import Engine
from ..engine.threadpool import ThreadPool
from ..exceptions import AuthenticationError, HandshakeError, HostKeyError, NodeError
from ..phases import AUTHENTICATING, KEY_EXCHANGE, LoginTimes
from .auth.authenticator import ASIDE, Attempt, Authenticator, KeyStore
from .config.memo import LookupPending
from .config.settings import ConnectionSettings
from .connect.connector import Connector, ConnectorEvents
from .connect.connecttimeout import PausableTimeout
from .connect.limiter import Outcome
from .errors import authentication_ended, handshake_ended, handshake_error
from .hostkeys.checker import HostKeyChecker
from .hostkeys.knownhosts import fingerprint
from .link import Link
from .protocol import ClientTransport
from .protocol.bytestream import ByteStream

logger = logging.getLogger("pyclustershell.connection")

#: Makes the connector that a server's settings ask for. Its arguments: the settings, the
#: connection's timeout and stopwatch, the function to call with the stream, and the function to
#: call if later the thing that carries the stream (a jump host's connection) ends.
MakeConnector = Callable[
    [ConnectionSettings, PausableTimeout, LoginTimes, ConnectorEvents], Connector
]


class LoginServices(NamedTuple):
    """The objects that all logins of a task share.

    Attributes:
        engine: the task's engine.
        make_connector: makes the connector for each attempt.
        threads: runs the steps that may block.
        keys: the private keys, each parsed once.
        host_keys: says which host keys are trusted.
    """

    engine: Engine
    make_connector: MakeConnector
    threads: ThreadPool
    keys: KeyStore
    host_keys: HostKeyChecker


class LoginOwner(Protocol):
    """The connection that a login attempt belongs to.

    A login calls :meth:`on_connected` and :meth:`on_keyed` as it proceeds, then one of
    :meth:`on_ready`, :meth:`on_turned_away` and :meth:`fail`. After :meth:`Login.cancel` it calls
    none of them.
    """

    def on_connected(self, link: Link) -> bool:
        """The server is reached; the link is the owner's. Returns False to stop the login.

        On the engine's thread.
        """
        ...

    def on_keyed(self) -> bool:
        """Keys are exchanged and the host key is accepted. Returns False to stop the login.

        On the engine's thread.
        """
        ...

    def on_ready(self, link: Link, server_is_trusted: bool) -> None:
        """The server has accepted the user.

        On the engine's thread, or on a thread that runs a step of the authentication.

        Args:
            link: carries commands from now on.
            server_is_trusted: False if the host key has changed and the user allows that.
        """
        ...

    def on_turned_away(self, error: NodeError) -> None:
        """The handshake was cut off; another attempt may succeed. On the engine's thread.

        It is also called after the login if a jump host's connection ends.
        """
        ...

    def on_rerouted(self, error: NodeError) -> None:
        """A jump host has failed, and the login goes on through another one.

        On the engine's thread.
        """
        ...

    def fail(self, error: NodeError) -> None:
        """The login has failed.

        On the engine's thread, or on a thread that runs a step of the authentication.
        """
        ...


class Login:
    """One attempt to log in. Never waits: the engine reads, and each message leads to the next.

    A step that may block (an agent, a prompt, a key to decrypt) runs on another thread. The engine
    reads again when the step is done.

    Args:
        settings: the server, the user and the credentials.
        services: the objects that all logins share.
        timeout: the time left for this attempt; then it limits the authentication.
        owner: the connection; it gets the outcome.
        began: the time of the first attempt, on the engine's clock.
        times: the stopwatch of all attempts.
    """

    def __init__(
        self,
        settings: ConnectionSettings,
        services: LoginServices,
        timeout: PausableTimeout,
        owner: LoginOwner,
        began: float,
        times: LoginTimes,
    ) -> None:
        self._settings = settings
        self._engine, _, self._threads, _, self._host_keys = services
        self._timeout = timeout
        self._times = times
        self._owner = owner
        self._authenticator = Authenticator(settings, services.keys)
        self._authenticator.wake = lambda: self._engine.post(self._on_answer_decided)
        events = ConnectorEvents(self._on_connected, owner.on_turned_away, owner.on_rerouted)
        self._connector: Optional[Connector] = services.make_connector(
            settings, timeout, times, events
        )
        self._link: Optional[Link] = None
        # True after success and after cancel(): nothing more is reported.
        self._over = False
        # The host key algorithms of the keys that are known for this host.
        self._known_algorithms: tuple[str, ...] = ()
        self._host_key_error: Optional[NodeError] = None
        self._authenticating = False
        # True if the connector has asked for more time: once only.
        self._had_more_time = False
        self._auth_deadline = 0.0
        # True if the answer was decided while a step was running.
        self._answer_decided = False
        # For the log: the times of the steps, and the last method tried.
        self._began = self._connected = self._keyed = began
        self._method = ""
        timeout.on_exhausted = self._on_deadline

    def start(self) -> None:
        """Begin to connect. On the engine's thread."""
        if self._connector is not None:
            self._connector.start()

    def cancel(self, outcome: Outcome) -> None:
        """End the attempt; the owner gets no more calls. The owner closes the link.

        Before the server is reached: on the engine's thread, or while the engine is at rest. After
        that on any thread.

        Args:
            outcome: the end of the handshake, for the handshake limiter.
        """
        self._over = True
        connector, self._connector = self._connector, None
        if connector is not None:
            connector.end_handshake(outcome)
            connector.cancel()
        self._authenticator.ended()
        self._authenticator.wake = lambda: None

    def _fail(self, error: NodeError) -> None:
        if not self._over:
            self._owner.fail(error)

    def _fail_handshake(self, cause: str) -> None:
        link = self._link
        address = link.stream.address if link is not None else self._settings.hostname
        self._fail(handshake_error(self._settings, address, cause))

    def _on_deadline(self) -> None:
        """The connect timeout has passed, or the timeout for authentication."""
        link, connector = self._link, self._connector
        if connector is None:
            return  # the login is over
        if connector.more_time and not self._had_more_time:
            self._had_more_time = True
            self._timeout.grant(connector.more_time)
            return
        if link is None:
            self._fail(connector.timed_out())
        elif not self._authenticating:
            phase = "key exchange" if link.transport.remote_version else "banner exchange"
            self._fail_handshake(f"Connection timed out during {phase}")
        else:
            left = self._auth_deadline - self._engine.clock()
            if left > 0:
                self._timeout.grant(left)
            else:
                self._fail(self._authenticator.disconnection("Authentication timed out"))

    # -- connecting and the key exchange, on the engine's thread --

    def _on_connected(self, stream: Optional[ByteStream], error: Optional[NodeError]) -> None:
        if stream is None:
            if error is not None:
                self._fail(error)
            return
        self._connected = self._engine.clock()
        self._times.enter(KEY_EXCHANGE, self._connected)
        link = Link(stream, self._engine, self._host_keys.threads, self._on_transport_ended)
        if self._over or not self._owner.on_connected(link):
            link.close()
            link.drop_references()
            return
        self._link = link
        transport = link.transport
        transport.name = f"pyclustershell {self._settings.node}"
        self._here_or_aside(link, self._look_up_algorithms, lambda: self._negotiate(link))

    def _here_or_aside(
        self, link: Link, step: Callable[[bool], Any], then: Callable[[], Any]
    ) -> None:
        """Call ``step(False)``, or ``step(True)`` aside if it has to wait, and then ``then()``.

        On the engine's thread, except for ``step(True)``.
        """
        try:
            step(False)
        except LookupPending:
            link.offload(lambda: step(True), then)
        else:
            then()

    def _look_up_algorithms(self, wait: bool) -> None:
        self._known_algorithms = self._host_keys.known_algorithms(self._settings, wait)

    def _negotiate(self, link: Link) -> None:
        """Exchange keys."""
        if not self._over and self._apply_algorithms(link.transport):
            link.watch()
            link.transport.negotiate(lambda: self._on_keys_exchanged(link))

    def _apply_algorithms(self, transport: ClientTransport) -> bool:
        settings = self._settings
        transport.use_compression(settings.compression)
        transport.limit_keys(*settings.rekey_limit)
        for kind, wanted, first in (
            ("ciphers", settings.ciphers, ()),
            ("macs", settings.macs, ()),
            ("kex", settings.kex, ()),
            # A server shows the first host key of our list that it has: ask first for the types
            # that can be compared with known_hosts.
            ("keys", settings.host_key_algorithms, self._known_algorithms),
        ):
            if not transport.offer(kind, wanted, first):
                self._fail_handshake(transport.explain_empty(kind))
                return False
        transport.signature_wish = settings.pubkey_algorithms
        self._authenticator.can_sign = lambda key: transport.signature_algorithm(key) is not None
        return True

    def _on_keys_exchanged(self, link: Link) -> None:
        transport = link.transport
        if not transport.is_active():
            return  # _on_transport_ended follows, or the attempt was cancelled
        self._here_or_aside(
            link,
            lambda wait: self._check_host_key(link, wait),
            lambda: self._on_host_key_checked(link),
        )

    def _check_host_key(self, link: Link, wait: bool) -> None:
        """Check the host key, and keep the outcome. On the engine's thread or another one."""
        try:
            # False under the policy 'off' if the host key has changed: no password is sent then.
            self._authenticator.server_is_trusted = self._host_keys.check(
                self._settings, *link.transport.server_key, link.stream.address, wait
            )
        except NodeError as error:
            self._host_key_error = error

    def _on_host_key_checked(self, link: Link) -> None:
        """Authenticate, or fail. On the engine's thread."""
        transport = link.transport
        if self._over or not transport.is_active():
            return  # _on_transport_ended follows, or the attempt was cancelled
        if self._host_key_error is not None:
            self._fail(self._host_key_error)
            return
        transport.check_later_key = functools.partial(
            self._host_keys.check_later, self._settings, transport.server_key[1]
        )
        self._keyed = self._engine.clock()
        self._times.enter(AUTHENTICATING, self._keyed)
        self._auth_deadline = self._keyed + self._settings.auth_timeout
        self._authenticating = True
        if not self._owner.on_keyed():
            return
        if self._authenticator.may_block:
            transport.offload = self._offload
        # The first attempt asks by 'none', and does not block.
        self._try(self._authenticator.next(None, partial=False))

    def _on_transport_ended(self) -> None:
        """The peer or an error has ended the transport before the login was complete."""
        link = self._link
        if link is None:
            return
        transport, stream = link.transport, link.stream
        if stream.ended_below:
            return  # on_turned_away follows, from the jump host's connection, with the reason
        if self._authenticating:
            self._fail(authentication_ended(transport, stream, self._authenticator))
            return
        error = handshake_ended(self._settings, transport, stream)
        if error.transient:
            # Later: the transport is being fed at this moment.
            self._engine.post(self._turn_away, error)
        else:
            self._fail(error)

    def _turn_away(self, error: HandshakeError) -> None:
        if not self._over:
            self._owner.on_turned_away(error)

    # -- authentication: on the engine's thread, or on a thread that runs a step --

    def _offload(self, step: Callable[[], Any]) -> None:
        if self._link is not None:
            self._link.offload(step, self._after_step, self._threads)

    def _after_step(self) -> None:
        """A step has run on another thread, and the engine reads again."""
        if self._answer_decided:
            self._on_answer_decided()

    def _on_answer_decided(self) -> None:
        """Another connection has tried the answer that this one waits for."""
        link = self._link
        if self._over or link is None:
            return
        self._answer_decided = link.transport.paused
        if not self._answer_decided:
            self._offload(lambda: self._try(self._authenticator.next_after_wait()))

    def _try(self, attempt: Optional[Attempt]) -> None:
        """Make an attempt to authenticate. Returns at once; the answer comes later."""
        link = self._link
        if link is None or self._over:
            return
        if attempt is None:
            self._fail(self._authenticator.failure())
            return
        if attempt.method == "wait":
            return  # _on_answer_decided follows
        if attempt is ASIDE:
            self._offload(lambda: self._try(self._authenticator.next_after_wait()))
            return
        self._method = attempt.description
        logger.debug("%s: trying %s", self._settings.node, attempt.description)
        user = self._settings.user
        handler = link.transport.start_auth(self._on_auth_answer)
        if attempt.pkey is not None:
            handler.start_publickey(user, attempt.pkey)
        elif attempt.password is not None:
            handler.start_password(user, attempt.password)
        elif attempt.handler is not None:
            handler.start_interactive(user, attempt.handler)
        elif attempt.method == "gssapi-with-mic":
            settings = self._settings
            handler.start_gssapi(user, settings.gssapi_host, settings.gssapi_delegate)
        else:
            handler.start_none(user)

    def _on_auth_answer(self) -> None:
        link = self._link
        if link is None or self._over:
            return
        transport = link.transport
        if transport.is_authenticated():
            self._succeed(link)
        elif transport.is_active():
            answer = transport.auth_answer
            if answer.change_request is not None:
                self._authenticator.note_change_request(answer.change_request)
            # With an agent or questions, this is another thread anyhow.
            wait = transport.offload is not None
            self._try(self._authenticator.next(answer.allowed, answer.partial, wait))
        # Otherwise the transport has ended: _on_transport_ended follows.

    def _succeed(self, link: Link) -> None:
        self._over = True
        connector, self._connector = self._connector, None
        if connector is not None:
            connector.end_handshake(Outcome.SERVED)
        self._authenticator.succeeded()
        self._authenticator.wake = lambda: None
        link.transport.offload = None
        if logger.isEnabledFor(logging.INFO):
            self._log_success(link)
        self._owner.on_ready(link, self._authenticator.server_is_trusted)

    def _log_success(self, link: Link) -> None:
        """Log the server, the user, the method, and the time of each step."""
        now = self._engine.clock()
        key_type, blob = link.transport.server_key
        logger.info(
            "%s: connected to %s port %s as %s by %s, host key %s %s, in %.3f s "
            "(TCP %.3f, key exchange %.3f, authentication %.3f)",
            self._settings.node,
            link.stream.address,
            self._settings.port,
            self._settings.user,
            self._method,
            key_type,
            fingerprint(blob),
            now - self._began,
            self._connected - self._began,
            self._keyed - self._connected,
            now - self._keyed,
        )


def outcome_of(error: Optional[NodeError]) -> Outcome:
    """Return the outcome that a failure is for the handshake limiter.

    Args:
        error: the failure; None if we ended the attempt ourselves.
    """
    if isinstance(error, HandshakeError) and error.transient:
        return Outcome.TURNED_AWAY
    served = isinstance(error, (AuthenticationError, HostKeyError)) and error.jump_host is None
    return Outcome.SERVED if served else Outcome.UNKNOWN
