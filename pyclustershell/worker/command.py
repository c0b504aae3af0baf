"""Workers that run commands: one client per command, its standard input, its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional, Union

from ..engine.client import EngineClient
from ..engine.engine import Engine
from ..exceptions import NodeError
from ..transport.state import Aborted, Exited, Failed, Record, Started, TimedOut
from .worker import Worker

if TYPE_CHECKING:
    from ..task import Task
    from ..transport.command import RemoteCommand
    from ..transport.process import LocalProcess


class CommandClient(EngineClient):
    """One command of a worker, on one node or under one key.

    Args:
        worker: the worker.
        key: the node's name, or the key of a local command.
        timeout: seconds that the command may take, None for no limit.
        autoclose: whether the run may end although the command has not.
    """

    def __init__(self, worker: Worker, key: Any, timeout: Optional[float], autoclose: bool) -> None:
        self.timeout = timeout
        self.autoclose = autoclose
        self._worker = worker
        self._key = key
        self._engine: Optional[Engine] = None
        self._command: Optional[Union[RemoteCommand, LocalProcess]] = None
        self._picked_up = False
        self._ended = False
        # Standard input written before the start; None in the end stands for its end.
        self._early_input: list[Optional[bytes]] = []

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._key}: {self._command or 'waiting'}>"

    def start(self, engine: Engine) -> None:
        """Begin: the client's turn has come."""
        if self._ended:  # it was aborted before
            engine.finished(self)
            return
        self._engine = engine
        try:
            self._command = command = self._make_command(engine)
            for data in self._early_input:
                if data is None:
                    command.write_eof()
                else:
                    command.write(data)
            self._early_input.clear()
            self._start_command(command)
        except NodeError as error:
            self._deliver(Failed(error))

    def _make_command(self, engine: Engine) -> Union[RemoteCommand, LocalProcess]:
        raise NotImplementedError

    def _start_command(self, command: Union[RemoteCommand, LocalProcess]) -> None:
        command.start()

    def _start_clock(self) -> None:
        if self._engine is not None:
            self._engine.start_clock(self)

    def _deliver(self, record: Record) -> None:
        """Hand a record on; before the first, that the command was picked up."""
        if isinstance(record, Started):
            self._picked_up = True
        elif not self._picked_up:
            # No command could be started. A handler that counts pickups and hups gets pairs.
            self._picked_up = True
            self._worker.deliver(self._key, Started())
        if isinstance(record, (Exited, Failed, TimedOut, Aborted)):
            if self._ended:
                return
            self._ended = True
            if self._engine is not None:
                # First of all: what the handler does now may need this place.
                self._engine.finished(self)
        self._worker.deliver(self._key, record)

    def on_timeout(self) -> None:
        """End now, and deliver that time ran out."""
        if self._command is not None:
            self._command.abort()
        self._deliver(TimedOut())

    def abort(self, timed_out: bool = False) -> None:
        """End now, because the run or the worker ends."""
        if self._ended:
            return
        if self._engine is None:
            # Its turn never came: nobody has heard of it.
            self._ended = True
            self._worker.forget_client()
            return
        if self._command is not None:
            self._command.abort()
        self._deliver(TimedOut() if timed_out else Aborted())

    def write(self, data: bytes) -> None:
        """Send bytes to the command's standard input."""
        if self._command is None:
            self._early_input.append(data)
        else:
            self._command.write(data)

    def write_eof(self) -> None:
        """Close the command's standard input after what was written."""
        if self._command is None:
            self._early_input.append(None)
        else:
            self._command.write_eof()


class CommandWorker(Worker):
    """A worker whose clients run commands that have a standard input.

    Args:
        handler: an EventHandler, or None.
        timeout: seconds that each command may take; None or less than 0 for no limit.
        stderr: whether stderr is kept apart; if not, both streams are one, in the order in which
            they came.
        autoclose: whether the run may end although this worker has not.
    """

    def __init__(
        self, handler: Any, timeout: Optional[float], stderr: bool, autoclose: bool
    ) -> None:
        super().__init__(handler)
        self.stderr = stderr
        self._timeout = None if timeout is None or timeout < 0 else float(timeout)
        self._autoclose = autoclose
        self._clients: list[CommandClient] = []
        self._early_input: list[Optional[bytes]] = []

    def _make_clients(self, task: Task) -> list[EngineClient]:
        self._clients = self._make_command_clients(task)
        for data in self._early_input:
            self._give(data)
        self._early_input.clear()
        return list(self._clients)

    def _make_command_clients(self, task: Task) -> list[CommandClient]:
        raise NotImplementedError

    def write(self, buf: bytes, sname: Optional[str] = None) -> None:
        """Send bytes to the standard input of every command.

        Before the start they are kept; then each command gets them as fast as it takes them.

        Args:
            buf: the bytes.
            sname: 'stdin', or None for the same.

        Raises:
            ValueError: there is no such stream.
        """
        self._check_input(sname)
        self._give(bytes(buf))

    def set_write_eof(self, sname: Optional[str] = None) -> None:
        """Close the standard input of every command after what was written.

        Raises:
            ValueError: there is no such stream.
        """
        self._check_input(sname)
        self._give(None)

    def _check_input(self, sname: Optional[str]) -> None:
        if sname not in (None, self.SNAME_STDIN):
            raise ValueError(f"there is no stream {sname!r} to write to: it is called 'stdin'")

    def _give(self, data: Optional[bytes]) -> None:
        if self.task is None:
            self._early_input.append(data)
            return
        for client in self._clients:
            if data is None:
                client.write_eof()
            else:
                client.write(data)

    def abort(self) -> None:
        """End every command: TERM, then KILL after ``ssh_kill_grace`` seconds."""
        self.aborted = True
        for client in self._clients:
            client.abort()
