"""The byte stream under an SSH transport: the base of the TCP, ProxyCommand and tunnel streams."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import Any, Callable, Optional

# The number of kept bytes that are sent at once.
_FLUSH_SIZE = 262144


class ByteStream(ABC):
    """A stream of bytes to the peer and back. No method waits.

    One thread at a time reads; any thread writes. There is a subclass for each carrier: a TCP
    connection (:class:`.tcpstream.TCPStream`), a channel of another transport
    (:class:`.tunnelstream.TunnelStream`), a local command
    (:class:`.proxycommand.ProxyCommandStream`).

    Attributes:
        address: the peer's address, for messages.
        received: set to True when bytes arrive; the code that checks for dead peers resets it.
        bytes_received: the number of bytes that have arrived.
        bytes_sent: the number of bytes handed over to be sent.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.received = False
        self.bytes_received = 0
        self.bytes_sent = 0
        self._write_lock = threading.Lock()
        self._backlog = bytearray()
        self._when_drained: list[Callable[[], Any]] = []
        self._shut = False

    def __repr__(self) -> str:
        state = "shut" if self._shut else "open"
        return f"<{type(self).__name__} {state}, {len(self._backlog)} bytes to write>"

    # -- reading --

    @abstractmethod
    def read(self) -> Optional[bytes]:
        """Return the bytes that have arrived: None if there are none, b'' at the end of the stream.

        Raises:
            OSError: the stream is broken.
        """

    @abstractmethod
    def watch(self, on_readable: Callable[[], bool]) -> None:
        """Call a function from now on whenever there are bytes to read.

        Args:
            on_readable: reads once, and returns True if there were bytes. On the engine's thread.
        """

    @abstractmethod
    def unwatch(self) -> None:
        """Stop calling the function. On the engine's thread, or while the engine is at rest."""

    @property
    @abstractmethod
    def watched(self) -> bool:
        """True if the engine calls a function, see :meth:`watch`."""

    @abstractmethod
    def fileno(self) -> int:
        """Return the descriptor that is readable when there are bytes to :meth:`fetch` and read."""

    def fetch(self) -> None:  # noqa: B027 - only a stream inside another one overrides it
        """Make the carrier of this stream read, while the engine is at rest. On any thread."""

    def _count(self, data: bytes) -> bytes:
        self.received = True
        self.bytes_received += len(data)
        return data

    # -- writing --

    def send(self, data: bytes) -> int:
        """Send the bytes, and keep those that cannot be sent now. Returns ``len(data)``.

        The windows of the SSH channels bound the number of bytes kept. A broken stream is not an
        error here: the reader notices it.
        """
        with self._write_lock:
            self.bytes_sent += len(data)
            if self._backlog:
                self._backlog += data
                return len(data)
            sent = self._send_some(data)
            if sent == len(data):
                return sent
            self._backlog += data[sent:]
        self._on_blocked()
        return len(data)

    @abstractmethod
    def _send_some(self, data: bytes) -> int:
        """Send as many bytes as possible without waiting; return their number. The lock is held.

        A broken stream accepts every byte.
        """

    def _on_blocked(self) -> None:  # noqa: B027 - nothing to do if flush() is called anyway
        """Some bytes could not be sent: arrange for a call of :meth:`flush`.

        Called on the writing thread, without the lock.
        """

    def flush(self) -> bool:
        """Send kept bytes, as many as possible without waiting. Returns True if none are left."""
        with self._write_lock:
            if self._backlog:
                sent = self._send_some(bytes(self._backlog[:_FLUSH_SIZE]))
                del self._backlog[:sent]
            if self._backlog:
                return False
            callbacks, self._when_drained = self._when_drained, []
        for callback in callbacks:
            callback()
        return True

    def is_drained(self, then: Callable[[], Any]) -> bool:
        """Return True if no bytes are kept.

        Args:
            then: called once when no bytes are kept any more; not called if this method returns
                True. It runs on the thread that calls :meth:`flush`, perhaps under locks: it must
                only post.
        """
        with self._write_lock:
            if self._backlog:
                self._when_drained.append(then)
            return not self._backlog

    @property
    def backlog(self) -> int:
        """The number of bytes kept."""
        return len(self._backlog)

    # -- the end --

    @abstractmethod
    def close(self) -> None:
        """End the stream, but keep its descriptor: the engine may wait on it. On any thread."""

    def free(self) -> None:  # noqa: B027 - for a stream that has a descriptor
        """Free the descriptor of a closed stream. The engine must not wait on it any more."""

    def abandon(self) -> None:
        """In a forked child: the stream is the parent's. Bytes sent from now on are dropped."""
        self._shut = True
        self._write_lock = threading.Lock()
        self._backlog = bytearray()
        self._when_drained = []

    @property
    def ended_below(self) -> bool:
        """True if the stream ended because its carrier ended. The carrier knows the reason."""
        return False

    def why_ended(self) -> Optional[str]:
        """Return the reason why the stream ended; None if no more is known than that it did."""
        return None

    # -- the part of a socket that paramiko uses --

    @property
    def _closed(self) -> bool:
        # Transport.stop_thread reads this name.
        return self._shut

    def settimeout(self, timeout: Any) -> None:  # noqa: B027 - for all of them
        """Do nothing: with paramiko's 0.1 s the socket would block."""
