"""A TCP connection as the stream under a transport."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any, Callable, Optional

from ...engine.engine import READ, WRITE, Engine, Watch
from ..protocol.bytestream import ByteStream

# One recv returns all packets that have arrived. If it fills the buffer, more follow: read more.
_READ_SIZE = 1 << 16
_LARGE_READ_SIZE = 1 << 18


class TCPStream(ByteStream):
    """A connected socket, which the engine reads from and writes to.

    Args:
        sock: a connected socket, which this object owns from now on.
        engine: the engine.
        address: the peer's address, for messages.
    """

    def __init__(self, sock: socket.socket, engine: Engine, address: str = "") -> None:
        super().__init__(address)
        sock.setblocking(False)
        self._sock = sock
        self._engine = engine
        self._read_size = _READ_SIZE
        self._watch: Optional[Watch] = None
        self._on_readable: Callable[[], Any] = lambda: None

    def fileno(self) -> int:
        """Return the socket's descriptor; -1 once it is freed."""
        return self._sock.fileno()

    # -- reading --

    def read(self) -> Optional[bytes]:
        """Return the bytes that have arrived: None if there are none, b'' at the end of the stream.

        Raises:
            OSError: the connection is broken.
        """
        if self._shut:
            return b""
        try:
            data = self._sock.recv(self._read_size)
        except BlockingIOError:
            return None
        self._read_size = _LARGE_READ_SIZE if len(data) >= _READ_SIZE else _READ_SIZE
        return self._count(data)

    def watch(self, on_readable: Callable[[], bool]) -> None:
        """Make the engine read from now on."""
        self._on_readable = on_readable
        events = READ if self.flush() else READ | WRITE
        # The engine selects on this descriptor: it is the fileno() of the transport's channels.
        self._watch = self._engine.register(self, events, self._on_ready)

    def unwatch(self) -> None:
        """Stop the engine's reading."""
        if self._watch is not None:
            self._engine.unregister(self._watch)
            self._watch = None
            # The function belongs to an object that refers to this stream.
            self._on_readable = lambda: None

    @property
    def watched(self) -> bool:
        """True if the engine reads."""
        return self._watch is not None

    def _on_ready(self, events: int) -> None:
        watch = self._watch
        if events & WRITE and watch is not None and self.flush():
            self._engine.modify(watch, READ)
        if events & READ:
            self._on_readable()

    # -- writing --

    def _send_some(self, data: bytes) -> int:
        if self._shut:
            return len(data)
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            # Reset: no byte can be sent. Bytes that the peer sent before can still be read.
            return len(data)

    def _on_blocked(self) -> None:
        self._engine.post(self._wait_to_write)

    def _wait_to_write(self) -> None:
        """The peer does not accept more bytes now: wait until it does."""
        if self._watch is not None:
            self._engine.modify(self._watch, READ | WRITE)

    # -- the end --

    def close(self) -> None:
        """End the connection, but keep the descriptor: the engine may wait on it. On any thread."""
        if self._shut:
            return
        self._shut = True
        with suppress(OSError):  # the peer has ended it already
            self._sock.shutdown(socket.SHUT_RDWR)

    def abandon(self) -> None:
        """In a forked child: see :meth:`.bytestream.ByteStream.abandon`."""
        super().abandon()
        self._watch = None
        self._sock.close()  # no shutdown(): that would end the parent's connection

    def free(self) -> None:
        """Free the descriptor. The engine must not wait on it any more. On any thread."""
        with self._write_lock:
            self._shut = True
            self._sock.close()
