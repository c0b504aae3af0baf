"""Workers that run commands: one client per command, its standard input, its end."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Optional, Protocol

from ..engine.client import EngineClient
from ..engine.engine import Engine
from ..exceptions import NodeError
from ..transport.state import Aborted, Exited, Failed, Record, Started, TimedOut
from ..writebuffer import HIGH_WATER, WriteBuffer
from .worker import Worker

if TYPE_CHECKING:
    from ..task import Task
    from ..transport.process import LocalProcess


class Runs(Protocol):
    """What a client runs: a command, or something like it."""

    stdin: WriteBuffer

    def start(self) -> None:
        """Begin; records follow."""
        ...

    def send_input(self) -> None:
        """Send what waits in ``stdin``."""
        ...

    def abort(self) -> None:
        """End it; no record follows."""
        ...


class CommandClient(EngineClient):
    """One command of a worker, on one node or under one key.

    Args:
        worker: the worker.
        key: the node's name, or the key of a local command.
        timeout: seconds that the command may take, None for no limit.
        autoclose: whether the run may end although the command has not.

    Attributes:
        stdin: what is to be sent to the command.
    """

    def __init__(
        self, worker: CommandWorker, key: Any, timeout: Optional[float], autoclose: bool
    ) -> None:
        self.timeout = timeout
        self.autoclose = autoclose
        self._worker = worker
        self._key = key
        self._engine: Optional[Engine] = None
        self._command: Optional[Runs] = None
        self._picked_up = False
        self._ended = False
        self.stdin = WriteBuffer()

    def __repr__(self) -> str:
        state = self._command or ("ended" if self._ended else "waiting")
        return f"<{type(self).__name__} {self._key}: {state}>"

    def start(self, engine: Engine) -> None:
        """Begin: the client's turn has come."""
        if self._ended:  # it was aborted before
            engine.finished(self)
            return
        self._engine = engine
        try:
            self._command = command = self._make_command(engine)
            self._connect_input()
            command.start()
        except NodeError as error:
            self._deliver(Failed(error))

    def _connect_input(self) -> None:
        """Give the command its input; who writes waits for it, now that its turn has come."""
        if self._command is not None:
            self._command.stdin = self.stdin
        self.stdin.on_full = self._worker.count_full
        if self.stdin.full:
            self._worker.count_full(True)

    def _make_command(self, engine: Engine) -> Runs:
        raise NotImplementedError

    def _start_clock(self) -> None:
        if self._engine is not None:
            self._engine.start_clock(self)

    def set_key(self, key: Any) -> None:
        """Go by another key; before the start."""
        self._key = key

    def _deliver(self, record: Record) -> None:
        """Hand a record on; before the first, that the command was picked up."""
        if isinstance(record, Started):
            self._picked_up = True
        elif not self._picked_up:
            # No command could be started. A handler that counts pickups and hups gets pairs.
            self._picked_up = True
            self._hand_on(Started())
        if isinstance(record, (Exited, Failed, TimedOut, Aborted)):
            if self._ended:
                return
            self._ended = True
            # It refers to this client: both would wait for the garbage collector.
            self._command = None
            self.stdin.clear()
            if self._engine is not None:
                # First of all: what the handler does now may need this place.
                self._engine.finished(self)
            try:
                self._hand_on(record)
            finally:
                # Also where a handler raised.
                self._worker.client_ended()
        else:
            self._hand_on(record)

    def _hand_on(self, record: Record) -> None:
        """Tell the worker of a record: of each of them, for a command of several nodes."""
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
            self.stdin.clear()
            try:
                self._forget()
            finally:
                self._worker.client_ended()
            return
        if self._command is not None:
            self._command.abort()
        self._deliver(TimedOut() if timed_out else Aborted())

    def _forget(self) -> None:
        """Tell the worker that this client ended before it began."""
        self._worker.forget_client()

    def put_input(self, data: Optional[bytes]) -> None:
        """Add to what is to be sent; None is the end of it."""
        if data is None:
            self.stdin.end()
        else:
            self.stdin.put(data)

    def send_input(self) -> None:
        """Send it, as soon and as fast as the command takes it."""
        if self._command is not None:
            self._command.send_input()


class LocalClient(CommandClient):
    """One command that is a process on this host."""

    def _make_command(self, engine: Engine) -> LocalProcess:
        process = self._make_process(engine)
        self._start_clock()
        try:
            process.spawn()
        except (OSError, ValueError) as error:
            raise NodeError(str(self._key), f"cannot start a process: {error}") from error
        return process

    def _make_process(self, engine: Engine) -> LocalProcess:
        raise NotImplementedError


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
        self._running_clients = 0
        # Input from before the worker was scheduled: None in it stands for its end. None instead of
        # it: the worker has clients.
        self._early_input: Optional[list[Optional[bytes]]] = []
        self._early_size = 0
        # How many commands have more input waiting than they should (see WriteBuffer).
        self._full = 0
        # Bytes that other threads wrote and the task's thread has not taken yet.
        self._arriving = 0
        self._input_over = False
        # Guards what other threads change: the early input and the number of arriving bytes.
        self._room = threading.Condition()

    def _make_clients(self, task: Task) -> list[EngineClient]:
        self._clients = self._make_command_clients(task)
        self._running_clients = len(self._clients)
        with self._room:
            early, self._early_input = self._early_input, None
            self._early_size = 0
        for data in early or ():
            self._give(data)
        return list(self._clients)

    def _make_command_clients(self, task: Task) -> list[CommandClient]:
        raise NotImplementedError

    @property
    def input_full(self) -> bool:
        """Whether who writes should wait: 1 MiB and more wait for the slowest command.

        A handler that sends a lot writes while this is False, and goes on in ``ev_written``. A
        command that waits for its turn (see the fanout) does not count: the others must end first.
        """
        return self._full > 0 or self._early_size > HIGH_WATER

    def write(self, buf: bytes, sname: Optional[str] = None) -> None:
        """Send bytes to the standard input of every command.

        Before the start they are kept; then each command gets them as fast as it takes them, which
        ``ev_written`` tells. They are kept once, however many commands there are, until the
        slowest has taken them.

        On the task's thread this never waits: see :attr:`input_full`. Any other thread may write
        once the worker has been scheduled; there this waits while the slowest command has 1 MiB
        and more to take, until the commands have ended.

        Args:
            buf: the bytes.
            sname: 'stdin', or None for the same.

        Raises:
            ValueError: there is no such stream.
        """
        self._check_input(sname)
        self._write(bytes(buf))

    def _write(self, data: Optional[bytes]) -> None:
        """Take input (None for its end) from any thread."""
        size = 0 if data is None else len(data)
        with self._room:
            if self._early_input is not None:
                self._early_input.append(data)
                self._early_size += size
                return
        task = self.bound_task()
        if threading.current_thread() is task.thread:
            self._give(data)
            return
        with self._room:
            self._room.wait_for(self._may_write)
            self._arriving += size
        if not self._input_over:
            task.post(self._arrive, data, size)

    def _may_write(self) -> bool:
        return self._input_over or not (self.input_full or self._arriving > HIGH_WATER)

    def _arrive(self, data: Optional[bytes], size: int) -> None:
        self._give(data)
        with self._room:
            self._arriving -= size
        self._wake_writers()

    def _give(self, data: Optional[bytes]) -> None:
        # All of them first: a handler that hears that one has taken it may write what comes next.
        for client in self._clients:
            client.put_input(data)
        for client in self._clients:
            client.send_input()

    def count_full(self, full: bool) -> None:
        """A command has more input waiting than it should, or it no longer has."""
        self._full += 1 if full else -1
        self._wake_writers()

    def client_ended(self) -> None:
        """A client has ended, and the handler has heard of it, unless it raised."""
        self._running_clients -= 1
        if not self._running_clients:
            self._let_go()

    def _let_go(self) -> None:
        """Let go of what was for the clients. Called once or twice, the handler notwithstanding."""
        self._input_over = True
        self._wake_writers()
        # They refer to this worker: all of them would wait for the garbage collector.
        self._clients.clear()

    def _client_closed(self) -> None:
        if self._open_clients == 1:
            self._let_go()  # before the handler hears of the end
        super()._client_closed()

    def _wake_writers(self) -> None:
        if self._may_write():
            with self._room:
                self._room.notify_all()

    def set_write_eof(self, sname: Optional[str] = None) -> None:
        """Close the standard input of every command after what was written.

        Raises:
            ValueError: there is no such stream.
        """
        self._check_input(sname)
        self._write(None)

    def _check_input(self, sname: Optional[str]) -> None:
        if sname not in (None, self.SNAME_STDIN):
            raise ValueError(f"there is no stream {sname!r} to write to: it is called 'stdin'")

    def abort(self) -> None:
        """End every command: TERM, then KILL after ``ssh_kill_grace`` seconds."""
        if self.task is not None:
            self.aborted = True
        for client in self._clients:
            client.abort()
