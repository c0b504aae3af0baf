"""What a channel has received and nobody has read yet."""

from __future__ import annotations

import threading
from typing import Any, Optional

from paramiko.buffered_pipe import PipeTimeout


class ChunkPipe:
    """Stands in for paramiko's BufferedPipe, which copies every byte into an array and out of it.

    Here the pieces stay what they are until they are read, and then are joined once. It never
    waits: who reads has asked :meth:`read_ready` before.
    """

    def __init__(self) -> None:
        # One thread feeds, another one may read: a command is aborted between two runs.
        self._lock = threading.Lock()
        self._chunks: list[bytes] = []
        self._event: Any = None
        self._closed = False

    def __len__(self) -> int:
        return sum(map(len, self._chunks))

    def set_event(self, event: Any) -> None:
        """Have an event set while there is something to read, or nothing will come any more."""
        with self._lock:
            self._event = event
            if self._closed or self._chunks:
                event.set()
            else:
                event.clear()

    def feed(self, data: bytes) -> None:
        """Add what has come."""
        with self._lock:
            if data:
                self._chunks.append(data)
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
            chunks, self._chunks = self._chunks, []
            if not chunks and not self._closed:
                raise PipeTimeout
            data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            if len(data) > nbytes:
                self._chunks.append(data[nbytes:])
                return data[:nbytes]
            if self._event is not None and not self._closed:
                self._event.clear()
            return data

    def empty(self) -> bytes:
        """Take all of it."""
        return self.read(len(self)) if self._chunks else b""

    def close(self) -> None:
        """Nothing will come any more."""
        with self._lock:
            self._closed = True
            if self._event is not None:
                self._event.set()
