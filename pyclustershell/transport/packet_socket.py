"""What carries a transport's packets: bytes that are read and written without ever waiting."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Any, Callable, Optional, Protocol

# One recv brings as many packets as have come.
_READ_SIZE = 65536

# How much of what was kept is handed to the system at once.
_FLUSH_SIZE = 262144


class PacketStream(Protocol):
    """A stream of bytes to the peer and back, by whatever way.

    One thread at a time reads; any writes.

    Attributes:
        received: set when something has come; whoever watches the peer resets it.
    """

    received: bool

    def fileno(self) -> int:
        """The descriptor that is readable when :meth:`read` has something to say."""
        ...

    def read(self) -> Optional[bytes]:
        """What has come: None where that is nothing, b'' at the end of the stream."""
        ...

    def send(self, data: bytes) -> int:
        """Send all of it, or keep what the peer does not take now. Returns ``len(data)``."""
        ...

    def flush(self) -> bool:
        """Send what was kept, as far as the peer takes it. Returns whether nothing is left."""
        ...

    def close(self) -> None:
        """End the stream, but keep the descriptor: somebody may wait on it. On any thread."""
        ...

    def free(self) -> None:
        """Free the descriptor of a closed stream, which nobody waits on any more."""
        ...

    def settimeout(self, timeout: Optional[float]) -> None:
        """Do nothing; paramiko calls it."""
        ...


class PacketSocket:
    """A connected socket as a :class:`PacketStream`.

    Args:
        sock: a connected socket, which this object owns from now on.
        on_blocked: called (on the writing thread) when a write could not be sent whole; somebody
            must then call :meth:`flush` when the socket is writable.
    """

    def __init__(self, sock: socket.socket, on_blocked: Callable[[], Any]) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._on_blocked = on_blocked
        self._write_lock = threading.Lock()
        self._backlog = bytearray()
        self._shut = False
        self.received = False

    def __repr__(self) -> str:
        state = "shut" if self._shut else "open"
        return f"<PacketSocket {state}, {len(self._backlog)} bytes to write>"

    @property
    def _closed(self) -> bool:
        # What paramiko asks of a socket (Transport.stop_thread), as it is called there.
        return self._shut

    def fileno(self) -> int:
        """The socket's descriptor; -1 once it is freed."""
        return self._sock.fileno()

    def settimeout(self, timeout: Optional[float]) -> None:
        """Do nothing: paramiko's 0.1 s would make it a blocking socket again."""

    def read(self) -> Optional[bytes]:
        """What has come: None where that is nothing, b'' at the end of the stream.

        Raises:
            OSError: the connection is broken.
        """
        if self._shut:
            return b""
        try:
            data = self._sock.recv(_READ_SIZE)
        except BlockingIOError:
            return None
        self.received = True
        return data

    def send(self, data: bytes) -> int:
        """Send all of it, or keep what the peer does not take now. Returns ``len(data)``.

        What is kept is bounded by the windows of SSH's channels. A broken connection is not an
        error here: the reader learns of it.
        """
        with self._write_lock:
            if self._backlog:
                self._backlog += data
                return len(data)
            sent = self._send_some(data)
            if sent == len(data):
                return sent
            self._backlog += data[sent:]
        self._on_blocked()
        return len(data)

    def _send_some(self, data: bytes) -> int:
        if self._shut:
            return len(data)
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            # Reset: nothing more can be sent. What the peer sent before can still be read.
            return len(data)

    def flush(self) -> bool:
        """Send what was kept, as far as the peer takes it. Returns whether nothing is left."""
        with self._write_lock:
            if self._backlog:
                sent = self._send_some(bytes(self._backlog[:_FLUSH_SIZE]))
                del self._backlog[:sent]
            return not self._backlog

    @property
    def backlog(self) -> int:
        """How many bytes the peer has not taken yet."""
        return len(self._backlog)

    def close(self) -> None:
        """End the connection, but keep the descriptor: somebody may wait on it. On any thread."""
        self._shut = True
        with suppress(OSError):  # the peer has ended it already
            self._sock.shutdown(socket.SHUT_RDWR)

    def free(self) -> None:
        """Free the descriptor, which nobody waits on any more. On any thread."""
        with self._write_lock:
            self._shut = True
            self._sock.close()
