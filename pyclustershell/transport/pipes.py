"""A process's standard streams, as the engine can wait for them.

They are pipes. Where selectors take sockets only (Windows), a thread for each passes its bytes on
through a socket pair.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from typing import IO, Optional, Protocol

from .. import platform

_CHUNK = 65536


class PipeEnd(Protocol):
    """Our end of a process's standard stream. Nothing blocks."""

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        ...

    def fileno(self) -> int:
        """The descriptor to wait on."""
        ...

    def read(self, size: int, /) -> Optional[bytes]:
        """What has come, at most ``size`` bytes; None where nothing has, b'' at the end."""
        ...

    def write(self, data: memoryview, /) -> Optional[int]:
        """Write what there is room for; how many bytes, None where there is no room.

        Raises:
            BrokenPipeError: nobody reads any more.
        """
        ...

    def close(self) -> None:
        """Close it."""
        ...


def reader(pipe: IO[bytes]) -> PipeEnd:
    """Our end of a stream that the process writes to."""
    if not platform.SOCKETS_ONLY:
        return _unblocked(pipe)
    ours, theirs = socket.socketpair()
    _start(_pump_out, pipe, theirs)
    return _SocketEnd(ours)


def writer(pipe: IO[bytes]) -> PipeEnd:
    """Our end of a stream that the process reads."""
    if not platform.SOCKETS_ONLY:
        return _unblocked(pipe)
    ours, theirs = socket.socketpair()
    _start(_pump_in, pipe, theirs)
    return _SocketEnd(ours)


def _unblocked(pipe: IO[bytes]) -> PipeEnd:
    os.set_blocking(pipe.fileno(), False)
    return pipe


class _SocketEnd:
    """Our end of a socket pair, with a pipe's manners."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self.closed = False

    def fileno(self) -> int:
        return self._sock.fileno()

    def read(self, size: int, /) -> Optional[bytes]:
        try:
            return self._sock.recv(size)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def write(self, data: memoryview, /) -> Optional[int]:
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return None
        except OSError as error:
            raise BrokenPipeError(*error.args) from None

    def close(self) -> None:
        self.closed = True
        self._sock.close()


def _start(target: object, pipe: IO[bytes], sock: socket.socket) -> None:
    threading.Thread(
        target=target,  # type: ignore[arg-type]
        args=(pipe, sock),
        name="pyclustershell pipe",
        daemon=True,
    ).start()


def _pump_out(pipe: IO[bytes], sock: socket.socket) -> None:
    """Pass on what the process writes. The socket's buffer is the only one: it holds the rest back.

    Where nobody wants it any more the pipe is closed, as it is for a process whose reader ended.
    """
    with sock, pipe, suppress(OSError):
        while data := os.read(pipe.fileno(), _CHUNK):
            sock.sendall(data)


def _pump_in(pipe: IO[bytes], sock: socket.socket) -> None:
    """Pass on what the process shall read, until its end."""
    # Closing a pipe that nobody reads is an error on Windows.
    with suppress(OSError), sock, pipe, suppress(OSError):
        while data := sock.recv(_CHUNK):
            left = memoryview(data)
            while left:
                left = left[os.write(pipe.fileno(), left) :]
