"""Buffers of bytes: LineBuffer cuts input into lines, WriteBuffer queues output."""

from __future__ import annotations

from collections import deque
from io import BytesIO
from typing import Any, Callable, Optional

from .exceptions import LineTooLongError

# Chunks smaller than this many bytes are joined before they are sent: a system call costs more than
# a copy.
_SMALL = 1 << 16

#: A buffer with more bytes than this counts as full.
HIGH_WATER = 1 << 20


class LineBuffer:
    r"""Cuts a stream of bytes, which comes in pieces of any size, into lines.

    A line ends with ``\n`` or ``\r\n``, neither of which is part of it. A lone ``\r`` is a byte
    like any other: progress bars and binary output arrive as they were sent.

    Args:
        limit: how many bytes an unfinished line may have; None for any number. A line that never
            ends would take all memory.
        node: the node's name, or the key of a local command; for the error.

    Attributes:
        sname: the stream's name, e.g. 'stdout'.
    """

    __slots__ = ("_limit", "_node", "_partial", "sname")

    def __init__(self, sname: str = "stdout", limit: Optional[int] = None, node: str = "") -> None:
        self.sname = sname
        self._limit = limit
        self._node = node
        # A BytesIO grows in place, and getvalue() does not copy: a line of many pieces costs linear
        # time, and no extra memory.
        self._partial = BytesIO()

    def feed(self, data: bytes) -> list[bytes]:
        """Take a piece of the stream.

        Args:
            data: the next bytes.

        Returns:
            The lines that are now complete, in order. If there are none, ask :meth:`overflow`.
        """
        partial = self._partial
        # To find that there is no newline is cheaper than split().
        if b"\n" not in data:
            partial.write(data)
            return []
        lines = data.split(b"\n")
        rest = lines.pop()
        if partial.tell():
            partial.write(lines[0])
            lines[0] = partial.getvalue()
            self._partial = partial = BytesIO()
        partial.write(rest)
        # The \r of the first line may have come with an earlier piece. A search for one byte costs
        # a fiftieth of a search for two, and most output has no \r at all.
        if b"\r" in data or lines[0].endswith(b"\r"):
            return [line[:-1] if line.endswith(b"\r") else line for line in lines]
        return lines

    def overflow(self) -> Optional[LineTooLongError]:
        """The error of an unfinished line that is longer than the limit; None if it is not.

        It is returned and not raised: a traceback would keep the line alive as long as the error.
        """
        limit = self._limit
        if limit is None or self._partial.tell() <= limit:
            return None
        return LineTooLongError.of(self._node, self.sname, limit)

    def flush(self) -> Optional[bytes]:
        """Return the unfinished last line, None if there is none: the stream has ended."""
        line = self._partial.getvalue()
        self._partial = BytesIO()
        return line or None


def _ignore(_full: bool) -> None:
    pass


class WriteBuffer:
    """A queue of bytes to send, as fast as the reader takes them.

    The same bytes in many buffers exist once: a buffer refers to the bytes that it was given, and
    cuts them without copying. So a chunk lives until the slowest reader has taken it, for any
    number of readers.

    A full buffer still accepts bytes: :data:`HIGH_WATER` is a hint to callers that can wait.

    Attributes:
        size: the number of queued bytes.
        full: True if more than HIGH_WATER bytes are queued.
        ended: True if :meth:`end` was called: no bytes follow.
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
        """Add bytes; does nothing after :meth:`end`."""
        if data and not self.ended:
            self._chunks.append(memoryview(data))
            self._resize(len(data))

    def end(self) -> None:
        """Mark the end: no more bytes are added."""
        self.ended = True

    def peek(self) -> memoryview:
        """Return the next bytes, at least one; they stay in the buffer until :meth:`take`.

        Raises:
            IndexError: the buffer is empty.
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
        """Remove the first bytes: they have been sent.

        Args:
            size: how many bytes, at most as many as :meth:`peek` returned.
        """
        chunk = self._chunks[0]
        if size == len(chunk):
            self._chunks.popleft()
        else:
            self._chunks[0] = chunk[size:]
        self._resize(-size)

    def clear(self) -> None:
        """Drop all bytes, and accept no more: there is no reader any more."""
        self._chunks.clear()
        self.ended = True
        self._resize(-self.size)

    def _resize(self, change: int) -> None:
        self.size += change
        full = self.size > HIGH_WATER
        if full is not self.full:
            self.full = full
            self.on_full(full)
