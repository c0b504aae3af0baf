"""A process's standard streams, in a form that the engine can wait on.

They are pipes. If selectors accept only sockets (Windows), a thread for each pipe passes its bytes
on through a socket pair.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from typing import IO, Any, Callable, Optional, Protocol

from .. import platform

_CHUNK = 65536


class PipeEnd(Protocol):
    """Our end of a process's standard stream. No method blocks."""

    @property
    def closed(self) -> bool:
        """True if this end is closed."""
        ...

    def fileno(self) -> int:
        """The descriptor to wait on."""
        ...

    def read(self, size: int, /) -> Optional[bytes]:
        """Return up to ``size`` available bytes; None if there are none, b'' at the end."""
        ...

    def write(self, data: memoryview, /) -> Optional[int]:
        """Write as many bytes as there is room for.

        Returns:
            The number of bytes written; None if there is no room.

        Raises:
            BrokenPipeError: the process reads no more.
        """
        ...

    def close(self) -> None:
        """Close this end."""
        ...


def reader(pipe: IO[bytes]) -> PipeEnd:
    """Return our end of a stream that the process writes to."""
    if not platform.SOCKETS_ONLY:
        return _unblocked(pipe)
    ours, theirs = socket.socketpair()
    _start(pump_out, pipe, theirs)
    return _SocketEnd(ours)


def writer(pipe: IO[bytes]) -> PipeEnd:
    """Return our end of a stream that the process reads."""
    if not platform.SOCKETS_ONLY:
        return _unblocked(pipe)
    ours, theirs = socket.socketpair()
    _start(pump_in, pipe, theirs)
    return _SocketEnd(ours)


def _unblocked(pipe: IO[bytes]) -> PipeEnd:
    os.set_blocking(pipe.fileno(), False)
    return pipe


class _SocketEnd:
    """Our end of a socket pair, with the methods of a pipe."""

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


def _start(target: Callable[..., None], pipe: IO[bytes], sock: socket.socket) -> None:
    threading.Thread(
        target=target,
        args=(pipe, sock),
        name="pyclustershell pipe",
        daemon=True,
    ).start()


def _nothing() -> None:
    pass


def pump_out(
    pipe: IO[bytes], sock: socket.socket, before_end: Callable[[], Any] = _nothing
) -> None:
    """Pass the bytes that a process writes to a socket, up to the end. Blocks: for a thread.

    The socket's buffer is the only one: a full one holds the process back. When the other end of
    the socket is closed, the pipe is closed as well, as for a process whose reader has ended.

    Args:
        pipe: our end of the process's stream; closed at the end.
        sock: the socket; shut down and closed at the end.
        before_end: called when the process has closed its stream, before the socket is shut down.
    """
    with sock, pipe, suppress(OSError):
        while data := os.read(pipe.fileno(), _CHUNK):
            sock.sendall(data)
        before_end()
        # Another descriptor of this socket may be open, for the other direction: close() alone
        # would not end the stream.
        sock.shutdown(socket.SHUT_RDWR)


def pump_in(pipe: IO[bytes], sock: socket.socket) -> None:
    """Pass the bytes of a socket to a process, up to the end. Blocks: for a thread.

    Args:
        pipe: our end of the stream that the process reads; closed at the end.
        sock: the socket; closed at the end.
    """
    # On Windows, closing a pipe without a reader raises an error.
    with suppress(OSError), sock, pipe, suppress(OSError):
        while data := sock.recv(_CHUNK):
            left = memoryview(data)
            while left:
                left = left[os.write(pipe.fileno(), left) :]
