"""The server's side of one command: a process whose pipes are connected to a channel."""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Callable, Optional, cast

import paramiko

from ..local.group import SIGKILL, ProcessGroup
from ..local.process import Arguments, spawn
from .paramiko_hooks import send_exit_signal

logger = logging.getLogger("pyclustershell.loopback")

# One read fills one packet of 32 KiB, the largest of paramiko and OpenSSH.
_CHUNK = 32768 - 64

_PIPE_BUF = getattr(select, "PIPE_BUF", 4096)

# The exceptions of sending on a channel after the channel or the connection has closed.
_CHANNEL_GONE = (OSError, EOFError, paramiko.SSHException)

# The signals with a name in SSH (RFC 4254, 6.10).
_SSH_NAMES = "ABRT ALRM FPE HUP ILL INT KILL PIPE QUIT SEGV TERM USR1 USR2"
_SIGNALS: dict[str, int] = {
    name: int(getattr(signal, "SIG" + name))
    for name in _SSH_NAMES.split(" ")
    if hasattr(signal, "SIG" + name)
}
_SIGNAL_NAMES = {number: name for name, number in _SIGNALS.items()}


# The exit status of a shell whose command cannot be started (POSIX).
_NOT_STARTED = 127


def send_failure(channel: paramiko.Channel, text: str) -> None:
    """Report a command that could not be started, as a shell does, and close its channel."""
    with suppress(*_CHANNEL_GONE):
        channel.sendall_stderr(f"{text}\n".encode("utf-8", "surrogateescape"))
        channel.send_exit_status(_NOT_STARTED)
        channel.shutdown_write()
        channel.close()


class _PipeWaiter:
    """Waits until a pipe is ready, or until the server stops.

    A process that left its group survives the session, and may keep its pipes open for ever.
    Windows cannot wait for pipes: there, reads and writes block.
    """

    def __init__(self, pipe: IO[bytes], for_writing: bool, closing: socket.socket) -> None:
        self._closing = closing.fileno()
        self._poll = select.poll() if hasattr(select, "poll") else None
        if self._poll is not None:
            self._poll.register(pipe, select.POLLOUT if for_writing else select.POLLIN)
            self._poll.register(self._closing, select.POLLIN)

    def wait(self) -> bool:
        """Wait. Returns True if the pipe is ready (or broken), False if the server stops."""
        return self._poll is None or self._closing not in dict(self._poll.poll())


class Session:
    """A process whose standard streams are an SSH channel.

    Standard output, standard error and the process can end in any order. A thread waits for each.
    As in OpenSSH, the exit status is sent when the process ends, EOF when both streams have ended
    (a child in the background may keep them open), and close after both. The channel's window is
    the only buffer: the process blocks if the client does not read.

    The process has a process group of its own, which gets the signals.

    Args:
        channel: the channel, unused before :meth:`start`.
        arguments: the command's arguments.
        environment: its environment.
        directory: its working directory.
        closing: a socket that becomes readable when the server stops.
        on_ended: called once, on one of the session's threads, after the process and its streams
            have ended and the channel is closed.

    Raises:
        OSError: the process could not be started.
    """

    def __init__(
        self,
        channel: paramiko.Channel,
        arguments: Arguments,
        *,
        environment: Mapping[str, str],
        directory: str,
        closing: socket.socket,
        on_ended: Callable[[Session], object],
    ) -> None:
        self._channel = channel
        self._closing = closing
        self._on_ended = on_ended
        self._lock = threading.Lock()
        self._open_streams = 2
        # The messages that the client still has to get: EOF, and the exit status or signal.
        self._eof_due = True
        self._status_due = True
        self._input_open = True
        self._threads: list[threading.Thread] = []
        self._input_thread: Optional[threading.Thread] = None
        self._ended = threading.Event()
        self._process = spawn(arguments, environment, directory)

    def __repr__(self) -> str:
        state = "running" if self._status_due else "exited"
        return (
            f"<Session pid={self._process.pid} {state}, "
            f"{self._open_streams} output streams open, input {'' if self._input_open else 'not '}"
            "open>"
        )

    @property
    def group(self) -> ProcessGroup:
        """The process and its descendants."""
        return self._process.group

    def start(self) -> None:
        """Start to use the channel. On the transport's thread, after the reply to the request."""
        if self._threads:
            return
        process, channel = self._process, self._channel
        for name, target, arguments in (
            ("stdout", self._pump, (process.stdout, channel.sendall)),
            ("stderr", self._pump, (process.stderr, channel.sendall_stderr)),
            ("process", self._wait, ()),
        ):
            thread = threading.Thread(
                target=target, args=arguments, name=f"loopback-{name}-{process.pid}", daemon=True
            )
            self._threads.append(thread)
            thread.start()
        # Input may have arrived before the command started.
        if channel.recv_ready():
            self.feed_input()
        elif channel.eof_received:
            self.end_input()

    # -- output and exit --------------------------------------------------------------------------

    def _pump(self, stream: IO[bytes], send: Callable[[bytes], object]) -> None:
        waiter = _PipeWaiter(stream, for_writing=False, closing=self._closing)
        with suppress(*_CHANNEL_GONE):
            while waiter.wait() and (data := os.read(stream.fileno(), _CHUNK)):
                send(data)
        # If the client has gone, the process's next write fails with EPIPE.
        stream.close()
        with self._lock:
            self._open_streams -= 1
            if self._open_streams:
                return
        with suppress(*_CHANNEL_GONE):
            self._channel.shutdown_write()
        self._mark_sent(eof=True)

    def _wait(self) -> None:
        code = self._process.wait()
        with suppress(*_CHANNEL_GONE):
            if self._process.why_lost:
                # The channel closes without a status: no value would be true.
                logger.warning(
                    "a command of the loopback cluster has ended; %s", self._process.why_lost
                )
            elif code >= 0:
                self._channel.send_exit_status(code)
            else:
                # OpenSSH's name for signals without a name in SSH.
                send_exit_signal(self._channel, _SIGNAL_NAMES.get(-code, "SIG@openssh.com"))
        self._mark_sent(status=True)

    def _mark_sent(self, eof: bool = False, status: bool = False) -> None:
        # Called after the message was sent. The thread that sends the last one closes the channel.
        with self._lock:
            self._eof_due = self._eof_due and not eof
            self._status_due = self._status_due and not status
            if self._eof_due or self._status_due:
                return
        with suppress(*_CHANNEL_GONE):
            self._channel.close()
        self.end_input()
        self._ended.set()
        self._on_ended(self)

    # -- input ------------------------------------------------------------------------------------

    def feed_input(self) -> None:
        """Input is in the channel's buffer. On the transport's thread.

        Writing it may have to wait for the process, so a thread does it. Most commands get no
        input: the thread starts with the first input.
        """
        with self._lock:
            if not self._threads or not self._input_open or self._input_thread is not None:
                return
            self._input_thread = threading.Thread(
                target=self._feed, name=f"loopback-stdin-{self._process.pid}", daemon=True
            )
            self._threads.append(self._input_thread)
        self._input_thread.start()

    def end_input(self) -> None:
        """There is no more input. On any thread; further calls do nothing."""
        with self._lock:
            if self._threads and self._input_thread is None:
                self._close_input()

    def _feed(self) -> None:
        stream = cast(IO[bytes], self._process.stdin)
        waiter = _PipeWaiter(stream, for_writing=True, closing=self._closing)
        with suppress(*_CHANNEL_GONE):
            while data := self._channel.recv(_CHUNK):
                # A ready pipe takes this much without blocking (POSIX).
                for start in range(0, len(data), _PIPE_BUF):
                    if not waiter.wait():
                        raise EOFError
                    os.write(stream.fileno(), data[start : start + _PIPE_BUF])
        with self._lock:
            self._close_input()

    def _close_input(self) -> None:
        self._input_open = False
        cast(IO[bytes], self._process.stdin).close()

    # -- signals and the end ----------------------------------------------------------------------

    def send_signal(self, name: str) -> bool:
        """Send a signal to the process group.

        Args:
            name: the signal without "SIG" (RFC 4254, 6.10).

        Returns:
            True if it was sent: the name is known here, and the group still exists.
        """
        number = _SIGNALS.get(name)
        return number is not None and self._signal(number)

    def kill(self) -> None:
        """Kill the process group."""
        self._signal(SIGKILL)

    def _signal(self, number: int) -> bool:
        with self._lock:
            # Once the process and its streams have ended, another group may have this number.
            if not self._status_due and not self._open_streams:
                return False
            return self.group.signal(number)

    def wait(self, timeout: float) -> bool:
        """Wait until the session has ended. Returns False after ``timeout`` seconds."""
        return self._ended.wait(timeout)

    def join(self, timeout: float) -> None:
        """Wait for the session's threads, at most ``timeout`` seconds for each."""
        for thread in list(self._threads):
            if thread is not threading.current_thread():
                thread.join(timeout)
