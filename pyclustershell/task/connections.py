"""The connections of a task: layers of SSH options, settings of nodes, and the pool."""

from __future__ import annotations

import atexit
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Optional, Union

from ..engine.delayed import DelayedCalls
from ..engine.engine import Engine
from ..engine.forking import abandon_in_child
from ..engine.threadpool import ThreadPool
from ..nodeset import NodeSet
from ..ssh.config.filestamp import forget_stamps
from ..ssh.stats import PoolStats
from .settings import TaskSettings

if TYPE_CHECKING:
    from ..nodeset.topology import Route
    from ..ssh.config.configline import Setting
    from ..ssh.config.options import SSHOptions
    from ..ssh.config.resolution import JumpHostResolver
    from ..ssh.config.settings import ConnectionSettings
    from ..ssh.config.sshconfig import ConfigCache
    from ..ssh.pool import TransportPool

    # The name of a node, the options of its worker, True for a copy, and the gateways.
    _Key = tuple[str, Optional[SSHOptions], bool, Optional[Route]]

# The largest number of nodes whose settings are resolved at once on other threads.
_LOOKUPS_AT_ONCE = 8


class TaskConnections:
    """The SSH side of a task.

    It creates nothing before the first connection: a program that runs local commands only does
    not import paramiko. All methods are for the task's thread.

    Args:
        engine: the task's engine.
        delayed_calls: runs the pool's work between two runs.
        settings: the task's settings. They are read at each use.
    """

    def __init__(self, engine: Engine, delayed_calls: DelayedCalls, settings: TaskSettings) -> None:
        self._engine = engine
        self._delayed_calls = delayed_calls
        self._settings = settings
        self._pool: Optional[TransportPool] = None
        # The counters of the pools that were closed.
        self._closed_pool_stats = PoolStats()
        # The reasons by node, of the pools that were closed.
        self._left_running: dict[str, str] = {}
        self._layers: list[tuple[Optional[NodeSet], SSHOptions]] = []
        # One entry for commands and one for copies: scp_user and scp_options are for copies only.
        self._common: dict[bool, SSHOptions] = {}
        self._config_cache: Optional[ConfigCache] = None
        self._jump_host_resolver: Optional[JumpHostResolver] = None
        self._resolved: dict[_Key, ConnectionSettings] = {}
        # What other threads have resolved. Threads that began with older options, or in an earlier
        # run, fill a dict that is no longer used.
        self._outcomes: dict[_Key, Union[ConnectionSettings, Exception]] = {}
        self._lookups = ThreadPool("pyclustershell lookups", _LOOKUPS_AT_ONCE)
        self._at_exit: Callable[[], Any] = self._close_at_exit
        abandon_in_child(self)

    def __repr__(self) -> str:
        return "no connections" if self._pool is None else repr(self._pool)

    # -- settings --

    def configure(self, nodes: Any, options: dict[str, Any]) -> None:
        """Add a layer of options: see ``Task.configure_ssh()``."""
        from ..ssh.config.options import SSHOptions

        layer = SSHOptions(**options)
        layer.check_functions()
        self._layers.append((None if nodes is None else NodeSet(nodes), layer))
        self.forget_settings()

    def settings_of(
        self,
        node: str,
        ssh: Optional[SSHOptions],
        wait: bool = True,
        copying: bool = False,
        route: Optional[Route] = None,
    ) -> ConnectionSettings:
        """Resolve the settings of a node's connection.

        Args:
            node: the node's name.
            ssh: options of one worker; they win over all others.
            wait: True to block for disks, for the user database, and while a command (``Match
                exec``) or a name is looked up.
            copying: True for a copy: ``scp_user`` and ``scp_options`` apply.
            route: the gateways that lead to the node; None for none.

        Raises:
            NodeConfigurationError: options or configuration files are wrong for this node.
            LookupPending: ``wait`` is False and one of these is needed: call :meth:`look_up`.
        """
        key = self._key(node, ssh, copying, route)
        settings = self._resolved.get(key)
        if settings is None:
            outcome = self._outcomes.pop(key, None)
            if isinstance(outcome, Exception):
                raise outcome
            settings = outcome or self._resolver(key)(wait=wait)
            self._resolved[key] = settings
        return settings

    def look_up(
        self,
        node: str,
        ssh: Optional[SSHOptions],
        copying: bool,
        route: Optional[Route],
        then: Callable[[], Any],
    ) -> None:
        """Resolve settings on another thread, then call ``then()`` on the task's thread.

        Then :meth:`settings_of` with the same arguments does not wait.
        """
        key, outcomes = self._key(node, ssh, copying, route), self._outcomes
        resolve = self._resolver(key)

        def job() -> None:
            try:
                outcomes[key] = resolve(wait=True)
            except Exception as error:
                # settings_of() raises it.
                outcomes[key] = error
            self._engine.post(then)

        self._lookups.submit(job)

    def _key(
        self, node: str, ssh: Optional[SSHOptions], copying: bool, route: Optional[Route]
    ) -> _Key:
        info = self._settings.info
        # If nothing is set for copies, they share connections with commands.
        own = bool(copying and (info.get("scp_user") or info.get("scp_options")))
        return node, ssh, own, route

    def _resolver(self, key: _Key) -> Callable[..., ConnectionSettings]:
        """Return a function that resolves settings, with the argument ``wait``, on any thread."""
        # Not at the top: configuration files concern SSH only.
        from ..ssh.config.resolution import JumpHostResolver, resolve
        from ..ssh.config.sshconfig import ConfigCache

        if self._config_cache is None:
            self._config_cache = ConfigCache()
        if self._jump_host_resolver is None:
            # A gateway is a node, also of copies: it is reached as in a command without options.
            self._jump_host_resolver = JumpHostResolver(
                self._options_of_jump_host, lambda name: self._options_of(name, None, False)
            )
        return partial(
            resolve,
            key[0],
            self._options_of(*key[:3]),
            route=key[3],
            config_cache=self._config_cache,
            jump_hosts=self._jump_host_resolver,
        )

    def sources_of(self, node: str) -> list[Setting]:
        """The settings that decide on a node's connection: see ``Task.connection_sources()``."""
        from ..ssh.config.resolution import sources_of
        from ..ssh.config.sshconfig import ConfigCache

        options = self._options_of(node, None, False)
        return sources_of(node, options, config_cache=self._config_cache or ConfigCache())

    def forget_settings(self) -> None:
        """Drop the cached settings of nodes. To be called when an option or info key changes."""
        self._resolved.clear()
        self._outcomes = {}
        self._common.clear()
        self._jump_host_resolver = None

    def _options_of(self, node: str, ssh: Optional[SSHOptions], copying: bool) -> SSHOptions:
        """Merge the options of a node: info keys, ``ssh_options``, configure_ssh(), one call."""
        # These are the same for every node, so they are merged once, not once per node.
        options = self._common.get(copying)
        if options is None:
            options = self._common[copying] = self._common_options(copying)
        if self._layers:
            # Not at the top: a program that runs local commands only does not need it.
            from ..ssh.config.destination import host_of

            host = host_of(node)
            for nodes, layer in self._layers:
                if nodes is not None and (node in nodes or (host != node and host in nodes)):
                    options = layer.over(options)
        return options if ssh is None else ssh.over(options)

    def _options_of_jump_host(self, name: str) -> SSHOptions:
        """Merge the options of a jump host.

        As with ssh, options for all nodes apply to the nodes behind the jump host, not to itself.
        """
        options = self._default_options()
        for nodes, layer in self._layers:
            if nodes is not None and name in nodes:
                options = layer.over(options)
        return options

    def _default_options(self) -> SSHOptions:
        """Return the options of lowest precedence."""
        from ..ssh.config.options import SSHOptions

        # Configuration files win over an info key that was not set.
        timeout = self._settings.info["connect_timeout"]
        if self._settings.is_set("connect_timeout") and timeout:
            return SSHOptions(connect_timeout=timeout)
        return SSHOptions()

    def _common_options(self, copying: bool) -> SSHOptions:
        from ..ssh.config.options import SSHOptions

        info = self._settings.info
        user, line = info.get("ssh_user"), info.get("ssh_options")
        if copying:
            user, line = info.get("scp_user") or user, info.get("scp_options") or line
        # From the lowest precedence to the highest.
        options = self._default_options()
        if user:
            options = SSHOptions(user=user).over(options)
        if line:
            options = SSHOptions.parse_command_line(line).over(options)
        for nodes, layer in self._layers:
            if nodes is None:
                options = layer.over(options)
        return options

    # -- the pool --

    @property
    def pool(self) -> TransportPool:
        """The pool of transports, created at first use."""
        if self._pool is None:
            # Not at the top: this imports paramiko.
            from ..ssh.manager import ConnectionManager

            idle_ttl = self._settings.info["ssh_idle_ttl"]
            self._pool = ConnectionManager(
                self._engine, self._delayed_calls, self._pool_size(), idle_ttl
            ).pool
            _close_when_exiting(self)
        return self._pool

    def _pool_size(self) -> int:
        info = self._settings.info
        return int(info["ssh_pool_size"] or info["fanout"])

    def apply_limits(self) -> None:
        """Apply the current values of the info keys that limit the pool."""
        if self._pool is not None:
            self._pool.limit = self._pool_size()
            self._pool.idle_ttl = self._settings.info["ssh_idle_ttl"]

    def on_run_begins(self) -> None:
        """Watch the pool's connections with the task's engine, because a run starts."""
        self._outcomes = {}
        forget_stamps()
        if self._pool is not None:
            self._pool.on_run_begins()

    def on_run_ends(self) -> None:
        """Watch the pool's connections with the delayed calls, because the engine has stopped."""
        if self._pool is not None:
            self._pool.on_run_ends()

    def stats(self) -> PoolStats:
        """Return the counters of all connections since the task was created."""
        if self._pool is None:
            return self._closed_pool_stats
        return self._closed_pool_stats.plus(self._pool.stats())

    def gateways(self) -> dict[str, list[str]]:
        """Return the nodes that are reached through each jump host with an open connection."""
        return {} if self._pool is None else self._pool.gateways()

    def left_running(self) -> dict[str, str]:
        """Return the reason for each node on which an aborted command may still run."""
        if self._pool is None:
            return dict(self._left_running)
        return {**self._left_running, **self._pool.cleanups.left_running}

    def close(self) -> None:
        """Close every connection. Waits for commands that are being killed."""
        if self._pool is not None:
            self._pool.close()
            self._closed_pool_stats = self.stats()
            self._left_running = self.left_running()
            self._pool = None
            self._config_cache = None

    def call_at_exit(self, end: Callable[[], Any]) -> None:
        """Call a function at the end of the process, before Python stops daemon threads.

        Args:
            end: ends the task's run, and closes connections and engine.
        """
        self._at_exit = end
        _close_when_exiting(self)

    def close_at_exit(self) -> None:
        """Close everything: the process ends."""
        self._at_exit()

    def _close_at_exit(self) -> None:
        self.close()
        self._engine.close()

    def abandon(self) -> None:
        """In a forked child: the connections are the parent's. New ones are made when needed."""
        # A child that ends closes its own connections only.
        _to_close.discard(self)
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.abandon()
        self._closed_pool_stats = PoolStats()
        # Another thread may have held their locks.
        self._config_cache = None
        self._jump_host_resolver = None
        self._resolved.clear()
        self._outcomes = {}


# -- the end of the process --

_to_close: weakref.WeakSet[TaskConnections] = weakref.WeakSet()


def _close_when_exiting(connections: TaskConnections) -> None:
    """Close connections at the end of the process, because garbage collection does not.

    https://github.com/paramiko/paramiko/issues/949
    """
    # No lock: another thread may hold one while this one forks. Two handlers would do no harm.
    _to_close.add(connections)
    # Not once at import time. The handler that is registered last runs first, and ours must run
    # before paramiko's, which drops every transport at once, even if commands on it are being
    # killed.
    atexit.unregister(_close_all)
    atexit.register(_close_all)


def _close_all() -> None:
    for connections in list(_to_close):
        connections.close_at_exit()
