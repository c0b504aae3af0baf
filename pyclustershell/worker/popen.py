"""The worker of one local command."""

from __future__ import annotations

from typing import Any, Optional

from ..arguments import check_command, check_key
from ..engine.engine import Engine
from ..local.process import LocalProcess
from ..phases import LoginTimes
from ..records import Exited, Failed, Record
from .command import CommandClient, CommandWorker, LocalClient
from .context import WorkerContext


class PopenClient(LocalClient):
    """The command of a WorkerPopen."""

    _worker: WorkerPopen

    def _make_process(self, engine: Engine) -> LocalProcess:
        context = self._worker.context
        context.debug(f"POPEN: {self._worker.command}")
        return LocalProcess(
            self._worker.command,
            engine,
            context.delayed_calls,
            self._deliver,
            merge_stderr=not self._worker.stderr,
            kill_grace=context.info.get("ssh_kill_grace"),
            name=str(self._key),
            line_limit=context.info.get("line_limit"),
        )

    def _note_turn(self, login: Optional[LoginTimes]) -> None:
        self._worker.note_turn()

    def _deliver(self, record: Record) -> None:
        if isinstance(record, (Exited, Failed)):
            self._worker.set_retcode(record.rc)
        super()._deliver(record)


class WorkerPopen(CommandWorker):
    """Runs one command on this host, in its shell.

    Args:
        command: the command.
        key: the key of the results; None for the worker itself.
        handler: an EventHandler, or None. Its events receive the key in place of a node.
        stderr: True to keep stderr apart from stdout; False to merge both streams.
        timeout: seconds that the command may take; None or less than 0 for no limit.
        autoclose: True if the run may end before the command has ended.

    Raises:
        ValueError: the command is empty.
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
        check_command(command)
        check_key(key)
        if not command:
            raise ValueError("WorkerPopen needs a command")
        self.command = command
        # Not the worker itself, if that is the key: a cycle would wait for the garbage collector.
        self._key = key
        self._retcode: Optional[int] = None

    def __repr__(self) -> str:
        state = "not ended" if self._retcode is None else f"exited with {self._retcode}"
        return f"<WorkerPopen {self.command!r}: {state}>"

    @property
    def key(self) -> Any:
        """The key of the results; the worker itself if none was given."""
        return self if self._key is None else self._key

    def _make_command_clients(self, context: WorkerContext) -> list[CommandClient]:
        return [PopenClient(self, self.key, self._timeout, self._autoclose)]

    def set_key(self, key: Any) -> None:
        """Change the key of the results. To be called before the worker starts.

        Raises:
            TypeError: it cannot be a key of a dictionary.
        """
        check_key(key)
        self._key = key
        for client in self._clients:
            client.set_key(key)

    def note_turn(self) -> None:
        """Note that the command starts now. The client calls this."""
        self.store.add_turn(self._stored(self.key))

    def set_retcode(self, rc: int) -> None:
        """Set the return code. The client calls this at the command's end."""
        self._retcode = rc

    def retcode(self) -> Optional[int]:
        """Return the command's return code; None if it has none (yet)."""
        return self._retcode

    def _debug_name(self, key: Any) -> str:
        return "LINE"

    def _set_current_node(self, key: Any) -> None:
        pass  # a local command has no node: current_node stays None, as in ClusterShell

    def read(self, node: Any = None, sname: str = "stdout") -> Optional[bytes]:
        """Return the command's output so far; None if there is none.

        Args:
            node: None, or the key.
            sname: 'stdout' or 'stderr'.

        Raises:
            TaskMsgTreeError: the stream's output is not kept.
        """
        return super().read(self.key if node is None else node, sname)

    def error(self) -> Optional[bytes]:
        """Return the command's stderr so far; None if there is none, or if it is merged.

        Raises:
            TaskMsgTreeError: stderr is not kept.
        """
        return self.read(sname=self.SNAME_STDERR)
