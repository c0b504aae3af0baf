"""The server's side of one command: a process, its pipes, and the channel that they belong to."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, Callable, Optional, Union, cast

import paramiko

from ... import platform
from .hooks import send_exit_signal

# One read fills one packet of 32 KiB, paramiko's and OpenSSH's largest.
_CHUNK = 32768 - 64

_PIPE_BUF = getattr(select, "PIPE_BUF", 4096)

# What sending on a channel raises when the channel or the connection is gone.
_CHANNEL_GONE = (OSError, EOFError, paramiko.SSHException)

# The signals that have a name in SSH (RFC 4254, 6.10).
_SSH_NAMES = "ABRT ALRM FPE HUP ILL INT KILL PIPE QUIT SEGV TERM USR1 USR2"
_SIGNALS: dict[str, int] = {
    name: int(getattr(signal, "SIG" + name))
    for name in _SSH_NAMES.split(" ")
    if hasattr(signal, "SIG" + name)
}
_SIGNAL_NAMES = {number: name for name, number in _SIGNALS.items()}

# The signal that ends a process whatever it does; Windows has but one way to end them.
SIGKILL = getattr(signal, "SIGKILL", signal.SIGTERM)

Argument = Union[str, bytes]


def signal_group(group: int, number: int) -> bool:
    """Send a signal to a process group; on Windows, end the process of that number.

    Args:
        group: the group's number.
        number: the signal's; 0 only looks whether the group is there. On Windows it never is:
            processes have no groups there that outlive the first of them.

    Returns:
        Whether there is such a group.
    """
    try:
        if platform.PROCESS_GROUPS:
            os.killpg(group, number)
        elif number == 0:
            return False
        else:
            os.kill(group, signal.SIGTERM)
    except OSError:
        return False
    return True


class _Gate:
    """Waits until a pipe is ready, or until the server stops.

    A process that left its group, and so survives the session, may hold its pipes open for ever.
    Windows cannot wait for pipes: there, reads and writes block.
    """

    def __init__(self, pipe: IO[bytes], for_writing: bool, closing: socket.socket) -> None:
        self._closing = closing.fileno()
        self._poll = select.poll() if hasattr(select, "poll") else None
        if self._poll is not None:
            self._poll.register(pipe, select.POLLOUT if for_writing else select.POLLIN)
            self._poll.register(self._closing, select.POLLIN)

    def wait(self) -> bool:
        """Wait. Returns True when the pipe is ready (or broken), False when the server stops."""
        return self._poll is None or self._closing not in dict(self._poll.poll())


class Session:
    """A process whose standard streams are an SSH channel.

    Three things can end in any order: standard output, standard error, and the process. A thread
    waits for each. As OpenSSH does, the exit status is sent when the process ends, EOF when both
    streams have ended (a child in the background may hold them open), and close after both. The
    channel's window is the only buffer: a client that does not read stops the process.

    The process leads a process group of its own, which gets the signals.

    Args:
        channel: the channel; :meth:`start` begins to use it.
        arguments: the command's argument vector.
        environment: its environment.
        directory: its working directory.
        closing: a socket that becomes readable when the server stops.
        on_ended: called once, on one of the session's threads, when the channel was closed and
            nothing is left to be done.

    Raises:
        OSError: the process could not be started.
    """

    def __init__(
        self,
        channel: paramiko.Channel,
        arguments: Sequence[Argument],
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
        # What is left to be told to the client: EOF, and how the process ended.
        self._eof_due = True
        self._status_due = True
        self._input_open = True
        self._threads: list[threading.Thread] = []
        self._input_thread: Optional[threading.Thread] = None
        self._ended = threading.Event()
        self._process = subprocess.Popen(  # noqa: S603 - to run what a client asks for is its purpose
            cast(Sequence[str], arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd=directory,
            env=environment,
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )

    def __repr__(self) -> str:
        state = "running" if self._status_due else "exited"
        return (
            f"<Session pid={self._process.pid} {state}, "
            f"{self._open_streams} output streams open, input {'' if self._input_open else 'not '}"
            "open>"
        )

    @property
    def group(self) -> int:
        """The number of the process group."""
        return self._process.pid

    def start(self) -> None:
        """Begin to use the channel. On the transport's thread, after the request was answered."""
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
        # Input may have come before the command that it is for.
        if channel.recv_ready():
            self.feed_input()
        elif channel.eof_received:
            self.end_input()

    # -- output and exit --------------------------------------------------------------------------

    def _pump(self, stream: IO[bytes], send: Callable[[bytes], object]) -> None:
        gate = _Gate(stream, for_writing=False, closing=self._closing)
        with suppress(*_CHANNEL_GONE):
            while gate.wait() and (data := os.read(stream.fileno(), _CHUNK)):
                send(data)
        # Where the client went away, the process's next write fails with EPIPE.
        stream.close()
        with self._lock:
            self._open_streams -= 1
            if self._open_streams:
                return
        with suppress(*_CHANNEL_GONE):
            self._channel.shutdown_write()
        self._told(eof=True)

    def _wait(self) -> None:
        code = self._process.wait()
        with suppress(*_CHANNEL_GONE):
            if code >= 0:
                self._channel.send_exit_status(code)
            else:
                # As OpenSSH words the signals that have no name in SSH.
                send_exit_signal(self._channel, _SIGNAL_NAMES.get(-code, "SIG@openssh.com"))
        self._told(status=True)

    def _told(self, eof: bool = False, status: bool = False) -> None:
        # Only now, after it was sent: whoever comes second closes the channel.
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

        Most commands get none, so the thread that may have to wait for the process to read it
        starts with the first input.
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
        """No input will come any more. On any thread; more than once does no harm."""
        with self._lock:
            if self._threads and self._input_thread is None:
                self._close_input()

    def _feed(self) -> None:
        stream = cast(IO[bytes], self._process.stdin)
        gate = _Gate(stream, for_writing=True, closing=self._closing)
        with suppress(*_CHANNEL_GONE):
            while data := self._channel.recv(_CHUNK):
                # A ready pipe takes this much without blocking (POSIX).
                for start in range(0, len(data), _PIPE_BUF):
                    if not gate.wait():
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
            Whether it was sent: the name is known here, and the group still exists.
        """
        number = _SIGNALS.get(name)
        return number is not None and self._signal(number)

    def kill(self) -> None:
        """End the process group at once."""
        self._signal(SIGKILL)

    def _signal(self, number: int) -> bool:
        with self._lock:
            # When nothing holds the streams open any more, the group's number may be another's.
            if not self._status_due and not self._open_streams:
                return False
            return signal_group(self.group, number)

    def wait(self, timeout: float) -> bool:
        """Wait until the session has ended. Returns whether it has."""
        return self._ended.wait(timeout)

    def join(self, timeout: float) -> None:
        """Wait for the session's threads, for ``timeout`` seconds each at the most."""
        for thread in list(self._threads):
            if thread is not threading.current_thread():
                thread.join(timeout)
