"""Local commands: the processes of workers, of ProxyCommand and of the loopback servers."""

from __future__ import annotations

import ntpath
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import IO, Any, Callable, Optional, Union, cast

from .. import platform
from ..buffers import LineBuffer, WriteBuffer
from ..engine.aftermath import Aftermath
from ..engine.delayed import DelayedCalls
from ..engine.engine import READ, WRITE, Engine, Watch
from ..exceptions import StatusLostError
from ..printable import printable
from ..records import Exited, Failed, Output, Record, Started, Written
from .child import ChildProcess
from .group import SIGKILL
from .pipes import PipeEnd, pump_in, pump_out, reader, writer

_READ_SIZE = 65536

# At most this many bytes are sent to one process before other descriptors are served.
_FAIR_SHARE = 1 << 20

# A process that has closed its output may live on. There is no portable descriptor for its end:
# poll it at growing intervals, in seconds.
_FIRST_LOOK = 0.001
_LONGEST_LOOK = 0.1


# The aftermath of the processes that nobody waits for.
_UNCOUNTED = Aftermath()


class LocalProcess:
    """A process on this host, with its three standard streams in the engine.

    Args:
        command: a string for the shell, or a program and its arguments.
        engine: the engine.
        delayed_calls: sends KILL after TERM.
        deliver: called on the engine's thread with each record: Started, Output..., and last
            Exited or Failed, once.
        merge_stderr: True to merge stderr into stdout, in the order in which both were written.
        env: environment variables to add.
        kill_grace: seconds between TERM and KILL when it is aborted; None: send neither.
        name: the node's name, or the command's key, for failures.
        line_limit: the number of bytes that one line of output may have; None for any number. A
            process that prints a longer line is aborted, and fails.

    Attributes:
        stdin: the bytes to send to the process, see :meth:`send_input`. Another buffer can be
            assigned before the start.
        aftermath: counts the end of the process after abort(); another one can be assigned.
    """

    def __init__(
        self,
        command: Union[str, Sequence[str]],
        engine: Engine,
        delayed_calls: DelayedCalls,
        deliver: Callable[[Record], Any],
        merge_stderr: bool = False,
        env: Optional[Mapping[str, str]] = None,
        kill_grace: Optional[float] = 2.0,
        name: str = "",
        line_limit: Optional[int] = None,
    ) -> None:
        self._name = name
        self._line_limit = line_limit
        self._command = command
        self._engine = engine
        self._delayed_calls = delayed_calls
        self._deliver = deliver
        self._merge_stderr = merge_stderr
        self._env = env
        self._kill_grace = kill_grace
        self._process: Optional[ChildProcess] = None
        self._lines: dict[PipeEnd, LineBuffer] = {}
        # The watch of each stream that has not ended; None while the output is paused.
        self._watches: dict[PipeEnd, Optional[Watch]] = {}
        self._output_paused = False
        self._input: Optional[PipeEnd] = None
        self.stdin = WriteBuffer()
        self._stdin_watch: Optional[Watch] = None
        self._writing = False
        self._done = False
        self.aftermath = _UNCOUNTED

    def __repr__(self) -> str:
        process = self._process
        state = "done" if self._done else "new" if process is None else f"process {process.pid}"
        return f"<LocalProcess {self._command!r}: {state}>"

    def spawn(self) -> None:
        """Start the process; :meth:`start` follows.

        Raises:
            OSError, ValueError: it could not be started.
        """
        env = {**os.environ, **self._env} if self._env else None
        self._process = ChildProcess(
            self._command,
            shell=isinstance(self._command, str),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if self._merge_stderr else subprocess.PIPE,
            env=env,
        )

    def start(self) -> None:
        """Watch the process's streams, and deliver that it has started."""
        process = self._process
        if process is None:
            raise RuntimeError(f"{self!r} has not been spawned")
        for sname, pipe in (("stdout", process.stdout), ("stderr", process.stderr)):
            if pipe is not None:
                stream = reader(pipe)
                self._lines[stream] = LineBuffer(sname, self._line_limit, self._name)
                self._watches[stream] = None
        self._watch_output()
        if process.stdin is not None:
            self._input = writer(process.stdin)
        self._deliver(Started())
        if not self._done:
            self.send_input()

    # -- output --

    def _watch_output(self) -> None:
        for stream, watch in self._watches.items():
            if watch is None and not self._output_paused:
                self._watches[stream] = self._engine.register(
                    stream.fileno(), READ, partial(self._on_readable, stream)
                )

    def pause_output(self, paused: bool) -> None:
        """Stop reading the output (True), or go on (False): a full pipe holds the process back."""
        if paused is self._output_paused:
            return
        self._output_paused = paused
        for stream, watch in self._watches.items():
            if watch is not None:
                self._engine.unregister(watch)
                self._watches[stream] = None
        self._watch_output()

    def _on_readable(self, stream: PipeEnd, _events: int) -> None:
        data = stream.read(_READ_SIZE)
        if data is None:
            return  # not readable after all
        buffer = self._lines[stream]
        if data:
            lines = buffer.feed(data)
            if lines:
                self._deliver(Output(buffer.sname, lines))
            elif (error := buffer.overflow()) is not None:
                self.abort()
                self._deliver(Failed(error))
            return
        watch = self._watches.pop(stream)
        if watch is not None:
            self._engine.unregister(watch)
        stream.close()
        rest = buffer.flush()
        if rest is not None:
            self._deliver(Output(buffer.sname, [rest]))
        if not self._watches and not self._done:
            self._look(_FIRST_LOOK)

    def _look(self, interval: float) -> None:
        """Wait for the end of the process, after the end of its output."""
        if self._done or self._process is None:
            return
        rc = self._process.poll()
        if rc is None:
            longer = min(2 * interval, _LONGEST_LOOK)
            self._engine.call_later(interval, lambda: self._look(longer))
            return
        self._close()
        if self._process.why_lost:
            cause = f"The command has ended; {self._process.why_lost}"
            self._deliver(Failed(StatusLostError(self._name, cause)))
            return
        # subprocess says -n for signal n, a shell 128 + n.
        self._deliver(Exited(rc if rc >= 0 else 128 - rc))

    # -- standard input --

    def send_input(self, _events: int = 0) -> None:
        """Send the bytes of :attr:`stdin`, as fast as the process takes them."""
        stdin = self._input
        if stdin is None or stdin.closed or self._writing:
            # (The handler of ev_written may write more. The loop below, which called the handler,
            # sends it.)
            return
        self._writing = True
        try:
            done = self._write_share(stdin)
        finally:
            self._writing = False
        if self._done:
            return
        if not done:
            if self._stdin_watch is None:
                self._stdin_watch = self._engine.register(stdin.fileno(), WRITE, self.send_input)
            return
        self._unwatch_stdin()
        if self.stdin.ended:
            stdin.close()

    def _write_share(self, stdin: PipeEnd) -> bool:
        """Write a fair share of the queued bytes; return True if all have been written."""
        share = _FAIR_SHARE
        while self.stdin.size and share > 0:
            try:
                sent = stdin.write(self.stdin.peek())
            except BrokenPipeError:
                # The process reads no more.
                self.stdin.clear()
                return True
            if sent is None:  # full
                return False
            self.stdin.take(sent)
            share -= sent
            self._deliver(Written(sent))
            if self._done:
                return True
        return not self.stdin.size

    def _unwatch_stdin(self) -> None:
        if self._stdin_watch is not None:
            self._engine.unregister(self._stdin_watch)
            self._stdin_watch = None

    # -- the end --

    def abort(self) -> None:
        """End the process, and deliver no more records.

        Its whole group gets TERM, and KILL if the process still runs after the grace period.
        """
        process = self._process
        if self._done:
            return
        self._close()
        if process is not None and process.poll() is None and self._kill_grace is not None:
            process.group.signal(signal.SIGTERM)
            self.aftermath.begin()
            _reap(process, self._delayed_calls, self._kill_grace, self.aftermath.end)

    def _close(self) -> None:
        self._done = True
        for stream, watch in self._watches.items():
            if watch is not None:
                self._engine.unregister(watch)
            stream.close()
        self._watches.clear()
        self._unwatch_stdin()
        self.stdin.clear()
        if self._input is not None:
            with suppress(BrokenPipeError):
                self._input.close()
        elif self._process is not None:
            self._process.close_pipes()  # start() was interrupted, or not called


# The number of bytes of a command's stderr that are kept for messages.
_STDERR_TAIL_SIZE = 4096

# The seconds to wait for the exit status of a command that has closed its output.
_STATUS_DELAY = 1.0

# The seconds that a command may take to end after TERM.
_END_GRACE = 1.0


class PipedProcess:
    """A local command whose standard input and output are connected to a socket.

    Selectors do not accept pipes on every system (Windows), but sockets on all: two threads pass
    the bytes between both. A third thread keeps the last part of stderr.

    Args:
        command: for the user's shell, which it replaces, as ssh(1) runs its ProxyCommand.
        sock: the command's end of a socket pair, which this object owns from now on.
        delayed_calls: ends a command that ignores TERM.

    Raises:
        OSError, ValueError: it could not be started; the caller owns the socket again.
    """

    def __init__(self, command: str, sock: socket.socket, delayed_calls: DelayedCalls) -> None:
        # Each thread closes its own descriptor.
        output = sock.dup()
        try:
            self._process = self._spawn(command)
        except BaseException:
            output.close()
            raise
        self._delayed_calls = delayed_calls
        self._stderr_tail = b""
        self._ended = self._killed = False
        stdin, stdout, stderr = (
            cast("IO[bytes]", pipe)
            for pipe in (self._process.stdin, self._process.stdout, self._process.stderr)
        )
        self._listener = self._start_thread("stderr", partial(self._listen, stderr))
        self._start_thread("input", partial(pump_in, stdin, sock))
        self._start_thread("output", partial(pump_out, stdout, output, self._await_status))

    def __repr__(self) -> str:
        return f"<PipedProcess {self._process.pid}{': ended' if self._ended else ''}>"

    @staticmethod
    def _spawn(command: str) -> ChildProcess:
        shell = os.environ.get("SHELL") or "/bin/sh"
        return ChildProcess(
            command if platform.WINDOWS else [shell, "-c", f"exec {command}"],
            shell=platform.WINDOWS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def _start_thread(self, purpose: str, work: Callable[[], Any]) -> threading.Thread:
        name = f"pyclustershell {purpose} of process {self._process.pid}"
        thread = threading.Thread(target=work, name=name, daemon=True)
        thread.start()
        return thread

    def _await_status(self) -> None:
        # When our side reads the end of the output, why_ended() can tell the reason.
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_STATUS_DELAY)
            self._listener.join(_STATUS_DELAY)

    def _listen(self, stderr: IO[bytes]) -> None:
        with stderr:
            while data := stderr.read(_READ_SIZE):
                self._stderr_tail = (self._stderr_tail + data)[-_STDERR_TAIL_SIZE:]

    def why_ended(self) -> Optional[str]:
        """Say how the command failed, with the last line of its stderr; None if it did not."""
        status = self._process.poll()
        if self._killed or not status:
            return None
        if self._process.why_lost:
            return f"ended; {self._process.why_lost}"
        end = f"exit status {status}" if status > 0 else f"signal {-status}"
        lines = self._stderr_tail.decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"ended with {end}" + (f": {printable(last)}" if last else "")

    def abandon(self) -> None:
        """In a forked child: the command is the parent's."""
        self._ended = self._killed = True

    def end(self) -> None:
        """End the command: it gets TERM, and KILL if it ignores that. On any thread."""
        if self._ended:
            return
        self._ended = True
        self._killed = self._process.poll() is None
        if self._killed:
            self._process.group.signal(signal.SIGTERM)
        _reap(self._process, self._delayed_calls, _END_GRACE)


#: The argument vector of a program; or, on Windows, its command line.
Arguments = Union[str, Sequence[Union[str, bytes]]]


def shell_arguments(shell: Sequence[str], command: bytes) -> Arguments:
    """Return the arguments of a process that runs a command in a shell, for :func:`spawn`.

    Args:
        shell: the shell's argument vector, to which the command is appended.
        command: the command.
    """
    if not platform.WINDOWS:
        return (*shell, command)
    text = os.fsdecode(command)  # a command line of Windows is text
    if ntpath.basename(shell[0]).lower() not in ("cmd", "cmd.exe"):
        return (*shell, text)
    # cmd.exe does not know the backslashes that other programs need before quotes. With /s, it
    # takes all that is between the first and the last quote, as it is.
    return f'{subprocess.list2cmdline(shell)} "{text}"'


def spawn(arguments: Arguments, environment: Mapping[str, str], directory: str) -> ChildProcess:
    """Start a program, with a pipe for each standard stream.

    Args:
        arguments: its arguments.
        environment: its whole environment; this process's is not added.
        directory: its working directory.

    Raises:
        OSError: it could not be started.
    """
    return ChildProcess(
        arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=directory,
        env=environment,
    )


def _reap(
    process: ChildProcess,
    delayed_calls: DelayedCalls,
    grace: float,
    then: Callable[[], Any] = lambda: None,
    interval: float = _FIRST_LOOK,
) -> None:
    """Poll a process that got TERM, at growing intervals; kill it after the grace period.

    Args:
        process: the process.
        delayed_calls: makes the calls.
        grace: seconds between TERM and KILL.
        then: called once when the process has ended, on any thread.
        interval: seconds since the look before.
    """
    if process.poll() is None:
        if grace > 0:
            longer = min(2 * interval, _LONGEST_LOOK)
            # Not a function in this one that refers to itself: such a cycle waits for the
            # collector.
            delayed_calls.call_later(
                longer, lambda: _reap(process, delayed_calls, grace - longer, then, longer)
            )
            return
        process.group.signal(SIGKILL)
        process.wait()
    then()
