"""The SSH side of one task: makes the objects that its connections share, and connects them."""

from __future__ import annotations

import weakref
from typing import Callable

from ..engine.delayed import DelayedCalls
from ..engine.engine import Engine
from ..engine.threadpool import ThreadPool
from ..phases import LoginTimes
from .auth.authenticator import KeyStore
from .config.settings import ConnectionSettings
from .connect.connector import ConnectAttempt, Connector, ConnectorEvents, TCPConnector
from .connect.connecttimeout import PausableTimeout
from .connect.happyeyeballs import Resolver
from .connect.limiter import HandshakeLimiter
from .connect.proxycommand import ProxyCommandConnector
from .connection import Connection
from .hostkeys.checker import HostKeyChecker
from .jumphosts import JumpHosts, TunnelConnector
from .login import LoginServices
from .pool import TransportPool

# The number of connections that may wait for an agent, a prompt or the decryption of a key at once.
_AUTHENTICATION_THREADS = 32


class ConnectionManager:
    """The SSH side of a task. Created when the first connection is needed: it imports paramiko.

    Args:
        engine: the task's engine.
        delayed_calls: makes calls after a run.
        limit: the number of connections that may be open at once.
        idle_ttl: seconds after which an idle connection is closed.

    Attributes:
        pool: the pool of transports.
    """

    def __init__(
        self, engine: Engine, delayed_calls: DelayedCalls, limit: int, idle_ttl: float
    ) -> None:
        connectors = _Connectors(engine, delayed_calls)
        services = LoginServices(
            engine=engine,
            make_connector=connectors.make,
            threads=ThreadPool("pyclustershell authentication", _AUTHENTICATION_THREADS),
            keys=KeyStore(),
            host_keys=HostKeyChecker(),
        )

        def connect(
            settings: ConnectionSettings, on_closed: Callable[[Connection], None]
        ) -> Connection:
            return Connection(settings, services, on_closed)

        jump_hosts = JumpHosts(engine, connect)
        connectors.jump_hosts = weakref.ref(jump_hosts)
        self.pool = TransportPool(engine, connect, delayed_calls, limit, idle_ttl, jump_hosts)


class _Connectors:
    """Makes the connectors of a task's connections.

    Attributes:
        jump_hosts: the jump hosts of the pool: they make their connections with these connectors. A
            weak reference, so that the objects of a closed pool are freed at once.
    """

    jump_hosts: weakref.ref[JumpHosts]

    def __init__(self, engine: Engine, delayed_calls: DelayedCalls) -> None:
        self._engine = engine
        self._delayed_calls = delayed_calls
        self._resolver = Resolver()
        self._limiter = HandshakeLimiter(engine.post)

    def make(
        self,
        settings: ConnectionSettings,
        timeout: PausableTimeout,
        times: LoginTimes,
        events: ConnectorEvents,
    ) -> Connector:
        """Make the connector that settings ask for; see :data:`.login.MakeConnector`."""
        attempt = ConnectAttempt(
            settings, self._engine, self._limiter, timeout, times, events.connected
        )
        if settings.proxy_command is not None:
            return ProxyCommandConnector(attempt, settings.proxy_command, self._delayed_calls)
        if settings.proxies:
            jump_hosts = self.jump_hosts()
            if jump_hosts is None:
                raise RuntimeError("the pool of this connection is closed")
            return TunnelConnector(attempt, jump_hosts, events)
        return TCPConnector(attempt, self._resolver)
