"""What the clients of one node's command and of one node's copy have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..engine.engine import Engine
from ..transport.config.answers import Unanswered
from .command import CommandClient

if TYPE_CHECKING:
    from ..transport.session import Assignment
    from .ssh import WorkerSsh


class RemoteClient(CommandClient):
    """A client that connects to its node."""

    # The connection's socket.
    descriptors = 1
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

    def _assignment(self, engine: Engine, copying: bool = False) -> Assignment:
        """What the session with the node is made with.

        Args:
            engine: the engine.
            copying: whether it is for a copy: see ``Task.connection_settings``.

        Raises:
            NodeConfigurationError: options or configuration files are wrong for this node.
            Unanswered: something has to be found out first.
        """
        # Here, not at the top: whoever runs local commands only does not pay for paramiko.
        from ..transport.session import Assignment

        task = self._worker.bound_task()
        return Assignment(
            settings=task.connection_settings(self._key, self._worker.ssh, False, copying),
            engine=engine,
            pool=task.pool,
            reaper=task.reaper,
            deliver=self._deliver,
            on_turn=self._start_clock,
            kill_grace=task.info("ssh_kill_grace"),
        )
