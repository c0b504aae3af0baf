"""What a channel has received and nobody has read yet."""

from __future__ import annotations

import threading
from typing import Any, Optional, Union

from paramiko.buffered_pipe import PipeTimeout


class ChunkPipe:
    """Stands in for paramiko's BufferedPipe, which copies every byte into an array and out of it.

    Here the pieces stay what they are, views of packets for example, until they are read, and then
    are joined once. It never waits: who reads one by one has asked :meth:`read_ready` before.

    Attributes:
        size: how many bytes have not been read.
    """

    def __init__(self) -> None:
        # One thread feeds, another one may read: a command is aborted between two runs.
        self._lock = threading.Lock()
        self._chunks: list[Union[bytes, memoryview]] = []
        self._event: Any = None
        self._closed = False
        self.size = 0

    def __len__(self) -> int:
        return self.size

    def set_event(self, event: Any) -> None:
        """Have an event set while there is something to read, or nothing will come any more.

        Args:
            event: a threading.Event, or None for none.
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
        """Add what has come, which must not change any more."""
        if data:
            with self._lock:
                self._add(data)

    def _add(self, data: Union[bytes, memoryview]) -> None:
        self._chunks.append(data)
        self.size += len(data)
        if self._event is not None:
            self._event.set()

    def read_ready(self) -> bool:
        """Whether there is something to read."""
        return bool(self._chunks)

    def read(self, nbytes: int, timeout: Optional[float] = None) -> bytes:
        """Take at most ``nbytes``; b'' at the end.

        Raises:
            PipeTimeout: nothing is there.
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
        """Take all of it, b'' where nothing is there."""
        if not self._chunks:
            return b""
        with self._lock:
            return self._take()

    def _take(self) -> bytes:
        chunks, self._chunks = self._chunks, []
        self.size = 0
        if self._event is not None and not self._closed:
            self._event.clear()
        # To make bytes of bytes is to take them as they are.
        return bytes(chunks[0]) if len(chunks) == 1 else b"".join(chunks)

    def close(self) -> None:
        """Nothing will come any more."""
        with self._lock:
            self._closed = True
            if self._event is not None:
                self._event.set()
