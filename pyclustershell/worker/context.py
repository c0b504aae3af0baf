"""The part of a task that its workers use."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Optional, Protocol

from ..engine.delayed import DelayedCalls
from ..engine.engine import Engine
from ..exceptions import TaskMsgTreeError
from ..ssh.sftp.localpaths import PlacedTogether
from .store import RunResults

if TYPE_CHECKING:
    from ..nodeset.topology import Route, TopologyTree
    from ..ssh.config.options import SSHOptions
    from ..ssh.config.settings import ConnectionSettings
    from ..ssh.pool import TransportPool


class Connections(Protocol):
    """The SSH connections of a task, for its workers. To be used on the task's thread."""

    @property
    def pool(self) -> TransportPool:
        """The pool of transports, created at first use."""
        ...

    def settings_of(
        self,
        node: str,
        ssh: Optional[SSHOptions],
        wait: bool,
        copying: bool,
        route: Optional[Route],
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
        ...

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
        ...


@dataclass(frozen=True)
class WorkerContext:
    """The part of a task that its workers use. A worker receives it when it is scheduled.

    Attributes:
        task: the task itself, for handlers and users; workers never call it.
        thread: the task's thread. Workers and their clients run on it.
        engine: the task's event loop.
        results: the results of all workers of the run; None for a submitted worker, whose results
            are its future's.
        info: the task's info keys, as they are now (a live view).
        defaults: the task's default keys, as they are now (a live view).
        connections: the SSH connections.
        topology: returns the task's topology, as it is now; None if it has none.
        delayed_calls: runs calls later, also after the end of a run.
        placed: the reverse copies that run, to notice that two have one name on this host.
    """

    task: Any
    thread: threading.Thread
    engine: Engine
    results: Optional[RunResults]
    info: Mapping[str, Any]
    defaults: Mapping[str, Any]
    connections: Connections
    delayed_calls: DelayedCalls
    topology: Callable[[], Optional[TopologyTree]]
    placed: PlacedTogether = field(default_factory=PlacedTogether)

    @property
    def submitted(self) -> bool:
        """True for a worker that has a future: see ``Task.submit()``."""
        return self.results is None

    def keeps(self, sname: str) -> bool:
        """True if a stream's output is kept for the buffers.

        The default key ``<sname>_msgtree`` decides. The output of a stream that has no such key is
        not kept.
        """
        return bool(self.defaults.get(f"{sname}_msgtree"))

    def check_kept(self, sname: str) -> None:
        """Refuse to read the output of a stream that is not kept.

        Raises:
            TaskMsgTreeError: the stream's output is not kept.
        """
        if not self.keeps(sname):
            raise TaskMsgTreeError(
                f"{sname} is not kept: set_default('{sname}_msgtree', True) before the run"
            )

    def debug(self, line: str) -> None:
        """Pass a line to ``print_debug`` if the info key ``debug`` is set."""
        if self.info.get("debug"):
            self.info["print_debug"](self.task, line)
