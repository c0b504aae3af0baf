"""Bytes in, lines out."""

from __future__ import annotations

from io import BytesIO
from typing import Optional


class LineBuffer:
    r"""Cut a stream of bytes, which comes in pieces of any size, into lines.

    A line ends with ``\n`` or ``\r\n``, neither of which is part of it. A lone ``\r`` is a byte
    like any other: progress bars and binary output arrive as they were sent.
    """

    __slots__ = ("_partial",)

    def __init__(self) -> None:
        # It grows in place, and gives its bytes away without copying them: a line of many pieces
        # costs linear time, and no memory but its own.
        self._partial = BytesIO()

    def feed(self, data: bytes) -> list[bytes]:
        """Take a piece of the stream.

        Args:
            data: the next bytes.

        Returns:
            The lines that are now complete, in order.
        """
        partial = self._partial
        # One look at each byte is cheaper than split()'s.
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
        # The \r of the first line may have come with an earlier piece. To look for one byte costs
        # a fiftieth of what looking for two does, and most output has no \r at all.
        if b"\r" in data or lines[0].endswith(b"\r"):
            return [line[:-1] if line.endswith(b"\r") else line for line in lines]
        return lines

    @property
    def size(self) -> int:
        """How many bytes of an unfinished line wait here for its end."""
        return self._partial.tell()

    def flush(self) -> Optional[bytes]:
        """Give up the unfinished last line, if there is one: the stream has ended."""
        line = self._partial.getvalue()
        self._partial = BytesIO()
        return line or None
