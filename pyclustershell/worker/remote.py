"""What the clients of one node's command and of one node's copy have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..engine.engine import Engine
from ..transport.config.answers import Unanswered
from .command import CommandClient

if TYPE_CHECKING:
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
