"""A command on many nodes over SSH."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional, Union

from ..engine.engine import Engine
from ..nodeset import NodeSet
from ..transport.config.answers import Unanswered
from ..transport.config.options import SSHOptions
from .command import CommandClient, CommandWorker
from .worker import DistantWorker

if TYPE_CHECKING:
    from ..task import Task
    from ..transport.command import RemoteCommand


class SshClient(CommandClient):
    """One node's command over SSH."""

    _worker: WorkerSsh

    def start(self, engine: Engine) -> None:
        """Begin: the client's turn has come."""
        try:
            super().start(engine)
        except Unanswered as question:
            # The configuration depends on a command or on a name: others find it out meanwhile.
            self._worker.bound_task().when_found_out(question, lambda: self._start_again(engine))

    def _start_again(self, engine: Engine) -> None:
        if not self._ended:
            self.start(engine)

    def _make_command(self, engine: Engine) -> RemoteCommand:
        # Here, not at the top: whoever runs local commands only does not pay for paramiko.
        from ..transport.command import RemoteCommand

        task = self._worker.bound_task()
        settings = task.connection_settings(self._key, self._worker.ssh, wait=False)
        task.debug(f"SSH: {settings!r}: {self._worker.command!r}")
        return RemoteCommand(
            settings,
            self._worker.encoded_command,
            engine,
            task.pool,
            task.reaper,
            self._deliver,
            on_turn=self._start_clock,
            merge_stderr=not self._worker.stderr,
            kill_grace=task.info("ssh_kill_grace"),
            line_limit=task.info("line_limit"),
        )


class WorkerSsh(CommandWorker, DistantWorker):
    """Runs a command on many nodes over SSH, over the task's pool of transports.

    No ``ssh`` program is started. Nodes are started in the order of the node set, as many at once
    as the task's fanout allows.

    Args:
        nodes: the nodes: a NodeSet, or what NodeSet takes.
        handler: an EventHandler, or None.
        timeout: seconds that the command may take on each node, its connection included; None
            for the task's ``command_timeout``.
        command: the command, for the remote user's shell.
        stderr: whether stderr is kept apart; if not, both streams are one, in the order in which
            they came.
        autoclose: whether the run may end although this worker has not.
        remote: accepted for ClusterShell's sake; a command over SSH is always remote.
        ssh: options for this worker's connections, before all others.

    Raises:
        ValueError: there is no command.
        NodeSetParseError: the nodes cannot be parsed.
    """

    def __init__(
        self,
        nodes: Any,
        handler: Any = None,
        timeout: Optional[float] = None,
        command: Union[str, bytes, None] = None,
        stderr: bool = False,
        autoclose: bool = False,
        remote: bool = True,
        ssh: Optional[SSHOptions] = None,
    ) -> None:
        super().__init__(handler, timeout, stderr, autoclose)
        if not command:
            raise ValueError("WorkerSsh needs a command")
        self.nodes = NodeSet(nodes)
        self.command = command
        self.encoded_command = command if isinstance(command, bytes) else command.encode()
        self.ssh = ssh

    def __repr__(self) -> str:
        return f"<WorkerSsh {self.command!r} on {self.nodes}: {self._open_clients} nodes to go>"

    def _make_command_clients(self, task: Task) -> list[CommandClient]:
        timeout = self._timeout
        if timeout is None:
            timeout = task.info("command_timeout") or None
        return [SshClient(self, node, timeout, self._autoclose) for node in self.nodes]
