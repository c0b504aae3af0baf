"""What a task connects with: layers of SSH options, and the pool that the connections are in."""

from __future__ import annotations

import atexit
import threading
import weakref
from typing import TYPE_CHECKING, Any, Callable, Optional

from .engine.engine import Engine
from .nodeset import NodeSet
from .transport.reaper import Reaper
from .transport.stats import PoolStats

if TYPE_CHECKING:
    from .tasksettings import TaskSettings
    from .transport.config.answers import Unanswered
    from .transport.config.options import SSHOptions
    from .transport.config.resolution import JumpHosts
    from .transport.config.settings import ConnectionSettings
    from .transport.context import SSHContext
    from .transport.pool import TransportPool


class TaskConnections:
    """The SSH side of a task.

    Nothing of it exists before the first connection is needed: whoever runs local commands only
    does not pay for paramiko. All methods are for the task's own thread.

    Args:
        engine: the task's engine.
        reaper: sees to what has to happen after a run.
        settings: the task's settings, read whenever they are needed.
    """

    def __init__(self, engine: Engine, reaper: Reaper, settings: TaskSettings) -> None:
        self._engine = engine
        self._reaper = reaper
        self._settings = settings
        self._context: Optional[SSHContext] = None
        # Of the pools that were closed.
        self._former = PoolStats()
        self._layers: list[tuple[Optional[NodeSet], SSHOptions]] = []
        # By whether it is for a copy: scp_user and scp_options are for copies only.
        self._common: dict[bool, SSHOptions] = {}
        self._jump_hosts: Optional[JumpHosts] = None
        self._resolved: dict[tuple[str, Optional[SSHOptions], bool], ConnectionSettings] = {}

    def __repr__(self) -> str:
        return "no connections" if self._context is None else repr(self._context.pool)

    # -- options --

    def configure(self, nodes: Any, options: dict[str, Any]) -> None:
        """Add a layer of options: see ``Task.configure_ssh()``."""
        from .transport.config.options import SSHOptions

        self._layers.append((None if nodes is None else NodeSet(nodes), SSHOptions(**options)))
        self.forget_settings()

    def settings_of(
        self, node: str, ssh: Optional[SSHOptions], wait: bool = True, copying: bool = False
    ) -> ConnectionSettings:
        """What a node's connection would be made with: see ``Task.connection_settings()``."""
        info = self._settings.info
        # Where nothing is set for copies, they share connections with commands.
        copying = bool(copying and (info.get("scp_user") or info.get("scp_options")))
        settings = self._resolved.get((node, ssh, copying))
        if settings is None:
            if self._jump_hosts is None:
                from .transport.config.resolution import JumpHosts

                self._jump_hosts = JumpHosts(self._options_of_jump_host)
            options = self._options_of(node, ssh, copying)
            settings = self._open().resolve(node, options, self._jump_hosts, wait)
            self._resolved[node, ssh, copying] = settings
        return settings

    def find_out(self, question: Unanswered, then: Callable[[], Any]) -> None:
        """Have it found out what settings depend on: see ``Task.when_found_out()``."""
        self._open().find_out(question, then)

    def forget_settings(self) -> None:
        """Something was set that the nodes' settings are made of."""
        self._resolved.clear()
        self._common.clear()
        self._jump_hosts = None

    def _options_of(self, node: str, ssh: Optional[SSHOptions], copying: bool) -> SSHOptions:
        """What info keys, ``ssh_options``, configure_ssh() and one call say for a node."""
        # The same for every node, and so brought together once, not once per node.
        options = self._common.get(copying)
        if options is None:
            options = self._common[copying] = self._common_options(copying)
        for nodes, layer in self._layers:
            if nodes is not None and node in nodes:
                options = layer.over(options)
        return options if ssh is None else ssh.over(options)

    def _options_of_jump_host(self, name: str) -> SSHOptions:
        """What is said of a jump host by its name.

        As with ssh, what is said of all nodes is said of those behind the jump host, not of it.
        """
        options = self._weakest_options()
        for nodes, layer in self._layers:
            if nodes is not None and name in nodes:
                options = layer.over(options)
        return options

    def _weakest_options(self) -> SSHOptions:
        from .transport.config.options import SSHOptions

        # An info key that was not set is a mere default, weaker than the configuration files.
        timeout = self._settings.info["connect_timeout"]
        if self._settings.is_set("connect_timeout") and timeout:
            return SSHOptions(connect_timeout=timeout)
        return SSHOptions()

    def _common_options(self, copying: bool) -> SSHOptions:
        from .transport.config.options import SSHOptions

        info = self._settings.info
        user, line = info.get("ssh_user"), info.get("ssh_options")
        if copying:
            user, line = info.get("scp_user") or user, info.get("scp_options") or line
        # From the weakest to the strongest.
        options = self._weakest_options()
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
        """The pool of transports, made at first use."""
        return self._open().pool

    def _open(self) -> SSHContext:
        if self._context is None:
            # Here, not at the top: importing this package does not import paramiko.
            from .transport.context import SSHContext

            idle_ttl = self._settings.info["ssh_idle_ttl"]
            self._context = SSHContext(self._engine, self._reaper, self._pool_size(), idle_ttl)
            _close_at_exit(self)
        return self._context

    def _pool_size(self) -> int:
        info = self._settings.info
        return int(info["ssh_pool_size"] or info["fanout"])

    def apply_limits(self) -> None:
        """Info keys that the pool goes by may have been set."""
        if self._context is not None:
            self._context.pool.limit = self._pool_size()
            self._context.pool.idle_ttl = self._settings.info["ssh_idle_ttl"]

    def on_run_begins(self) -> None:
        """The task's engine will run now: it sees to the pool."""
        if self._context is not None:
            self._context.pool.on_run_begins()

    def on_run_ends(self) -> None:
        """The task's engine has ended its run: the reaper sees to the pool."""
        if self._context is not None:
            self._context.pool.on_run_ends()

    def stats(self) -> PoolStats:
        """What the connections do now, and have done since the task was made."""
        if self._context is None:
            return self._former
        return self._former.plus(self._context.pool.stats())

    def close(self) -> None:
        """Close every connection. Waits for commands that are being killed."""
        if self._context is not None:
            self._context.pool.close()
            self._former = self.stats()
            self._context = None


# -- the end of the process --

_open_ones: weakref.WeakSet[TaskConnections] = weakref.WeakSet()
_exit_lock = threading.Lock()
_exit_is_watched = False


def _close_at_exit(connections: TaskConnections) -> None:
    """Have connections closed at the end of the process: garbage collection closes no transport.

    https://github.com/paramiko/paramiko/issues/949
    """
    global _exit_is_watched  # noqa: PLW0603 once per process
    with _exit_lock:
        _open_ones.add(connections)
        if not _exit_is_watched:
            # Not at import: what is registered later runs earlier, and paramiko's own handler
            # drops every transport at once, commands that are being killed or not.
            atexit.register(_close_all)
            _exit_is_watched = True


def _close_all() -> None:
    for connections in list(_open_ones):
        connections.close()
        connections._engine.close()
