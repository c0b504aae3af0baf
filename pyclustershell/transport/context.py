"""What one task's SSH connections share: the pool, the keys, and what was read from files."""

from __future__ import annotations

from typing import Callable

from ..engine.engine import Engine
from .auth.authenticator import KeyStore
from .background import Background
from .config.options import SSHOptions, resolve
from .config.settings import ConnectionSettings
from .config.sshconfig import ConfigCache
from .connection import Connection
from .dialer import Resolver
from .hostkeys.checker import HostKeyChecker
from .pool import TransportPool
from .reaper import Reaper

# How many connections may wait for an agent, a prompt or the decryption of a key at once.
_AUTHENTICATION_THREADS = 32


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
        resolver, keys, host_keys = Resolver(), KeyStore(), HostKeyChecker()
        aside = Background("pyclustershell authentication", _AUTHENTICATION_THREADS)

        def connect(
            settings: ConnectionSettings, on_closed: Callable[[Connection], None]
        ) -> Connection:
            return Connection(settings, engine, resolver, aside, keys, host_keys, on_closed)

        self.pool = TransportPool(engine, connect, reaper, limit, idle_ttl)
        self._config_cache = ConfigCache()

    def resolve(self, node: str, options: SSHOptions) -> ConnectionSettings:
        """Bring together what options, configuration files and defaults say for one node.

        Args:
            node: the node's name.
            options: what code and ``ssh_options`` say.

        Raises:
            NodeConfigurationError: something is wrong for this node, or not supported.
        """
        return resolve(node, options, config_cache=self._config_cache)
