"""Bytes on their way to one reader, who takes them at its own pace."""

from __future__ import annotations

from collections import deque
from typing import Any, Callable

# Chunks smaller than this are joined before they are sent: a system call costs more than a copy.
_SMALL = 1 << 16

#: How many bytes may wait for a reader before its buffer counts as full.
HIGH_WATER = 1 << 20


def _ignore(_full: bool) -> None:
    pass


class WriteBuffer:
    """A queue of bytes, from which a writer takes as many as its reader has room for.

    What is put into many buffers exists once: a buffer refers to the bytes that it was given, and
    cuts them without copying. So a chunk lives until the slowest reader has taken it, however many
    there are.

    A full buffer takes more all the same: :data:`HIGH_WATER` is for those who can wait.

    Attributes:
        size: how many bytes wait, in bytes.
        full: whether that is more than HIGH_WATER.
        ended: whether the end has been put in: nothing follows any more.
        on_full: called with True when the buffer gets full, and with False when it no longer is.
    """

    __slots__ = ("_chunks", "ended", "full", "on_full", "size")

    def __init__(self) -> None:
        self._chunks: deque[memoryview] = deque()
        self.size = 0
        self.full = False
        self.ended = False
        self.on_full: Callable[[bool], Any] = _ignore

    def put(self, data: bytes) -> None:
        """Add bytes; nothing happens after the end."""
        if data and not self.ended:
            self._chunks.append(memoryview(data))
            self._resize(len(data))

    def end(self) -> None:
        """No more bytes will come."""
        self.ended = True

    def peek(self) -> memoryview:
        """The next bytes, at least one; they stay in the buffer until :meth:`take`.

        Raises:
            IndexError: none wait.
        """
        chunks = self._chunks
        if len(chunks) > 1 and len(chunks[0]) < _SMALL:
            joined = bytearray()
            while chunks and len(joined) < _SMALL:
                room = _SMALL - len(joined)
                chunk = chunks.popleft()
                joined += chunk[:room]
                if room < len(chunk):
                    chunks.appendleft(chunk[room:])
            chunks.appendleft(memoryview(joined))
        return chunks[0]

    def take(self, size: int) -> None:
        """Forget the first bytes: they have been sent.

        Args:
            size: how many, at most what :meth:`peek` gave.
        """
        chunk = self._chunks[0]
        if size == len(chunk):
            self._chunks.popleft()
        else:
            self._chunks[0] = chunk[size:]
        self._resize(-size)

    def clear(self) -> None:
        """Forget everything: nobody reads it any more."""
        self._chunks.clear()
        self.ended = True
        self._resize(-self.size)

    def _resize(self, change: int) -> None:
        self.size += change
        full = self.size > HIGH_WATER
        if full is not self.full:
            self.full = full
            self.on_full(full)
