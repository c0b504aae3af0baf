"""The socket that a paramiko Transport reads and writes."""

from __future__ import annotations

import select
import socket
import threading
from contextlib import suppress
from typing import Any, Callable, Optional

# One recv brings as many packets as have come; paramiko asks for 16 bytes, then for the rest.
_READ_SIZE = 65536

# Without it (Windows) the socket itself is non-blocking and the reader waits in select.
_DONT_WAIT: Optional[int] = getattr(socket, "MSG_DONTWAIT", None)


class PacketSocket:
    """A connected socket with buffered reads and with writes that never block.

    One thread reads: the transport's own. Any thread writes. What the peer does not take at once
    is kept, and sent by :meth:`flush`; the amount is bounded by the windows of SSH's channels.

    Args:
        sock: a connected socket, which this object owns from now on.
        on_blocked: called (on the writing thread) when a write could not be sent whole; somebody
            must then call :meth:`flush` when the socket is writable.
    """

    def __init__(self, sock: socket.socket, on_blocked: Callable[[], Any]) -> None:
        # No timeout: with one, every recv is a poll and a recv. Whoever wants the reader to stop
        # calls close(), which ends its recv at once.
        sock.setblocking(_DONT_WAIT is not None)
        self._sock = sock
        self._on_blocked = on_blocked
        self._incoming = b""
        self._position = 0
        self._write_lock = threading.Lock()
        self._backlog = bytearray()
        self._reader: Optional[int] = None
        self._shut = False
        #: Set when something has come; whoever watches the peer resets it.
        self.received = False

    def __repr__(self) -> str:
        state = "shut" if self._shut else "open"
        return f"<PacketSocket {state}, {len(self._backlog)} bytes to write>"

    @property
    def _closed(self) -> bool:
        # What paramiko asks of a socket (Transport.stop_thread), as it is called there.
        return self._shut

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._sock.fileno()

    def dup(self) -> socket.socket:
        """Another socket object for the same connection, for who waits to write."""
        return self._sock.dup()

    def getpeername(self) -> Any:
        """The peer's address."""
        return self._sock.getpeername()

    def settimeout(self, timeout: Optional[float]) -> None:
        """Do nothing: paramiko sets 0.1 s, which would wake every idle transport 10 times a second.

        https://github.com/paramiko/paramiko/issues/361
        """

    def recv(self, size: int) -> bytes:
        """Wait for data; up to ``size`` bytes, b'' at the end of the stream."""
        position = self._position
        data = self._incoming[position : position + size]
        if data:
            self._position = position + len(data)
            return data
        if self._reader is None:
            self._reader = threading.get_ident()
        self._incoming = data = self._receive()
        self.received = True
        self._position = min(size, len(data))
        return data[:size]

    def _receive(self) -> bytes:
        while not self._shut:
            try:
                return self._sock.recv(_READ_SIZE)
            except BlockingIOError:
                select.select([self._sock], [], [])
        return b""

    def send(self, data: bytes) -> int:
        """Send all of it, or keep what the peer does not take now. Returns ``len(data)``.

        A broken connection is not an error here: the reader learns of it.
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
        try:
            return self._sock.send(data, _DONT_WAIT or 0)
        except BlockingIOError:
            return 0
        except OSError:
            # Reset or shut: nothing more can be sent, and the reader's recv ends.
            self._shut_down()
            return len(data)

    def flush(self) -> bool:
        """Send what was kept, as far as the peer takes it. Returns whether nothing is left."""
        with self._write_lock:
            if self._backlog:
                sent = self._send_some(bytes(self._backlog[:262144]))
                del self._backlog[:sent]
            return not self._backlog

    @property
    def backlog(self) -> int:
        """How many bytes the peer has not taken yet."""
        return len(self._backlog)

    def _shut_down(self) -> None:
        self._shut = True
        # Not connected any more: then the reader's recv has ended, too.
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the connection: a waiting reader returns at once, and closes the descriptor.

        A descriptor that another thread waits on must not be closed under it: its number could be
        reused by the time that the other thread looks at it.
        """
        self._shut_down()
        if self._reader is None or self._reader == threading.get_ident():
            self._sock.close()
