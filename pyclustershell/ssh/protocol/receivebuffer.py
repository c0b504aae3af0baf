"""The bytes that a channel has received and that have not been read."""

from __future__ import annotations

import threading
from typing import Any, Optional, Union

from paramiko.buffered_pipe import PipeTimeout


class ReceiveBuffer:
    """Replaces paramiko's BufferedPipe, which copies every byte into an array and out of it.

    Here the pieces (views of packets, for example) are kept as they are until they are read, and
    are then joined once. No method waits: call :meth:`read_ready` before :meth:`read`.

    Attributes:
        size: how many bytes have not been read.
    """

    def __init__(self) -> None:
        # One thread feeds, and another one may read: a command can be aborted between two runs.
        self._lock = threading.Lock()
        self._chunks: list[Union[bytes, memoryview]] = []
        self._event: Any = None
        self._closed = False
        self.size = 0

    def __len__(self) -> int:
        return self.size

    def set_event(self, event: Any) -> None:
        """Keep an event set while there are bytes to read, and after the end.

        Args:
            event: a threading.Event; None for none.
        """
        with self._lock:
            self._event = event
            if event is None:
                return
            if self._closed or self._chunks:
                event.set()
            else:
                event.clear()

    def feed(self, data: Union[bytes, memoryview]) -> None:
        """Add received bytes, which must not change any more."""
        if data:
            with self._lock:
                self._add(data)

    def _add(self, data: Union[bytes, memoryview]) -> None:
        self._chunks.append(data)
        self.size += len(data)
        if self._event is not None:
            self._event.set()

    def read_ready(self) -> bool:
        """True if there are bytes to read."""
        return bool(self._chunks)

    def read(self, nbytes: int, timeout: Optional[float] = None) -> bytes:
        """Take at most ``nbytes`` bytes; b'' at the end.

        Raises:
            PipeTimeout: there are no bytes to read.
        """
        with self._lock:
            if not self._chunks and not self._closed:
                raise PipeTimeout
            data = self._take()
            rest = data[nbytes:]
            if rest:
                self._add(rest)
        return data[:nbytes]

    def empty(self) -> bytes:
        """Take all bytes; b'' if there are none."""
        if not self._chunks:
            return b""
        with self._lock:
            return self._take()

    def _take(self) -> bytes:
        chunks, self._chunks = self._chunks, []
        self.size = 0
        if self._event is not None and not self._closed:
            self._event.clear()
        # bytes() of a bytes object returns the object itself: no copy.
        return bytes(chunks[0]) if len(chunks) == 1 else b"".join(chunks)

    def close(self) -> None:
        """Mark the end: no more bytes will come."""
        with self._lock:
            self._closed = True
            if self._event is not None:
                self._event.set()
