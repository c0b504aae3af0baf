"""What one task's SSH connections share: the pool, the keys, and what was read from files."""

from __future__ import annotations

from typing import Any, Callable, Optional

from ..engine.engine import Engine
from ..exceptions import NodeError
from .auth.authenticator import KeyStore
from .background import Background
from .bastions import Bastions, JumpWay
from .config.answers import Unanswered
from .config.options import SSHOptions
from .config.resolution import JumpHosts, resolve
from .config.settings import ConnectionSettings
from .config.sshconfig import ConfigCache
from .connection import Connection
from .dialer import Resolver
from .handshakes import HandshakeGate
from .hostkeys.checker import HostKeyChecker
from .pool import TransportPool
from .proxycommand import CommandWay
from .reaper import Reaper
from .ways import Arrived, DirectWay, Journey, Patience, Way

# How many connections may wait for an agent, a prompt or the decryption of a key at once.
_AUTHENTICATION_THREADS = 32

# Commands and names that configurations depend on: so many at once, in a thread each.
_LOOKUPS_AT_ONCE = 8


class SSHContext:
    """The SSH side of a task. Made when the first connection is needed: it imports paramiko.

    Attributes:
        pool: the transports.

    Args:
        engine: the task's engine.
        reaper: sees to what has to happen after a run.
        limit: how many connections may be open at once.
        idle_ttl: seconds after which an idle connection is closed.
    """

    def __init__(self, engine: Engine, reaper: Reaper, limit: int, idle_ttl: float) -> None:
        keys, host_keys = KeyStore(), HostKeyChecker()
        aside = Background("pyclustershell authentication", _AUTHENTICATION_THREADS)
        self._engine = engine
        self._reaper = reaper
        self._resolver = Resolver()
        self._gate = HandshakeGate(engine.post)

        def connect(
            settings: ConnectionSettings, on_closed: Callable[[Connection], None]
        ) -> Connection:
            return Connection(settings, engine, self._find_way, aside, keys, host_keys, on_closed)

        self._bastions = Bastions(engine, connect)
        self.pool = TransportPool(engine, connect, reaper, limit, idle_ttl, self._bastions)
        self._config_cache = ConfigCache()
        self._lookups = Background("pyclustershell lookups", _LOOKUPS_AT_ONCE)

    def _find_way(
        self,
        settings: ConnectionSettings,
        patience: Patience,
        then: Arrived,
        on_lost: Callable[[NodeError], None],
    ) -> Way:
        """The way that settings ask for; see :data:`.connection.FindWay`."""
        journey = Journey(settings, self._engine, self._gate, patience, then)
        if settings.proxy_command is not None:
            return CommandWay(journey, settings.proxy_command, self._reaper)
        if settings.proxies:
            return JumpWay(journey, self._bastions, on_lost)
        return DirectWay(journey, self._resolver)

    def resolve(
        self,
        node: str,
        options: SSHOptions,
        jump_hosts: Optional[JumpHosts] = None,
        wait: bool = True,
    ) -> ConnectionSettings:
        """Bring together what options, configuration files and defaults say for one node.

        Args:
            node: the node's name.
            options: what code and ``ssh_options`` say.
            jump_hosts: makes the settings of jump hosts.
            wait: whether the calling thread may wait for commands and for names that the
                configuration depends on.

        Raises:
            NodeConfigurationError: something is wrong for this node, or not supported.
            Unanswered: something has to be waited for; see :meth:`find_out`.
        """
        return resolve(
            node, options, config_cache=self._config_cache, jump_hosts=jump_hosts, wait=wait
        )

    def find_out(self, question: Unanswered, then: Callable[[], Any]) -> None:
        """Find out what a configuration depends on, and then call ``then()``.

        Args:
            question: what :meth:`resolve` has raised.
            then: called on a thread of the background's.
        """

        def job() -> None:
            question.find_out()
            then()

        self._lookups.submit(job)
