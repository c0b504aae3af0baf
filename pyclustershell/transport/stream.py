"""What lies under a transport: bytes to and from a server, however it is reached."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import Any, Callable, Optional

# How much of what was kept is handed on at once.
_FLUSH_SIZE = 262144


class PacketStream(ABC):
    """A stream of bytes to the peer and back. Nothing here ever waits.

    One thread at a time reads; any writes. A subclass says what carries the bytes: a TCP connection
    (:class:`.packet_socket.PacketSocket`), a channel of another transport
    (:class:`.tunnel.TunnelStream`), a local command (:class:`.proxycommand.CommandStream`).

    Attributes:
        address: whom it leads to, for messages.
        received: set when something has come; whoever watches the peer resets it.
        bytes_received: how many bytes have come.
        bytes_sent: how many bytes were handed over to be sent.
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
        """What has come: None where that is nothing, b'' at the end of the stream.

        Raises:
            OSError: the stream is broken.
        """

    @abstractmethod
    def watch(self, on_readable: Callable[[], bool]) -> None:
        """Have the engine call a function from now on whenever something can be read.

        Args:
            on_readable: reads once; returns whether there was something. On the engine's thread.
        """

    @abstractmethod
    def unwatch(self) -> None:
        """Have nothing called any more. On the engine's thread, or while it is at rest."""

    @property
    @abstractmethod
    def watched(self) -> bool:
        """Whether the engine calls a function, see :meth:`watch`."""

    @abstractmethod
    def fileno(self) -> int:
        """The descriptor that is readable when there is something to :meth:`fetch` and read."""

    def fetch(self) -> None:  # noqa: B027 - for a stream that something else carries
        """Let what carries this stream read, while the engine is at rest. On any thread."""

    def _count(self, data: bytes) -> bytes:
        self.received = True
        self.bytes_received += len(data)
        return data

    # -- writing --

    def send(self, data: bytes) -> int:
        """Send all of it, or keep what is not taken now. Returns ``len(data)``.

        What is kept is bounded by the windows of SSH's channels. A broken stream is not an error
        here: the reader learns of it.
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
        """Send as much as is taken at once; return how many bytes. The lock is held.

        A broken stream takes everything.
        """

    def _on_blocked(self) -> None:  # noqa: B027 - nothing to do where flush() is called anyway
        """A write could not be sent whole: see to it that :meth:`flush` is called.

        Called on the writing thread, without the lock.
        """

    def flush(self) -> bool:
        """Send what was kept, as far as it is taken. Returns whether nothing is left."""
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
        """Whether all that was sent has been taken.

        Args:
            then: called once when it has been, if it has not; on whatever thread calls
                :meth:`flush`, perhaps under locks: it must only post.
        """
        with self._write_lock:
            if self._backlog:
                self._when_drained.append(then)
            return not self._backlog

    @property
    def backlog(self) -> int:
        """How many bytes have not been taken yet."""
        return len(self._backlog)

    # -- the end --

    @abstractmethod
    def close(self) -> None:
        """End the stream, but keep its descriptor: somebody may wait on it. On any thread."""

    def free(self) -> None:  # noqa: B027 - for a stream that has a descriptor
        """Free the descriptor of a closed stream, which nobody waits on any more."""

    @property
    def ended_below(self) -> bool:
        """Whether the stream ended because what carries it did, which knows why."""
        return False

    def why_ended(self) -> Optional[str]:
        """What is known of the end of the stream, but that it has ended; None for nothing."""
        return None

    # -- what paramiko asks of a socket --

    @property
    def _closed(self) -> bool:
        # As it is called in Transport.stop_thread.
        return self._shut

    def settimeout(self, timeout: Any) -> None:  # noqa: B027 - for all of them
        """Do nothing: paramiko's 0.1 s would make a blocking socket of it."""
