"""A TCP connection as the stream under a transport."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any, Callable, Optional

from ..engine.engine import READ, WRITE, Engine, Watch
from .stream import PacketStream

# One recv brings as many packets as have come. Where that many have come, more are on their way.
_READ_SIZE = 1 << 16
_MUCH = 1 << 18


class PacketSocket(PacketStream):
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
        """The socket's descriptor; -1 once it is freed."""
        return self._sock.fileno()

    # -- reading --

    def read(self) -> Optional[bytes]:
        """What has come: None where that is nothing, b'' at the end of the stream.

        Raises:
            OSError: the connection is broken.
        """
        if self._shut:
            return b""
        try:
            data = self._sock.recv(self._read_size)
        except BlockingIOError:
            return None
        self._read_size = _MUCH if len(data) >= _READ_SIZE else _READ_SIZE
        return self._count(data)

    def watch(self, on_readable: Callable[[], bool]) -> None:
        """Have the engine read from now on."""
        self._on_readable = on_readable
        events = READ if self.flush() else READ | WRITE
        self._watch = self._engine.register(self, events, self._on_ready)

    def unwatch(self) -> None:
        """Have the engine read no more."""
        if self._watch is not None:
            self._engine.unregister(self._watch)
            self._watch = None

    @property
    def watched(self) -> bool:
        """Whether the engine reads."""
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
            # Reset: nothing more can be sent. What the peer sent before can still be read.
            return len(data)

    def _on_blocked(self) -> None:
        self._engine.post(self._wait_to_write)

    def _wait_to_write(self) -> None:
        """The peer does not take what is written: wait until it does."""
        if self._watch is not None:
            self._engine.modify(self._watch, READ | WRITE)

    # -- the end --

    def close(self) -> None:
        """End the connection, but keep the descriptor: somebody may wait on it. On any thread."""
        if self._shut:
            return
        self._shut = True
        with suppress(OSError):  # the peer has ended it already
            self._sock.shutdown(socket.SHUT_RDWR)

    def free(self) -> None:
        """Free the descriptor, which nobody waits on any more. On any thread."""
        with self._write_lock:
            self._shut = True
            self._sock.close()
