"""A local command: the only place that starts a process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Callable, Optional, Union

from .. import platform
from ..engine.engine import READ, WRITE, Engine, Watch
from ..exceptions import LineTooLongError
from ..linebuffer import LineBuffer
from ..printable import printable
from ..writebuffer import WriteBuffer
from .pipes import PipeEnd, reader, writer
from .reaper import Reaper
from .state import Exited, Failed, Output, Record, Started, Written

_READ_SIZE = 65536

# How many bytes one process may be sent before other descriptors have their turn.
_FAIR_SHARE = 1 << 20

# A process that has closed its output may live on. There is no portable descriptor for its end:
# look, at growing intervals, in seconds.
_FIRST_LOOK = 0.001
_LONGEST_LOOK = 0.1


class LocalProcess:
    """A process on this host, with its three standard streams in the engine.

    Args:
        command: a string for the shell, or a program and its arguments.
        engine: the engine.
        reaper: sees to the KILL after a TERM.
        deliver: called on the engine's thread with each record: Started, Output..., then Exited or
            Failed, once, last.
        merge_stderr: whether stderr comes in stdout, in the order in which both were written.
        env: environment variables to add.
        kill_grace: seconds between TERM and KILL when it is aborted; None: do not kill.
        name: the node's name, or the command's key: whose failure it is.
        line_limit: how many bytes one line of output may have; None for any number. A process
            that prints a longer one is aborted, and fails.

    Attributes:
        stdin: what is to be sent to it; see :meth:`send_input`. Another buffer can be put here
            before the start.
    """

    def __init__(
        self,
        command: Union[str, Sequence[str]],
        engine: Engine,
        reaper: Reaper,
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
        self._reaper = reaper
        self._deliver = deliver
        self._merge_stderr = merge_stderr
        self._env = env
        self._kill_grace = kill_grace
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._lines: dict[PipeEnd, tuple[str, LineBuffer]] = {}
        self._watches: dict[PipeEnd, Watch] = {}
        self._input: Optional[PipeEnd] = None
        self.stdin = WriteBuffer()
        self._stdin_watch: Optional[Watch] = None
        self._writing = False
        self._done = False

    def __repr__(self) -> str:
        process = self._process
        state = "done" if self._done else "new" if process is None else f"process {process.pid}"
        return f"<LocalProcess {self._command!r}: {state}>"

    def spawn(self) -> None:
        """Make the process; :meth:`start` follows.

        Raises:
            OSError, ValueError: it could not be made.
        """
        env = {**os.environ, **self._env} if self._env else None
        self._process = subprocess.Popen(  # noqa: S603 the user's own command
            self._command,
            shell=isinstance(self._command, str),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if self._merge_stderr else subprocess.PIPE,
            env=env,
            bufsize=0,
            # A group of its own, so that all of it can be signalled, and Ctrl-C is ours alone.
            start_new_session=platform.PROCESS_GROUPS,
        )

    def start(self) -> None:
        """Listen to the process, and deliver that it has started."""
        process = self._process
        if process is None:
            raise RuntimeError(f"{self!r} has not been spawned")
        for sname, pipe in (("stdout", process.stdout), ("stderr", process.stderr)):
            if pipe is not None:
                stream = reader(pipe)
                self._lines[stream] = (sname, LineBuffer())
                self._watches[stream] = self._engine.register(
                    stream.fileno(), READ, partial(self._on_readable, stream)
                )
        if process.stdin is not None:
            self._input = writer(process.stdin)
        self._deliver(Started())
        if not self._done:
            self.send_input()

    # -- output --

    def _on_readable(self, stream: PipeEnd, _events: int) -> None:
        data = stream.read(_READ_SIZE)
        if data is None:
            return  # not readable after all
        sname, buffer = self._lines[stream]
        if data:
            lines = buffer.feed(data)
            if lines:
                self._deliver(Output(sname, lines))
            elif self._line_limit is not None and buffer.size > self._line_limit:
                # A line that never ends would take all memory: of all commands, it fails this one.
                self.abort()
                self._deliver(Failed(LineTooLongError.of(self._name, sname, self._line_limit)))
            return
        self._engine.unregister(self._watches.pop(stream))
        stream.close()
        rest = buffer.flush()
        if rest is not None:
            self._deliver(Output(sname, [rest]))
        if not self._watches and not self._done:
            self._look(_FIRST_LOOK)

    def _look(self, interval: float) -> None:
        """All output has come: wait for the process itself."""
        if self._done or self._process is None:
            return
        rc = self._process.poll()
        if rc is None:
            longer = min(2 * interval, _LONGEST_LOOK)
            self._engine.call_later(interval, lambda: self._look(longer))
            return
        self._close()
        # subprocess says -n for signal n, a shell 128 + n.
        self._deliver(Exited(rc if rc >= 0 else 128 - rc))

    # -- standard input --

    def send_input(self, _events: int = 0) -> None:
        """Send what waits in :attr:`stdin`, as soon and as fast as the process takes it."""
        stdin = self._input
        if stdin is None or stdin.closed or self._writing:
            # (A handler that writes as soon as it hears that something was written: the loop
            # below, from which it was called, goes on with it.)
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
        """Write a fair share of what waits; returns whether all of it has been written."""
        share = _FAIR_SHARE
        while self.stdin.size and share > 0:
            try:
                sent = stdin.write(self.stdin.peek())
            except BrokenPipeError:
                # Nobody reads it any more.
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
        """End the process, and deliver nothing any more.

        Its whole group gets TERM, and KILL after the grace period if the process is still there.
        """
        process = self._process
        if self._done:
            return
        self._close()
        if process is not None and process.poll() is None and self._kill_grace is not None:
            _signal_group(process, signal.SIGTERM)
            _reap(process, self._reaper, self._kill_grace)

    def _close(self) -> None:
        self._done = True
        for stream, watch in self._watches.items():
            self._engine.unregister(watch)
            stream.close()
        self._watches.clear()
        self._unwatch_stdin()
        self.stdin.clear()
        if self._input is not None:
            with suppress(BrokenPipeError):
                self._input.close()


# How much of what a command says on stderr is kept, for messages.
_COMPLAINT_SIZE = 4096

# How long to wait for the exit status of a command that has closed its output, in seconds.
_STATUS_DELAY = 1.0

# How long a command that got TERM may take, in seconds.
_END_GRACE = 1.0


class PipedProcess:
    """A local command whose standard input and output lead from and to a socket.

    Pipes cannot be waited for on every system (Windows), sockets can: two threads pass the bytes
    on. A third one keeps the end of what the command says on stderr.

    Args:
        command: for the user's shell, which it replaces: as ssh(1) runs its ProxyCommand.
        sock: the command's end of a pair of sockets, which this object owns from now on.
        reaper: sees to the command's end.

    Raises:
        OSError, ValueError: it could not be started; the socket is the caller's again.
    """

    def __init__(self, command: str, sock: socket.socket, reaper: Reaper) -> None:
        # Each thread closes its own.
        self._sock = sock
        output = sock.dup()
        try:
            self._process = self._spawn(command)
        except BaseException:
            output.close()
            raise
        self._reaper = reaper
        self._complaint = b""
        self._ended = self._killed = False
        self._listener = self._start_thread("stderr", self._listen)
        self._start_thread("input", self._pass_input)
        self._start_thread("output", lambda: self._pass_output(output))

    def __repr__(self) -> str:
        return f"<PipedProcess {self._process.pid}{': ended' if self._ended else ''}>"

    @staticmethod
    def _spawn(command: str) -> subprocess.Popen[bytes]:
        shell = os.environ.get("SHELL") or "/bin/sh"
        return subprocess.Popen(  # noqa: S603 the user's own command
            command if platform.WINDOWS else [shell, "-c", f"exec {command}"],
            shell=platform.WINDOWS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=platform.PROCESS_GROUPS,
        )

    def _start_thread(self, what: str, work: Callable[[], Any]) -> threading.Thread:
        name = f"pyclustershell {what} of process {self._process.pid}"
        thread = threading.Thread(target=work, name=name, daemon=True)
        thread.start()
        return thread

    def _pass_input(self) -> None:
        stdin = self._process.stdin
        # A command that reads no more, or that was ended: its output ends, too.
        with self._sock as sock, suppress(OSError):
            if stdin is None:
                return
            with stdin:
                while True:
                    data = sock.recv(_READ_SIZE)
                    if not data:
                        return
                    view = memoryview(data)
                    while view:
                        view = view[stdin.write(view) or 0 :]

    def _pass_output(self, sock: socket.socket) -> None:
        stdout = self._process.stdout
        with sock, suppress(OSError):
            if stdout is None:
                return
            with stdout:
                while True:
                    data = stdout.read(_READ_SIZE)
                    if not data:
                        break
                    sock.sendall(data)
            # By the time that the end is read, it shall be known how it came to it.
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STATUS_DELAY)
                self._listener.join(_STATUS_DELAY)
            sock.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> None:
        stderr = self._process.stderr
        if stderr is None:
            return
        with stderr:
            while True:
                data = stderr.read(_READ_SIZE)
                if not data:
                    return
                self._complaint = (self._complaint + data)[-_COMPLAINT_SIZE:]

    def why_ended(self) -> Optional[str]:
        """How the command ended by itself, with what it said last; None where all was well."""
        status = self._process.poll()
        if self._killed or not status:
            return None
        how = f"exit status {status}" if status > 0 else f"signal {-status}"
        lines = self._complaint.decode(errors="replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"ended with {how}" + (f": {printable(said)}" if said else "")

    def end(self) -> None:
        """End the command: its input ends, it gets TERM and in the end KILL. On any thread."""
        if self._ended:
            return
        self._ended = True
        self._killed = self._process.poll() is None
        if self._killed:
            _signal_group(self._process, signal.SIGTERM)
        _reap(self._process, self._reaper, _END_GRACE)


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to a process and its descendants, as far as they stayed in its group."""
    with suppress(ProcessLookupError, PermissionError):
        if platform.PROCESS_GROUPS:
            os.killpg(process.pid, number)
        else:
            process.terminate()


def _reap(process: subprocess.Popen[bytes], reaper: Reaper, grace: float) -> None:
    """Wait for a process that got TERM, look at growing intervals, and kill it in the end."""
    waited = 0.0
    interval = _FIRST_LOOK

    def look() -> None:
        nonlocal waited, interval
        if process.poll() is not None:
            return
        if waited >= grace:
            if platform.PROCESS_GROUPS:
                _signal_group(process, signal.SIGKILL)
            process.wait()
            return
        waited += interval
        interval = min(2 * interval, _LONGEST_LOOK)
        reaper.call_later(interval, look)

    look()
