"""The base of workers that run commands: clients, standard input, and ends."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Optional, Protocol

from ..arguments import check_flags, check_input, check_limit
from ..buffers import HIGH_WATER, WriteBuffer
from ..engine.aftermath import Aftermath
from ..engine.engine import Engine, EngineClient
from ..exceptions import NodeError
from ..phases import LoginTimes
from ..records import Aborted, Exited, Failed, Record, Rerouted, Started, TimedOut
from .context import WorkerContext
from .worker import Worker

if TYPE_CHECKING:
    from ..local.process import LocalProcess


class Command(Protocol):
    """The interface of a command: a remote command, a local process, or a copy.

    All methods are called on the task's thread.

    Attributes:
        stdin: the bytes to send to the command's standard input.
        aftermath: counts what goes on in the background after abort().
    """

    stdin: WriteBuffer
    aftermath: Aftermath

    def start(self) -> None:
        """Start the command. Its records are delivered from here on."""
        ...

    def send_input(self) -> None:
        """Send the bytes that are queued in ``stdin``."""
        ...

    def pause_output(self, paused: bool) -> None:
        """Stop reading the command's output (True), or go on (False)."""
        ...

    def abort(self) -> None:
        """End the command. It delivers no further record."""
        ...


class CommandClient(EngineClient):
    """One command of a worker, on one node or under one key.

    All methods are called on the task's thread.

    Args:
        worker: the worker.
        key: the node's name, or the key of a local command.
        timeout: seconds that the command may take; None for no limit.
        autoclose: True if the run may end before the command has ended.

    Attributes:
        stdin: the bytes to send to the command's standard input.
    """

    def __init__(
        self, worker: CommandWorker, key: Any, timeout: Optional[float], autoclose: bool
    ) -> None:
        self.timeout = timeout
        self.autoclose = autoclose
        self._worker = worker
        self._key = key
        self._engine: Optional[Engine] = None
        self._command: Optional[Command] = None
        self._picked_up = False
        self._ended = False
        self.stdin = WriteBuffer()

    def __repr__(self) -> str:
        state = self._command or ("ended" if self._ended else "waiting")
        return f"<{type(self).__name__} {self._key}: {state}>"

    def start(self, engine: Engine) -> None:
        """Start the command. The engine calls this when the fanout has room."""
        if self._ended:  # it was aborted before its start
            engine.finished(self)
            return
        if self._engine is None:
            # Not later: a lookup may precede the command, and writers must not fill the memory.
            self._count_input()
        self._engine = engine
        try:
            self._command = command = self._make_command(engine)
            command.aftermath = self._worker.aftermath
            if self._worker.output_paused:
                command.pause_output(True)
            self._connect_input()
            command.start()
        except NodeError as error:
            self._deliver(Failed(error))

    def _connect_input(self) -> None:
        """Connect the queued input to the command."""
        if self._command is not None:
            self._command.stdin = self.stdin

    def _count_input(self) -> None:
        """Let a full queue delay writers from here on."""
        self.stdin.on_full = self._worker.on_input_full
        if self.stdin.full:
            self._worker.on_input_full(True)

    def _make_command(self, engine: Engine) -> Command:
        """Create the command, not started.

        Raises:
            NodeError: the command cannot be run on this node.
        """
        raise NotImplementedError

    def _take_turn(self, login: Optional[LoginTimes] = None) -> None:
        """Begin the timeout: nothing else than the node delays the command from here on.

        Args:
            login: the stopwatch of the connection that is being made, if one is.
        """
        if self._engine is not None:
            self._note_turn(login)
            self._engine.start_clock(self)

    def _note_turn(self, login: Optional[LoginTimes]) -> None:
        """Note the turn in the results; for each node, if the command has several."""
        self._worker.store.add_turn(self._key, login)

    def set_key(self, key: Any) -> None:
        """Change the key. To be called before the start."""
        self._key = key

    def _deliver(self, record: Record) -> None:
        """Deliver a record to the worker, after ``Started`` if it is the first one."""
        if isinstance(record, Started):
            self._picked_up = True
        elif not self._picked_up and not isinstance(record, Rerouted):
            # No command could be started. A handler may count pickups and hups: it gets pairs.
            self._picked_up = True
            self._deliver_to_worker(Started(running=False))
        if isinstance(record, (Exited, Failed, TimedOut, Aborted)):
            if self._ended:
                return
            self._ended = True
            # The command refers to this client. Without the cycle, both are freed at once and not
            # by the garbage collector.
            self._command = None
            self.stdin.clear()
            if self._engine is not None:
                # Before the handler is called: a command that it schedules may need this place in
                # the fanout.
                self._engine.finished(self)
            try:
                self._deliver_to_worker(record)
            finally:
                # Also if a handler raised an exception.
                self._worker.on_client_ended()
        else:
            self._deliver_to_worker(record)

    def _deliver_to_worker(self, record: Record) -> None:
        """Deliver a record to the worker; for each node, if the command has several."""
        self._worker.deliver(self._key, record)

    def on_timeout(self) -> None:
        """End the command, and deliver ``TimedOut``."""
        if self._command is not None:
            self._command.abort()
        self._deliver(TimedOut())

    def abort(self, timed_out: bool = False) -> None:
        """End the command, because the run or the worker ends.

        Args:
            timed_out: True to deliver ``TimedOut``, False to deliver ``Aborted``.
        """
        if self._ended:
            return
        if self._engine is None:
            # It has not been started: ev_result is its only event.
            self._ended = True
            self.stdin.clear()
            try:
                self._end_unstarted()
            finally:
                self._worker.on_client_ended()
            return
        if self._command is not None:
            self._command.abort()
        self._deliver(TimedOut() if timed_out else Aborted())

    def _end_unstarted(self) -> None:
        """Report the ends of a client that was not started."""
        self._worker.end_unstarted(self._key)

    def queue_input(self, data: Optional[bytes]) -> None:
        """Queue bytes for the command's standard input; None closes it after them."""
        if data is None:
            self.stdin.end()
        else:
            self.stdin.put(data)

    def pause_output(self, paused: bool) -> None:
        """Stop reading the command's output (True), or go on (False)."""
        if self._command is not None:
            self._command.pause_output(paused)

    def send_input(self) -> None:
        """Send the queued bytes as fast as the command reads them."""
        if self._command is not None:
            self._command.send_input()


class LocalClient(CommandClient):
    """One command that is a process of this host."""

    def _make_command(self, engine: Engine) -> LocalProcess:
        process = self._make_process(engine)
        self._take_turn()
        try:
            process.spawn()
        except (OSError, ValueError, TypeError) as error:
            raise NodeError(str(self._key), f"cannot start a process: {error}") from error
        return process

    def _make_process(self, engine: Engine) -> LocalProcess:
        """Create the process, not started."""
        raise NotImplementedError


class CommandWorker(Worker):
    """A worker whose clients run commands that have a standard input.

    Args:
        handler: an EventHandler, or None.
        timeout: seconds that each command may take; None or less than 0 for no limit.
        stderr: True to keep stderr apart from stdout; False to merge both streams, in the order in
            which their bytes arrived.
        autoclose: True if the run may end before this worker has ended.

    Raises:
        TypeError: an argument has a wrong type.
        ValueError: an argument is wrong.
    """

    def __init__(
        self, handler: Any, timeout: Optional[float], stderr: bool, autoclose: bool
    ) -> None:
        super().__init__(handler)
        check_flags(stderr=stderr, autoclose=autoclose)
        self.stderr = stderr
        self._timeout = check_limit("timeout", timeout)
        self._autoclose = autoclose
        self._clients: list[CommandClient] = []
        self._clients_left = 0
        # Input that was written before the worker was scheduled; None in the list is its end. None
        # in place of the list: the worker has been scheduled.
        self._early_input: Optional[list[Optional[bytes]]] = []
        self._early_size = 0
        # The number of running commands whose input queue is full (see WriteBuffer).
        self._full_clients = 0
        # The number of bytes that other threads wrote and the task's thread has not queued yet.
        self._posted_size = 0
        # True when all commands have ended: further input is dropped.
        self._input_dropped = False
        # Guards the early input and the number of posted bytes, which other threads change.
        self._input_condition = threading.Condition()

    def _make_clients(self, context: WorkerContext) -> list[EngineClient]:
        self._clients = self._make_command_clients(context)
        self._clients_left = len(self._clients)
        # Under the lock: other threads, which post from now on, must not come in between.
        with self._input_condition:
            early, self._early_input = self._early_input, None
            self._early_size = 0
            for data in early or ():
                self._queue_input(data)
        return list(self._clients)

    def _make_command_clients(self, context: WorkerContext) -> list[CommandClient]:
        """Create the clients, in the order in which they start."""
        raise NotImplementedError

    @property
    def input_full(self) -> bool:
        """True while more than 1 MiB is queued for the slowest command.

        A handler that sends large input writes while this is False, and resumes in ``ev_written``
        and in ``ev_hup``: a command that ends without reading is not behind any more.
        A command that the fanout keeps waiting does not count, because other commands must end
        before it starts.
        """
        return self._full_clients > 0 or self._early_size > HIGH_WATER

    def write(self, buf: bytes, sname: Optional[str] = None) -> None:
        """Send bytes to the standard input of every command.

        The bytes are queued until a command starts. Each command then receives them as fast as it
        reads, and ``ev_written`` reports the progress. All commands share one copy of the bytes,
        which is kept until the slowest command has read it.

        May be called from any thread. On the task's thread this method never waits: see
        :attr:`input_full`. On other threads, it waits while more than 1 MiB is queued for the
        slowest command of a scheduled worker, unless all commands have ended.

        Args:
            buf: the bytes.
            sname: 'stdin', or None for the same.

        Raises:
            ValueError: ``sname`` is another stream.
            TypeError: ``buf`` is not bytes.
        """
        self._check_input(sname)
        self._write(check_input(buf))

    def _write(self, data: Optional[bytes]) -> None:
        """Queue input, or its end (None). May be called from any thread."""
        size = 0 if data is None else len(data)
        with self._input_condition:
            if self._early_input is not None:
                self._early_input.append(data)
                self._early_size += size
                return
        context = self.context
        if threading.current_thread() is context.thread:
            self._queue_input(data)
            return
        with self._input_condition:
            self._input_condition.wait_for(self._may_write)
            self._posted_size += size
        if not self._input_dropped:
            context.engine.post(self._queue_posted_input, data, size)

    def _may_write(self) -> bool:
        return self._input_dropped or not (self.input_full or self._posted_size > HIGH_WATER)

    def _queue_posted_input(self, data: Optional[bytes], size: int) -> None:
        self._queue_input(data)
        with self._input_condition:
            self._posted_size -= size
        self._wake_writers()

    def _queue_input(self, data: Optional[bytes]) -> None:
        # Every queue first: sending calls ev_written, and a handler may write the next bytes there.
        # The order of the bytes must be the same for every command.
        for client in self._clients:
            client.queue_input(data)
        for client in self._clients:
            client.send_input()

    def on_input_full(self, full: bool) -> None:
        """Count a running command whose input queue got full (True) or no longer is (False)."""
        self._full_clients += 1 if full else -1
        self._wake_writers()

    def on_client_ended(self) -> None:
        """Count a client that has ended. Its last event was handled, or the handler raised."""
        self._clients_left -= 1
        if not self._clients_left:
            self._drop_references()

    def _drop_references(self) -> None:
        """Drop the clients, and further input. Called once or twice, even if a handler raised."""
        self._input_dropped = True
        self._wake_writers()
        # The clients refer to this worker. Without the cycle, all of them are freed at once and not
        # by the garbage collector.
        self._clients.clear()

    def count_end(self) -> None:
        """Count the end of one node; the last one calls ``ev_close``."""
        if self._ends_left == 1:
            self._drop_references()  # before ev_close is called
        super().count_end()

    def _wake_writers(self) -> None:
        if self._may_write():
            with self._input_condition:
                self._input_condition.notify_all()

    def set_write_eof(self, sname: Optional[str] = None) -> None:
        """Close the standard input of every command after the queued bytes.

        May be called from any thread.

        Args:
            sname: 'stdin', or None for the same.

        Raises:
            ValueError: ``sname`` is another stream.
        """
        self._check_input(sname)
        self._write(None)

    def _check_input(self, sname: Optional[str]) -> None:
        if sname not in (None, self.SNAME_STDIN):
            raise ValueError(f"there is no stream {sname!r} to write to: use 'stdin'")

    def _set_paused(self, paused: bool) -> None:
        if self._context is None:
            self.output_paused = paused
        else:
            self._on_task_thread(self._pause_clients, paused)

    def _pause_clients(self, paused: bool) -> None:
        self.output_paused = paused
        for client in list(self._clients):
            client.pause_output(paused)

    def abort(self) -> None:
        """End every command: TERM, then KILL after ``ssh_kill_grace`` seconds.

        May be called from any thread. On the task's thread, the worker has ended when this method
        returns; the kill goes on in the background. From other threads, the call does not wait: the
        worker ends in the loop's next pass, or at the start of the next run.
        """
        super().abort()

    def _abort(self) -> None:
        self.aborted = True
        # A copy: each end drops a client.
        for client in list(self._clients):
            client.abort()
