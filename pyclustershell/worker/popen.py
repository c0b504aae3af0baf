"""One local command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

from ..engine.engine import Engine
from ..transport.process import LocalProcess
from ..transport.state import Exited, Failed, Record
from .command import CommandClient, CommandWorker, LocalClient

if TYPE_CHECKING:
    from ..task import Task


class PopenClient(LocalClient):
    """A local command."""

    _worker: WorkerPopen

    def _make_process(self, engine: Engine) -> LocalProcess:
        task = self._worker.bound_task()
        task.debug(f"POPEN: {self._worker.command}")
        return LocalProcess(
            self._worker.command,
            engine,
            task.reaper,
            self._deliver,
            merge_stderr=not self._worker.stderr,
            kill_grace=task.info("ssh_kill_grace"),
            name=str(self._key),
            line_limit=task.info("line_limit"),
        )

    def _deliver(self, record: Record) -> None:
        if isinstance(record, (Exited, Failed)):
            self._worker.set_retcode(record.rc)
        super()._deliver(record)


class WorkerPopen(CommandWorker):
    """Runs one command on this host, in its shell.

    Args:
        command: the command.
        key: the key under which the results are kept; by default, the worker itself.
        handler: an EventHandler, or None; it is given the key where it is told of a node.
        stderr: whether stderr is kept apart; if not, both streams are one.
        timeout: seconds that the command may take; none if negative.
        autoclose: whether the run may end although the command has not.

    Raises:
        ValueError: there is no command.
    """

    def __init__(
        self,
        command: str,
        key: Any = None,
        handler: Any = None,
        stderr: bool = False,
        timeout: Optional[float] = -1,
        autoclose: bool = False,
    ) -> None:
        super().__init__(handler, timeout, stderr, autoclose)
        if not command:
            raise ValueError("WorkerPopen needs a command")
        self.command = command
        self.key = self if key is None else key
        self._retcode: Optional[int] = None

    def __repr__(self) -> str:
        state = "to go" if self._retcode is None else f"exited with {self._retcode}"
        return f"<WorkerPopen {self.command!r}: {state}>"

    def _make_command_clients(self, task: Task) -> list[CommandClient]:
        return [PopenClient(self, self.key, self._timeout, self._autoclose)]

    def set_key(self, key: Any) -> None:
        """Keep the results under another key; before the worker starts."""
        self.key = key
        for client in self._clients:
            client.set_key(key)

    def set_retcode(self, rc: int) -> None:
        """Take the command's return code from its client."""
        self._retcode = rc

    def retcode(self) -> Optional[int]:
        """The command's return code, None while it has none."""
        return self._retcode

    def _debug_name(self, key: Any) -> str:
        return "LINE"

    def _set_current_node(self, key: Any) -> None:
        pass  # it stays None, as ClusterShell's: a local command has no node

    def read(self, node: Any = None, sname: str = "stdout") -> Optional[bytes]:
        """The command's output so far, None if there is none.

        Args:
            node: ignored, or the key.
            sname: 'stdout' or 'stderr'.
        """
        return super().read(self.key if node is None else node, sname)

    def error(self) -> Optional[bytes]:
        """The command's stderr so far, None if there is none (or it is not kept apart)."""
        return self.read(sname=self.SNAME_STDERR)
